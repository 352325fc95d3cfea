"""Encoders, and how they are loaded and exported."""

from .adapters import TimmConvNet, TorchvisionConvNet, TorchvisionViT
from .convnet import ConvNet
from .encoder import Encoder
from .load import encoder_family, export_encoder, load_encoder
from .resnet import ResNet
from .vit import ViT

__all__ = [
    "ConvNet",
    "Encoder",
    "ResNet",
    "TimmConvNet",
    "TorchvisionConvNet",
    "TorchvisionViT",
    "ViT",
    "encoder_family",
    "export_encoder",
    "load_encoder",
]
