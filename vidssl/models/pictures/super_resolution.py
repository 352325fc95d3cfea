"""Networks that enlarge pictures and judge the result (Ledig et al. 2017, arXiv:1609.04802, Sec. 2.1, Fig. 4)."""

import math

import torch
from einops import rearrange
from torch import Tensor, nn

from ..encoder import Encoder


class SRResNet(Encoder):
    """Trunk of the generator, up to its long skip connection: every pixel is a cell.

    A 9x9 convolution, residual blocks of two 3x3 convolutions with batch norm and PReLU, one more convolution.

    Args:
        width: Channels throughout.
        num_blocks: Residual blocks (16, Sec. 3.2).
        mean: Per channel; 0, as the paper's low-resolution pictures are in [0, 1].
        std: Per channel.
    """

    def __init__(
        self,
        *,
        width: int = 64,
        num_blocks: int = 16,
        mean: tuple[float, ...] = (0.0, 0.0, 0.0),
        std: tuple[float, ...] = (1.0, 1.0, 1.0),
    ) -> None:
        super().__init__(
            dim=width,
            stride=1,
            mean=mean,
            std=std,
            architecture={"family": "srresnet", "width": width, "num_blocks": num_blocks},
        )
        self.first = nn.Sequential(nn.Conv2d(3, width, 9, padding=4), nn.PReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.PReLU(),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
            )
            for _ in range(num_blocks)
        )
        self.last = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def features(self, clip: Tensor) -> Tensor:
        """Encode every frame by itself: (B, T, 3, H, W) in [0, 1] -> (B, T, width, H, W)."""
        frames = rearrange(clip, "b t c h w -> (b t) c h w")
        first = maps = self.first((frames - self.mean) / self.std)
        for block in self.blocks:
            maps = maps + block(maps)
        return rearrange(first + self.last(maps), "(b t) d h w -> b t d h w", b=len(clip))


class PixelShuffler(nn.Module):
    """Features of the trunk -> enlarged pictures: (B, T, D, h, w) -> (B, T, 3, scale h, scale w) in [-1, 1].

    Args:
        dim: D.
        scale: A power of two; each doubling is a convolution whose channels become pixels (Shi et al. 2016,
            arXiv:1609.05158).

    Raises:
        ValueError: The scale is none.
    """

    def __init__(self, dim: int, *, scale: int = 4) -> None:
        super().__init__()
        if scale < 2 or scale & (scale - 1):
            raise ValueError(f"scale is {scale}, expected a power of two, such as 4")
        layers: list[nn.Module] = []
        for _ in range(int(math.log2(scale))):
            layers += [nn.Conv2d(dim, 4 * dim, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()]
        self.net = nn.Sequential(*layers, nn.Conv2d(dim, 3, 9, padding=4), nn.Tanh())

    def forward(self, features: Tensor) -> Tensor:
        """Enlarge every frame."""
        frames = self.net(rearrange(features, "b t d h w -> (b t) d h w"))
        return rearrange(frames, "(b t) c h w -> b t c h w", b=len(features))


class SuperResolutionCritic(nn.Module):
    """Tell true pictures from enlarged ones: (B, T, 3, H, W) in [-1, 1] -> logits of each frame, (B, T).

    Pairs of 3x3 convolutions of stride 1 and 2 with batch norm from the second on and leaky ReLU, then two linear
    layers, so that all pictures have one size.

    Args:
        cells: Height and width of the last maps, 2 ** len(widths) times smaller than the pictures.
        widths: Channels of each pair.
        hidden_dim: Width between the linear layers.
    """

    def __init__(
        self,
        *,
        cells: tuple[int, int],
        widths: tuple[int, ...] = (64, 128, 256, 512),
        hidden_dim: int = 1024,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((3, *widths), widths, strict=False):
            for channels, stride in ((before, 1), (after, 2)):
                first = not layers
                layers.append(nn.Conv2d(channels, after, 3, stride=stride, padding=1, bias=first))
                layers += [nn.LeakyReLU(0.2)] if first else [nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]
        self.net = nn.Sequential(
            *layers,
            nn.Flatten(),
            nn.Linear(widths[-1] * math.prod(cells), hidden_dim),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden_dim, 1),
        )

    def forward(self, video: Tensor) -> Tensor:
        """Judge every frame by itself."""
        logits = self.net(rearrange(video, "b t c h w -> (b t) c h w"))
        return rearrange(logits, "(b t) 1 -> b t", b=len(video))


def bicubic_down(video: Tensor, *, scale: int) -> Tensor:
    """Shrink clips by a whole factor, bicubic with antialias: (B, T, 3, H, W) -> (B, T, 3, H / scale, W / scale)."""
    height, width = (size // scale for size in video.shape[3:])
    with torch.autocast(video.device.type, enabled=False):
        small = nn.functional.interpolate(
            video.float().flatten(0, 1), (height, width), mode="bicubic", antialias=True
        )
    return small.clamp(0, 1).unflatten(0, video.shape[:2])
