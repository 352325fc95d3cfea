"""Linear classifiers of frozen features: logistic regression to the optimum, and a grid of heads trained by SGD."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .class_counts import check_classes
from .metrics.interval import uncertainty
from .predictions import NUM_GUESSES, guess_columns
from .recognition import Outcome, Samples, accuracies, accuracy_intervals, check_widths, hold_out, top_classes

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


class HeadGrid:
    """Linear classifiers of one layer, one for each learning rate, trained side by side: heads are a tensor's axis.

    SGD with momentum 0.9 and no weight decay; weights start at N(0, 0.01), equal for all heads. Every head is what it
    would be if it were trained alone.

    Args:
        dim: Feature width D.
        num_classes: C.
        learning_rates: One for each of the R heads, at the first step.
        generator: Draws the initial weights.
        device: Where the heads are.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        learning_rates: Sequence[float],
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> None:
        first = 0.01 * torch.randn(dim, 1, num_classes, generator=generator)
        self.weight = first.expand(-1, len(learning_rates), -1).flatten(1).to(device)  # (D, R C): one product
        self.bias = self.weight.new_zeros(self.weight.shape[1])
        self.rates = torch.tensor(learning_rates).repeat_interleave(num_classes).to(device)  # (R C,)
        self.velocity = (torch.zeros_like(self.weight), torch.zeros_like(self.bias))
        self.num_classes = num_classes

    def logits(self, features: Tensor) -> Tensor:
        """Classify: (..., D) -> (..., R, C)."""
        return (features @ self.weight + self.bias).unflatten(-1, (-1, self.num_classes))

    def step(self, features: Tensor, target: Tensor, *, decay: float) -> None:
        """Descend the mean cross-entropy of each head by its rate times `decay`: (B, D), int64 (B,)."""
        probabilities = self.logits(features).softmax(-1)
        # Its gradient with respect to the logits is what is predicted minus what is.
        error = (probabilities - F.one_hot(target, self.num_classes)[:, None]).flatten(1) / len(features)
        gradients = (features.T @ error, error.sum(0))
        for parameter, velocity, gradient in zip((self.weight, self.bias), self.velocity, gradients, strict=True):
            velocity.mul_(MOMENTUM).add_(gradient)
            parameter.sub_(decay * self.rates * velocity)


def evaluate_linear_grid(
    train: Mapping[str, Samples],
    test: Mapping[str, Samples],
    *,
    learning_rates: Sequence[float] = LEARNING_RATES,
    steps: int = 12_500,
    batch_size: int = 128,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Outcome:
    """Train a linear classifier for every layer and learning rate in one pass, and choose one on held-out data.

    The protocol of DINOv2 (Oquab et al. 2024, arXiv:2304.07193, eval/linear.py): SGD with momentum 0.9, no weight
    decay, learning rates for 256 samples per step that fall to 0 along a cosine, weights from N(0, 0.01).

    Differences from the paper: features are standardised by the training samples (as MAE does), so that one grid
    serves encoders of every scale; the head is chosen on a tenth of the training recordings that no head learns from
    (`hold_out`), not on the test samples; features are those of fixed views, not of new random crops.

    Args:
        train: Samples to learn from by name of the layer, the same in the same order for every layer. Every view is
            one to learn from.
        test: Those to classify, the same layers; probabilities of the views are averaged.
        learning_rates: R of them.
        steps: Of SGD.
        batch_size: Views per step.
        seed: Draws weights, batches and the held-out part.
        device: Where the heads are trained.

    Returns:
        figures: "top1", "top5" (of six classes or more), "mean_class" of the chosen head.
        parts: The same and "held_out_top1" of every head, named "last lr=0.1".
        chosen: "layer", "learning_rate", "held_out_top1", numbers of samples.

    Raises:
        ValueError: Layers differ in samples, nothing can be held out, or the training samples are of one class.
    """
    first = _check_layers(train, test)
    classes, target = train[first].label.unique(return_inverse=True)
    kept, held = hold_out(train[first].label, train[first].source, seed=seed)
    if not len(held):
        raise ValueError(
            "every class has a single recording: nothing can be held out to choose a learning rate on"
        )
    num_views = train[first].values.shape[1]
    scaled_rates = [rate * batch_size / 256 for rate in learning_rates]
    grids, scales = {}, {}
    for layer, samples in train.items():
        scales[layer] = _Scale.of(samples.values, kept)
        grids[layer] = HeadGrid(
            samples.values.shape[2],
            len(classes),
            learning_rates=scaled_rates,
            generator=torch.Generator().manual_seed(seed),
            device=device,
        )
    batches = _batches(len(kept) * num_views, batch_size=batch_size, steps=steps, seed=seed)
    for step, row in enumerate(batches):
        sample, view = kept[row // num_views], row % num_views
        decay = (1 + math.cos(math.pi * step / steps)) / 2
        for layer, grid in grids.items():
            features = scales[layer](train[layer].values[sample, view].float()).to(device)
            grid.step(features, target[sample].to(device), decay=decay)

    parts: dict[str, dict[str, float]] = {}
    predicted = {}
    for layer, grid in grids.items():
        held_out = _classify(grid, train[layer].take(held), scales[layer], classes)
        tested = _classify(grid, test[layer], scales[layer], classes)
        for rate, on_held_out, on_test in zip(learning_rates, held_out, tested, strict=True):
            name = f"{layer} lr={rate:g}"
            own = accuracies(on_held_out, train[layer].label[held], num_classes=len(classes))
            on_tested = accuracies(on_test, test[layer].label, num_classes=len(classes))
            parts[name] = {"held_out_top1": own["top1"], **on_tested}
            predicted[name] = (layer, rate, on_test)
    best = max(parts, key=lambda name: parts[name]["held_out_top1"])
    layer, rate, guesses = predicted[best]
    head = list(learning_rates).index(rate)
    probabilities = torch.cat([one[:, head] for one in _probabilities(grids[layer], test[layer], scales[layer])])
    return Outcome(
        figures={name: value for name, value in parts[best].items() if name != "held_out_top1"},
        parts=parts,
        chosen={
            "layer": layer,
            "learning_rate": rate,
            "held_out_top1": parts[best]["held_out_top1"],
            "num_train": len(kept),
            "num_held_out": len(held),
            "num_test": len(guesses),
        },
        **_of_samples(guesses, probabilities, test[layer], num_classes=len(classes)),
    )


def _check_layers(train: Mapping[str, Samples], test: Mapping[str, Samples]) -> str:
    """Refuse layers that were extracted from different samples; return the name of the first layer."""
    if not train or set(train) != set(test):
        raise ValueError(f"training features are of layers {sorted(train)}, test features of {sorted(test)}")
    first = next(iter(train))
    for layer in train:
        _check(train[layer], test[layer])
        for split, layers in (("training", train), ("test", test)):
            one, other = layers[first], layers[layer]
            if one.values.shape[:2] != other.values.shape[:2] or not torch.equal(one.label, other.label):
                raise ValueError(
                    f"layers {first} and {layer} hold different {split} samples; extract them together"
                )
    return first


def _batches(num_rows: int, *, batch_size: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Numbers of rows for each step: one random order of all rows after the other, cut into batches."""
    generator = torch.Generator().manual_seed(seed)
    waiting = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        while len(waiting) < batch_size:
            waiting = torch.cat([waiting, torch.randperm(num_rows, generator=generator)])
        yield waiting[:batch_size]
        waiting = waiting[batch_size:]


def _classify(grid: HeadGrid, samples: Samples, scale: _Scale, classes: Tensor) -> list[Tensor]:
    """Best five classes of each sample, int64 (M, 5), for each head."""
    ranked = [
        [_best_classes(one, classes) for one in probabilities.unbind(1)]
        for probabilities in _probabilities(grid, samples, scale)
    ]
    return [torch.cat(blocks) for blocks in zip(*ranked, strict=True)]


def _probabilities(grid: HeadGrid, samples: Samples, scale: _Scale) -> Iterator[Tensor]:
    """Mean over views of what each of the R heads says, float64 (m, R, C), block by block."""
    device = grid.weight.device
    widest = max(samples.values[0].numel(), samples.values.shape[1] * grid.weight.shape[1])
    for block in samples.values.split(max(1, _BLOCK // widest)):
        yield grid.logits(scale(block.float()).to(device)).double().softmax(-1).mean(1).cpu()
