import math

import pytest
import torch
from torch import nn

from vidssl import Batch
from vidssl.evidence import worlds
from vidssl.methods import MAE, VideoMAE
from vidssl.models import VideoViT
from vidssl.models.video_vit import TokenPredictor


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


def method(kind=VideoMAE, **options) -> MAE:
    encoder = VideoViT(dim=24, depth=1, num_heads=2, patch_px=4, tubelet_frames=2)
    decoder = TokenPredictor(encoder.dim, encoder.patch_values, width=12, depth=1, num_heads=2)
    return kind(encoder, decoder=decoder, view=Whole(), **options)


def test_loss_equals_the_definition_written_out():
    videomae = method(mask_ratio=0.75)
    clips = Batch(
        index=torch.arange(2),
        video=torch.randint(256, (2, 1, 4, 3, 8, 8), dtype=torch.uint8),
        seed=torch.tensor([3, 8]),
    )
    with torch.no_grad():
        loss = videomae(clips, 0.0)["loss"]
        video = clips.video[:, 0].float() / 255
        visible, hidden = videomae.split(clips.seed, (2, 2, 2))
        predicted = videomae.predict(video, visible, hidden).unflatten(2, (32, 3))
    errors = []
    for b in range(2):
        for number, token in enumerate(hidden[b].tolist()):
            step, row, column = token // 4 * 2, token % 4 // 2 * 4, token % 2 * 4
            for c in range(3):
                pixels = [
                    video[b, step + f, c, row + y, column + x].item()
                    for f in range(2)
                    for y in range(4)
                    for x in range(4)
                ]
                mean = sum(pixels) / 32
                std = (
                    sum((value - mean) ** 2 for value in pixels) / 31
                ) ** 0.5 + 1e-6  # of this channel, unbiased
                for value, guess in zip(pixels, predicted[b, number, :, c].tolist(), strict=True):
                    errors.append((guess - (value - mean) / std) ** 2)
    assert len(errors) == 2 * 6 * 96
    assert loss.item() == pytest.approx(sum(errors) / len(errors), abs=1e-5)


def test_tubes_hide_the_same_cells_in_every_step():
    visible, hidden = method(mask_ratio=0.9).split(torch.arange(20), (8, 14, 14))
    assert visible.shape == (20, 160) and hidden.shape == (20, 1408)  # Sec. 4.1: 8 times 20 of 196
    for sample in visible.view(20, 8, 20):
        cells = {tuple(sorted((step % 196).tolist())) for step in sample}
        assert len(cells) == 1
    assert torch.equal(visible.view(20, 8, 20)[0] // 196, torch.arange(8)[:, None].expand(-1, 20))


def copy_in_time(kind) -> tuple[float, float]:
    """Of a world that stands still: share of hidden patches visible at another time, and the error of copying."""
    masked = method(kind, mask_ratio=0.75)
    video = worlds.sprites(40, seed=2, num_frames=8, size_px=32, world="static").video.float() / 255
    visible, hidden = masked.split(torch.arange(40), (4, 8, 8))
    targets = masked.targets(video)
    found, errors = 0, []
    for b in range(40):
        shown = {token % 64: token for token in visible[b].tolist()}
        for token in hidden[b].tolist():
            if token % 64 in shown:
                found += 1
                errors.append((targets[b, token] - targets[b, shown[token % 64]]).square().mean().item())
    return found / hidden.numel(), sum(errors) / len(errors) if errors else math.inf


def test_tubes_stop_copying_in_time():
    """Masks that are random in space and time leave most patches of a still scene visible at another time."""
    share, error = copy_in_time(MAE)
    # A patch is hidden here and shown in one of the 3 other steps: 1 - .75^3 = .58.
    assert share == pytest.approx(0.58, abs=0.02) and error == 0
    assert copy_in_time(VideoMAE)[0] == 0


def test_predicting_nothing_scores_one_in_every_channel():
    targets = method().targets(torch.rand(2, 2, 3, 8, 8) * torch.tensor([0.01, 1, 0.1]).view(3, 1, 1))
    per_channel = targets.unflatten(2, (32, 3)).square().mean(dim=(0, 1, 2))
    # Standardised jointly, the channel of large contrast would take it all.
    torch.testing.assert_close(per_channel, torch.full((3,), 31 / 32), atol=1e-3, rtol=0)
    assert method().targets(torch.full((1, 2, 3, 8, 8), 0.3)).abs().max() < 0.1
