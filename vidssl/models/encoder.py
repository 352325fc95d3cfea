"""What every encoder is to the rest of the library."""

from typing import Any

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Encoder(nn.Module):
    """Frames in, dense features out. Subclasses write `features`.

    A clip is RGB in [0, 1], float (B, T, 3, H, W); the encoder applies its own mean and standard deviation, so
    nobody can pair it with the wrong ones.

    Args:
        dim: Feature width D.
        stride: Pixels per feature cell.
        mean: Of the training pixels, per channel, on the scale [0, 1].
        std: Of the training pixels, per channel, on the scale [0, 1].
        multiple: Height and width must be multiples of this many pixels (the patch size of a ViT).
        architecture: What `vidssl.models.load` needs to build the same network again; JSON values only.
        unused_keys: How the names begin that files of the full network hold and this encoder has no use for
            (the classifier, layers after the chosen one); `load_encoder` may leave them out.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        dim: int,
        stride: int,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        multiple: int = 1,
        architecture: dict[str, Any],
        unused_keys: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.dim = dim
        self.stride = stride
        self.multiple = multiple
        self.architecture = architecture
        self.unused_keys = unused_keys
        # Not in the state dict: they are part of the architecture, and timm's and torchvision's files lack them.
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def features(self, clip: Tensor) -> Tensor:
        """Encode densely: (B, T, 3, H, W) in [0, 1] -> (B, T', D, h, w)."""
        raise NotImplementedError

    def forward(self, clip: Tensor) -> Tensor:
        """Encode a clip as one vector, the mean over its cells: (B, T, 3, H, W) in [0, 1] -> (B, D)."""
        return self.features(clip).mean(dim=(1, 3, 4))
