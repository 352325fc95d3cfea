"""Views made of operators: one after the other, several of one clip, or from a library of other people."""

import torch
from torch import Tensor, nn

from ..ops import draws
from .plan import Operator, perform


class Pipeline(nn.Module):
    """Operators one after the other, each with a stream of its own: clips uint8 or float, one seed per clip.

    Operators of vidssl.augment that follow each other are planned together (vidssl.augment.plan): parameters go to the
    device in one copy, neighbouring colour maps are one pass where that is exact, frames stay bytes until the first
    pass needs numbers. The result is what the operators give one by one.

    Args:
        operators: (clips (B, T, 3, H, W) float in [0, 1], seeds (B,) on the CPU) -> clips.
    """

    def __init__(self, *operators: nn.Module) -> None:
        super().__init__()
        self.operators = nn.ModuleList(operators)

    def forward(self, video: Tensor, seed: Tensor, aspect: Tensor | None = None) -> Tensor:
        """Make one view of each clip.

        Args:
            video: (B, T, 3, H, W), uint8, or float in [0, 1].
            seed: int64 (B,). On the CPU, or else the device is waited for once (Batch.host_seed is there).
            aspect: Width over height of what frames show, (B,), likewise, where they are stretched (Batch.stretch).

        Returns:
            Float32, (B, T, 3, H, W) of the view, in [0, 1] unless an operator says otherwise.

        Raises:
            ValueError: Frames are stretched, and no window undoes it before another library or the end.
        """
        seed, view = seed.cpu(), video
        planned: list[tuple[Operator, Tensor]] = []
        for number, operator in enumerate(self.operators):
            stream = draws.mix(seed, number)
            if isinstance(operator, Operator):
                planned.append((operator, stream))
            else:
                view, planned = operator(perform(view, planned, aspect=aspect), stream), []
                aspect = None
        return perform(view, planned, aspect=aspect)


class MultiCrop(nn.Module):
    """Several views of each clip, also of different sizes (SwAV, Caron et al. 2020, arXiv:2006.09882, Sec. 3.3).

    Args:
        views: (clips, seeds) -> clips, one for each view; the same module may come several times.
    """

    def __init__(self, *views: nn.Module) -> None:
        super().__init__()
        self.views = nn.ModuleList(views)

    def forward(self, video: Tensor, seed: Tensor, *stretch: Tensor) -> list[Tensor]:
        """Make all views: uint8 or float in [0, 1], (B, T, 3, H, W), int64 (B,) -> one tensor for each.

        View n is drawn from `draws.mix(seed, n)`; `stretch` is that of the batch.
        """
        seed = seed.cpu()
        return [view(video, draws.mix(seed, number), *stretch) for number, view in enumerate(self.views)]


class FromKornia(nn.Module):
    """Any module of kornia as a view, or as an operator of a pipeline.

        FromKornia(VideoSequential(RandomAffine(10.0, p=1.0), same_on_frame=True))

    kornia draws from PyTorch's generator for a whole batch at once. It is seeded here from all seeds of the batch,
    and put back afterwards: the same batch gives the same views, but a clip's view depends on the clips beside it, so
    also on the batch size and on the number of processes. What is drawn on a GPU is not what is drawn on a CPU.

    Args:
        module: (B, T, 3, H, W) float in [0, 1] -> the same, such as kornia.augmentation.VideoSequential with
            data_format="BTCHW"; with same_on_frame=True it treats all frames of a clip alike.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, video: Tensor, seed: Tensor, aspect: Tensor | None = None) -> Tensor:
        """Make one view of each clip: uint8 or float in [0, 1], (B, T, 3, H, W), int64 (B,) -> what `module` gives.

        Raises:
            ValueError: Frames are stretched.
        """
        odd = torch.arange(1, 2 * len(seed), 2)  # the order of the clips matters as well
        together = draws.mix((draws.mix(seed.cpu(), 0) * odd).sum(0, keepdim=True), 0)
        with torch.random.fork_rng(devices=[video.device] if video.device.type == "cuda" else []):
            torch.manual_seed(int(together))
            return self.module(perform(video, [], aspect=aspect))
