import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vidssl import Batch
from vidssl.evidence import worlds
from vidssl.methods import ContrastiveRandomWalk
from vidssl.methods.video.contrastive_random_walk import cut_patches
from vidssl.models import ConvNet


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


def walker(**options) -> ContrastiveRandomWalk:
    torch.manual_seed(0)
    encoder = options.pop("encoder", None) or ConvNet(widths=(8, 16), strides=(2, 2))
    return ContrastiveRandomWalk(encoder, view=Whole(), **{"patches": None, **options})


def batch(video: torch.Tensor, first_seed: int = 0) -> Batch:
    count = torch.arange(len(video))
    return Batch(index=count, video=video[:, None], seed=count + first_seed)


def noise(*shape: int) -> torch.Tensor:
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def unit_nodes(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize("edge_dropout", [0.0, 0.4])
def test_a_step_is_a_softmax_over_the_edges_that_are_left(edge_dropout):
    method = walker(temperature=0.5, edge_dropout=edge_dropout)
    nodes = unit_nodes(2, 3, 5, 4)
    there, back = method.transitions(nodes, torch.tensor([3, 4]))
    cut = 0
    for b in range(2):
        for t in range(2):
            for step, start, end in ((there[b, t], t, t + 1), (back[b, t], t + 1, t)):
                for i in range(5):
                    left = [j for j in range(5) if step[i, j] > 0]
                    cut += 5 - len(left)
                    weight = {j: math.exp(float(nodes[b, start, i] @ nodes[b, end, j]) / 0.5) for j in left}
                    for j in left:
                        assert float(step[i, j]) == pytest.approx(weight[j] / sum(weight.values()), abs=1e-5)
    assert (cut > 0) == (edge_dropout > 0)


def product(first, second):
    size = len(first)
    return [[sum(first[i][k] * second[k][j] for k in range(size)) for j in range(size)] for i in range(size)]


@pytest.mark.parametrize("edge_dropout", [0.0, 0.2])
def test_the_loss_equals_the_palindromes_written_out(edge_dropout, monkeypatch):
    method = walker(temperature=0.5, edge_dropout=edge_dropout).eval()
    transitions, seen = method.transitions, []
    monkeypatch.setattr(method, "transitions", lambda *inputs: seen.append(transitions(*inputs)) or seen[-1])
    with torch.no_grad():
        logged = method(batch(noise(2, 4, 3, 12, 12)), 0.0)
    there, back = seen[0]
    losses, returns = [], []
    for b in range(2):
        for furthest in (2, 3):
            walk = there[b, 0].tolist()
            for step in [*there[b, 1:furthest], *reversed(back[b, :furthest])]:
                walk = product(walk, step.tolist())
            losses += [-math.log(walk[i][i]) for i in range(9)]
        returns += [max(range(9), key=walk[i].__getitem__) == i for i in range(9)]
    loss = sum(losses) / len(losses)
    assert float(logged["loss"]) == pytest.approx(loss, abs=1e-5)
    assert float(logged["nce_over_chance"]) == pytest.approx(loss / math.log(9), abs=1e-5)
    assert float(logged["accuracy"]) == pytest.approx(sum(returns) / len(returns))


def test_edges_of_the_two_walks_are_cut_independently():
    # Of the authors' code the way back would lose 1 - 0.7^2 = 51 %.
    there, back = walker(edge_dropout=0.3, temperature=1.0).transitions(unit_nodes(20, 4, 30, 8), torch.arange(20))
    cut_there, cut_back = there == 0, back.mT == 0  # [b, t, i, j]: the edge between i of t and j of t + 1
    for share, expected in (
        (cut_there, 0.3),
        (cut_back, 0.3),
        (cut_there & cut_back, 0.09),
        (cut_there & cut_back.mT, 0.09),
        (cut_there[:, 1:] & cut_there[:, :-1], 0.09),
        (cut_there[1:] & cut_there[:-1], 0.09),
    ):
        # 30 000 edges and more: the standard deviation is at most 0.003.
        assert float(share.float().mean()) == pytest.approx(expected, abs=0.012)


def test_cut_edges_depend_on_the_sample_alone():
    method, nodes = walker(edge_dropout=0.3), unit_nodes(3, 4, 9, 8)
    whole = method.transitions(nodes, torch.tensor([5, 6, 7]))
    alone = method.transitions(nodes[2:], torch.tensor([7]))
    for joined, single in zip(whole, alone, strict=True):
        torch.testing.assert_close(joined[2:], single)


def test_a_node_without_edges_goes_anywhere():
    there, _ = walker(edge_dropout=1.0).transitions(unit_nodes(1, 3, 5, 4), torch.tensor([0]))
    torch.testing.assert_close(there, torch.full_like(there, 0.2))


def test_two_frames_are_no_walk():
    with pytest.raises(ValueError, match="2 frames, a walk needs 3"):
        walker()(batch(noise(2, 2, 3, 8, 8)), 0.0)


def test_patches_without_jitter_are_cut_from_the_grid():
    video = torch.rand(2, 2, 3, 14, 18)
    patches = cut_patches(video, torch.arange(2), size_px=6, stride_px=4, scale=(1, 1), ratio=(1, 1))
    assert patches.shape[2] == 3 * 4
    for node, (row, column) in enumerate((row, column) for row in range(3) for column in range(4)):
        expected = video[..., 4 * row : 4 * row + 6, 4 * column : 4 * column + 6]
        torch.testing.assert_close(patches[:, :, node], expected, atol=1e-5, rtol=0)


def test_windows_lie_in_their_patches_and_have_the_area_asked_for():
    # The picture shows coordinates: red is x, green is y, of pixel centres.
    y, x = torch.meshgrid(torch.arange(40) + 0.5, torch.arange(48) + 0.5, indexing="ij")
    video = torch.stack([x, y, x]).expand(20, 2, 3, 40, 48)
    patches = cut_patches(video, torch.arange(20), size_px=16, stride_px=8, scale=(0.5, 0.9))
    left, right = patches[..., 0, 0, 0], patches[..., 0, 0, -1]
    top, bottom = patches[..., 1, 0, 0], patches[..., 1, -1, 0]
    # 16 samples span 15 / 16 of the window.
    width, height = (right - left) * 16 / 15, (bottom - top) * 16 / 15
    inner = torch.tensor([row * 5 + column for row in (1, 2) for column in (1, 2, 3)])  # clear of the frame's edge
    row, column = inner // 5 * 8.0, inner % 5 * 8.0
    left, top, width, height = (value[:, :, inner] for value in (left, top, width, height))
    left, top = left - width / 32, top - height / 32  # from the first sample's centre to the window's edge
    assert (left >= column - 1e-3).all() and (left + width <= column + 16 + 1e-3).all()
    assert (top >= row - 1e-3).all() and (top + height <= row + 16 + 1e-3).all()
    share = width * height / 256
    assert 0.5 - 1e-3 <= float(share.min()) < 0.55 and 0.8 < float(share.max()) <= 0.9 + 1e-3
    ratio = width / height
    assert 0.75 - 1e-3 <= float(ratio.min()) < 0.8 and 1.25 < float(ratio.max()) <= 4 / 3 + 1e-3
    assert (left[:, 0] - left[:, 1]).abs().mean() > 1  # every frame has windows of its own


def test_windows_depend_on_the_sample_alone():
    video = torch.rand(3, 2, 3, 16, 16)
    whole = cut_patches(video, torch.tensor([5, 6, 7]), size_px=8, stride_px=4)
    alone = cut_patches(video[2:], torch.tensor([7]), size_px=8, stride_px=4)
    torch.testing.assert_close(whole[2:], alone)


def on_unrelated_frames(method: ContrastiveRandomWalk) -> tuple[float, float]:
    """Train on clips, then walk over frames of unrelated videos: share of steps to the same place, of round trips."""
    world = worlds.sprites(40, seed=0, num_frames=3, size_px=24, sprite_px=(8, 12), speed_px=(1, 3)).video
    optimizer = torch.optim.Adam(method.parameters(), lr=3e-3)
    for step in range(50):
        clips = batch(world[step * 8 % 40 :][:8], first_seed=100 * step)
        optimizer.zero_grad()
        method(clips, 0.0)["loss"].backward()
        optimizer.step()
    frames = worlds.sprites(48, seed=1, num_frames=1, size_px=24, sprite_px=(8, 12)).video[:, 0]
    unrelated = batch(frames.unflatten(0, (16, 3)))
    method.eval()
    with torch.no_grad():
        pixels = unrelated.video[:, 0].float() / 255
        there, _ = method.transitions(method.nodes(pixels, unrelated.seed), unrelated.seed)
        stays = (there.argmax(3) == torch.arange(there.shape[3])).float().mean()
        return float(stays), float(method(unrelated, 0.0)["accuracy"])


# The border is in sight of every one of the 6 x 6 cells.
DEEP = {"widths": (16, 16, 16, 16, 16), "strides": (2, 2, 1, 1, 1)}


def test_zero_padding_of_whole_frames_gives_places_away():
    stays, returns = on_unrelated_frames(walker(encoder=ConvNet(**DEEP, padding_mode="zeros"), edge_dropout=0.0))
    assert stays > 0.25 and returns > 0.36


@pytest.mark.parametrize("guard", ["patches", "reflection"])
def test_guards_hide_places(guard):
    patches = partial(cut_patches, size_px=9, stride_px=3) if guard == "patches" else None  # 36 as well
    encoder = ConvNet(**DEEP, padding_mode="zeros" if guard == "patches" else "reflect")
    stays, returns = on_unrelated_frames(walker(encoder=encoder, patches=patches, edge_dropout=0.0))
    # By chance 1 of 36 steps stays; a walk returns more often, where two nodes happen to be nearest to each other.
    assert stays < 0.1 and returns < 0.32
