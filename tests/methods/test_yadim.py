import pytest
import torch
from torch import nn

from vidssl import Batch
from vidssl.methods import YADIM
from vidssl.models import ConvNet
from vidssl.ops import draws
from vidssl.ops.contrast import map_nce


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


class Shifted(nn.Module):
    """A view that moves each clip by its seed."""

    def forward(self, video, seed):
        moved = [one.roll(int(number) % 7, dims=-1) for one, number in zip(video, seed, strict=True)]
        return torch.stack(moved).float() / 255


def batch(num_clips: int = 3, source_id: list[int] | None = None) -> Batch:
    video = torch.randint(256, (num_clips, 1, 1, 3, 16, 16), dtype=torch.uint8)
    sources = None if source_id is None else torch.tensor(source_id)
    return Batch(index=torch.arange(num_clips), video=video, seed=torch.arange(num_clips), source_id=sources)


def test_loss_is_that_of_a_cell_and_the_other_views_map_in_both_directions():
    torch.manual_seed(0)
    encoder = ConvNet(widths=(4, 6), strides=(2, 2))
    yadim, clips = YADIM(encoder, view=Shifted(), dim=8, tanh_clip=7.0, penalty=0.1).eval(), batch(3, [5, 5, 6])
    seen = []
    yadim.head.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    found = yadim(clips, 0.0)
    first, second = seen[0].chunk(2)
    assert first.shape == (3, 8, 16) and not torch.allclose(first, second)
    cell = draws.integers(clips.seed, 16, 2, stream=9)
    same = torch.tensor([5, 5, 6])[:, None] == torch.tensor([5, 5, 6])
    total = nce = 0.0
    for number, (one, other) in enumerate([(first, second), (second, first)]):
        source = torch.stack([one[b, :, cell[b, number]] for b in range(3)])
        loss, size, _ = map_nce(source, other, tanh_clip=7.0, exclude=same)
        nce += loss.item() / 2
        total += (loss.item() + 0.1 * size.item()) / 2
    assert found["loss"].item() == pytest.approx(total, abs=1e-5)
    assert found["nce"].item() == pytest.approx(nce, abs=1e-5)


def test_every_cell_gets_a_gradient_through_both_views():
    yadim, clips = YADIM(ConvNet(widths=(4, 6), strides=(2, 2)), view=Whole(), dim=8), batch(3)
    maps = []
    yadim.head.register_forward_hook(lambda module, inputs, output: maps.append(output))
    loss = yadim(clips, 0.0)["loss"]
    maps[0].retain_grad()
    loss.backward()
    assert (maps[0].grad.abs().sum(1) > 0).all()
