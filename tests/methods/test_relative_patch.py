import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vidssl import Batch
from vidssl.methods import RelativePatch
from vidssl.methods.image.relative_patch import FRINGE, NEIGHBORS, neighbors, scalings
from vidssl.models import ConvNet

SIZE = 40


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


def method(**options) -> RelativePatch:
    sizes = {"patch_px": 10, "gap_px": 4, "jitter_px": 2, "smallest_px": 4, "patch_dim": 7, "hidden_dim": 9}
    return RelativePatch(ConvNet(widths=(6, 8), strides=(2, 2)), view=Whole(), **{**sizes, **options})


def batch(num_clips: int = 3, num_frames: int = 2) -> Batch:
    video = torch.randint(256, (num_clips, 1, num_frames, 3, SIZE, SIZE), dtype=torch.uint8)
    return Batch(index=torch.arange(num_clips), video=video, seed=torch.arange(num_clips))


def places(height: int = SIZE, width: int = SIZE) -> torch.Tensor:
    """A picture that shows where every pixel is: rows in red, columns in green, (1, 1, 3, H, W)."""
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([row, column, torch.zeros_like(row)]).float()[None, None]


def test_loss_and_gradient_equal_the_cross_entropy_of_every_pair_written_out():
    patch, clips = method(grid=2).eval(), batch()
    patches = patch.prepare(patch.cut(clips.video[:, 0].float() / 255, clips.seed), clips.seed)
    features = [[patch.patch_head(patch.encoder(patches[b, n][None])) for n in range(4)] for b in range(3)]
    terms = []
    for b in range(3):
        for first in range(4):
            for second in range(4):
                if first == second:
                    continue
                down, right = second // 2 - first // 2, second % 2 - first % 2
                pair = patch.pair_head(torch.cat([features[b][first], features[b][second]], dim=1))
                logits = patch.classifier(pair)[0]
                terms.append(logits.exp().sum().log() - logits[NEIGHBORS.index((down, right))])
    expected = torch.stack(terms).mean()
    losses = patch(clips, 0.0)
    torch.testing.assert_close(losses["loss"], expected, atol=1e-5, rtol=1e-5)
    parameters = list(patch.parameters())
    for one, other in zip(
        torch.autograd.grad(losses["loss"], parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_equal_features_score_the_logarithm_of_eight():
    patch = method()
    nn.init.zeros_(patch.classifier.weight)
    nn.init.zeros_(patch.classifier.bias)
    assert float(patch(batch(), 0.0)["loss"].detach()) == pytest.approx(math.log(8), rel=1e-6)


def test_pairs_are_all_neighbours_in_both_orders_and_the_opposite_of_a_place_is_seven_less_it():
    pairs = neighbors(3)
    # 6 beside, 6 above each other and 8 across corners, in both orders.
    assert len(pairs) == 40
    named = {(first, second): place for first, second, place in pairs.tolist()}
    assert len(named) == 40
    assert all(named[second, first] == 7 - place for (first, second), place in named.items())
    # Beside the middle patch, 4, they are numbered row by row.
    assert [named[4, second] for second in (0, 1, 2, 3, 5, 6, 7, 8)] == list(range(8))
    assert torch.bincount(pairs[:, 2]).tolist() == [4, 6, 4, 6, 6, 4, 6, 4]


def test_patches_lie_on_a_grid_with_gaps_and_jitter_anywhere_in_the_picture():
    patch = method()
    seed = torch.arange(4000)
    video = places(SIZE, 52).expand(4000, -1, -1, -1, -1)
    found = patch.cut(video, seed)[:, :, 0, :2, 0, 0]  # (B, N, 2): row and column of the first pixel
    inside = patch.cut(video[:1], seed[:1])[0, :, 0, :2]
    assert torch.equal(inside[:, 0, 1:] - inside[:, 0, :-1], torch.ones(9, 9, 10)), "a patch is one piece"
    step = found.view(4000, 3, 3, 2)[:, 1, 1] - found.view(4000, 3, 3, 2)[:, 1, 0]
    # Columns are 14 px apart, each off by up to 2; the picture has room, so nothing is pushed back at its edge there.
    assert step[:, 1].min() >= 10 and step[:, 1].max() <= 18
    assert float(step[:, 1].mean()) == pytest.approx(14, abs=0.1)
    assert float(step[:, 1].var()) == pytest.approx(2 * 2, abs=0.2)  # two uniform draws of -2 to 2
    # The grid spans 38 px of 40 and 52: its corner has 3 places down and 15 to the right.
    middle = found.view(4000, 3, 3, 2)[:, 1, 1]
    assert middle[:, 0].min() >= 14 - 2 and middle[:, 0].max() <= 16 + 2
    assert middle[:, 1].min() <= 14 and middle[:, 1].max() >= 28
    assert found[..., 0].min() >= 0 and found[..., 0].max() <= SIZE - 10
    assert found[..., 1].min() >= 0 and found[..., 1].max() <= 52 - 10


def test_a_grid_that_does_not_fit_is_refused():
    with pytest.raises(
        ValueError, match="3 x 3 patches of 10 px with gaps of 9 px span 48 px, views are 40 x 40 px"
    ):
        method(gap_px=9)(batch(), 0.0)


def test_dropped_colours_leave_one_channel_and_faint_noise():
    patch = method(fringes="drop", resample_probability=0.0)
    patches = torch.rand(200, 4, 2, 3, 10, 10)
    prepared = (patch.prepare(patches, torch.arange(200)) - 0.5) / 0.5  # this encoder's mean and deviation
    square = prepared.square().mean(dim=(2, 4, 5))
    torch.testing.assert_close(square.mean(2), torch.ones(200, 4), atol=1e-4, rtol=0)
    kept = square.argmax(2)
    share = F.one_hot(kept, 3).float().mean((0, 1))
    assert share.tolist() == pytest.approx([1 / 3] * 3, abs=0.06)
    clips, cells = torch.arange(200)[:, None], torch.arange(4)
    channel = patches[clips, cells, :, kept]
    expected = channel - channel.mean((2, 3, 4), keepdim=True)
    found = prepared[clips, cells, :, kept]
    # One factor for the whole patch, that of its mean square.
    torch.testing.assert_close(
        found / expected, (found / expected)[..., :1, :1, :1].expand_as(found), atol=0.05, rtol=0.05
    )
    others = square.sum(2) - square.amax(2)
    assert float(others.max()) < 1e-3 and float(others.min()) > 0


def test_projected_colours_lose_green_against_magenta_and_nothing_else():
    patch = method(fringes="project", resample_probability=0.0)
    patches = torch.rand(5, 4, 2, 3, 10, 10)
    prepared = (patch.prepare(patches, torch.arange(5)) - 0.5) / 0.5
    axis = torch.tensor(FRINGE) / 6**0.5
    assert float(torch.einsum("bntchw, c -> bnthw", prepared, axis).abs().max()) < 1e-5
    for other in (torch.ones(3) / 3**0.5, torch.tensor([1.0, 0.0, -1.0]) / 2**0.5):
        along = torch.einsum("bntchw, c -> bnthw", patches, other)
        found = torch.einsum("bntchw, c -> bnthw", prepared, other)
        expected = along - along.mean((2, 3, 4), keepdim=True)
        scale = (found * expected).sum((2, 3, 4)) / expected.square().sum((2, 3, 4))
        torch.testing.assert_close(found, expected * scale[..., None, None, None], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("fringes", "tells"), [("keep", True), ("project", False), ("drop", False)])
def test_fringes_of_a_lens_tell_the_place_only_where_colours_are_kept(fringes, tells):
    """Green is larger than red and blue by 3 %, as through a lens: the fringe at an edge points from the middle."""
    torch.manual_seed(1)
    size = 64
    fine = F.interpolate(torch.rand(300, 1, 16, 16), (size, size), mode="bicubic")
    grid = F.affine_grid(
        torch.eye(2, 3).mul(1 / 1.03).expand(300, -1, -1), [300, 1, size, size], align_corners=False
    )
    green = F.grid_sample(fine, grid, align_corners=False)
    video = torch.cat([fine, green, fine], dim=1)[:, None]
    patch = method(fringes=fringes, resample_probability=0.0, jitter_px=0, gap_px=13)
    patches = (patch.prepare(patch.cut(video, torch.arange(300)), torch.arange(300)) - 0.5) / 0.5
    flat = patches[:, :, 0]
    # How green against the others goes with the slope of the picture from left to right: the fringe's direction.
    fringe = torch.einsum("bnchw, c -> bnhw", flat, torch.tensor(FRINGE))[..., 1:-1]
    bright = flat[:, :, 0] + flat[:, :, 2]
    slope = bright[..., 2:] - bright[..., :-2]
    told = (fringe * slope).mean((2, 3))
    left, right = told[:, 3], told[:, 5]  # patches of the middle row
    apart = (left.mean() - right.mean()).abs() / (left.var() / 300 + right.var() / 300 + 1e-12).sqrt()
    assert (float(apart) > 10) == tells
    assert tells or float(apart) < 4


def test_some_patches_are_scaled_down_and_up_as_interpolation_does():
    matrices = scalings(10, smallest_px=4)
    picture = torch.rand(1, 1, 10, 10)
    for number, matrix in enumerate(matrices):
        small = F.interpolate(picture, (4 + number, 4 + number), mode="bilinear")
        torch.testing.assert_close(
            matrix @ picture[0, 0] @ matrix.T, F.interpolate(small, (10, 10), mode="bilinear")[0, 0]
        )
    assert torch.equal(matrices[-1], torch.eye(10))
    patch = method(fringes="keep", resample_probability=0.33)
    patches = torch.rand(500, 4, 1, 3, 10, 10)
    seed = torch.arange(500)
    changed = patch.prepare(patches, seed) - method(fringes="keep", resample_probability=0.0).prepare(
        patches, seed
    )
    assert float((changed.abs().amax((2, 3, 4, 5)) > 1e-3).float().mean()) == pytest.approx(0.33, abs=0.035)
