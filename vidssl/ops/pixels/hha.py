"""Depth as three channels: horizontal disparity, height above ground, angle with gravity.

Gupta, Girshick, Arbelaez and Malik 2014, "Learning rich features from RGB-D images for object detection and
segmentation", arXiv:1407.5736, Sec. 3.1; constants are those of the authors' code (s-gupta/rcnn-depth).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Disparity is 31000 over the depth in cm, of at least 1 m.
DISPARITY, NEAREST_M = 31000.0, 1.0
# Angles in degrees are stored with 90 at 128.
RIGHT_ANGLE = 128.0
# Where no point lies 0.9 m or more below the camera, no floor is seen: it is taken to be 1.3 m below.
SMALLEST_DROP_M, USUAL_DROP_M = 0.9, 1.3
# Angles within which a normal counts as parallel or perpendicular to gravity, and how often it is estimated with each.
TOLERANCES_DEGREES, NUM_ROUNDS = (45.0, 15.0), 5


def hha(depth_m: Tensor, intrinsics: Tensor, *, window_px: int = 7) -> Tensor:
    """Encode depth as HHA, ready to be three channels of a video.

    Args:
        depth_m: Depth along the optical axis, metres, (B, H, W); 0 where none was measured.
        intrinsics: Of the camera, (3, 3): focal lengths and principal point in pixels, the middle of the first pixel
            being (0, 0).
        window_px: Side of the window that a normal is fitted in, odd.

    Returns:
        uint8 (B, 3, H, W): disparity, height in cm above the lowest point, angle of the surface with gravity (a wall
        128, a floor 218, a ceiling 38), each cut to [0, 255]. All 0 where there is no depth.
    """
    depth_m = depth_m.double()
    known = depth_m > 0
    points = back_projected(depth_m, intrinsics)
    normals = surface_normals(points, known, window_px=window_px)
    down = gravity(normals, known)  # (B, 3)
    drop = torch.einsum("bchw, bc -> bhw", points, down)  # below the camera
    lowest = drop.masked_fill(~known, -torch.inf).amax((1, 2), keepdim=True)
    floor = torch.where(lowest < SMALLEST_DROP_M, USUAL_DROP_M, lowest)
    angle = torch.einsum("bchw, bc -> bhw", normals, down).clamp(-1, 1).acos().rad2deg()
    channels = torch.stack(
        [DISPARITY / (100 * depth_m.clamp(min=NEAREST_M)), 100 * (floor - drop), angle - 90 + RIGHT_ANGLE], dim=1
    )
    return torch.where(known[:, None], channels, 0.0).round().clamp(0, 255).to(torch.uint8)


def back_projected(depth_m: Tensor, intrinsics: Tensor) -> Tensor:
    """Points that a camera sees: (B, H, W) metres, (3, 3) -> x to the right, y down, z ahead, metres (B, 3, H, W)."""
    height, width = depth_m.shape[1:]
    intrinsics = intrinsics.to(depth_m)
    x = (torch.arange(width).to(depth_m) - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (torch.arange(height).to(depth_m) - intrinsics[1, 2]) / intrinsics[1, 1]
    return torch.stack([depth_m * x, depth_m * y[:, None], depth_m], dim=1)


def surface_normals(points: Tensor, known: Tensor, *, window_px: int = 7) -> Tensor:
    """Fit a plane around every point: (B, 3, H, W), bool (B, H, W) -> unit normals towards the camera (B, 3, H, W).

    On a plane 1 / z is linear in x / z and y / z, so that errors of depth count as errors of disparity. All 0 where
    fewer than three points are known.
    """
    z = points[:, 2].clamp(min=1e-6)
    ray = torch.stack([points[:, 0] / z, points[:, 1] / z, torch.ones_like(z)], dim=1)  # (B, 3, H, W)
    weight = known.to(points)

    def summed(values: Tensor) -> Tensor:
        flat = (values * weight.view(len(weight), *(1,) * (values.ndim - 3), *weight.shape[1:])).flatten(1, -3)
        mean = F.avg_pool2d(flat, window_px, stride=1, padding=window_px // 2)
        return mean.view_as(values) * window_px**2

    moments = summed(ray[:, :, None] * ray[:, None]).permute(0, 3, 4, 1, 2)  # (B, H, W, 3, 3)
    right = summed(ray / z[:, None]).permute(0, 2, 3, 1)  # (B, H, W, 3)
    # A little of the identity keeps windows without a plane solvable; it turns the others by nothing to speak of.
    plane = torch.linalg.solve(moments + 1e-12 * torch.eye(3).to(moments), right[..., None])[..., 0]
    normal = F.normalize(plane, dim=-1).movedim(-1, 1)
    # A plane's equation is n . p = 1, so n points away from the camera.
    enough = known & (summed(torch.ones_like(z)[:, None])[:, 0] > 2.5)
    return torch.where(enough[:, None], -normal, 0.0)


def gravity(normals: Tensor, known: Tensor) -> Tensor:
    """Direction that floors and walls agree on: (B, 3, H, W), bool (B, H, W) -> unit vectors down, (B, 3).

    It begins with the camera's own down; floors are what is nearly perpendicular to the guess, walls what is nearly
    parallel, and the next guess is most along the normals of floors and least along those of walls (Gupta et al. 2013,
    CVPR, Sec. 3).
    """
    flat = (normals * known[:, None]).flatten(2)  # (B, 3, N)
    down = torch.tensor([0.0, 1.0, 0.0]).to(normals).expand(len(normals), 3)
    for tolerance in TOLERANCES_DEGREES:
        angle = torch.tensor(tolerance).deg2rad().to(normals)
        for _ in range(NUM_ROUNDS):
            along = torch.einsum("bcn, bc -> bn", flat, down).abs()
            is_seen = flat.square().sum(1) > 0.5
            floor = flat * (along > angle.cos())[:, None]
            wall = flat * ((along < angle.sin()) & is_seen)[:, None]
            matrix = wall @ wall.mT - floor @ floor.mT
            found = torch.linalg.eigh(matrix).eigenvectors[:, :, 0]  # of the smallest eigenvalue
            found = found * torch.where((found * down).sum(1, keepdim=True) < 0, -1.0, 1.0)
            # Without any surface to go by, the guess stays.
            down = torch.where(matrix.abs().amax((1, 2))[:, None] > 0, found, down)
    return down
