"""Rows of augmentation: the views of SimCLR, whole clips at a time."""

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ...augment import ColorJitter, GaussianBlur, Normalize, Pipeline, RandomGray, RandomResizedCrop
from ...ops import draws
from .measuring import Case, Peers, Row, at_least, at_most

CLIPS, NUM_FRAMES, HEIGHT, WIDTH, SIZE_PX = 4, 8, 128, 170, 112
NUM_CALLS = 8  # of each side in a round: how much work a call is depends on its draws
SCALE, KERNEL_PX, SIGMA_PX = (0.2, 1.0), 11, (0.1, 2.0)
BRIGHTNESS, CONTRAST, SATURATION, HUE = JITTER = 0.4, 0.4, 0.4, 0.1
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
MANY_CLIPS = (256, 1024)  # batches in which launches are counted

# What waits for the device: a value or a size that the host needs.
SYNCS = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "_unique2", "unique_dim", "equal"}


class _Launches(TorchDispatchMode):
    """Counts operators on tensors of one device, views aside, and among them what waits for it or copies from it."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device
        self.launches = self.syncs = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count one."""
        result = func(*args, **(kwargs or {}))
        given, made = (
            [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)] for tree in ((args, kwargs), result)
        )
        # A number on the CPU goes along with the launch.
        places = {leaf.device.type for leaf in given + made if leaf.ndim > 0 or leaf.device.type == self.device}
        if self.device not in places or func.is_view:
            return result
        self.launches += 1
        copies = func.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.copy_)
        onto = copies and bool(made) and made[0].device.type == self.device
        # An operator that takes tensors of both sides copies one of them, and waits.
        name = func.overloadpacket.__name__
        by_mask = name.startswith("index") and any(leaf.dtype == torch.bool for leaf in given[1:])
        self.syncs += name in SYNCS or by_mask or (len(places) > 1 and not onto)
        return result


def count_launches(call: Callable[[], Any], *, device: str) -> tuple[int, int]:
    """Count what a call launches on a device, and how often it waits there.

    On the device "meta" tensors have no values: what would read one raises an error, and is no launch.
    """
    with _Launches(device) as counted:
        call()
    return counted.launches, counted.syncs


def simclr_view() -> Pipeline:
    """The view of both rows, ours."""
    return Pipeline(
        RandomResizedCrop(SIZE_PX, scale=SCALE),
        ColorJitter(brightness=BRIGHTNESS, contrast=CONTRAST, saturation=SATURATION, hue=HUE, probability=0.8),
        RandomGray(probability=0.2),
        GaussianBlur(kernel_px=KERNEL_PX, sigma_px=SIGMA_PX, probability=0.5),
        Normalize(MEAN, STD),
    )


def _case(peer: Callable[[Tensor], Tensor]) -> Case:
    coarse = torch.rand(CLIPS * NUM_FRAMES, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(coarse, size=(HEIGHT, WIDTH), mode="bilinear")
    video = smooth.mul(255).round().to(torch.uint8).unflatten(0, (CLIPS, NUM_FRAMES))
    view, calls = simclr_view(), count()
    torch.manual_seed(0)  # what the peer draws from

    def repeat(function: Callable[[], Tensor]) -> Callable[[], list[Tensor]]:
        return lambda: [function() for _ in range(NUM_CALLS)]

    def ours() -> Tensor:
        return view(video, draws.mix(torch.arange(CLIPS), next(calls)))

    def compare(mine: list[Tensor], theirs: list[Tensor]) -> Mapping[str, float]:
        if mine[0].shape != theirs[0].shape:
            raise RuntimeError(f"views are {tuple(mine[0].shape)}, the peer's {tuple(theirs[0].shape)}")
        return launch_figures(view)

    return Case(repeat(ours), repeat(lambda: peer(video)), compare)


def launch_figures(view: Pipeline) -> Mapping[str, float]:
    """Launches of a view on a device other than the CPU: most of many calls, and what differs with the sizes.

    How many there are depends on what the clips of a batch draw; of so many clips some draw each thing that can be
    drawn, so that other sizes change nothing.
    """
    counted = {}
    for num_clips in MANY_CLIPS:
        for num_frames in (1, 8):
            video = torch.empty(num_clips, num_frames, 3, HEIGHT, WIDTH, dtype=torch.uint8, device="meta")
            counted[num_clips, num_frames] = [
                count_launches(lambda v=video, s=seed: view(v, s), device="meta")  # type: ignore[misc]
                for seed in (draws.mix(torch.arange(num_clips), 1000 + number) for number in range(2))
            ]
    launches = [number for counts in counted.values() for number, _ in counts]
    return {
        "launches": max(launches),
        "launches_more_for_other_sizes": max(launches) - min(launches),
        "host_syncs": max(syncs for counts in counted.values() for _, syncs in counts),
    }


def _kornia(peers: Peers) -> Case:
    import kornia.augmentation as kornia

    view = kornia.VideoSequential(
        kornia.RandomResizedCrop((SIZE_PX, SIZE_PX), scale=SCALE),
        kornia.RandomHorizontalFlip(p=0.5),
        kornia.ColorJitter(*JITTER, p=0.8),
        kornia.RandomGrayscale(p=0.2),
        kornia.RandomGaussianBlur((KERNEL_PX, KERNEL_PX), SIGMA_PX, p=0.5),
        kornia.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
        data_format="BTCHW",
        same_on_frame=True,
    )
    return _case(lambda video: view(video.float() / 255))


def _torchvision(peers: Peers) -> Case:
    from torchvision.transforms import v2

    view = v2.Compose(
        [
            v2.RandomResizedCrop(SIZE_PX, scale=SCALE),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(*JITTER)], p=0.8),
            v2.RandomGrayscale(p=0.2),
            v2.RandomApply([v2.GaussianBlur(KERNEL_PX, SIGMA_PX)], p=0.5),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    return _case(lambda video: torch.stack([view(clip) for clip in video]))


WHAT = (
    f"Views of SimCLR of {CLIPS} clips of {NUM_FRAMES} frames of {HEIGHT} x {WIDTH} pixels, to {SIZE_PX} x {SIZE_PX}, "
    f"drawn anew in each of {NUM_CALLS} calls: random resized crop, flip, jitter of brightness, contrast, saturation "
    f"and hue (in HSV), grey, blur of {KERNEL_PX} pixels, normalisation; a clip's frames are treated alike. "
)

ROWS = (
    Row(
        name="augment",
        what=WHAT
        + "The peer crops without antialias. Launches are operators on tensors of the device, views aside: "
        f"the most of {MANY_CLIPS[0]} and of {MANY_CLIPS[1]} clips, of 1 and of 8 frames.",
        ours="augment.Pipeline",
        peer="kornia, VideoSequential(same_on_frame=True)",
        needs=("kornia",),
        prepare=_kornia,
        goals=(
            at_least("speedup", 2),
            at_most("launches", 200),
            at_most("launches_more_for_other_sizes", 0),
            at_most("host_syncs", 0),
        ),
        rounds=15,
    ),
    Row(
        name="augment_torchvision",
        what=WHAT + "The peer is called for one clip after the other, and works on bytes up to the normalisation.",
        ours="augment.Pipeline",
        peer="torchvision, transforms.v2",
        needs=("torchvision",),
        prepare=_torchvision,
        goals=(),
        rounds=15,
    ),
)
