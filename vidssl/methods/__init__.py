"""Self-supervised methods, one file each."""

from .audiovisual.l3net import L3Net
from .audiovisual.xdc import XDC
from .image.amdim import AMDIM
from .image.autoencoder import Autoencoder
from .image.barlow_twins import BarlowTwins
from .image.bigan import BiGAN
from .image.bownet import BoWNet
from .image.byol import BYOL
from .image.colorization import ImageColorization
from .image.context_encoder import ContextEncoder
from .image.cpc import CPC
from .image.deepcluster import DeepCluster
from .image.deepcluster_v2 import DeepClusterV2
from .image.denoising_autoencoder import DenoisingAutoencoder
from .image.dino import DINO
from .image.distillation import Distillation
from .image.exemplar import Exemplar
from .image.instdisc import InstDisc
from .image.jigsaw import Jigsaw
from .image.mae import MAE
from .image.moco import MoCo
from .image.moco_v3 import MoCoV3
from .image.obow import OBoW
from .image.relative_patch import RelativePatch
from .image.rotation import Rotation
from .image.simclr import SimCLR
from .image.simsiam import SimSiam
from .image.split_brain import SplitBrain
from .image.super_resolution import SuperResolution
from .image.swav import SwAV
from .image.vicreg import VICReg
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
    "Autoencoder",
    "BarlowTwins",
    "BiGAN",
    "BoWNet",
    "ContextEncoder",
    "ContrastiveRandomWalk",
    "DeepCluster",
    "DeepClusterV2",
    "DenoisingAutoencoder",
    "Distillation",
    "Exemplar",
    "ImageColorization",
    "InstDisc",
    "Jigsaw",
    "L3Net",
    "MoCo",
    "MoCoV3",
    "OBoW",
    "RelativePatch",
    "Rotation",
    "ShuffleAndLearn",
    "SimCLR",
    "SimSiam",
    "SplitBrain",
    "Sum",
    "SuperResolution",
    "SwAV",
    "VICReg",
    "VideoColorization",
    "VideoMAE",
]
