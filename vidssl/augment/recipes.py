"""Views of the literature by name: each function returns one operator, (clips, seeds) -> float clips in [0, 1].

    view = recipes.simclr(224)
    first, second = view(video, draws.mix(seed, 0)), view(video, draws.mix(seed, 1))

Shares of area are of the whole picture where the dataset keeps it whole (`VideoDataset(whole_frames=True)`, then
`view(video, seed, *batch.stretch)`), as in the papers; of the square that it cuts otherwise.
All windows are sampled bilinearly with antialias (the papers of SimCLR, BYOL and DINO scale bicubically), encoders
normalise by themselves, and the window of the blur is a tenth of the side (SimCLR, Chen et al. 2020, App. A), in MoCo
and DINO as well, where it is not cut off.
"""

from torch import nn

from .color import ColorJitter, GaussianBlur, RandomGray, RandomInvert, Solarize
from .geometry import MultiScaleCrop, RandomResizedCrop
from .pipeline import MultiCrop, Pipeline
from .principal import PowerHSV, PrincipalContrast


def moco_v1(size_px: int) -> Pipeline:
    """Views of MoCo v1 (He et al. 2020, arXiv:1911.05722, Sec. 3.3), from instance discrimination (Wu et al. 2018).

    Grey comes before the jitter, which is applied to every clip.
    """
    return Pipeline(
        RandomResizedCrop(size_px, scale=(0.2, 1.0)),
        RandomGray(probability=0.2),
        ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4),
    )


def amdim(size_px: int) -> Pipeline:
    """Views of AMDIM on ImageNet (Bachman et al. 2019, arXiv:1906.00910, and released code).

    None is mirrored by itself: both views of a clip are, or none.
    """
    return Pipeline(
        RandomResizedCrop(size_px, scale=(0.3, 1.0), ratio=(0.7, 1.4), flip=0.0),
        ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, probability=0.8),
        RandomGray(probability=0.25),
    )


def yadim(size_px: int) -> Pipeline:
    """Views of YADIM (Falcon and Cho 2020, arXiv:2009.00104): those of AMDIM, then colours of CPC v2."""
    return Pipeline(*amdim(size_px).operators, *cpc_patch().operators)


def cpc_patch() -> Pipeline:
    """Colours of CPC v2 (Henaff et al. 2019, arXiv:1905.09272), drawn for every patch by itself.

    SimCLR's distortion in four of five patches, a quarter grey, some inverted or solarized; of the paper's, those that
    shear, turn or cut out are not here.
    """
    return Pipeline(
        *_simclr_colors(0.5)[:1],
        RandomGray(probability=0.25),
        RandomInvert(probability=0.1),
        Solarize(threshold=0.5, probability=0.1),
    )


def exemplar() -> Pipeline:
    """Colours of Exemplar-CNN (Dosovitskiy et al. 2014, arXiv:1406.6909); frames keep their size."""
    return Pipeline(PrincipalContrast(), PowerHSV())


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
        *_simclr_colors(strength),
        GaussianBlur(kernel_px=_tenth(size_px), probability=0.5),
    )


def byol(size_px: int, *, view: int, scale: tuple[float, float] = (0.08, 1.0)) -> Pipeline:
    """Views of BYOL (Grill et al. 2020, arXiv:2006.07733, App. B, Table 6); of Barlow Twins as well.

    Args:
        size_px: Height and width of the view.
        view: 0 is always blurred; 1 is blurred with probability 0.1 and solarized with probability 0.2.
        scale: Range of the window's area.
    """
    return Pipeline(
        RandomResizedCrop(size_px, scale=scale),
        *_byol_colors(size_px, blur=(1.0, 0.1)[view], solarize=(0.0, 0.2)[view]),
    )


def moco_v3(size_px: int, *, view: int, min_scale: float = 0.08) -> Pipeline:
    """Views of MoCo v3 (Chen, Xie and He 2021, arXiv:2104.02057, App. A, and released code): those of BYOL.

    Args:
        size_px: Height and width of the view.
        view: 0 or 1, as of `byol`.
        min_scale: Smallest area of the window; 0.08 for a ViT, 0.2 for a ResNet-50.
    """
    return byol(size_px, view=view, scale=(min_scale, 1.0))


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


def dino(global_px: int = 224, local_px: int = 96, *, num_local_views: int = 8) -> MultiCrop:
    """All views of DINO: two large ones, then the small ones."""
    large = [dino_global(global_px, view=number) for number in range(2)]
    return MultiCrop(*large, *[dino_local(local_px)] * num_local_views)


def swav_global(size_px: int, *, scale: tuple[float, float] = (0.14, 1.0), strength: float = 1.0) -> Pipeline:
    """Large views of SwAV and of DeepCluster v2 (Caron et al. 2020, arXiv:2006.09882, App. A, and released code).

    Colours as SimCLR's; the released code blurs views of all sizes with a window of 23 pixels.

    Args:
        size_px: Height and width of the view.
        scale: Range of the window's area.
        strength: Of the colour distortion.
    """
    return Pipeline(
        RandomResizedCrop(size_px, scale=scale),
        *_simclr_colors(strength),
        GaussianBlur(kernel_px=23, probability=0.5),
    )


def swav_local(size_px: int, *, scale: tuple[float, float] = (0.05, 0.14)) -> Pipeline:
    """Small views of SwAV; arguments as of `swav_global`."""
    return swav_global(size_px, scale=scale)


def swav(global_px: int = 224, local_px: int = 96, *, num_local_views: int = 6) -> MultiCrop:
    """All views of SwAV: two large ones, then the small ones."""
    large, small = swav_global(global_px), swav_local(local_px)
    return MultiCrop(large, large, *[small] * num_local_views)


def videomae(size_px: int, *, flip: float = 0.5) -> Pipeline:
    """Views of VideoMAE (Tong et al. 2022, arXiv:2203.12602, App. A): windows of few sizes and places.

    Args:
        size_px: Height and width of the view.
        flip: Probability of a mirrored view. The paper mirrors on Kinetics and not on Something-Something, where left
            and right are part of the class; the released code never does in pretraining.
    """
    return Pipeline(MultiScaleCrop(size_px, flip=flip))


def cvrl(size_px: int, *, view: int) -> Pipeline:
    """Views of CVRL (Qian et al. 2021, arXiv:2008.03800, Sec. 3.3, and released code): one draw for all frames.

    Colours are SimCLR's. In the code the views are blurred and solarized as BYOL's, and contrast is relative to the
    mean of each channel over the clip, here to the mean luminance of each frame.

    Args:
        size_px: Height and width of the view.
        view: 0 is always blurred; 1 is blurred with probability 0.1 and solarized with probability 0.2.
    """
    return Pipeline(
        RandomResizedCrop(size_px, scale=(0.3, 1.0), ratio=(0.5, 2.0)),
        *_simclr_colors(),
        GaussianBlur(kernel_px=_tenth(size_px), probability=(1.0, 0.1)[view]),
        Solarize(threshold=0.5, probability=(0.0, 0.2)[view]),
    )


def without_blur(view: Pipeline) -> Pipeline:
    """Leave the blur out, as for pictures of 32 pixels (Chen et al. 2020, arXiv:2002.05709, App. B.9)."""
    return Pipeline(*(operator for operator in view.operators if not isinstance(operator, GaussianBlur)))


def _simclr_colors(strength: float = 1.0) -> list[nn.Module]:
    bright, turn = 0.8 * strength, 0.2 * strength
    return [
        ColorJitter(brightness=bright, contrast=bright, saturation=bright, hue=turn, probability=0.8),
        RandomGray(probability=0.2),
    ]


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
