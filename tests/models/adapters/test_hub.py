"""Encoders of local hub repositories: networks in the style of DINO and DINOv2, and plain ones."""

import logging
import os
import textwrap
import zlib

import pytest
import torch

from vidssl.models import HubEncoder, load_encoder

# Patch embedding, class token, one attention block after another, a norm; positions are a linear ramp of any size.
NETWORKS = """
import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.proj((q @ k.transpose(1, 2)).softmax(dim=-1) @ v)


class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim), Attention(dim)

    def forward(self, x):
        return x + self.attn(self.norm1(x))


class Embed(nn.Module):
    def __init__(self, dim, patch_size):
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(3, dim, 4, 4)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class Transformer(nn.Module):
    def __init__(self, dim=6, num_registers=0, patch_size=4):
        super().__init__()
        self.embed_dim = dim
        self.patch_embed = Embed(dim, patch_size)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.registers = nn.Parameter(torch.randn(1, num_registers, dim))
        self.blocks = nn.ModuleList([Block(dim) for _ in range(2)])
        self.norm = nn.LayerNorm(dim)
        nn.init.normal_(self.norm.bias)

    def tokens(self, x):
        x = self.patch_embed(x)
        x = x + torch.linspace(-1, 1, x.shape[1])[:, None]
        extra = torch.cat([self.cls_token, self.registers], dim=1).expand(len(x), -1, -1)
        return torch.cat([extra, x], dim=1)


class Dino(Transformer):
    def get_intermediate_layers(self, x, n=1):
        output, x = [], self.tokens(x)
        for i, block in enumerate(self.blocks):
            x = block(x)
            if len(self.blocks) - i <= n:
                output.append(self.norm(x))
        return output


class DinoV2(Transformer):
    def get_intermediate_layers(self, x, n=1, reshape=False, return_class_token=False, norm=True):
        x = self.tokens(x)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        patches = x[:, 1 + self.registers.shape[1]:]
        return ((patches, x[:, 0]),) if return_class_token else (patches,)
"""
HUBCONF = """
import torch
from torch import nn
from {networks} import Dino, DinoV2

dependencies = ["torch"]
URL = "https://example.invalid/weights.pth"


def dino(pretrained=True, **kwargs):
    net = Dino(**kwargs)
    if pretrained:
        net.load_state_dict(torch.hub.load_state_dict_from_url(URL))
    return net


def dinov2(*, pretrained=True):
    assert not pretrained
    return DinoV2(num_registers=3)


def convolutions():
    return nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.BatchNorm2d(5), nn.Conv2d(5, 7, 2, stride=2))


def classifier(pretrained=False):
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def stubborn():
    return dino(pretrained=True)


def broken(pretrained=False):
    raise TypeError("no such thing")


def number(pretrained=False):
    return 3


def oblong(pretrained=False):
    return Dino(patch_size=(4, 2))
"""


def write_clone(folder, *, networks=None):
    """Write a clone; its module of networks has a name of its own, as Python imports one name once in a process."""
    networks = networks or f"networks_{zlib.crc32(os.fsencode(folder)):08x}"
    folder.mkdir()
    (folder / f"{networks}.py").write_text(textwrap.dedent(NETWORKS))
    (folder / "hubconf.py").write_text(textwrap.dedent(HUBCONF).replace("{networks}", networks))
    return folder


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return write_clone(tmp_path_factory.mktemp("hub") / "clone")


def scaled(encoder, clip):
    return (clip.flatten(0, 1) - encoder.mean) / encoder.std


@pytest.mark.parametrize(("entry", "prefix"), [("dino", 1), ("dinov2", 4)])
@torch.no_grad()
def test_transformers(entry, prefix, clone, caplog):
    with caplog.at_level(logging.WARNING):
        encoder = load_encoder(f"hub:{clone}:{entry}")
    assert "no weights given, so they are random" in caplog.text
    assert (encoder.dim, encoder.stride, encoder.multiple) == (6, 4, 4) and not encoder.training
    clip = torch.rand(2, 3, 3, 8, 12)
    found = encoder.layers(clip, ["0", "1.queries", "1.keys", "1.values", "1", "1.cls", "last", "last.cls"])
    net, tokens = encoder.net, encoder.net.tokens(scaled(encoder, clip))
    assert tokens.shape[1] == prefix + 6

    def same(name, tokens):
        expected = tokens[:, prefix:].reshape(2, 3, 2, 3, 6).permute(0, 1, 4, 2, 3)
        torch.testing.assert_close(found[name], expected, atol=1e-6, rtol=1e-5)

    tokens = net.blocks[0](tokens)
    same("0", tokens)
    linear = net.blocks[1].attn.qkv
    for number, facet in enumerate(("queries", "keys", "values")):
        rows = slice(6 * number, 6 * number + 6)
        same(f"1.{facet}", net.blocks[1].norm1(tokens) @ linear.weight[rows].T + linear.bias[rows])
    tokens = net.blocks[1](tokens)
    same("1", tokens)
    assert torch.equal(found["1.cls"].flatten(0, 1)[:, :, 0, 0], tokens[:, 0])
    tokens = net.norm(tokens)
    same("last", tokens)
    torch.testing.assert_close(found["last.cls"].flatten(0, 1)[:, :, 0, 0], tokens[:, 0])
    assert torch.equal(encoder.features(clip), found["last"])
    with pytest.raises(ValueError, match=r"8 x 10 pixels .* patches of 4"):
        encoder.features(torch.rand(1, 1, 3, 8, 10))


@torch.no_grad()
def test_feature_maps_of_a_plain_network(clone):
    encoder = load_encoder(f"random:hub:{clone}:convolutions")
    assert (encoder.dim, encoder.stride, encoder.multiple) == (7, 4, 1)
    assert torch.equal(encoder.net[1].running_mean, torch.zeros(5))  # the probe left no trace
    clip = torch.rand(2, 3, 3, 9, 12)
    assert torch.equal(encoder.features(clip).flatten(0, 1), encoder.net(scaled(encoder, clip)))
    assert encoder.layer_names == ("last",)


def test_weights_come_from_a_file(clone, tmp_path):
    source = load_encoder(f"random:hub:{clone}:dino", seed=1)
    state = {f"backbone.{name}": value for name, value in source.net.state_dict().items()}
    torch.save({"teacher": state | {"head.mlp.0.weight": torch.ones(2)}}, tmp_path / "weights.pth")
    loaded = load_encoder(f"hub:{clone}:dino", weights=tmp_path / "weights.pth")
    again, other = (load_encoder(f"random:hub:{clone}:dino", seed=seed) for seed in (1, 2))
    clip = torch.rand(1, 1, 3, 8, 8)
    assert torch.equal(loaded.features(clip), source.features(clip))
    assert torch.equal(again.features(clip), source.features(clip))
    assert (other.features(clip) - source.features(clip)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("stubborn", r"could not be built: .*wants to connect to example\.invalid.*pass it as weights"),
        ("vits16", r"hubconf\.py cannot give 'vits16': Cannot find callable vits16"),
        ("classifier", r"classifier gives \(1, 5\) for a frame, expected feature maps"),
        ("number", r"gives a int, expected a torch\.nn\.Module"),
        ("oblong", "patches of 4 x 2 pixels; only square ones"),
    ],
)
def test_mistakes_are_named(entry, message, clone, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=message):
        load_encoder(f"hub:{clone}:{entry}")


def test_mistakes_of_the_entry_itself_stay_visible(clone, tmp_path):
    with pytest.raises(TypeError, match="no such thing"):
        HubEncoder(str(clone), entry="broken")
    with pytest.raises(ValueError, match=r"holds no hubconf.py; hub:FOLDER:ENTRY wants a local clone"):
        load_encoder(f"hub:{tmp_path}:dino")
    with pytest.raises(ValueError, match="names no entry; expected hub:FOLDER:ENTRY"):
        load_encoder("hub:dino")


def test_code_of_another_clone_is_refused(clone, tmp_path):
    load_encoder(f"random:hub:{clone}:dino")
    (networks,) = (path.stem for path in clone.glob("networks_*.py"))
    other = write_clone(tmp_path / "other", networks=networks)
    with pytest.raises(ValueError, match=rf"other wants its own {networks}\.py, but .* one clone per process"):
        load_encoder(f"random:hub:{other}:dino")
