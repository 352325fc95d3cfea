"""Linear classifiers of many layers and learning rates, trained side by side in one pass."""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .linear import _BLOCK, LEARNING_RATES, MOMENTUM, _best_classes, _check, _of_samples, _Scale
from .outcome import Outcome, Samples, accuracies, hold_out


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
