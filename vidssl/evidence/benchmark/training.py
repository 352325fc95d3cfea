"""Rows of training: k-means, the moving average of a teacher, the loop."""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ... import optim
from ...augment import recipes
from ...batch import Batch
from ...data.arrays import ArrayDataset
from ...data.loader import Loader
from ...data.samples import sample_seed
from ...method import Method
from ...methods import SimCLR
from ...models import ResNet, ViT, export_encoders
from ...ops.ema import move_teacher, teacher_of
from ...ops.kmeans import kmeans, nearest
from ...train import checkpoint
from ...train.guard import Guard, clip_gradients
from ...train.loop import fit
from ...train.run import Run
from .measuring import Case, Peers, Row, at_least, at_most

NUM_POINTS, POINT_DIM, NUM_CLUSTERS, NUM_ITERATIONS = 20_000, 256, 2000, 10


def _kmeans(peers: Peers) -> Case:
    import faiss

    faiss.omp_set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(NUM_POINTS, POINT_DIM, generator=generator)
    start = points[torch.randperm(NUM_POINTS, generator=generator)[:NUM_CLUSTERS]].clone()

    def ours() -> Tensor:
        return kmeans(points, NUM_CLUSTERS, num_iterations=NUM_ITERATIONS, start=start)

    def peer() -> Tensor:
        # By default it takes at most 256 points of each cluster, and warns of fewer than 39.
        clustering = faiss.Kmeans(
            POINT_DIM,
            NUM_CLUSTERS,
            niter=NUM_ITERATIONS,
            max_points_per_centroid=NUM_POINTS,
            min_points_per_centroid=1,
        )
        clustering.train(points.numpy(), init_centroids=start.numpy())
        return torch.from_numpy(clustering.centroids)

    def inertia(centers: Tensor) -> float:
        return float((points - centers[nearest(points, centers)]).double().square().sum())

    def compare(mine: Tensor, theirs: Tensor) -> Mapping[str, float]:
        mean = inertia(mine) / NUM_POINTS
        return {
            "inertia_per_point": mean,
            "relative_inertia_difference": abs(mean * NUM_POINTS / inertia(theirs) - 1),
            "unequal_when_repeated": float((ours() != mine).sum()),
        }

    kernels = os.environ.get("OPENBLAS_CORETYPE", "automatic")
    return Case(ours, peer, compare, versions={"OPENBLAS_CORETYPE": kernels})


class _Dispatches(TorchDispatchMode):
    """Counts the operators that reach PyTorch's dispatcher: kernel launches, on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count one."""
        self.count += 1
        return func(*args, **(kwargs or {}))


def count_dispatches(call: Callable[[], Any]) -> int:
    """Count the operators that a call dispatches."""
    with _Dispatches() as dispatches:
        call()
    return dispatches.count


def _ema(peers: Peers) -> Case:
    student = ViT("vit_base_patch16_224")
    momentum = 0.996
    teachers = [teacher_of(student) for _ in range(2)]
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.01)

    def ours() -> None:
        move_teacher(teachers[0], student, momentum=momentum)

    def loop() -> None:
        # As the scripts of DINO, MoCo v3 and others: four operators for each parameter.
        with torch.no_grad():
            for mean, value in zip(teachers[1].parameters(), student.parameters(), strict=True):
                mean.mul_(momentum).add_((1 - momentum) * value.detach())

    def compare(mine: None, theirs: None) -> Mapping[str, float]:
        pairs = list(zip(teachers[0].parameters(), teachers[1].parameters(), strict=True))
        apart = [mean.clone() for mean, _ in pairs]
        with torch.no_grad():
            for mean, value in zip(apart, student.parameters(), strict=True):
                mean.lerp_(value, 1 - momentum)
            difference = max(float((mean - theirs).abs().max()) for mean, theirs in pairs)
        dispatches = {"dispatches": count_dispatches(ours), "dispatches_of_the_loop": count_dispatches(loop)}
        unequal = sum(int((one != mean).sum()) for one, (mean, _) in zip(apart, pairs, strict=True))
        return {**dispatches, "largest_difference": difference, "unequal_to_lerp_one_by_one": unequal}

    return Case(ours, loop, compare)


STEPS, BATCH_SIZE = 100, 32


def _recipe() -> Run:
    """SimCLR with a narrow ResNet-18 on noise in memory: as much for the loop to do as ever, in small steps."""
    torch.manual_seed(0)
    images = torch.randint(256, (2048, 1, 3, 64, 64), dtype=torch.uint8)
    method = SimCLR(ResNet(18, width=16, stride=32, layer="layer4"), view=recipes.simclr(64))
    return Run(
        method=method,
        dataset=ArrayDataset(images, clips=method.clips),
        optimizer=partial(torch.optim.AdamW, lr=1e-3, fused=True),  # what fit chooses, in the bare loop too
        learning_rate=optim.constant(1e-3),
        steps=STEPS,
        batch_size=BATCH_SIZE,
    )


def _fit(peers: Peers) -> Case:
    def ours(run: Run | None = None) -> Method:
        with TemporaryDirectory() as out:
            return fit(run or _recipe(), out=Path(out), log_every=STEPS, save_every=STEPS, picture_every=STEPS)

    def bare_steps() -> Iterator[Method]:
        run = _recipe()
        torch.manual_seed(sample_seed(0, 0))  # as fit does
        method, optimizer = run.method.train(), run.optimizer(run.method.param_groups())
        for step, batch in enumerate(Loader(run.dataset, batch_size=BATCH_SIZE, seed=0).batches(0, STEPS)):
            method(batch, step / STEPS)["loss"].backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            yield method

    def bare() -> Method:
        return list(bare_steps())[-1]

    def in_turns() -> Mapping[str, float]:
        """A step of the bare loop within each step of fit, after the optimizer's; its seconds are not fit's."""
        started, bare_seconds = time.process_time(), 0.0
        run, steps = _recipe(), bare_steps()
        after_step = run.method.after_step

        def turn(progress: float) -> None:
            nonlocal bare_seconds
            after_step(progress)
            began = time.process_time()
            next(steps)
            bare_seconds += time.process_time() - began

        run.method.after_step = turn  # type: ignore[method-assign]
        ours(run)
        return {"ours": time.process_time() - started - bare_seconds, "peer": bare_seconds}

    def compare(mine: Method, theirs: Method) -> Mapping[str, float]:
        weights = zip(mine.parameters(), theirs.parameters(), strict=True)
        unequal = sum(int((one != other).sum()) for one, other in weights)
        parts = {f"{part}_ms_per_step": 1000 * seconds for part, seconds in _parts(theirs).items()}
        return {"unequal_weights": unequal, **parts}

    return Case(ours, bare, compare, in_turns=in_turns)


def _parts(method: Method) -> dict[str, float]:
    """CPU seconds per step of what fit does besides the step; the bare loop reads batches as well."""
    dataset = _recipe().dataset
    batch: Batch = next(Loader(dataset, batch_size=BATCH_SIZE, seed=0).batches(0, 1))
    losses = method(batch, 0.5)
    losses["loss"].backward()
    guard = Guard(method, out=Path())
    state = {"method": method.state_dict()}

    def read() -> None:
        for _ in Loader(dataset, batch_size=BATCH_SIZE, seed=0).batches(0, 10):
            pass

    def save() -> None:
        with TemporaryDirectory() as out:
            checkpoint.save(Path(out), state, step=0)
            export_encoders(method, Path(out))

    def judge() -> None:
        guard.agrees(losses["loss"], clip_gradients(guard.clip_parts, math.inf))

    def look() -> None:
        with torch.no_grad():
            method.monitors(batch)

    work = {
        "reading_batches": (read, 10),
        "copy_of_buffers": (guard.note, 1),
        "gradient_norm_and_verdict": (judge, 1),
        "monitors": (look, STEPS),
        "checkpoint_and_export": (save, STEPS),
    }
    parts = {}
    for part, (call, num_steps) in work.items():
        call()
        started = time.process_time()
        for _ in range(5):
            call()
        parts[part] = (time.process_time() - started) / 5 / num_steps
    return parts


ROWS = (
    Row(
        name="kmeans",
        what=f"k-means of {NUM_POINTS} points of {POINT_DIM} dimensions, {NUM_CLUSTERS} clusters, {NUM_ITERATIONS} "
        "iterations from the same start. The points are normal: no cluster runs empty, which the two repair in ways "
        "of their own. The OpenBLAS of faiss-cpu's wheel is of 2021 and takes newer processors for ancient ones, which "
        "makes it slow: OPENBLAS_CORETYPE (SkylakeX, Haswell or Zen) is to name its kernels there.",
        ours="ops.kmeans",
        peer="faiss-cpu",
        needs=("faiss",),
        prepare=_kmeans,
        goals=(
            at_most("ratio", 1.3),
            at_most("relative_inertia_difference", 1e-5),
            at_most("unequal_when_repeated", 0),
        ),
    ),
    Row(
        name="ema",
        what="Moving average of the parameters of a ViT-B.",
        ours="ops.ema",
        peer="a loop over parameters",
        needs=(),
        prepare=_ema,
        goals=(at_most("dispatches", 1), at_most("unequal_to_lerp_one_by_one", 0)),
        rounds=15,
    ),
    Row(
        name="fit",
        what=f"{STEPS} steps of SimCLR, ResNet-18 of width 16, {BATCH_SIZE} pictures of 64 x 64 pixels in memory: "
        "`fit` with logging, monitors, pictures and checkpoint every 100 steps, against forward, backward and "
        "optimizer step in a loop over the same loader, a step of one after a step of the other.",
        ours="train.fit",
        peer="a bare loop",
        needs=(),
        prepare=_fit,
        goals=(at_least("speedup", 0.97), at_most("unequal_weights", 0)),
        rounds=5,
    ),
)
