import pytest
import torch
from torch import nn

from vidssl import Batch
from vidssl.methods import AMDIM
from vidssl.models import ConvNet
from vidssl.ops import draws
from vidssl.ops.contrast import map_nce


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


def method(**options) -> AMDIM:
    encoder = ConvNet(widths=(4, 5, 6), strides=(2, 1, 1), padding_mode="none")
    return AMDIM(encoder, view=Whole(), local_layers=("0", "1"), **{"dim": 8, **options})


def batch(num_clips: int = 3, source_id: list[int] | None = None) -> Batch:
    video = torch.randint(256, (num_clips, 1, 1, 3, 16, 16), dtype=torch.uint8)
    sources = None if source_id is None else torch.tensor(source_id)
    return Batch(index=torch.arange(num_clips), video=video, seed=torch.arange(num_clips), source_id=sources)


def test_forward_is_three_tasks_in_both_directions():
    amdim, clips = method(tanh_clip=7.0, penalty=0.1).eval(), batch(3, [5, 5, 6])
    with torch.no_grad():
        whole, fine, coarse = (part.unflatten(0, (2, 3)) for part in amdim.embed_views(clips))
        found = amdim(clips, 0.0)
    cell = draws.integers(clips.seed, coarse.shape[3], 2, stream=9)
    same = torch.tensor([5, 5, 6])[:, None] == torch.tensor([5, 5, 6])
    total = 0.0
    for one, other in ((0, 1), (1, 0)):
        part = torch.stack([coarse[one, b, :, cell[b, one]] for b in range(3)])
        for source, targets in ((whole[one, :, :, 0], fine), (whole[one, :, :, 0], coarse), (part, coarse)):
            loss, size, _ = map_nce(source, targets[other], tanh_clip=7.0, exclude=same)
            total += (loss.item() + 0.1 * size.item()) / 2
    assert found["loss"].item() == pytest.approx(total, abs=1e-4)
    parts = sum(found[f"loss_{name}"].item() for name in ("whole_fine", "whole_coarse", "coarse"))
    assert parts < found["loss"].item()


def test_both_views_of_a_clip_are_mirrored_or_none():
    amdim, clips = method(), batch(20)
    seen = []
    amdim.view.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    amdim.embed_views(clips)
    first, second = seen
    assert torch.equal(first, second)
    mirrored = [torch.equal(one, other.flip(-1)) for one, other in zip(first, clips.video[:, 0], strict=True)]
    kept = [torch.equal(one, other) for one, other in zip(first, clips.video[:, 0], strict=True)]
    assert sum(mirrored) + sum(kept) == 20 and 4 <= sum(mirrored) <= 16


def test_maps_without_padding_are_those_of_the_paper():
    strides = (2, 2, 2, *[1] * 7)
    net = ConvNet(widths=(2,) * 10, strides=strides, padding_mode="none").eval()
    maps = net.layers(torch.zeros(1, 1, 3, 128, 128), ["6", "7", "last"])
    assert [tuple(one.shape[-2:]) for one in maps.values()] == [(7, 7), (5, 5), (1, 1)]
