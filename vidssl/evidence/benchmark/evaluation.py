"""Rows of the evaluators: the DAVIS metric and label propagation."""

from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor

from ...evaluate.metrics.jf import score_frame
from ...evaluate.propagation.affinity import propagate
from .measuring import Case, Peers, Row, at_least, at_most

GRID = (60, 107)  # 480 x 854 pixels at stride 8
DIM, CONTEXT_FRAMES, LABELS, RADIUS_CELLS = 384, 8, 3, 12


def _jf(peers: Peers) -> Case:
    official, digest = peers.load("davis2017", "davis2017/metrics.py")
    frames = []
    for folder in sorted(path for path in peers.folders["osvos"].iterdir() if path.is_dir()):
        annotations = peers.folders["davis"] / "Annotations" / "480p" / folder.name
        truths = [np.array(Image.open(path)) for path in sorted(annotations.glob("*.png"))]
        results = [np.array(Image.open(folder / path.name)) for path in sorted(annotations.glob("*.png"))]
        num_objects = int(truths[0][truths[0] != 255].max())
        # The first and the last frame are not scored.
        frames += [(*pair, num_objects) for pair in zip(truths[1:-1], results[1:-1], strict=True)]
    masks = [(truth == i, result == i) for truth, result, num in frames for i in range(1, num + 1)]

    def ours() -> list[tuple[float, float]]:
        return [
            pair for truth, result, num in frames for pair in score_frame(truth, result, ids=range(1, num + 1))
        ]

    def peer() -> list[tuple[float, float]]:
        return [(official.db_eval_iou(*pair), official.db_eval_boundary(*pair)) for pair in masks]

    def compare(mine: Any, theirs: Any) -> Mapping[str, float]:
        return {"values": 2 * len(theirs), "unequal_values": int((np.array(mine) != np.array(theirs)).sum())}

    return Case(ours, peer, compare, versions={"metrics.py": digest})


def _propagation_inputs() -> tuple[Tensor, Tensor, Tensor]:
    """A frame (D, h, w), context frames (n, D, h, w) of smooth features with noise, and their labels (n, L, h, w)."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, DIM, 12, 20, generator=generator)
    smooth = F.interpolate(coarse, size=GRID, mode="bilinear")
    frames = smooth + 0.7 * torch.randn(CONTEXT_FRAMES + 1, DIM, *GRID, generator=generator)
    labels = torch.rand(CONTEXT_FRAMES, LABELS, *GRID, generator=generator)
    frames = F.normalize(frames, dim=1)
    return frames[0], frames[1:], labels / labels.sum(dim=1, keepdim=True)


def _offsets() -> tuple[Tensor, Tensor]:
    """Rows and columns between cells: (h, h) and (w, w)."""
    rows, columns = (torch.arange(length)[:, None] - torch.arange(length) for length in GRID)
    return rows, columns


def _difference(mine: Tensor, theirs: Tensor) -> Mapping[str, float]:
    return {"largest_label_difference": float((mine - theirs).abs().max())}


def _dino(peers: Peers) -> Case:
    script, digest = peers.load("dino", "eval_video_segmentation.py")
    query, keys, labels = _propagation_inputs()
    height, width = GRID
    # The script makes its mask once a video, by four nested loops that take 18 s; it is spared them here.
    rows, columns = (offset.abs() <= RADIUS_CELLS for offset in _offsets())
    mask = rearrange(rows, "y v -> y 1 v 1") & rearrange(columns, "x u -> 1 x 1 u")
    mask = rearrange(mask, "y x v u -> (y x) (v u)").float().repeat(CONTEXT_FRAMES, 1, 1)
    tokens = rearrange(query, "d h w -> 1 (h w) d")
    model = SimpleNamespace(  # its features are given, after a class token that the script drops
        patch_embed=SimpleNamespace(patch_size=8),
        get_intermediate_layers=lambda frame, n: [torch.cat((tokens[:, :1], tokens), dim=1)],
    )
    arguments = SimpleNamespace(size_mask_neighborhood=RADIUS_CELLS, topk=5)
    frame = torch.zeros(3, 8 * height, 8 * width)
    features = [rearrange(key, "d h w -> d (h w)") for key in keys]
    segmentations = [rearrange(label, "l h w -> 1 l h w") for label in labels]

    def peer() -> Tensor:
        # On the CPU; the script asks for a GPU.
        with torch.no_grad(), mock.patch.object(Tensor, "cuda", lambda tensor, **_: tensor):
            return script.label_propagation(arguments, model, frame, features, segmentations, mask)[0][0]

    ours = partial(
        propagate,
        query,
        keys,
        labels,
        temperature=0.1,
        topk=5,
        radius_cells=RADIUS_CELLS,
        window="square",
        keep_ties=True,
    )
    return Case(ours, peer, _difference, versions={"eval_video_segmentation.py": digest})


def _disc() -> Tensor:
    """The disc window of CRW, bool (queries, keys)."""
    rows, columns = _offsets()
    squared = rearrange(rows**2, "y v -> y 1 v 1") + rearrange(columns**2, "x u -> 1 x 1 u")
    return rearrange(squared < RADIUS_CELLS**2, "y x v u -> (y x) (v u)")


def _crw(peers: Peers) -> Case:
    script, digest = peers.load("crw", "code/utils/test_utils.py")
    query, keys, labels = _propagation_inputs()
    # What is outside the window is 10^10 worse; keys come first.
    mask = rearrange(torch.where(_disc(), 0.0, -1e10).T, "k q -> 1 k q")
    queries = rearrange(query, "d h w -> 1 d 1 (h w)")
    context = rearrange(keys, "n d h w -> 1 d 1 n (h w)")
    values = rearrange(labels, "n l h w -> l (n h w)")

    def peer() -> Tensor:
        weights, indices = script.mem_efficient_batched_affinity(queries, context, mask, 0.05, 10, [0], "cpu")
        mixed = (values[:, indices[0]] * weights[0]).sum(dim=1)
        return rearrange(mixed, "l (h w) -> l h w", h=GRID[0])

    return Case(_ours_of_crw(query, keys, labels), peer, _difference, versions={"test_utils.py": digest})


def _ours_of_crw(query: Tensor, keys: Tensor, labels: Tensor) -> Callable[[], Tensor]:
    """The first frame without window, the others inside a disc."""
    return partial(
        propagate,
        query,
        keys,
        labels,
        temperature=0.05,
        topk=10,
        radius_cells=RADIUS_CELLS,
        window="disc",
        radius_inclusive=False,
        copies=[0] + [1] * (CONTEXT_FRAMES - 1),
        first_key_free=True,
    )


def _dense(peers: Peers) -> Case:
    query, keys, labels = _propagation_inputs()
    mask = _disc()
    cells = rearrange(query, "d h w -> (h w) d")
    context = rearrange(keys, "n d h w -> n d (h w)")
    values = rearrange(labels, "n l h w -> (n h w) l")

    def dense() -> Tensor:
        scores = cells @ context  # (n, queries, keys)
        scores[1:].masked_fill_(~mask, -torch.inf)
        best = rearrange(scores, "n q k -> q (n k)").topk(10, dim=1)
        weights = (best.values / 0.05).softmax(dim=1)
        return rearrange(torch.einsum("qk,qkl->lq", weights, values[best.indices]), "l (h w) -> l h w", h=GRID[0])

    return Case(_ours_of_crw(query, keys, labels), dense, _difference)


WORK = (
    f"A frame of {GRID[0]} x {GRID[1]} cells, {DIM} channels, {CONTEXT_FRAMES} context frames, window of 12 cells"
)
ROWS = (
    Row(
        name="jf",
        what="J and F of the OSVOS masks that come with the official code, 480p: every object of every scored frame.",
        ours="evaluate.metrics.jf",
        peer="davis2017-evaluation",
        needs=("davis2017", "davis", "osvos", "cv2", "skimage"),
        prepare=_jf,
        goals=(at_least("speedup", 7), at_most("unequal_values", 0)),
        rounds=9,
    ),
    Row(
        name="propagation_dino",
        what=f"{WORK} (square), top-5 of all with ties kept. The script's mask is made beforehand and not timed.",
        ours="evaluate.propagate",
        peer="DINO, eval_video_segmentation.py",
        needs=("dino", "cv2", "tqdm", "torchvision"),
        prepare=_dino,
        goals=(at_least("speedup", 9), at_most("memory_ratio", 0.25), at_most("largest_label_difference", 1e-5)),
        rounds=5,
        memory=True,
    ),
    Row(
        name="propagation_crw",
        what=f"{WORK} (disc; the first frame without one), top-10 of all. The script's mask is made beforehand.",
        ours="evaluate.propagate",
        peer="CRW, test_utils.py",
        needs=("crw", "cv2", "matplotlib", "imageio"),
        prepare=_crw,
        goals=(at_least("speedup", 4), at_most("largest_label_difference", 1e-5)),
        rounds=5,
        memory=True,
    ),
    Row(
        name="propagation_dense",
        what=f"{WORK} (disc; the first frame without one), top-10 of all, against the whole affinity in PyTorch.",
        ours="evaluate.propagate",
        peer="dense, in PyTorch",
        needs=(),
        prepare=_dense,
        goals=(at_most("largest_label_difference", 1e-5),),
        rounds=5,
        memory=True,
    ),
)
