"""Linear classifiers of frozen features: logistic regression to the optimum, and a grid of heads trained by SGD."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..metrics.interval import uncertainty
from .class_counts import check_classes
from .outcome import Outcome, Samples, accuracies, accuracy_intervals, check_widths, hold_out, top_classes
from .predictions import NUM_GUESSES, guess_columns

PENALTIES = tuple(10 ** (exponent / 2) for exponent in range(2, -9, -1))
"""10 down to 1e-4 in half decades."""

LEARNING_RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)
"""Grid of DINOv2 (eval/linear.py), for 256 samples per step; other batch sizes scale it linearly."""

MOMENTUM = 0.9
# Features standardised at once: 64 MB of float32.
_BLOCK = 2**24


def minimise_cross_entropy(
    features: Tensor,
    label: Tensor,
    *,
    num_classes: int,
    penalty: float,
    start: tuple[Tensor, Tensor] | None = None,
    max_iterations: int = 200,
    tolerance: float = 1e-9,
) -> tuple[Tensor, Tensor]:
    """Solve multinomial logistic regression by L-BFGS: mean cross-entropy + penalty/2 |W|^2, the bias is free.

    scikit-learn's `LogisticRegression(C=...)` minimises the same for C = 1 / (penalty * N).

    Args:
        features: float64 (N, D).
        label: int64 (N,), in [0, num_classes).
        num_classes: C.
        penalty: lambda.
        start: Weight and bias to start from; None is 0.
        max_iterations: Upper bound.
        tolerance: Stops where the loss changes less than this, or no entry of its gradient is above 100 times this.

    Returns:
        Weight (D, C) and bias (C,), float64.
    """
    weight, bias = start or (features.new_zeros(features.shape[1], num_classes), features.new_zeros(num_classes))
    weight, bias = (parameter.detach().clone().requires_grad_() for parameter in (weight, bias))
    solver = torch.optim.LBFGS(
        [weight, bias],
        max_iter=max_iterations,
        tolerance_grad=100 * tolerance,
        tolerance_change=tolerance,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        solver.zero_grad()
        value = F.cross_entropy(features @ weight + bias, label) + penalty / 2 * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        solver.step(loss)
    return weight.detach(), bias.detach()


@dataclass(frozen=True)
class _Scale:
    """Mean and deviation of each feature over the training samples and their views, (D,)."""

    mean: Tensor
    std: Tensor

    @staticmethod
    def of(values: Tensor, index: Tensor) -> "_Scale":
        # Block by block: the features may be larger than memory.
        blocks = index.split(max(1, _BLOCK // values[0].numel()))
        num_rows = len(index) * values.shape[1]
        mean = sum((values[block].double().sum((0, 1)) for block in blocks), torch.zeros(())) / num_rows
        squares = ((values[block].double() - mean).square().sum((0, 1)) for block in blocks)
        std = (sum(squares, torch.zeros(())) / num_rows).sqrt()
        # What never changes but for rounding tells nothing, and must not be blown up. Dividing by infinity gives 0.
        return _Scale(mean, torch.where(std > 1e-6 * mean.abs(), std, torch.inf))

    def __call__(self, values: Tensor) -> Tensor:
        return (values - self.mean.to(values)) / self.std.to(values)


def _check(train: Samples, test: Samples) -> tuple[Tensor, Tensor]:
    """Classes of the training samples, and each sample's number among them."""
    check_widths(train, test)
    classes, target = train.label.unique(return_inverse=True)
    check_classes(train.label.tolist())
    return classes, target


def _best_classes(probabilities: Tensor, classes: Tensor) -> Tensor:
    """Best five, (M, C') of the classes that were trained -> int64 (M, 5), numbers as in the data."""
    best = top_classes(probabilities)
    return torch.where(best < 0, best, classes[best.clamp(min=0)])


def evaluate_linear(
    train: Samples,
    test: Samples,
    *,
    penalties: Sequence[float] = PENALTIES,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Outcome:
    """Classify by multinomial logistic regression, solved to the optimum: no learning rate, no epochs.

    Features are standardised by the training samples. The L2 penalty is chosen on a tenth of the training
    recordings (`hold_out`) by accuracy, among equals by cross-entropy; the classifier is then fitted to all training
    samples. Every view of a training sample is one to learn from; for a test sample the probabilities of its views
    are averaged. scikit-learn's C is 1 / (penalty * N * V). All training features are held in float64; for more than
    memory holds there is `evaluate_linear_grid`.

    Args:
        train: Samples to learn from, at least two classes.
        test: Those to classify. A class that no training sample has cannot be found: such samples are wrong.
        penalties: lambda of mean cross-entropy + lambda/2 |W|^2 to try. Where nothing can be held out (one recording
            per class) the middle one is taken.
        seed: Draws the held-out part.
        device: Where to solve; needs float64.

    Returns:
        figures: "top1", "top5" (of six classes or more), "mean_class".
        parts: "held_out_top1" and "held_out_cross_entropy" of every penalty, named "penalty=0.01".
        chosen: "penalty", its figures, "largest_gradient" of the final fit (0 at the optimum), numbers of samples.

    Raises:
        ValueError: The training samples are of one class, a penalty is not above 0, or the features differ in width.
    """
    if not penalties or not all(penalty > 0 for penalty in penalties):
        raise ValueError(f"penalties are {tuple(penalties)}, expected numbers above 0")
    classes, target = _check(train, test)
    penalties = sorted(penalties, reverse=True)  # each solution is a good start for the next weaker penalty
    kept, held = hold_out(train.label, train.source, seed=seed)
    parts = {}
    penalty, held_out_top1 = penalties[len(penalties) // 2], math.nan
    if len(held):
        scale = _Scale.of(train.values, kept)
        parts = _try_penalties(
            _rows(train.values[kept], scale, device),
            _repeat(target[kept], train.values).to(device),
            scale(train.values[held].double()),
            target[held],
            penalties=penalties,
            num_classes=len(classes),
        )
        keys = [(part["held_out_top1"], -part["held_out_cross_entropy"]) for part in parts.values()]
        penalty, held_out_top1 = penalties[keys.index(max(keys))], max(keys)[0]

    scale = _Scale.of(train.values, torch.arange(len(train)))
    rows, row_target = _rows(train.values, scale, device), _repeat(target, train.values).to(device)
    weight, bias = minimise_cross_entropy(
        rows, row_target, num_classes=len(classes), penalty=penalty, max_iterations=2000, tolerance=1e-12
    )
    error = (rows @ weight + bias).softmax(1) - F.one_hot(row_target, len(classes))
    gradient = rows.T @ error / len(rows) + penalty * weight
    weight, bias = weight.cpu(), bias.cpu()
    blocks = test.values.split(max(1, _BLOCK // test.values[0].numel()))
    probabilities = torch.cat([(scale(block.double()) @ weight + bias).softmax(2).mean(1) for block in blocks])
    ranked = _best_classes(probabilities, classes)
    return Outcome(
        figures=accuracies(ranked, test.label, num_classes=len(classes)),
        parts=parts,
        chosen={
            "penalty": penalty,
            "held_out_top1": held_out_top1,
            "largest_gradient": gradient.abs().max().item(),
            "num_train": len(train),
            "num_held_out": len(held),
            "num_test": len(test),
        },
        **_of_samples(ranked, probabilities, test, num_classes=len(classes)),
    )


def _of_samples(ranked: Tensor, probabilities: Tensor, test: Samples, *, num_classes: int) -> dict[str, Any]:
    """What an outcome says of each test sample, and how sure that makes its figures."""
    intervals = accuracy_intervals(ranked, test.label, test.source, num_classes=num_classes)
    scores = probabilities.sort(dim=1, descending=True, stable=True).values[:, :NUM_GUESSES]
    return {
        "predicted": ranked[:, 0],
        "ranked": ranked,
        "uncertainty": uncertainty(intervals, num_units=len(test.source.unique()), num_samples=len(test)),
        "columns": guess_columns(ranked, scores),
    }


def _rows(values: Tensor, scale: _Scale, device: torch.device | str) -> Tensor:
    """Every view as a sample of its own, standardised: (N, V, D) -> float64 (N V, D)."""
    return scale(values.flatten(0, 1).double()).to(device)


def _repeat(target: Tensor, values: Tensor) -> Tensor:
    return target.repeat_interleave(values.shape[1])


def _try_penalties(
    rows: Tensor,
    row_target: Tensor,
    held: Tensor,
    held_target: Tensor,
    *,
    penalties: Sequence[float],
    num_classes: int,
) -> dict[str, dict[str, float]]:
    """Accuracy and cross-entropy on held-out samples, float64 (M, V, D), for each penalty."""
    parts, solution = {}, None
    for penalty in penalties:
        solution = minimise_cross_entropy(
            rows, row_target, num_classes=num_classes, penalty=penalty, start=solution
        )
        weight, bias = (parameter.cpu() for parameter in solution)
        probabilities = (held @ weight + bias).softmax(2).mean(1)
        parts[f"penalty={penalty:.2g}"] = {
            "held_out_top1": (probabilities.argmax(1) == held_target).double().mean().item(),
            "held_out_cross_entropy": F.nll_loss(probabilities.clamp(min=1e-300).log(), held_target).item(),
        }
    return parts
