"""What every encoder is to the rest of the library."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Encoder(nn.Module):
    """Frames in, dense features out. Subclasses write `features`; those with inner layers to give, `_layers`.

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
        if not all(math.isfinite(value) for value in (*mean, *std)) or min(std) <= 0:
            raise ValueError(
                f"mean {tuple(mean)} and std {tuple(std)} of an encoder; expected numbers, std above 0"
            )
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

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Layers that `layers` gives; "last" is what `features` gives."""
        return ("last",)

    @property
    def last_name(self) -> str:
        """What "last" is called among the other layers; "last" where it is none of them."""
        return "last"

    def layers(self, clip: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Encode densely, several layers in one pass.

        Args:
            clip: RGB in [0, 1], (B, T, 3, H, W).
            names: Of `layer_names`.

        Returns:
            Name -> (B, T', D, h, w), width and size of each layer its own, in the order asked for.

        Raises:
            ValueError: The encoder has no such layer.
        """
        self.check_layers(names)
        found = self._layers(clip, names)
        return {name: found[name] for name in names}

    def check_layers(self, names: Sequence[str]) -> None:
        """Refuse names of layers that the encoder does not have.

        Raises:
            ValueError: There is one.
        """
        unknown = [name for name in names if name not in self.layer_names]
        if unknown:
            raise ValueError(
                f"this {type(self).__name__} has no layer {', '.join(map(repr, unknown))}; its layers: "
                f"{', '.join(self.layer_names)}"
            )

    def layer_size(self, name: str) -> tuple[int, int]:
        """Width D of a layer, and its pixels per cell (of a class token, those of the cells beside it)."""
        return self.dim, self.stride

    def _layers(self, clip: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Compute at least the layers named, all of which exist."""
        return {"last": self.features(clip)}

    def forward(self, clip: Tensor) -> Tensor:
        """Encode a clip as one vector, the mean over its cells: (B, T, 3, H, W) in [0, 1] -> (B, D)."""
        return self.features(clip).mean(dim=(1, 3, 4))
