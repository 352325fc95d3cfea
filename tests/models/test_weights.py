"""Checkpoints as the training code of well-known repositories writes them."""

import argparse
import logging
import re

import pytest
import torch
import torchvision

from vidssl.models import ViT, load_encoder


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


def noise(*sizes):
    return torch.randn(*sizes)


@pytest.fixture(scope="module")
def resnet():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        state = torchvision.models.resnet18(weights=None).state_dict()
    return {name: value for name, value in state.items() if not name.startswith("fc.")}


@pytest.fixture(scope="module")
def other_resnet(resnet):
    """The momentum copy: what must not be taken."""
    return {name: value + 1 for name, value in resnet.items()}


def with_conv_modules(name):
    """mmaction's name for torchvision's."""
    name = re.sub(r"\bbn(\d)\.", r"conv\1.bn.", re.sub(r"\bconv(\d)\.", r"conv\1.conv.", name))
    return name.replace("downsample.0.", "downsample.conv.").replace("downsample.1.", "downsample.bn.")


CHECKPOINTS = {
    # moco/builder.py, main_moco.py: encoder_q and encoder_k with MLPs as fc, the queue as a buffer
    "MoCo v2": lambda net, copy: {
        "arch": "resnet50",
        "state_dict": {
            **prefixed(net, "module.encoder_q."),
            "module.encoder_q.fc.0.weight": noise(4, 4),
            **prefixed(copy, "module.encoder_k."),
            "module.encoder_k.fc.2.bias": noise(4),
            "module.queue": noise(128, 8),
            "module.queue_ptr": torch.zeros(1, dtype=torch.long),
        },
    },
    # moco/builder.py: base_encoder and momentum_encoder, BatchNorm in the heads, a predictor
    "MoCo v3": lambda net, copy: {
        "state_dict": {
            **prefixed(net, "module.base_encoder."),
            "module.base_encoder.fc.1.running_mean": noise(4),
            **prefixed(copy, "module.momentum_encoder."),
            "module.predictor.0.weight": noise(4, 4),
        }
    },
    # simsiam/builder.py
    "SimSiam": lambda net, copy: {
        "state_dict": {
            **prefixed(net, "module.encoder."),
            "module.encoder.fc.6.weight": noise(4, 4),
            "module.predictor.0.weight": noise(4, 4),
        }
    },
    # src/resnet50.py: heads beside the layers; the released files are bare state dicts, main_swav.py wraps them
    "SwAV, released": lambda net, copy: {
        **prefixed(net, "module."),
        "module.projection_head.0.weight": noise(4, 4),
        "module.prototypes.weight": noise(4, 4),
    },
    "SwAV, checkpoint": lambda net, copy: {
        "epoch": 3,
        "state_dict": {**prefixed(net, "module."), "module.prototypes.prototypes0.weight": noise(4, 4)},
    },
    # main_vicreg.py and main.py of barlowtwins: the whole model
    "VICReg": lambda net, copy: {
        "model": {**prefixed(net, "module.backbone."), "module.projector.0.weight": noise(4, 4)}
    },
    "Barlow Twins": lambda net, copy: {
        "model": {**prefixed(net, "module.backbone."), "module.bn.running_mean": noise(4)}
    },
    # code/train.py, code/utils From3D: layer4 removed, options as a Namespace
    "CRW": lambda net, copy: {
        "model": {
            **{name: v for name, v in prefixed(net, "encoder.model.").items() if "layer4" not in name},
            "selfsim_fc.0.weight": noise(4, 4),
        },
        "args": argparse.Namespace(lr=1e-4, remove_layers=["layer4"]),
        "epoch": 20,
    },
    # mmaction/models/backbones/resnet.py: convolution and norm as one ConvModule
    "VFS": lambda net, copy: {
        "meta": {"epoch": 100},
        "state_dict": {
            **{f"backbone.{with_conv_modules(name)}": value for name, value in net.items()},
            "img_head.projection_fcs.0.weight": noise(4, 4),
        },
    },
    # main_dino.py: DDP around the student only, options as a Namespace
    "DINO": lambda net, copy: {
        "student": {**prefixed(copy, "module.backbone."), "module.head.mlp.0.weight": noise(4, 4)},
        "teacher": {**prefixed(net, "backbone."), "head.mlp.0.weight": noise(4, 4)},
        "args": argparse.Namespace(arch="resnet50"),
    },
}


@pytest.mark.parametrize("source", CHECKPOINTS)
def test_resnets_of_published_checkpoints(source, resnet, other_resnet, tmp_path, caplog):
    torch.save(CHECKPOINTS[source](resnet, other_resnet), tmp_path / "weights.pth")
    with caplog.at_level(logging.INFO):
        encoder = load_encoder("torchvision:resnet18", weights=tmp_path / "weights.pth")
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, resnet[name]), name
    if source not in ("CRW",):
        assert "left out" in caplog.text


def test_vit_of_moco_v3_has_its_heads(tmp_path):
    source = ViT("vit_tiny_patch16_224", num_heads=12)
    state = source.net.state_dict()
    checkpoint = {
        **prefixed(state, "module.base_encoder."),
        "module.base_encoder.head.0.weight": noise(4, 4),
        **prefixed({name: value + 1 for name, value in state.items()}, "module.momentum_encoder."),
    }
    torch.save({"state_dict": checkpoint}, tmp_path / "weights.pth")
    encoder = load_encoder("timm:vit_tiny_patch16_224", weights=tmp_path / "weights.pth", num_heads=12)
    clip = torch.rand(1, 1, 3, 32, 32)
    assert torch.equal(encoder.features(clip), source.eval().features(clip))
    usual = load_encoder("timm:vit_tiny_patch16_224", weights=tmp_path / "weights.pth")
    assert (usual.features(clip) - encoder.features(clip)).abs().max() > 1e-3
    assert encoder.architecture["num_heads"] == 12 and "num_heads" not in usual.architecture


def test_mae_with_its_decoder(tmp_path):
    source = ViT("test_vit")
    state = {
        **source.net.state_dict(),
        "mask_token": noise(1, 1, 8),
        "decoder_pos_embed": noise(1, 101, 8),
        "decoder_blocks.0.norm1.weight": noise(8),
        "decoder_pred.bias": noise(8),
    }
    torch.save({"model": state, "args": argparse.Namespace(mask_ratio=0.75)}, tmp_path / "weights.pth")
    encoder = load_encoder("timm:test_vit", weights=tmp_path / "weights.pth")
    assert all(torch.equal(value, state[name]) for name, value in encoder.net.state_dict().items())


def test_dinov2_with_registers(tmp_path):
    """Its class token has a position of its own, its registers none; timm adds the former to the token."""
    ours = ViT("vit_small_patch14_reg4_dinov2")
    theirs = {name: noise(*value.shape) for name, value in ours.net.state_dict().items() if "blocks.0" in name}
    theirs |= {name: value for name, value in ours.net.state_dict().items() if name not in theirs}
    del theirs["reg_token"]
    theirs |= {
        "cls_token": noise(1, 1, 384),
        "pos_embed": noise(1, 1 + 37**2, 384),
        "register_tokens": noise(1, 4, 384),
        "mask_token": noise(1, 384),
    }
    torch.save(theirs, tmp_path / "weights.pth")
    net = load_encoder("timm:vit_small_patch14_reg4_dinov2", weights=tmp_path / "weights.pth").net
    assert torch.equal(net.reg_token, theirs["register_tokens"])
    assert torch.equal(net.cls_token, theirs["cls_token"] + theirs["pos_embed"][:, :1])
    assert torch.equal(net.pos_embed, theirs["pos_embed"][:, 1:])
    assert torch.equal(net.blocks[0].attn.qkv.weight, theirs["blocks.0.attn.qkv.weight"])


def test_dinov3(tmp_path, capsys):
    """Its keys have no bias; its own code masks the stored one out."""
    ours = ViT("vit_small_patch16_dinov3_qkvb")
    theirs = {}
    for name, value in ours.net.state_dict().items():
        if name.endswith("q_bias"):
            theirs[name.replace("q_bias", "qkv.bias")] = noise(3 * 384)
            theirs[name.replace("q_bias", "qkv.bias_mask")] = torch.ones(3 * 384)
        elif not name.endswith("v_bias"):
            renamed = name.replace("reg_token", "storage_tokens")
            theirs[renamed.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")] = noise(*value.shape)
    theirs |= {"mask_token": noise(1, 384), "rope_embed.periods": noise(16)}
    torch.save(theirs, tmp_path / "weights.pth")
    net = load_encoder("timm:vit_small_patch16_dinov3_qkvb", weights=tmp_path / "weights.pth").net
    bias = theirs["blocks.3.attn.qkv.bias"]
    assert torch.equal(net.blocks[3].attn.q_bias, bias[:384])
    assert torch.equal(net.blocks[3].attn.v_bias, bias[768:])
    assert not net.blocks[3].attn.k_bias.any()
    assert torch.equal(net.reg_token, theirs["storage_tokens"])
    assert torch.equal(net.blocks[2].gamma_2, theirs["blocks.2.ls2.gamma"])
    load_encoder("timm:vit_small_patch16_dinov3", weights=tmp_path / "weights.pth")  # the variant without biases
    assert capsys.readouterr().out == ""
