"""Rooms of planes, of which everything is known."""

import math

import pytest
import torch

from vidssl.ops.pixels.hha import back_projected, gravity, hha, surface_normals

HEIGHT, WIDTH = 60, 80
CAMERA = torch.tensor([[70.0, 0.0, 39.5], [0.0, 70.0, 29.5], [0.0, 0.0, 1.0]])
ABOVE_FLOOR_M, WALL_M = 1.5, 4.0


def room(*, pitch_degrees: float, roll_degrees: float = 0.0, floor: bool = True, wall: bool = True):
    """Depth (1, H, W) of a room seen by a camera turned down and sideways, down in its axes, which pixels are floor."""
    ray = back_projected(torch.ones(1, HEIGHT, WIDTH, dtype=torch.float64), CAMERA)[0]
    pitch, roll = math.radians(pitch_degrees), math.radians(roll_degrees)
    down = torch.tensor(
        [math.sin(roll) * math.cos(pitch), math.cos(roll) * math.cos(pitch), math.sin(pitch)]
    ).double()
    ahead = torch.tensor([0.0, 0.0, 1.0]).double()
    ahead = (ahead - down * (ahead @ down)) / (ahead - down * (ahead @ down)).norm()
    to_floor = ABOVE_FLOOR_M / torch.einsum("chw, c -> hw", ray, down)
    to_wall = WALL_M / torch.einsum("chw, c -> hw", ray, ahead)
    far = torch.full_like(to_wall, torch.inf)
    to_floor = to_floor.where((to_floor > 0) & floor, far)
    to_wall = to_wall.where((to_wall > 0) & wall, far)
    depth = torch.minimum(to_floor, to_wall)
    return depth.where(depth.isfinite(), 0.0)[None], down, ahead, to_floor < to_wall


def inner(mask: torch.Tensor, *, margin_px: int = 5) -> torch.Tensor:
    """What is further than a window from anything else."""
    hole = torch.nn.functional.max_pool2d((~mask).float()[None, None], 2 * margin_px + 1, 1, margin_px)[0, 0] > 0
    edge = torch.zeros_like(mask)
    edge[margin_px:-margin_px, margin_px:-margin_px] = True
    return ~hole & edge


@pytest.mark.parametrize(("pitch", "roll"), [(12.0, 0.0), (20.0, 0.0), (25.0, 12.0)])
def test_a_floor_and_a_wall_have_their_disparity_height_and_angle(pitch, roll):
    depth, down, _, is_floor = room(pitch_degrees=pitch, roll_degrees=roll)
    encoded = hha(depth, CAMERA)[0].double()
    assert encoded.shape == (3, HEIGHT, WIDTH)
    disparity = (310 / depth[0].clamp(min=1)).round().clamp(max=255)
    assert torch.equal(encoded[0], disparity)
    on_floor, on_wall = inner(is_floor), inner(~is_floor)
    assert on_floor.sum() > 100 and on_wall.sum() > 100
    assert encoded[2][on_floor].unique().tolist() == [218] and encoded[2][on_wall].unique().tolist() == [128]
    points = back_projected(depth, CAMERA)[0]
    above = 100 * (ABOVE_FLOOR_M - torch.einsum("chw, c -> hw", points, down))
    # Windows across the edge of floor and wall turn gravity by a few tenths of a degree.
    assert (encoded[1] - above.clamp(0, 255)).abs().max() <= 2
    assert (encoded[1][on_floor]).abs().max() <= 2


def test_normals_of_planes_are_exact_and_face_the_camera():
    depth, down, ahead, is_floor = room(pitch_degrees=20.0)
    normals = surface_normals(back_projected(depth, CAMERA), depth > 0)[0]
    for mask, normal in ((inner(is_floor), -down), (inner(~is_floor), -ahead)):
        torch.testing.assert_close(normals[:, mask], normal[:, None].expand(3, int(mask.sum())), atol=1e-5, rtol=0)


def test_gravity_is_found_of_a_camera_that_is_turned():
    depth, down, _, _ = room(pitch_degrees=25.0, roll_degrees=12.0)
    known = depth > 0
    found = gravity(surface_normals(back_projected(depth, CAMERA), known), known)[0]
    assert float((found * down).sum()) > math.cos(math.radians(1.5))
    # The camera's own down is what it starts from, and is off by the turn.
    assert math.degrees(math.acos(float(down[1]))) > 25


def test_without_a_floor_the_camera_is_taken_to_be_at_its_usual_height():
    depth, _, _, _ = room(pitch_degrees=0.0, floor=False)
    depth[:, 40:] = 0  # the wall ends 0.6 m below the camera
    encoded = hha(depth, CAMERA)[0]
    # The middle of the picture looks straight ahead, 1.3 m above what is taken for the floor.
    assert encoded[1, 29:31, 40].double().mean() == pytest.approx(130, abs=1.5)


def test_what_was_not_measured_is_black_and_disturbs_nothing():
    depth, _, _, is_floor = room(pitch_degrees=20.0)
    holes = depth.clone()
    holes[:, 10:14, 20:30] = 0
    holes[:, 50, 3::7] = 0
    encoded, whole = hha(holes, CAMERA)[0], hha(depth, CAMERA)[0]
    assert encoded[:, 10:14, 20:30].abs().max() == 0
    known = inner(is_floor) & (holes[0] > 0)
    assert torch.equal(encoded[:, known], whole[:, known])


def test_rooms_of_a_batch_are_encoded_each_by_itself():
    first, second = room(pitch_degrees=20.0)[0], room(pitch_degrees=10.0, roll_degrees=-8.0)[0]
    both = hha(torch.cat([first, second]), CAMERA)
    assert torch.equal(both, torch.cat([hha(first, CAMERA), hha(second, CAMERA)]))
