"""MoCo, SimCLR and BYOL beside their authors' code."""

from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import optim
from ...methods import MoCo, SimCLR
from ...methods.image.byol import distance
from .comparing import (
    FrameNet,
    Row,
    ToUnit,
    difference,
    gradient_difference,
    gradients,
    imported,
    largest,
    relative,
)

LARS = {"momentum": 0.9, "weight_decay": 0.01, "trust": 0.02}


def moco(root: Path) -> list[Row]:
    """Loss, gradient of the query, queue, teacher (moco/builder.py)."""

    class Net(nn.Module):
        def __init__(self, num_classes: int) -> None:
            super().__init__()
            self.fc = nn.Linear(12, num_classes)

        def forward(self, rows: Tensor) -> Tensor:
            return self.fc(rows)

    with imported(root, "moco.builder") as (builder,):
        theirs = builder.MoCo(Net, dim=8, K=20, m=0.9, T=0.2)
        options: Any = {"projector": nn.Linear(12, 8), "out_dim": 8, "num_keys": 20, "momentum": 0.9}
        ours: Any = MoCo(FrameNet(12, 4), view=ToUnit(), **options)
        ours.queue.copy_(theirs.queue.T)
        first, second = torch.randn(2, 5, 12)
        nn.init.normal_(theirs.encoder_q.fc.weight)
        ours.projector.load_state_dict(theirs.encoder_q.fc.state_dict())
        ours.teacher[1].load_state_dict(theirs.encoder_k.fc.state_dict())
        ours.after_step(0.0)  # theirs moves the teacher before it is asked, ours after the optimizer's step
        logits, labels = theirs(first, second)
        expected = F.cross_entropy(logits, labels)
        expected.backward()
        key = F.normalize(ours.teacher[1](second), dim=1).detach()
        loss, _ = ours.contrast(ours.projector(first), key, None)
        loss.backward()
        ours.push(key, None)
    return [
        Row(
            "loss", difference(loss, expected), gradient_difference(ours.projector, gradients(theirs.encoder_q.fc))
        ),
        Row("queue", difference(ours.queue, theirs.queue.T)),
        Row("teacher", difference(ours.teacher[1].weight, theirs.encoder_k.fc.weight)),
        Row("order of keys", declared="drawn within each process, not over all"),
    ]


def simclr(root: Path) -> list[Row]:
    """NT-Xent (objective.py), its functions of tensorflow stood in for by torch's."""

    def cross_entropy(labels: Tensor, logits: Tensor, weights: float) -> Tensor:
        return -(labels * logits.log_softmax(1)).sum(1).mean() * weights

    tf = {
        "math": SimpleNamespace(l2_normalize=lambda rows, axis: F.normalize(rows, dim=axis)),
        "split": lambda rows, number, axis: rows.chunk(number, dim=axis),
        "shape": lambda rows: rows.shape,
        "range": torch.arange,
        "one_hot": lambda index, size: F.one_hot(index, size).float(),
        "matmul": lambda a, b, transpose_b: a @ b.T,
        "concat": torch.cat,
        "losses": SimpleNamespace(softmax_cross_entropy=cross_entropy),
    }
    names = "absl tensorflow tensorflow.compat tensorflow.compiler tensorflow.compiler.tf2xla".split()
    stand_ins: dict[str, Any] = {name: {"__path__": []} for name in names}
    stand_ins["absl"] |= {"flags": SimpleNamespace(FLAGS=None)}
    stand_ins["tensorflow.compat.v1"] = tf
    stand_ins["tensorflow.compiler.tf2xla.python"] = {"xla": None}
    hidden = torch.randn(12, 7, requires_grad=True)
    mine = hidden.detach().clone().requires_grad_()
    with imported(root, "objective", stand_ins=stand_ins) as (objective,):
        expected, _, _ = objective.add_contrastive_loss(hidden, temperature=0.1)
    expected.backward()
    method = SimCLR(FrameNet(4, 4), view=ToUnit())
    first, second = mine.chunk(2)
    loss, _ = method.nt_xent(first, second, None)
    loss.backward()
    assert mine.grad is not None and hidden.grad is not None
    return [
        Row("loss, half of theirs", difference(loss, expected / 2), relative(mine.grad, hidden.grad / 2)),
        Row("loss", difference(loss, expected), declared="theirs is the sum of both directions, Eq. 1 their mean"),
        Row("weights after LARS", simclr_lars(root)),
    ]


class Variable:
    """What LARS of SimCLR's code needs of a variable of tensorflow."""

    def __init__(self, name: str, value: Tensor) -> None:
        self.op = SimpleNamespace(name=name)
        self.shape = SimpleNamespace(as_list=lambda: list(value.shape))
        self.value = value

    def __rmul__(self, factor: float) -> Tensor:
        return factor * self.value

    def __sub__(self, update: Tensor) -> Tensor:
        return self.value - update

    def assign(self, value: Tensor) -> None:
        """Write a value."""
        self.value = value


def simclr_lars(root: Path) -> float:
    """Largest difference of weights (lars_optimizer.py, classic momentum, its default)."""
    sums: dict[str, Variable] = {}

    class Optimizer:
        def __init__(self, use_locking: bool, name: str) -> None:
            pass

    tf = {
        "train": SimpleNamespace(Optimizer=Optimizer),
        "float32": None,
        "zeros_initializer": lambda: None,
        "get_variable": lambda name, shape, **options: sums.setdefault(name, Variable(name, torch.zeros(shape))),
        "norm": lambda value, ord: (value.value if isinstance(value, Variable) else value).norm(),
        "greater": lambda a, b: a > b,
        "where": torch.where,
        "multiply": lambda factor, variable: factor * variable,
        "group": lambda *assignments, name: None,
    }
    stand_ins: dict[str, Any] = {name: {"__path__": []} for name in ("tensorflow", "tensorflow.compat")}
    with imported(root, "lars_optimizer", stand_ins={**stand_ins, "tensorflow.compat.v1": tf}) as (module,):
        pass  # what torch imports late finds its own packages then
    constants = {"momentum": LARS["momentum"], "weight_decay": LARS["weight_decay"], "eeta": LARS["trust"]}
    optimizer = module.LARSOptimizer(0.0, **constants, exclude_from_weight_decay=["bias"])

    def step(weights: dict[str, Tensor], grads: dict[str, Tensor], rate: float) -> dict[str, Tensor]:
        variables = {name: Variable(name, value) for name, value in weights.items()}
        optimizer.learning_rate = rate
        # A tensor of tensorflow is a new one after +=.
        optimizer.apply_gradients([(grads[name].clone(), variable) for name, variable in variables.items()])
        return {name: variable.value for name, variable in variables.items()}

    return lars_difference(step, classic_momentum=True)


def lars_difference(
    step: Callable[[dict[str, Tensor], dict[str, Tensor], float], dict[str, Tensor]], *, classic_momentum: bool
) -> float:
    """Largest difference of a matrix and a bias after 100 steps of LARS, while the rate rises and falls.

    Args:
        step: Theirs: weights, gradients, rate -> weights.
        classic_momentum: As of `optim.LARS`.
    """
    ours = {"kernel": nn.Parameter(torch.randn(6, 4)), "bias": nn.Parameter(torch.randn(4))}
    groups = [{"params": [ours["kernel"]]}, {"params": [ours["bias"]], "weight_decay": 0.0}]
    optimizer = optim.LARS(groups, lr=1.0, **LARS, classic_momentum=classic_momentum)
    theirs = {name: parameter.detach().clone() for name, parameter in ours.items()}
    schedule = optim.warmup(optim.cosine(0.5), share=0.1)
    for number in range(100):
        rate = schedule(number / 100)
        grads = {name: torch.randn_like(value) for name, value in theirs.items()}
        theirs = step(theirs, grads, rate)
        for name, parameter in ours.items():
            parameter.grad = grads[name].clone()
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    return largest(*(difference(ours[name], value) for name, value in theirs.items()))


def byol(root: Path) -> list[Row]:
    """Loss (helpers.py) and LARS (optimizers.py), their functions of jax stood in for by torch's and numpy's."""
    numpy = {
        "sum": lambda rows, axis, keepdims=False: rows.sum(axis, keepdim=keepdims),
        "square": torch.square,
        "maximum": lambda rows, least: rows.clamp(min=least),
        "ndarray": Tensor,
    }
    stand_ins: dict[str, Any] = {
        "absl": {"logging": None},
        "jax": {"__path__": [], "lax": SimpleNamespace(rsqrt=torch.rsqrt)},
        "jax.numpy": numpy,
    }
    prediction = torch.randn(2, 16, 7, requires_grad=True)
    mine, target = prediction.detach().clone().requires_grad_(), torch.randn(2, 16, 7)
    with imported(root / "byol" / "utils", "helpers", stand_ins=stand_ins) as (helpers,):
        expected = sum(helpers.regression_loss(prediction[view], target[1 - view]) for view in range(2)).mean()
    expected.backward()
    loss = (distance(mine[0], target[1]) + distance(mine[1], target[0])).mean()
    loss.backward()
    assert mine.grad is not None and prediction.grad is not None
    return [
        Row("loss", difference(loss, expected), relative(mine.grad, prediction.grad)),
        Row("weights after LARS", byol_lars(root)),
        Row("teacher at the start", declared="a copy of the student, theirs drawn by itself"),
    ]


def byol_lars(root: Path) -> float:
    """Largest difference of weights (optimizers.py); decay and adaptation are those of its config."""

    def tree_map(function: Callable[..., Any], *trees: Any) -> Any:
        if isinstance(trees[0], dict):
            return {name: tree_map(function, *(tree[name] for tree in trees)) for name in trees[0]}
        return function(*trees)

    def with_path(function: Callable[..., Any], tree: Any, path: tuple[str, ...] = ()) -> Any:
        if isinstance(tree, dict):
            return {name: with_path(function, value, (*path, name)) for name, value in tree.items()}
        return function(path, tree)

    Transformation = namedtuple("Transformation", ["init", "update"])

    def chain(*parts: Any) -> Any:
        def update(updates: Any, states: Any, params: Any) -> Any:
            new = []
            for part, state in zip(parts, states, strict=True):
                updates, state = part.update(updates, state, params)
                new.append(state)
            return updates, new

        return Transformation(lambda params: [part.init(params) for part in parts], update)

    def scale(factor: float) -> Any:
        return Transformation(lambda params: None, lambda updates, state, params: (scaled(updates, factor), state))

    def scaled(updates: Any, factor: float) -> Any:
        return tree_map(lambda value: factor * value, updates)

    types: dict[str, Any] = {
        "Updates": Any,
        "Params": Any,
        "OptState": Any,
        "GradientTransformation": Transformation,
    }
    stand_ins: dict[str, Any] = {
        "jax": {"__path__": [], "tree_map": tree_map},
        "jax.numpy": vars(np),
        "optax": {**types, "chain": chain, "scale": scale},
        "tree": {"map_structure_with_path": with_path},
    }
    with imported(root / "byol" / "utils", "optimizers", stand_ins=stand_ins) as (module,):
        pass  # what torch imports late finds its own packages then
    constants = {"momentum": LARS["momentum"], "weight_decay": LARS["weight_decay"], "eta": LARS["trust"]}
    spared = module.exclude_bias_and_norm
    states: list[Any] = []

    def step(weights: dict[str, Tensor], grads: dict[str, Tensor], rate: float) -> dict[str, Tensor]:
        lars = module.lars(rate, **constants, weight_decay_filter=spared, lars_adaptation_filter=spared)
        params, updates = (
            {"linear": {"w": tree["kernel"].numpy(), "b": tree["bias"].numpy()}} for tree in (weights, grads)
        )
        moved, state = lars.update(updates, states.pop() if states else lars.init(params), params)
        states.append(state)
        return {
            name: weights[name] + torch.from_numpy(np.asarray(moved["linear"][short], dtype=np.float32))
            for name, short in (("kernel", "w"), ("bias", "b"))
        }

    return lars_difference(step, classic_momentum=False)
