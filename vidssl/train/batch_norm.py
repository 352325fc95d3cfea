"""Batch norm over the batches of all processes, on CPU (gloo) as on GPUs (NCCL).

The modules stay what they are (nn.BatchNorm1d, 2d, 3d with their parameters, buffers and names), so checkpoints go on
with or without it; their forward pass in training is another. torch's own SyncBatchNorm needs a GPU.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from ..ops.gather import gather, world_size


def synchronize(network: nn.Module) -> int:
    """Let every batch norm of a network normalise, in training, by the statistics of all processes' batches together.

    In place, and before the network is wrapped or its optimizer built; a second time changes nothing. One process, and
    evaluation, compute as before. Every process must call the network equally often, with any number of samples but 0.

    Args:
        network: With nn.BatchNorm1d, 2d or 3d at any depth.

    Returns:
        Number of batch norms.

    Raises:
        ValueError: There is none, or one of another class, whose forward pass is its own.
    """
    norms = {name: module for name, module in network.named_modules() if isinstance(module, _BatchNorm)}
    if not norms:
        raise ValueError(
            f"{type(network).__name__} has no batch norm whose statistics the processes could share; drop "
            "--sync-batch-norm"
        )
    for name, module in norms.items():
        if isinstance(module, _Synchronized):
            continue
        if type(module) not in SYNCHRONIZED:
            raise ValueError(
                f"{name} of {type(network).__name__} is a {type(module).__name__}, whose statistics cannot be shared; "
                f"expected {', '.join(kind.__name__ for kind in SYNCHRONIZED)}. Drop --sync-batch-norm"
            )
        module.__class__ = SYNCHRONIZED[type(module)]
    return len(norms)


class _Synchronized(_BatchNorm):
    @torch.compiler.disable  # the processes talk in it
    def forward(self, input: Tensor) -> Tensor:
        """Normalise the channels: (B, C, ...) -> (B, C, ...)."""
        if not self.training or world_size() == 1:
            return super().forward(input)
        self._check_input_dim(input)
        output, mean, variance, count = _Normalize.apply(input, self.weight, self.bias, self.eps)
        if self.track_running_stats:
            self._follow(mean, variance * count / (count - 1))
        return output

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Move the stored statistics as torch's batch norm does."""
        assert (
            self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        )
        self.num_batches_tracked.add_(1)
        share = 1 / self.num_batches_tracked.float() if self.momentum is None else self.momentum
        for stored, new in ((self.running_mean, mean), (self.running_var, variance)):
            stored.lerp_(new.to(stored.dtype), share)


class _Synchronized1d(_Synchronized, nn.BatchNorm1d):
    pass


class _Synchronized2d(_Synchronized, nn.BatchNorm2d):
    pass


class _Synchronized3d(_Synchronized, nn.BatchNorm3d):
    pass


SYNCHRONIZED = {
    nn.BatchNorm1d: _Synchronized1d,
    nn.BatchNorm2d: _Synchronized2d,
    nn.BatchNorm3d: _Synchronized3d,
}


class _Normalize(torch.autograd.Function):
    """Batch norm by the statistics of all processes (Ioffe and Szegedy 2015, arXiv:1502.03167, Sec. 3)."""

    @staticmethod
    def forward(
        context: Any, input: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the output, and mean (C,), biased variance (C,) and number of values () over all processes."""
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        axes = [axis for axis in range(input.ndim) if axis != 1]
        own_variance, own_mean = torch.var_mean(values, dim=axes, correction=0)
        own_count = own_mean.new_tensor([input.numel() / input.shape[1]])
        # Sums of squares would lose the variance of channels whose mean is large: means and squared deviations are
        # put together instead (Chan, Golub and LeVeque 1983, Eq. 2.1).
        everyones = gather(torch.cat([own_count, own_mean, own_variance])[None])
        counts, means, variances = everyones.split([1, len(own_mean), len(own_mean)], dim=1)
        count = counts.sum()
        mean = (counts * means).sum(0) / count
        variance = (counts * (variances + (means - mean).square())).sum(0) / count
        output = F.batch_norm(input, mean, variance, weight, bias, training=False, eps=eps)
        context.save_for_backward(input, weight, mean, (variance + eps).rsqrt(), count)
        context.mark_non_differentiable(mean, variance, count)
        return output, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        """The mean over processes of their losses has the gradients of one process with all samples."""
        input, weight, mean, scale, count = context.saved_tensors
        axes = [axis for axis in range(input.ndim) if axis != 1]

        def wide(channels: Tensor) -> Tensor:
            return channels.view(1, -1, *[1] * (input.ndim - 2))

        normalized = (input.to(mean.dtype) - wide(mean)) * wide(scale)
        from_above = gradient.to(mean.dtype)
        for_bias, for_weight = from_above.sum(axes), (from_above * normalized).sum(axes)
        sums = torch.stack([for_bias, for_weight])
        dist.all_reduce(sums)
        mean_gradient, mean_product = (sums / count).unbind()
        for_input = from_above - wide(mean_gradient) - normalized * wide(mean_product)
        for_input = for_input * wide(scale if weight is None else scale * weight)
        if weight is None:
            return for_input.to(input.dtype), None, None, None
        return for_input.to(input.dtype), for_weight.to(weight.dtype), for_bias.to(weight.dtype), None
