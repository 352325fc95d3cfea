"""Encoders, and how they are loaded and exported."""

from .adapters.hub import HubEncoder
from .adapters.huggingface import HuggingFaceEncoder
from .adapters.networks import TimmConvNet, TorchvisionConvNet, TorchvisionViT
from .adapters.torchvision_video import TorchvisionVideoNet
from .audio import AudioEncoder, LogMel
from .convnet import ConvNet
from .encoder import Encoder
from .last_stage import load_last_stage
from .layers import layer_of
from .load import (
    encoder_family,
    export_audio_encoder,
    export_encoder,
    export_encoders,
    load_audio_encoder,
    load_encoder,
)
from .resnet import ResNet
from .video_vit import VideoViT
from .vit import ViT

__all__ = [
    "AudioEncoder",
    "ConvNet",
    "Encoder",
    "HubEncoder",
    "HuggingFaceEncoder",
    "LogMel",
    "ResNet",
    "TimmConvNet",
    "TorchvisionConvNet",
    "TorchvisionViT",
    "TorchvisionVideoNet",
    "ViT",
    "VideoViT",
    "encoder_family",
    "export_audio_encoder",
    "export_encoder",
    "export_encoders",
    "layer_of",
    "load_audio_encoder",
    "load_encoder",
    "load_last_stage",
]
