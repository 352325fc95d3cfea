from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vidssl import Batch
from vidssl.evidence import worlds
from vidssl.methods import VJEPA
from vidssl.models import VideoViT
from vidssl.models.video_vit import TokenPredictor
from vidssl.ops import draws
from vidssl.ops.masks import block_split


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


MASKS = (
    partial(block_split, num_blocks=4, block_share=0.15, hidden_share=0.5, visible_share=0.25),
    partial(block_split, num_blocks=1, block_share=0.6, hidden_share=0.6, visible_share=0.4),
)


def method(kind=VJEPA, **options) -> VJEPA:
    encoder = VideoViT(dim=24, depth=1, num_heads=2, patch_px=4, tubelet_frames=2, mean=(0.5,) * 3, std=(0.2,) * 3)
    predictor = TokenPredictor(encoder.dim, encoder.dim, width=12, depth=1, num_heads=2)
    return kind(encoder, predictor=predictor, view=Whole(), **{"masks": MASKS, **options})


def batch(num_clips: int = 3, seed: int = 0) -> Batch:
    video = worlds.sprites(num_clips, seed=seed, num_frames=4, size_px=16, sprite_px=(6, 8), speed_px=(1, 2)).video
    return Batch(index=torch.arange(num_clips), video=video[:, None], seed=torch.arange(num_clips) + 100 * seed)


def test_loss_equals_the_equation_written_out():
    vjepa, clips = method(), batch()
    # A teacher of its own, or the test could not tell it from the student.
    for parameter in vjepa.encoder.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    video = clips.video[:, 0].float() / 255
    means = []
    with torch.no_grad():
        loss = vjepa(clips, 0.0)["loss"]
        for number, mask in enumerate(MASKS):
            errors = []
            for b in range(3):
                visible, hidden = mask(draws.mix(clips.seed[b : b + 1], number), rows=4, columns=4)
                visible = [step * 16 + cell for step in range(2) for cell in visible[0].tolist()]
                hidden = [step * 16 + cell for step in range(2) for cell in hidden[0].tolist()]
                tokens = vjepa.student.tokens(video[b : b + 1], torch.tensor([visible]))
                predicted = vjepa.predictor(
                    tokens, visible=torch.tensor([visible]), hidden=torch.tensor([hidden]), grid=(2, 4, 4)
                )
                whole = vjepa.encoder.features(video[b : b + 1])[0]  # (2, D, 4, 4)
                for guess, token in zip(predicted[0], hidden, strict=True):
                    feature = whole[token // 16, :, token % 16 // 4, token % 4]
                    target = (feature - feature.mean()) / (feature.var(unbiased=False) + 1e-5).sqrt()
                    errors += (guess - target).abs().tolist()
            means.append(sum(errors) / len(errors))
    assert loss.item() == pytest.approx(sum(means) / 2, abs=1e-5)


def test_each_mask_asks_with_its_own_token():
    vjepa = method()
    vjepa.predictor = TokenPredictor(24, 24, width=12, depth=1, num_heads=2, num_mask_tokens=3)
    vjepa(batch(), 0.0)["loss"].backward()
    asked = vjepa.predictor.mask_token.grad.abs().sum(dim=(1, 2)) > 0
    assert asked.tolist() == [True, True, False]  # of two masks


def test_the_teacher_sees_everything_and_learns_nothing():
    vjepa, clips = method(), batch()
    vjepa(clips, 0.0)["loss"].backward()
    assert all(p.grad is None and not p.requires_grad for p in vjepa.encoder.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in vjepa.student.parameters())
    assert sum(value.numel() for value in vjepa.parameters()) == sum(
        value.numel() for part in (vjepa.student, vjepa.encoder, vjepa.predictor) for value in part.parameters()
    )


def test_the_teacher_follows_with_rising_momentum():
    vjepa = method(momentum=0.998)
    with torch.no_grad():
        vjepa.student.norm.weight.fill_(2.0)  # the teacher's is 1
    for progress, momentum in ((0.0, 0.998), (0.5, 0.9988), (1.0, 0.9996)):
        before = vjepa.encoder.norm.weight.clone()
        vjepa.after_step(progress)
        expected = momentum * before + (1 - momentum) * 2.0
        torch.testing.assert_close(vjepa.encoder.norm.weight, expected, atol=1e-7, rtol=0)


class NoStopGradient(VJEPA):
    """Targets are the student's own, and the gradient flows into them."""

    def targets(self, video):
        return F.layer_norm(self.student.tokens(video).float(), (self.student.dim,))


def clip_std_and_loss(kind) -> tuple[float, float, float]:
    """Spread over clips before and after a short training, and the last losses."""
    torch.manual_seed(0)
    vjepa = method(kind, momentum=0.95)
    clips = batch(32, seed=1)
    before = vjepa.monitors(clips)["embedding_std"].item()
    optimizer = torch.optim.AdamW(vjepa.param_groups(), lr=3e-3)
    losses = []
    for _ in range(80):
        loss = vjepa(clips, 0.0)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        vjepa.after_step(0.0)
        losses.append(loss.item())
    with torch.no_grad():
        return before, vjepa.monitors(clips)["embedding_std"].item(), sum(losses[-5:]) / 5


def test_without_stop_gradient_it_collapses_at_a_lower_loss():
    before, healthy, loss = clip_std_and_loss(VJEPA)
    _, collapsed, lower = clip_std_and_loss(NoStopGradient)
    assert lower < loss and collapsed < 0.5 * healthy and healthy > 0.8 * before


def test_monitors_tell_places_from_contents():
    """A teacher that knows only places: tokens differ, clips do not."""
    vjepa, clips = method(), batch(16)
    healthy = vjepa.monitors(clips)
    with torch.no_grad():
        vjepa.encoder.embed.weight.zero_()
    blind = vjepa.monitors(clips)
    assert blind["embedding_std"] < 1e-3 < 0.1 < blind["token_std"]
    assert healthy["embedding_std"] > 0.1
