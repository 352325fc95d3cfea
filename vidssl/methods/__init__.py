"""Self-supervised methods, one file each."""

from .audiovisual.l3net import L3Net
from .audiovisual.xdc import XDC
from .image.amdim import AMDIM
from .image.bownet import BoWNet
from .image.byol import BYOL
from .image.context_encoder import ContextEncoder
from .image.cpc import CPC
from .image.deepcluster import DeepCluster
from .image.dino import DINO
from .image.exemplar import Exemplar
from .image.instdisc import InstDisc
from .image.jigsaw import Jigsaw
from .image.mae import MAE
from .image.moco import MoCo
from .image.obow import OBoW
from .image.rotation import Rotation
from .image.simclr import SimCLR
from .image.yadim import YADIM
from .sum import Sum
from .video.colorization import VideoColorization
from .video.contrastive_random_walk import ContrastiveRandomWalk
from .video.dpc import DPC
from .video.opn import OPN
from .video.shuffle_and_learn import ShuffleAndLearn
from .video.videomae import VideoMAE
from .video.vjepa import VJEPA

__all__ = [
    "AMDIM",
    "BYOL",
    "CPC",
    "DINO",
    "DPC",
    "MAE",
    "OPN",
    "VJEPA",
    "XDC",
    "YADIM",
    "BoWNet",
    "ContextEncoder",
    "ContrastiveRandomWalk",
    "DeepCluster",
    "Exemplar",
    "InstDisc",
    "Jigsaw",
    "L3Net",
    "MoCo",
    "OBoW",
    "Rotation",
    "ShuffleAndLearn",
    "SimCLR",
    "Sum",
    "VideoColorization",
    "VideoMAE",
]
