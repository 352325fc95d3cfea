"""Encoders, and how they are loaded and exported."""

from vidssl.models.adapters import TimmConvNet, TorchvisionConvNet, TorchvisionViT
from vidssl.models.encoder import Encoder
from vidssl.models.load import encoder_family, export_encoder, load_encoder
from vidssl.models.resnet import ResNet
from vidssl.models.vit import ViT

__all__ = [
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
