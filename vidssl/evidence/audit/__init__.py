"""Methods and recipes beside the code of their authors: `python tools/audit.py --peer moco=CLONE --peer dpc=CLONE ...`

A peer is a clone of the official repository, of which only the files of losses, networks and schedules are imported.
Both get the same weights and inputs; differences of losses are relative to the largest number where that is above 1,
those of gradients and schedules to the largest value. Where equality is claimed they are at most 1e-6; what is
declared stands in the docstring of the method or recipe. vidssl itself imports none of this.
"""

import contextlib
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
import torch.distributed as dist

from . import correspondence, joint_embedding, masking, prototypes, recipes
from .comparing import HEADER, TOLERANCE, Row

__all__ = ["HEADER", "PEERS", "TOLERANCE", "Row", "compare", "one_process", "parse"]

PEERS: dict[str, tuple[Callable[[Path], list[Row]], ...]] = {
    "byol": (joint_embedding.byol, recipes.byol),  # google-deepmind/deepmind-research
    "deepcluster": (prototypes.deepcluster,),  # facebookresearch/deepcluster; needs faiss
    "dino": (prototypes.dino, recipes.dino),  # facebookresearch/dino
    "dpc": (correspondence.dpc,),  # TengdaHan/DPC
    "jepa": (masking.jepa, recipes.jepa),  # facebookresearch/jepa
    "mae": (masking.mae, recipes.mae),  # facebookresearch/mae
    "moco": (joint_embedding.moco, recipes.moco),  # facebookresearch/moco
    "rotnet": (correspondence.rotnet, recipes.rotnet),  # gidariss/FeatureLearningRotNet
    "simclr": (joint_embedding.simclr,),  # google-research/simclr
    "swav": (prototypes.swav,),  # facebookresearch/swav
    "videomae": (masking.videomae, recipes.videomae),  # MCG-NJU/VideoMAE
    "videowalk": (correspondence.videowalk,),  # ajabri/videowalk
}


def parse(texts: Sequence[str]) -> dict[str, Path]:
    """Read NAME=FOLDER of the command line.

    Raises:
        ValueError: No such name, or no such folder.
    """
    folders = {}
    for text in texts:
        name, _, path = text.partition("=")
        if name not in PEERS or not path or not Path(path).is_dir():
            raise ValueError(f"--peer {text}: expected NAME=FOLDER, NAME one of {', '.join(PEERS)}")
        folders[name] = Path(path).resolve()
    return folders


@contextlib.contextmanager
def one_process() -> Iterator[None]:
    """A group of this process alone: their code gathers over processes."""
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
        yield
        dist.destroy_process_group()


def compare(peer: str, clone: Path) -> list[Row]:
    """Compare with one peer; the same numbers are drawn whichever peers come before."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old code under new libraries
        return [row for compared in PEERS[peer] for row in compared(clone)]
