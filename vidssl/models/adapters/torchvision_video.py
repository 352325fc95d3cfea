"""torchvision's networks of space-time convolutions as dense encoders of clips."""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor

from ..encoder import Encoder
from ..sizes import named_sizes
from .networks import cut, run_steps

KINETICS_MEAN = (0.43216, 0.394666, 0.37645)
KINETICS_STD = (0.22803, 0.22145, 0.216989)


class TorchvisionVideoNet(Encoder):
    """A 3-D convolutional network of torchvision, cut after the last step whose stride in pixels is at most `stride`.

    `r3d_18`, `mc3_18` and `r2plus1d_18` are kept whole at stride 16, `s3d` up to its third stage. The names in the
    state dict stay torchvision's.

    A single frame is repeated until it fills one time step (`frames_per_step`): 8 frames of r3d_18, 1 of mc3_18.

    Args:
        name: As in `torchvision.models.list_models(torchvision.models.video)`.
        stride: Pixels per feature cell, at most, a power of two; None takes all steps before the classifier.
        mean: Per RGB channel. Those of the Kinetics weights that torchvision published by default.
        std: Per RGB channel.

    Attributes:
        frames_per_step: Frames T for each time step T' of the features.

    Raises:
        ValueError: The network is a transformer.
    """

    def __init__(
        self,
        name: str,
        *,
        stride: int | None = 16,
        mean: tuple[float, ...] = KINETICS_MEAN,
        std: tuple[float, ...] = KINETICS_STD,
    ) -> None:
        import torchvision

        if name.startswith(("mvit", "swin3d")):
            raise ValueError(
                f"torchvision's {name} is not handled: its positions and windows are tied to clips of 16 frames of "
                "224 x 224 pixels; use r3d_18, mc3_18, r2plus1d_18 or s3d, or a video transformer through hf:FOLDER"
            )
        model = torchvision.models.get_model(name, weights=None)
        probe = torch.zeros(1, 3, 8, 32, 32)
        net, sizes, maps = cut(model, stride, probe=probe)
        dim, reached_stride = list(sizes.values())[-1]
        super().__init__(
            dim=dim,
            stride=reached_stride,
            mean=mean,
            std=std,
            architecture={"family": "torchvision_video", "name": name, "stride": stride},
            unused_keys=tuple(sorted(set(model.state_dict()) - set(net.state_dict()))),
        )
        self.net = net
        self.step_sizes = sizes
        self.frames_per_step = probe.shape[2] // maps.shape[2]

    def features(self, clip: Tensor) -> Tensor:
        """Encode a clip: (B, T, 3, H, W) in [0, 1] -> (B, T', D, h, w), T' = ceil(T / frames_per_step)."""
        return self._layers(clip, ["last"])["last"]

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Steps as torchvision names them, "stem", "layer2.0" or "features.3" say; the last is "last" too."""
        return (*self.step_sizes, "last")

    @property
    def last_name(self) -> str:
        """Of the last step that is kept."""
        return list(self.step_sizes)[-1]

    def layer_size(self, name: str) -> tuple[int, int]:
        """Width of a layer, and its pixels per cell."""
        return list(self.step_sizes.values())[-1] if name == "last" else self.step_sizes[name]

    def _layers(self, clip: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        if clip.shape[1] == 1:
            clip = clip.expand(-1, self.frames_per_step, -1, -1, -1)
        pixels = rearrange((clip - self.mean) / self.std, "b t c h w -> b c t h w")
        with named_sizes(f"torchvision's {self.architecture['name']}", clip):
            found = run_steps(self.net, pixels, names=names, step_names=list(self.step_sizes))
        return {name: rearrange(maps, "b d t h w -> b t d h w") for name, maps in found.items()}
