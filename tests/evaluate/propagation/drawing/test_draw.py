"""Drawn points are where they were said to be, and pictures lie where their titles are."""

import pytest
import torch
from PIL import Image

from vidssl.evaluate.propagation.drawing.draw import contact_sheet_of, draw_points, point_colors, with_legend

GREY = torch.full((3, 40, 60), 128, dtype=torch.uint8)
COLORS = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=torch.uint8)


def changed(picture):
    """Pixels that differ from grey, as a set of (x, y)."""
    return {(x, y) for y, x in (picture != 128).any(dim=0).nonzero().tolist()}


def centre(pixels):
    return tuple(sum(axis) / len(pixels) for axis in zip(*pixels, strict=True))


def test_a_disc_has_its_point_as_centre_and_its_colour():
    for xy in ((20.0, 10.0), (20.5, 10.0), (33.5, 21.5)):
        picture = draw_points(GREY, torch.tensor([xy]), colors=COLORS[:1], radius_px=4)
        pixels = changed(picture)
        assert centre(pixels) == pytest.approx(xy, abs=0.35)
        assert len(pixels) == pytest.approx(torch.pi * 4.5**2, rel=0.2)
        assert picture[:, int(xy[1]), int(xy[0])].tolist() == [255, 0, 0]
    assert (GREY == 128).all()  # the frame itself stays


def test_a_point_that_is_not_visible_is_a_cross():
    xy = torch.tensor([[20.0, 20.0]])
    picture = draw_points(GREY, xy, torch.tensor([False]), colors=COLORS[:1], radius_px=6)
    assert picture[:, 20, 20].tolist() == [255, 0, 0]
    for dx, dy in ((4, 4), (4, -4), (-4, 4), (-4, -4)):
        assert (20 + dx, 20 + dy) in changed(picture)
        assert (20 + 7 * dx // 4, 20) not in changed(picture)
    assert centre(changed(picture)) == pytest.approx((20, 20), abs=0.35)


def test_points_that_are_nowhere_are_not_drawn():
    xy = torch.tensor([[float("nan"), 3.0], [-100.0, 5.0], [500.0, 500.0]])
    assert changed(draw_points(GREY, xy, edges=[(0, 1)])) == set()
    assert changed(draw_points(GREY, torch.zeros(0, 2))) == set()


def test_edges_join_points_that_are_both_visible():
    xy = torch.tensor([[10.0, 30.0], [30.0, 30.0], [50.0, 30.0]])
    visible = torch.tensor([True, True, False])
    picture = draw_points(GREY, xy, visible, colors=COLORS, edges=[(0, 1), (1, 2)], radius_px=3)
    assert picture[:, 30, 20].tolist() == [0, 255, 0]
    assert picture[:, 30, 40].tolist() == [128, 128, 128]


def test_neighbouring_colours_are_far_apart():
    colors = point_colors(15).int()
    gaps = (colors[:, None] - colors[None]).abs().sum(dim=2) + 999 * torch.eye(15)
    assert gaps.min() > 60
    assert gaps[torch.arange(14), torch.arange(1, 15)].min() > 80


def test_the_sheet_keeps_pictures_in_rows_and_columns():
    pictures = [torch.full((3, 20, 40), value, dtype=torch.uint8) for value in (10, 60, 110, 160)]
    sheet = contact_sheet_of(
        [("truth", pictures[:2]), ("prediction", pictures[2:])], column_titles=["0", "9"], column_width_px=80
    )
    assert sheet.size == (2 * 80 + 4, 19 + 2 * (19 + 40) + 4)
    for x in (0, 1):
        for y in (0, 1):
            place = (40 + 84 * x, 19 + 19 + 20 + y * (19 + 40 + 4))
            assert sheet.getpixel(place) == (int(pictures[2 * y + x][0, 0, 0]),) * 3


def test_a_legend_breaks_to_the_width_of_the_sheet():
    sheet = Image.new("RGB", (120, 50), (9, 9, 9))
    entries = {"hat": COLORS[0], "upper-clothes": COLORS[1], "sun-glasses": COLORS[2]}
    legend = with_legend(sheet, entries)
    assert legend.size == (120, 50 + 3 * 21)
    assert [legend.getpixel((8, 50 + 21 * line + 10)) for line in range(3)] == [
        (255, 0, 0), (0, 255, 0), (0, 0, 255)
    ]  # fmt: skip
    assert legend.getpixel((8, 40)) == (9, 9, 9)
    assert with_legend(sheet, entries | {"coat": COLORS[0]}).size == (120, 50 + 4 * 21)
    assert with_legend(Image.new("RGB", (600, 50)), entries).size == (600, 50 + 21)
    assert with_legend(sheet, {}).size == sheet.size


def test_rows_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match=r"lengths \[1, 2\]"):
        contact_sheet_of([("truth", [GREY]), ("prediction", [GREY, GREY])])
    with pytest.raises(ValueError, match=r"coordinates x, y in pixels, got \(4,\)"):
        draw_points(GREY, torch.zeros(4))
