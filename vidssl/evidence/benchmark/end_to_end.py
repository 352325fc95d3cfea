"""Rows of whole evaluations: `vidssl evaluate davis` against the scripts of DINO and CRW with the official metric.

The scripts are run as they are, as if from the command line. They ask for a GPU, for an old NumPy, for packages they
do nothing with here or for a file from the internet; that much is answered in their place. A worker process of theirs
works in this process instead, so that its time is counted.
"""

import contextlib
import multiprocessing
import os
import runpy
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from ...data.published.benchmarks import MaskSequence, davis_palette, davis_sequences
from ...evaluate.propagation.davis import evaluate_davis
from ...evaluate.propagation.masks import read_mask
from ...evaluate.propagation.protocols import CRW, DINO, Protocol
from ...models import ResNet, encoder_family, load_encoder
from .measuring import Case, Peers, Row, at_least, at_most

# Where the files of DAVIS lie below its root.
RESOLUTION = "480p"
# (root of the data, folder to write to) -> J and F by object; masks are left in masks/SEQUENCE/00000.png ...
Figures = Mapping[str, float]
Side = Callable[[Path, Path], tuple[Figures, Figures]]


@dataclass(frozen=True)
class _Outcome:
    """What one side has left: masks by "SEQUENCE/00000.png", J and F of each object, and the time by the clock."""

    masks: Mapping[str, Tensor]
    similarity: Figures
    accuracy: Figures
    wall_seconds: float


def _lay_out(root: Path, sequences: Sequence[MaskSequence], num_frames: int) -> None:
    """Lay out the first frames of sequences as DAVIS is published, as links: CRW's script writes beside them."""
    for sequence in sequences:
        for top, paths in (("JPEGImages", sequence.frame_paths), ("Annotations", sequence.annotation_paths)):
            folder = root / top / RESOLUTION / sequence.name
            folder.mkdir(parents=True)
            for path in paths[:num_frames]:
                if path is not None:
                    (folder / path.name).symlink_to(path.resolve())
    lists = root / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("".join(f"{sequence.name}\n" for sequence in sequences))


def _ours(root: Path, out: Path, *, spec: str, protocol: Protocol) -> tuple[Figures, Figures]:
    encoder = load_encoder(spec, weights=out / "weights.pth", **protocol.encoder_options(encoder_family(spec)))
    result = evaluate_davis(encoder, root=root, out=out, model_name=spec, protocol=protocol)
    objects = result.record["objects"]
    return {name: one["J-Mean"] for name, one in objects.items()}, {
        name: one["F-Mean"] for name, one in objects.items()
    }


@contextlib.contextmanager
def _command_line(folder: Path, arguments: Sequence[str]) -> Iterator[None]:
    """Let a script in a folder find its arguments, the modules beside it, and do without a GPU."""
    with (
        Peers.importing(folder),
        mock.patch.object(sys, "argv", ["", *arguments]),
        mock.patch.object(sys, "excepthook", sys.excepthook),  # CRW's puts in one of its own
        mock.patch.dict(os.environ),
        mock.patch.object(Tensor, "cuda", lambda tensor, **_: tensor),
        mock.patch.object(nn.Module, "cuda", lambda module: module),
    ):
        yield


def _official(peers: Peers, root: Path, masks: Path) -> tuple[Figures, Figures]:
    """J and F by object, as davis2017-evaluation has them."""
    with peers.importing(peers.folders["davis2017"]):
        from davis2017.evaluation import DAVISEvaluation

        figures = DAVISEvaluation(str(root), task="semi-supervised", gt_set="val").evaluate(str(masks))
    return figures["J"]["M_per_object"], figures["F"]["M_per_object"]


def _dino_script(root: Path, out: Path, *, peers: Peers, arch: str, patch_px: int) -> tuple[Figures, Figures]:
    options = {"arch": arch, "patch_size": patch_px, "pretrained_weights": out / "weights.pth", "data_path": root}
    arguments = [f"--{name}={value}" for name, value in options.items()] + [f"--output_dir={out / 'masks'}"]
    palette = [" ".join(map(str, colour)).encode() for colour in davis_palette().tolist()]
    script = peers.folders["dino"] / "eval_video_segmentation.py"
    with _command_line(script.parent, arguments), mock.patch("urllib.request.urlopen", lambda url: palette):
        runpy.run_path(str(script), run_name="__main__")
    return _official(peers, root, out / "masks")


def _crw_scripts(root: Path, out: Path, *, peers: Peers) -> tuple[Figures, Figures]:
    names = (root / "ImageSets" / "2017" / "val.txt").read_text().split()
    tops = [root / top / RESOLUTION for top in ("JPEGImages", "Annotations")]
    files = out / "files.txt"
    files.write_text("".join(f"{tops[0] / name} {tops[1] / name}\n" for name in names))
    options = {
        "filelist": files,
        "model-type": "scratch",
        "resume": out / "weights.pth",
        "save-path": out / "colours",
    }
    # Those of its README; the readers work in this process.
    options |= {"topk": 10, "videoLen": 20, "radius": 12, "temperature": 0.05, "cropSize": -1, "workers": 0}
    code = peers.folders["crw"] / "code"
    with (
        _command_line(code, [f"--{name}={value}" for name, value in options.items()]),
        mock.patch.dict(sys.modules, {name: ModuleType(name) for name in ("visdom", "wandb")}),
        mock.patch.object(np, "int", int, create=True),
    ):
        runpy.run_path(str(code / "test.py"), run_name="__main__")
    arguments = [f"--in_folder={out / 'colours'}/", f"--out_folder={out / 'masks'}/", f"--dataset={root}"]
    pool = SimpleNamespace(map=lambda convert, items: [convert(item) for item in items])
    with (
        _command_line(code / "eval", arguments),
        mock.patch.object(multiprocessing, "Pool", lambda num_processes: pool),
    ):
        runpy.run_path(str(code / "eval" / "convert_davis.py"), run_name="__main__")
    return _official(peers, root, out / "masks")


def _compare(ours: _Outcome, theirs: _Outcome) -> Mapping[str, float]:
    # The scripts put out the first frame in ways of their own, and it is not scored.
    names = [name for name in theirs.masks if not name.endswith("/00000.png")]
    different = sum(int((ours.masks[name] != theirs.masks[name]).sum()) for name in names)
    apart = [
        abs(one[name] - other[name])
        for one, other in ((ours.similarity, theirs.similarity), (ours.accuracy, theirs.accuracy))
        for name in other
    ]
    return {
        "frames": len(ours.masks),
        "share_of_different_pixels": different / sum(theirs.masks[name].numel() for name in names),
        "largest_difference_of_j_and_f": max(apart),
        "ours_wall_seconds": ours.wall_seconds,
        "peer_wall_seconds": theirs.wall_seconds,
    }


def _case(
    peers: Peers,
    ours: Side,
    peer: Side,
    *,
    weights: dict[str, Any],
    sequences: Sequence[str] | None,
    num_frames: int,
    versions: Mapping[str, str],
) -> Case:
    """Let both sides start from the same weights and frames, each in a folder of its own."""
    chosen = davis_sequences(peers.folders["davis"], names=sequences, resolution=RESOLUTION)

    def whole(side: Side) -> _Outcome:
        with tempfile.TemporaryDirectory() as folder:
            root, out = Path(folder, "data"), Path(folder, "out")
            _lay_out(root, chosen, num_frames)
            (out / "masks").mkdir(parents=True)
            torch.save(weights, out / "weights.pth")
            started = time.perf_counter()
            similarity, accuracy = side(root, out)
            seconds = time.perf_counter() - started
            paths = sorted((out / "masks").glob("*/*.png"))
            masks = {f"{path.parent.name}/{path.name}": read_mask(path) for path in paths}
        return _Outcome(masks, similarity, accuracy, seconds)

    return Case(partial(whole, ours), partial(whole, peer), _compare, versions=versions)


def _dino(
    peers: Peers, *, arch: str, patch_px: int, num_frames: int, sequences: Sequence[str] | None = None
) -> Case:
    with peers.importing(peers.folders["dino"]):
        import vision_transformer

        torch.manual_seed(0)
        network = getattr(vision_transformer, arch)(patch_size=patch_px, num_classes=0)
    return _case(
        peers,
        partial(_ours, spec=f"timm:{arch}_patch{patch_px}_224", protocol=DINO),
        partial(_dino_script, peers=peers, arch=arch, patch_px=patch_px),
        weights={"teacher": network.state_dict()},
        sequences=sequences,
        num_frames=num_frames,
        versions=_digests(peers, ("dino", "eval_video_segmentation.py")),
    )


def _crw(peers: Peers, *, sequences: Sequence[str] | None, num_frames: int) -> Case:
    torch.manual_seed(0)
    state = {f"encoder.model.{name}": value for name, value in ResNet(18, layer="layer3").state_dict().items()}
    return _case(
        peers,
        partial(_ours, spec="torchvision:resnet18", protocol=CRW),
        partial(_crw_scripts, peers=peers),
        weights={"model": state},
        sequences=sequences,
        num_frames=num_frames,
        versions=_digests(peers, ("crw", "code/test.py")),
    )


def _digests(peers: Peers, *files: tuple[str, str]) -> dict[str, str]:
    metric = ("davis2017", "davis2017/evaluation.py")
    return {Path(file).name: peers.digest(name, file) for name, file in (*files, metric)}


WORK = (
    "Evaluation of one network, from weights in a file to masks, J and F in files; the baselines that the command "
    "measures besides are left out."
)
OF_DINO: dict[str, Any] = {
    "ours": "evaluate.davis, with overlays",
    "peer": "DINO, eval_video_segmentation.py, then davis2017-evaluation",
    "needs": ("dino", "davis2017", "davis", "cv2", "skimage", "tqdm"),
    # Minutes, so once; the first call takes no longer than the next.
    "rounds": 1,
    "warm_up": False,
}
AGREEMENT = (at_most("share_of_different_pixels", 1e-4), at_most("largest_difference_of_j_and_f", 1e-3))
ROWS = (
    Row(
        name="davis_end_to_end_dino",
        what=f"{WORK} The first 12 frames of car-shadow and synth2-swan-car at 480p, ViT-S/8, 60 x 104 cells, "
        "protocol of DINO. Longer sequences weigh the script's mask less and its propagation more.",
        prepare=partial(
            _dino, arch="vit_small", patch_px=8, num_frames=12, sequences=("car-shadow", "synth2-swan-car")
        ),
        goals=(at_least("speedup", 3), *AGREEMENT),
        **OF_DINO,
    ),
    Row(
        name="davis_end_to_end_dino_16",
        what=f"{WORK} The first 20 frames of each sequence at 480p, ViT-S/16, 30 x 52 cells, protocol of DINO. "
        "Most of it is the network, which both have to run.",
        prepare=partial(_dino, arch="vit_small", patch_px=16, num_frames=20),
        goals=AGREEMENT,
        **OF_DINO,
    ),
    Row(
        name="davis_end_to_end_crw",
        what=f"{WORK} The 40 frames of car-shadow at 480p, ResNet-18, 60 x 107 cells, protocol of CRW.",
        ours="evaluate.davis, with overlays",
        peer="CRW, test.py (with its pictures) and convert_davis.py, then davis2017-evaluation",
        needs=("crw", "davis2017", "davis", "cv2", "skimage", "sklearn", "tqdm", "imageio", "matplotlib"),
        prepare=partial(_crw, sequences=("car-shadow",), num_frames=40),
        goals=(at_least("speedup", 3), *AGREEMENT),
        rounds=1,
        warm_up=False,
    ),
)
