"""Which protocol an encoder is measured by where none is named."""

import pytest
import torch

from vidssl.commands._model import load_for, protocol_named
from vidssl.models import ResNet, VideoViT, ViT, export_encoder


@pytest.mark.parametrize(
    ("make", "protocol"),
    [
        (lambda: ResNet(18, width=4), "crw"),
        (lambda: ViT("vit_tiny_patch16_224"), "dino"),
        (lambda: VideoViT(dim=24, depth=1, num_heads=2), "dino"),
    ],
)
def test_transformers_take_dino_and_everything_else_crw(tmp_path, make, protocol):
    torch.manual_seed(0)
    export_encoder(make(), tmp_path / "net.safetensors")
    spec = str(tmp_path / "net.safetensors")
    for asked, expected in ((None, protocol), ("vfs", "vfs")):
        encoder, chosen = load_for(spec, protocol_of=protocol_named(asked), weights=None, seed=0)
        assert chosen.name == expected and not encoder.training


def test_a_layer_and_options_reach_the_encoder():
    encoder, _ = load_for(
        "random:resnet18",
        protocol_of=protocol_named("crw"),
        weights=None,
        seed=0,
        layer="layer2",
        encoder_options=["width=4", "stride=16"],
    )
    assert (encoder.dim, encoder.stride, encoder.architecture["of"]["padding_mode"]) == (8, 8, "reflect")
