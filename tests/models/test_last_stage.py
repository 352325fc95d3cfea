"""What recognition measures of a network: its last stage, where propagation stops before it."""

import pytest
import torch

from vidssl.models import ConvNet, ResNet, export_encoder, load_encoder, load_last_stage


@pytest.mark.parametrize(
    ("spec", "name", "dim", "stride", "dim_before"),
    [
        ("random:torchvision:resnet18", "layer4", 512, 32, 256),
        ("random:resnet50", "layer4", 2048, 32, 1024),
        ("random:timm:resnet18", "layer4", 512, 32, 256),
        ("random:timm:convnext_atto", "3", 320, 32, 160),
        ("random:torchvision:mobilenet_v2", "features.18", 1280, 32, 96),
        ("random:torchvision:shufflenet_v2_x0_5", "conv5.2", 1024, 32, 96),
        ("random:torchvision:r3d_18", "layer4.1", 512, 16, 512),
        ("random:torchvision:mc3_18", "layer4.1", 512, 16, 512),
        ("random:torchvision:s3d", "features.15", 1024, 32, 832),
        ("random:timm:vit_tiny_patch16_224", "last", 192, 16, 192),
    ],
)
def test_the_last_stage_and_its_name(spec, name, dim, stride, dim_before):
    encoder = load_last_stage(spec)
    assert (encoder.last_name, encoder.dim, encoder.stride) == (name, dim, stride)
    assert encoder.layer_size(name) == (dim, stride)
    side, num_frames = 224 if "vit" in spec else 64, 8 if "3d" in spec or "mc3" in spec else 1
    assert encoder(torch.rand(1, num_frames, 3, side, side)).shape == (1, dim)
    assert load_encoder(spec).dim == dim_before  # what propagation takes


def test_options_go_before_the_last_stage():
    three = load_last_stage("random:resnet18", layer="layer3", width=4)
    assert (three.last_name, three.dim, three.stride) == ("layer3", 16, 16)
    dense = load_last_stage("random:resnet18", stride=8, width=4)
    assert (dense.last_name, dense.dim, dense.stride) == ("layer4", 32, 8)
    assert load_last_stage("random:timm:convnext_atto", stride=16).dim == 160
    with pytest.raises(ValueError, match="no layer 'layer5'; layers: layer1"):
        load_last_stage("random:resnet18", layer="layer5")


@pytest.mark.parametrize(
    ("make", "name", "dim"),
    [(lambda: ResNet(18, width=4), "layer3", 16), (lambda: ConvNet(widths=(4, 6), strides=(2, 2)), "1", 6)],
)
def test_an_exported_encoder_ends_where_it_was_trained(tmp_path, make, name, dim):
    export_encoder(make(), tmp_path / "net.safetensors")
    encoder = load_last_stage(tmp_path / "net.safetensors")
    assert (encoder.last_name, encoder.dim) == (name, dim)


def test_the_last_stage_is_exported_and_loaded_as_such(tmp_path):
    encoder = load_last_stage("random:timm:convnext_atto")
    export_encoder(encoder, tmp_path / "net.safetensors")
    again = load_encoder(tmp_path / "net.safetensors")
    clip = torch.rand(1, 1, 3, 64, 64)
    assert again.dim == 320 and torch.equal(again(clip), encoder(clip))
