"""Masks: exact counts, known unions, and that a mask is a function of its own seed alone."""

import math

import pytest
import torch

from vidssl.ops import draws
from vidssl.ops.masks import block_split, random_split, restore, take, tubes

SEEDS = torch.arange(50)


@pytest.mark.parametrize(("num_tokens", "ratio", "num_visible"), [(196, 0.75, 49), (196, 0.9, 20), (10, 0.75, 2)])
def test_a_random_split_keeps_exactly_the_rounded_share(num_tokens, ratio, num_visible):
    visible, hidden = random_split(SEEDS, num_tokens, hidden_share=ratio)
    assert visible.shape == (50, num_visible) and num_visible == round(num_tokens * (1 - ratio))
    both = torch.cat([visible, hidden], dim=1)
    assert torch.equal(both.sort(dim=1).values, torch.arange(num_tokens).expand(50, -1))


def test_every_token_is_visible_equally_often():
    visible, _ = random_split(torch.arange(4000), 8, hidden_share=0.75)
    counts = torch.bincount(visible.flatten(), minlength=8)
    # 1000 each, binomial with deviation 27.
    assert (counts - 1000).abs().max() < 110


def test_restoring_undoes_the_shuffle():
    visible, hidden = random_split(SEEDS, 12, hidden_share=0.6)
    tokens = torch.randn(50, 12, 3)
    restored = restore(take(tokens, visible), visible, take(tokens, hidden), hidden)
    assert torch.equal(restored, tokens)
    shuffle = torch.cat([visible, hidden], dim=1)
    assert torch.equal(shuffle.gather(1, shuffle.argsort(dim=1)), torch.arange(12).expand(50, -1))


@pytest.mark.parametrize(
    "split",
    [
        lambda seed: random_split(seed, 30, hidden_share=0.7),
        lambda seed: block_split(
            seed, rows=5, columns=6, num_blocks=3, block_share=0.2, hidden_share=0.3, visible_share=0.3
        ),
    ],
    ids=["random", "block"],
)
def test_a_split_is_a_function_of_its_own_seed(split):
    visible, hidden = split(SEEDS)
    for number in (0, 7, 49):
        alone = split(SEEDS[number : number + 1])
        assert torch.equal(alone[0][0], visible[number]) and torch.equal(alone[1][0], hidden[number])
    assert len({tuple(row.tolist()) for row in visible}) == 50


def union_by_hand(seed: int, *, rows, columns, num_blocks, block_share, aspect) -> set[int]:
    """Cells that the blocks cover, block by block and cell by cell."""
    drawn = draws.uniform(torch.tensor([seed]), 1 + 2 * num_blocks)[0].tolist()
    shape = aspect[0] + (aspect[1] - aspect[0]) * drawn[0]
    height = min(max(round(math.sqrt(block_share * rows * columns * shape)), 1), rows)
    width = min(max(round(math.sqrt(block_share * rows * columns / shape)), 1), columns)
    covered = set()
    for number in range(num_blocks):
        top = int(drawn[1 + number] * (rows - height + 1))
        left = int(drawn[1 + num_blocks + number] * (columns - width + 1))
        covered |= {y * columns + x for y in range(top, top + height) for x in range(left, left + width)}
    return covered


def test_hidden_cells_lie_in_the_blocks_and_visible_ones_outside():
    shape = {"rows": 10, "columns": 12, "num_blocks": 4, "block_share": 0.15, "aspect": (0.75, 1.5)}
    visible, hidden = block_split(SEEDS, **shape, hidden_share=0.25, visible_share=0.2)
    assert visible.shape == (50, 24) and hidden.shape == (50, 30)
    sizes = []
    for seed in range(50):
        union = union_by_hand(seed, **shape)
        sizes.append(len(union))
        inside = [cell in union for cell in hidden[seed].tolist()]
        outside = [cell not in union for cell in visible[seed].tolist()]
        # As many as there are; what is missing is filled up by the other kind.
        assert sum(inside) == min(30, len(union)) and sum(outside) == min(24, 120 - len(union))
        assert len({*hidden[seed].tolist(), *visible[seed].tolist()}) == 54
    assert 36 < sum(sizes) / 50 < 72  # neither nothing nor everything, or the test would be empty


def test_cells_that_are_left_out_favour_no_row():
    """Cutting in raster order would drop the lower rows."""
    seeds = torch.arange(3000)
    visible, hidden = block_split(
        seeds, rows=6, columns=6, num_blocks=2, block_share=0.7, hidden_share=0.4, visible_share=0.1
    )
    for cells in (visible, hidden):
        rows = torch.bincount(cells.flatten() // 6, minlength=6).float()
        mirrored = (rows - rows.flip(0)).abs() / rows.sum()
        assert mirrored.max() < 0.01


def test_tubes_repeat_the_cells_of_a_step():
    tokens = tubes(torch.tensor([[2, 0], [3, 1]]), num_steps=3, num_cells=4)
    assert tokens.tolist() == [[2, 0, 6, 4, 10, 8], [3, 1, 7, 5, 11, 9]]


def test_shares_that_leave_nothing_are_refused():
    with pytest.raises(ValueError, match=r"a share of 0.1 of 4 tokens is 0, expected at least 1"):
        random_split(SEEDS, 4, hidden_share=0.9)
    with pytest.raises(ValueError, match=r"hidden_share 0.7 and visible_share 0.5 add up to 19 of 16 cells"):
        block_split(SEEDS, rows=4, columns=4, num_blocks=2, block_share=0.5, hidden_share=0.7, visible_share=0.5)
