import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vidssl import Batch
from vidssl.methods import Jigsaw
from vidssl.methods.image.jigsaw import permutations, shuffle
from vidssl.models import ConvNet


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


def method(*, grid: int = 3, num: int = 8, tile_px: int = 8, channel_shift_px: int = 0, **options) -> Jigsaw:
    encoder = ConvNet(**{"widths": (6, 12), "strides": (2, 2), **options})
    orders = permutations(num, num_tiles=grid**2)
    sizes = {"tile_px": tile_px, "channel_shift_px": channel_shift_px, "tile_dim": 5, "hidden_dim": 16}
    return Jigsaw(encoder, view=Whole(), permutations=orders, **sizes)


def noise(num_clips: int, *, size: int, num_frames: int = 1) -> torch.Tensor:
    return torch.randint(256, (num_clips, num_frames, 3, size, size), dtype=torch.uint8)


def batch(video: torch.Tensor) -> Batch:
    return Batch(index=torch.arange(len(video)), video=video[:, None], seed=torch.arange(len(video)))


def hamming(first, second) -> int:
    return sum(a != b for a, b in zip(first, second, strict=True))


def test_permutations_equal_the_greedy_choice_written_out():
    chosen = permutations(12, num_tiles=5, seed=3).tolist()
    everything = list(itertools.permutations(range(5)))
    assert tuple(chosen[0]) in everything
    for number in range(1, 12):
        scores = [[hamming(one, other) for other in chosen[:number]] for one in everything]
        best = max((min(score), sum(score)) for score in scores)
        found = [hamming(chosen[number], other) for other in chosen[:number]]
        assert (min(found), sum(found)) == best, number


@pytest.mark.parametrize(("num", "mean", "smallest"), [(10, 8.80, 8), (35, 8.225, 7), (64, 8.122, 7)])
def test_permutations_of_nine_tiles_are_as_far_apart_as_is_known(num, mean, smallest):
    chosen = permutations(num).tolist()
    assert all(sorted(one) == list(range(9)) for one in chosen)
    distances = [hamming(one, other) for one, other in itertools.combinations(chosen, 2)]
    assert min(distances) == smallest
    assert sum(distances) / len(distances) == pytest.approx(mean, abs=0.005)


def test_the_seed_chooses_the_set_and_too_many_are_an_error():
    assert torch.equal(permutations(4, seed=1), permutations(4, seed=1))
    assert not torch.equal(permutations(4, seed=1), permutations(4, seed=2))
    assert len({tuple(one) for one in permutations(24, num_tiles=4).tolist()}) == 24
    with pytest.raises(ValueError, match="4 tiles have 24 permutations, 25 are asked for"):
        permutations(25, num_tiles=4)


def test_loss_equals_the_mean_over_clips_written_out():
    puzzle = method(channel_shift_px=1).eval()
    clip = batch(noise(4, size=30, num_frames=2))
    with torch.no_grad():
        losses = puzzle(clip, 0.0)
        tiles = puzzle.cut(clip.video[:, 0].float() / 255, clip.seed)
        terms = []
        for b in range(4):
            target = int(torch.nonzero(drawn_permutations(puzzle, clip)[b] == 1)[0])
            joined = []
            for place in range(9):
                tile = tiles[b, puzzle.permutations[target][place]]  # (T, 3, h, w)
                by_channel = [(c - c.mean()) / c.std() * 0.5 + 0.5 for c in tile.unbind(1)]
                joined.append(puzzle.tile_head(puzzle.encoder(torch.stack(by_channel, 1)[None]))[0])
            logits = puzzle.classifier(torch.cat(joined)).tolist()
            terms.append(math.log(sum(map(math.exp, logits))) - logits[target])
    assert float(losses["loss"]) == pytest.approx(sum(terms) / 4, abs=1e-5)


def drawn_permutations(puzzle: Jigsaw, clip: Batch) -> torch.Tensor:
    """Which permutation each clip got, one-hot, read off the loss of a classifier that knows only a bias for each."""
    last = puzzle.classifier[-1]
    weight, bias = last.weight.clone(), last.bias.clone()
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.arange(len(bias)) * 0.1)
        rows = [
            puzzle(Batch(index=clip.index[b, None], video=clip.video[b, None], seed=clip.seed[b, None]), 0.0)
            for b in range(len(clip))
        ]
        values = -F.log_softmax(last.bias, 0)
        hits = torch.stack([(row["loss"] - values).abs() < 1e-4 for row in rows]).int()
        last.weight.copy_(weight)
        last.bias.copy_(bias)
    assert hits.sum(1).tolist() == [1] * len(clip)
    return hits


def test_every_permutation_is_drawn_equally_often():
    puzzle = method(grid=2, num=6, tile_px=2).eval()
    counts = drawn_permutations(puzzle, batch(noise(600, size=4))).sum(0)
    assert counts.min() > 65 and counts.max() < 135, counts  # 100 +- 9


def test_shuffling_back_gives_the_tiles():
    order = permutations(6)
    tiles = torch.randn(6, 9, 1, 3, 2, 2)
    moved = shuffle(tiles, order)
    assert torch.equal(moved[2, 4], tiles[2, order[2, 4]])
    assert torch.equal(shuffle(moved, order.argsort(1)), tiles)


def test_tiles_lie_in_their_cells_at_every_place_and_channels_move_apart():
    size, cell, tile = 30, 10, 7
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    # Every pixel knows its place.
    picture = torch.stack([row * size + column] * 3).float()[None, None].expand(300, 1, -1, -1, -1)
    for shift in (0, 1):
        corner = method(tile_px=tile, channel_shift_px=shift).cut(picture, torch.arange(300))[:, :, 0, :, 0, 0]
        y, x = corner.div(size, rounding_mode="floor"), corner % size  # (B, N, 3)
        cells = torch.arange(9)[None, :, None]
        y, x = y - cells // 3 * cell, x - cells % 3 * cell
        for place in (y, x):
            counts = torch.bincount(place[:, :, 0].long().flatten(), minlength=4)
            assert len(counts) == 4 and counts.min() > 400, counts  # of 2700: at 0, 1, 2 and 3 px of room
            apart = (place[:, :, 0] - place[:, :, 2]).abs()
            assert apart.max() == 2 * shift
    window = method(tile_px=tile).cut(picture, torch.arange(300))
    assert torch.equal(window[..., 1:, :] - window[..., :-1, :], torch.full((300, 9, 1, 3, 6, 7), 30.0))


def test_a_tile_is_a_window_of_its_own_cell_clip_and_frame():
    pictures = torch.rand(3, 2, 3, 15, 15)  # cells of 5 px, tiles of 3: nine places
    tiles = method(tile_px=3).cut(pictures, torch.arange(3))
    for b in range(3):
        for n in range(9):
            cell = pictures[b, :, :, n // 3 * 5 : n // 3 * 5 + 5, n % 3 * 5 : n % 3 * 5 + 5]
            windows = [cell[..., y : y + 3, x : x + 3] for y in range(3) for x in range(3)]
            assert sum(torch.equal(tiles[b, n], window) for window in windows) == 1, (b, n)


def test_tiles_that_are_too_large_are_an_error():
    with pytest.raises(ValueError, match="tiles of 11 px do not fit the cells of 10 px"):
        method(tile_px=11)(batch(noise(1, size=30)), 0.0)


# The short cuts of the paper. In each test somebody who knows nothing of pictures solves the puzzle by the clue that
# the short cut is, and fails where the method takes the clue away.


def smooth(num: int, *, size: int, radius: int) -> torch.Tensor:
    """Grey noise with a grain of about `radius` pixels: (num, 1, 3, size, size)."""
    fine = torch.randn(num, 1, size + 2 * radius, size + 2 * radius)
    grain = F.avg_pool2d(F.avg_pool2d(fine, radius + 1, stride=1), radius + 1, stride=1)
    return (grain / grain.std()).expand(-1, 3, -1, -1)[:, None]


def share_solved_by_edges(puzzle: Jigsaw, pictures: torch.Tensor) -> float:
    """Take the permutation under which edges that touch are most alike."""
    seed = torch.arange(len(pictures))
    target = seed % len(puzzle.permutations)
    tiles = shuffle(puzzle.cut(pictures, seed), puzzle.permutations[target])
    costs = []
    for order in puzzle.permutations:
        placed = shuffle(tiles, order.argsort()[None].expand(len(tiles), -1))[:, :, 0, 0].unflatten(1, (3, 3))
        across = placed[:, :, 1:, :, 0] - placed[:, :, :-1, :, -1]
        down = placed[:, 1:, :, 0, :] - placed[:, :-1, :, -1, :]
        costs.append(across.abs().mean((1, 2, 3)) + down.abs().mean((1, 2, 3)))
    return (torch.stack(costs).argmin(0) == target).float().mean().item()


def test_without_a_gap_edges_that_go_on_solve_the_puzzle():
    pictures = smooth(400, size=60, radius=3)
    assert share_solved_by_edges(method(num=50, tile_px=20), pictures) > 0.95
    assert share_solved_by_edges(method(num=50, tile_px=10), pictures) < 0.1  # chance is 0.02


def share_solved_by_brightness(puzzle: Jigsaw, tiles: torch.Tensor) -> float:
    """Sort the tiles by brightness: in pictures that are dark above and bright below, left to right."""
    target = torch.arange(len(tiles)) % len(puzzle.permutations)
    shuffled = shuffle(tiles, puzzle.permutations[target])
    rank = shuffled.mean((2, 3, 4, 5)).argsort(1).argsort(1)  # rounded, the means of standardised tiles are equal
    distance = (rank[:, None] != puzzle.permutations[None]).sum(-1)
    return (distance.argmin(1) == target).float().mean().item()


def test_without_standardising_the_light_solves_the_puzzle():
    size = 30
    row, column = torch.meshgrid(torch.arange(size) // 10, torch.arange(size) // 10, indexing="ij")
    light = (3 * row + column) / 9
    pictures = (0.8 * light + 0.2 * torch.rand(400, 1, 3, size, size)).clamp(0, 1)
    puzzle = method(num=50)
    tiles = puzzle.cut(pictures, torch.arange(400))
    standardized = puzzle.standardize(tiles)
    assert share_solved_by_brightness(puzzle, tiles) > 0.95
    assert share_solved_by_brightness(puzzle, standardized) < 0.1
    # The encoder undoes the scale: it sees mean 0 and deviation 1, whatever the light.
    seen = (standardized - puzzle.encoder.mean) / puzzle.encoder.std
    assert seen.mean((2, 4, 5)).abs().max() < 1e-4
    assert (seen.std((2, 4, 5)) - 1).abs().max() < 1e-4


def share_solved_by_fringes(puzzle: Jigsaw, pictures: torch.Tensor) -> float:
    """Read the place of a tile from how its red lies to its blue; (-1, 0, 1) rows and columns off."""
    seed = torch.arange(len(pictures))
    target = seed % len(puzzle.permutations)
    tiles = shuffle(puzzle.cut(pictures, seed), puzzle.permutations[target])[:, :, 0]
    red, blue = tiles[:, :, 0, 1:-1, 1:-1], tiles[:, :, 2]
    height, width = red.shape[-2:]
    offsets = [(y, x) for y in range(3) for x in range(3)]
    errors = [(red - blue[..., y : y + height, x : x + width]).abs().mean((2, 3)) for y, x in offsets]
    place = torch.stack(errors).argmin(0)  # (B, N)
    distance = (place[:, None] != puzzle.permutations[None]).sum(-1)
    return (distance.argmin(1) == target).float().mean().item()


def test_without_shifted_channels_the_fringes_of_a_lens_solve_the_puzzle():
    sharp = smooth(400, size=62, radius=1)
    pictures = sharp[..., 1:-1, 1:-1].clone()
    for row in range(3):
        for column in range(3):  # red is magnified: it moves away from the centre
            rows, columns = slice(20 * row, 20 * row + 20), slice(20 * column, 20 * column + 20)
            moved = sharp[:, :, 0, row : row + 60, column : column + 60]
            pictures[:, :, 0, rows, columns] = moved[..., rows, columns]
    assert share_solved_by_fringes(method(num=50, tile_px=12), pictures) > 0.95
    assert share_solved_by_fringes(method(num=50, tile_px=12, channel_shift_px=2), pictures) < 0.1


def test_a_tile_is_encoded_without_its_neighbours():
    puzzle = method().train()
    tiles = torch.rand(4, 9, 1, 3, 8, 8)
    other = tiles.clone()
    other[1, 5] = torch.rand(1, 3, 8, 8)
    before, after = puzzle.encode(tiles), puzzle.encode(other)
    changed = (before != after).flatten(2).any(2)
    # The batch statistics of place 5 have changed, those of no other place.
    assert changed[1, 5]
    assert not changed[:, [place for place in range(9) if place != 5]].any()
    joined = [puzzle.encoder(one.flatten(0, 1)).view(4, 9, -1) for one in (tiles, other)]
    assert (joined[0] != joined[1])[1, 0].any(), "this test would not see batch norm over all tiles"
