import pytest
import torch

from vidssl.ops.holes import central_hole, random_blocks, random_region, shrink

SEEDS = torch.arange(500)


def test_the_central_hole_is_the_middle_half_of_each_side():
    hole = central_hole(SEEDS[:2], 8, 12)
    expected = [[2 <= row < 6 and 3 <= column < 9 for column in range(12)] for row in range(8)]
    assert hole.tolist() == [expected, expected]


def test_random_blocks_cover_at_most_their_share_and_fill_it_where_they_lie_apart():
    hole = random_blocks(SEEDS, 16, 24)
    sizes = hole.sum((1, 2))
    assert sizes.min() >= 4 * 6 and sizes.max() == 16 * 24 // 4
    assert 0.15 < hole.float().mean() < 0.25
    single = random_blocks(SEEDS, 16, 24, num_blocks=1, share=0.25)
    for one in single[:50]:
        rows, columns = one.any(1).nonzero(), one.any(0).nonzero()
        assert len(rows) == 8 and rows.max() - rows.min() == 7, "not one block"
        assert len(columns) == 12 and int(one.sum()) == 96
    assert single.float().mean(0).min() > 0, "a pixel is never missing"


def test_random_regions_have_their_share_exactly_and_are_smooth():
    hole = random_region(SEEDS, 32, 32)
    assert (hole.sum((1, 2)) == 256).all()
    # A pixel of unconnected noise has a like neighbour in 0.75^2 + 0.25^2 = 62 % of the cases.
    assert (hole[:, 1:] == hole[:, :-1]).float().mean() > 0.85
    assert (hole.float().mean(0) - 0.25).abs().max() < 0.09, "some place is missing much more often than others"


@pytest.mark.parametrize("holes", [random_blocks, random_region])
def test_a_hole_depends_on_the_seed_of_its_sample_alone(holes):
    together = holes(SEEDS[:6], 16, 16)
    assert torch.equal(holes(SEEDS[4:5], 16, 16)[0], together[4])
    assert not torch.equal(together[0], together[1])


def test_shrinking_equals_looking_at_every_neighbour():
    hole = random_region(SEEDS[:4], 10, 14, num_grains=3, share=0.5)
    for margin in (0, 1, 2):
        smaller = shrink(hole, margin)
        for b in range(4):
            for row in range(10):
                for column in range(14):
                    rows = range(max(0, row - margin), min(10, row + margin + 1))
                    columns = range(max(0, column - margin), min(14, column + margin + 1))
                    assert smaller[b, row, column] == all(hole[b, y, x] for y in rows for x in columns)
