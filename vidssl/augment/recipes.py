"""Views of the literature by name: each function returns one operator, (clips, seeds) -> float clips in [0, 1].

    view = recipes.simclr(224)
    first, second = view(video, draws.mix(seed, 0)), view(video, draws.mix(seed, 1))

All windows are sampled bilinearly (the papers of SimCLR, BYOL and DINO scale bicubically), encoders normalise by
themselves, and the window of the blur is a tenth of the side (SimCLR, Chen et al. 2020, App. A), in MoCo and DINO as
well, where it is not cut off.
"""

import torch
from torch import Tensor, nn

from ..ops import draws
from .color import ColorJitter, GaussianBlur, RandomGray, Solarize
from .geometry import RandomResizedCrop


class Pipeline(nn.Module):
    """Operators one after the other, each with a stream of its own: clips uint8 or float, one seed per clip.

    Args:
        operators: (clips (B, T, 3, H, W) float in [0, 1], seeds (B,)) -> clips.
    """

    def __init__(self, *operators: nn.Module) -> None:
        super().__init__()
        self.operators = nn.ModuleList(operators)

    def forward(self, video: Tensor, seed: Tensor) -> Tensor:
        """Make one view of each clip: uint8 or float in [0, 1], (B, T, 3, H, W), int64 (B,) -> float in [0, 1]."""
        view = video.float() / 255 if video.dtype == torch.uint8 else video
        for number, operator in enumerate(self.operators):
            view = operator(view, draws.mix(seed, number))
        return view


def moco_v1(size_px: int) -> Pipeline:
    """Views of MoCo v1 (He et al. 2020, arXiv:1911.05722, Sec. 3.3), from instance discrimination (Wu et al. 2018).

    Grey comes before the jitter, which is applied to every clip.
    """
    return Pipeline(
        RandomResizedCrop(size_px, scale=(0.2, 1.0)),
        RandomGray(probability=0.2),
        ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4),
    )


def moco_v2(size_px: int) -> Pipeline:
    """Views of MoCo v2 (Chen et al. 2020, arXiv:2003.04297, Sec. 3) and of SimSiam: "aug+"."""
    return Pipeline(
        RandomResizedCrop(size_px, scale=(0.2, 1.0)),
        ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, probability=0.8),
        RandomGray(probability=0.2),
        GaussianBlur(kernel_px=_tenth(size_px), probability=0.5),
    )


def simclr(size_px: int, *, strength: float = 1.0) -> Pipeline:
    """Views of SimCLR (Chen et al. 2020, arXiv:2002.05709, App. A).

    Args:
        size_px: Height and width of the view.
        strength: Of the colour distortion; 0.5 for CIFAR-10.
    """
    return Pipeline(
        RandomResizedCrop(size_px, scale=(0.08, 1.0)),
        ColorJitter(
            brightness=0.8 * strength,
            contrast=0.8 * strength,
            saturation=0.8 * strength,
            hue=0.2 * strength,
            probability=0.8,
        ),
        RandomGray(probability=0.2),
        GaussianBlur(kernel_px=_tenth(size_px), probability=0.5),
    )


def byol(size_px: int, *, view: int) -> Pipeline:
    """Views of BYOL (Grill et al. 2020, arXiv:2006.07733, App. B, Table 6); of Barlow Twins and MoCo v3 as well.

    Args:
        size_px: Height and width of the view.
        view: 0 is always blurred; 1 is blurred with probability 0.1 and solarized with probability 0.2.
    """
    return Pipeline(
        RandomResizedCrop(size_px, scale=(0.08, 1.0)),
        *_byol_colors(size_px, blur=(1.0, 0.1)[view], solarize=(0.0, 0.2)[view]),
    )


def dino_global(size_px: int, *, view: int, scale: tuple[float, float] = (0.4, 1.0)) -> Pipeline:
    """Large views of DINO (Caron et al. 2021, arXiv:2104.14294, App. A, and released code).

    Args:
        size_px: Height and width of the view.
        view: 0 is always blurred; 1 is blurred with probability 0.1 and solarized with probability 0.2.
        scale: Range of the window's area.
    """
    return Pipeline(
        RandomResizedCrop(size_px, scale=scale),
        *_byol_colors(size_px, blur=(1.0, 0.1)[view], solarize=(0.0, 0.2)[view]),
    )


def dino_local(size_px: int, *, scale: tuple[float, float] = (0.05, 0.4)) -> Pipeline:
    """Small views of DINO; arguments as of `dino_global`."""
    return Pipeline(RandomResizedCrop(size_px, scale=scale), *_byol_colors(size_px, blur=0.5, solarize=0.0))


def _byol_colors(size_px: int, *, blur: float, solarize: float) -> list[nn.Module]:
    return [
        ColorJitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, probability=0.8),
        RandomGray(probability=0.2),
        GaussianBlur(kernel_px=_tenth(size_px), probability=blur),
        Solarize(threshold=0.5, probability=solarize),
    ]


def _tenth(size_px: int) -> int:
    """A tenth of the side in pixels, made odd: 23 of 224."""
    return size_px // 10 // 2 * 2 + 1
