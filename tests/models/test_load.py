"""Encoders by name, from files and runs, and the export that a run writes."""

import json
import logging
import random
import socket

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from vidssl.models import Encoder, ResNet, TimmConvNet, ViT, encoder_family, export_encoder, load_encoder


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    def refuse(*_):
        raise AssertionError("a test of loading reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def same_weights(one, other):
    return all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize(
    ("spec", "kind", "dim", "stride", "multiple"),
    [
        ("torchvision:resnet18", "ResNet", 256, 8, 1),
        ("torchvision:resnet50", "ResNet", 1024, 8, 1),
        ("torchvision:convnext_tiny", "TorchvisionConvNet", 384, 16, 1),
        ("timm:resnet50", "ResNet", 1024, 8, 1),
        ("timm:convnext_atto", "TimmConvNet", 160, 16, 1),
        ("timm:vit_tiny_patch16_224", "ViT", 192, 16, 16),
        ("timm:vit_small_patch14_dinov2", "ViT", 384, 14, 14),
        ("random:resnet18", "ResNet", 256, 8, 1),
        ("random:vit_tiny_patch16_224", "ViT", 192, 16, 16),
    ],
)
def test_names_work_without_options(spec, kind, dim, stride, multiple, caplog):
    with caplog.at_level(logging.WARNING):
        encoder = load_encoder(spec)
    assert (type(encoder).__name__, encoder.dim, encoder.stride, encoder.multiple) == (kind, dim, stride, multiple)
    assert ("no weights given, so they are random" in caplog.text) is not spec.startswith("random:")
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    torch.testing.assert_close(encoder.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))


def test_a_tag_brings_its_mean_and_std():
    encoder = load_encoder("timm:vit_tiny_patch16_224.augreg_in21k")
    assert encoder.mean.flatten().tolist() == encoder.std.flatten().tolist() == [0.5] * 3
    assert load_encoder("timm:vit_tiny_patch16_224", mean=(0.1, 0.2, 0.3)).mean[2].item() == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("torchvision:resnet19", {}, "torchvision has no model 'resnet19'; perhaps you meant .*resnet18"),
        (
            "timm:vit_tiny_patch16",
            {},
            "timm has no model 'vit_tiny_patch16'; perhaps you meant .*vit_tiny_patch16_224",
        ),
        ("timm:vit_tiny_patch16_224.no_such_tag", {}, "timm has no model 'vit_tiny_patch16_224.no_such_tag'"),
        ("torchvision:fcn_resnet50", {}, "torchvision has no model 'fcn_resnet50'"),
        ("random:resnet19", {}, "no model 'resnet19'"),
        (
            "zoo:resnet18",
            {},
            "cannot load an encoder from 'zoo:resnet18'.*timm:NAME, torchvision:NAME, hub:FOLDER:ENTRY",
        ),
        ("runs/absent", {}, "cannot load an encoder from 'runs/absent'"),
        ("torchvision:resnet18", {"strides": 8}, "no option strides; its options: stride, layer, padding_mode"),
        ("random:resnet18", {"weights": "x.pth"}, "asks for random weights"),
        ("torchvision:resnet18", {"weights": "absent.pth"}, "weights file absent.pth does not exist"),
    ],
)
def test_mistakes_are_named(spec, options, message):
    with pytest.raises(ValueError, match=message):
        load_encoder(spec, **options)


def test_random_weights_follow_the_seed_and_leave_the_random_state():
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    first, again, other = (load_encoder("random:resnet18", seed=seed) for seed in (1, 1, 2))
    assert same_weights(first, again)
    assert not torch.equal(first.conv1.weight, other.conv1.weight)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002
    assert random.getstate() == states[2]


@pytest.mark.parametrize(
    "build",
    [
        lambda: ResNet(18, color="gray", padding_mode="reflect", width=16, mean=(0.4,), std=(0.3,)),
        lambda: ViT("test_vit", pos_embed="dino", img_size=64, mean=(0.1, 0.2, 0.3)),
        lambda: TimmConvNet("convnext_atto", stride=8),
    ],
)
def test_export_and_load_are_bit_equal(build, tmp_path):
    encoder = build().eval()
    run = tmp_path / "run"
    export_encoder(encoder, run / "encoder.safetensors")
    assert sorted(path.name for path in run.iterdir()) == ["encoder.json", "encoder.safetensors"]
    description = json.loads((run / "encoder.json").read_text())
    assert description["stride"] == encoder.stride
    assert description["dim"] == encoder.dim
    clip = torch.rand(1, 2, 3, 32, 48)
    for spec in (run, str(run), run / "encoder.safetensors"):
        loaded = load_encoder(spec)
        assert same_weights(encoder, loaded)
        assert torch.equal(encoder.mean, loaded.mean)
        assert torch.equal(encoder.std, loaded.std)
        assert loaded.architecture == encoder.architecture
        assert torch.equal(encoder.features(clip), loaded.features(clip))
        assert encoder_family(spec) == "exported"
    untrained = load_encoder(f"random:{run}", seed=5)
    assert untrained.architecture == encoder.architecture
    assert not same_weights(encoder, untrained)


def test_a_run_can_be_loaded_with_another_stride(tmp_path):
    encoder = ResNet(18, stride=16, width=8).eval()
    export_encoder(encoder, tmp_path / "encoder.safetensors")
    fine = load_encoder(tmp_path, stride=8)
    assert fine.stride == 8
    assert same_weights(encoder, fine)
    with pytest.raises(ValueError, match="brings its own weights"):
        load_encoder(tmp_path, weights="x.pth")


def test_damaged_exports_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"holds no encoder\.safetensors"):
        load_encoder(tmp_path)
    path = tmp_path / "encoder.safetensors"
    export_encoder(ResNet(18, width=8), path)
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        export_encoder(ResNet(18, width=8), tmp_path / "encoder.pth")
    path.with_suffix(".json").write_text('{"mean": [0.5]}')
    with pytest.raises(ValueError, match=r"encoder\.json does not describe an encoder"):
        load_encoder(tmp_path)
    path.with_suffix(".json").unlink()
    with pytest.raises(ValueError, match=r"encoder\.json is missing"):
        load_encoder(tmp_path)


def test_only_what_can_be_built_again_is_exported(tmp_path):
    with pytest.raises(ValueError, match="names no family that load_encoder can build"):
        export_encoder(Encoder(dim=1, stride=1, architecture={}), tmp_path / "encoder.safetensors")


@pytest.fixture(scope="module")
def resnet18():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return torchvision.models.resnet18(weights=None).state_dict()


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": prefixed(state, "module."), "epoch": 3},
        lambda state: {"model": prefixed(state, "encoder.model.")},
        lambda state: {"teacher": prefixed(state, "module.backbone.") | {"module.head.mlp.weight": torch.ones(2)}},
        lambda state: {"student": prefixed(state, "backbone.") | {"predictor.0.weight": torch.ones(2)}},
        lambda state: {name: value for name, value in state.items() if "num_batches_tracked" not in name},
    ],
)
def test_weights_are_found_inside_checkpoints(wrap, resnet18, tmp_path, caplog):
    torch.save(wrap(resnet18), tmp_path / "weights.pth")
    with caplog.at_level(logging.INFO):
        encoder = load_encoder("torchvision:resnet18", weights=tmp_path / "weights.pth")
    state = encoder.state_dict()
    assert all(torch.equal(value, resnet18[name]) for name, value in state.items() if name.endswith("weight"))
    assert torch.equal(state["bn1.running_var"], resnet18["bn1.running_var"])
    assert "layer4.1.bn2.weight" in caplog.text
    assert "fc.weight" in caplog.text


def test_safetensors_weights_and_vit_prefixes(tmp_path):
    encoder = ViT("test_vit")
    save_file(prefixed(encoder.net.state_dict(), "backbone."), tmp_path / "weights.safetensors")
    assert same_weights(encoder, load_encoder("timm:test_vit", weights=tmp_path / "weights.safetensors"))


def test_weights_that_do_not_fit_are_refused(resnet18, tmp_path):
    path = tmp_path / "weights.pth"

    def refused(state, message):
        torch.save(state, path)
        with pytest.raises(ValueError, match=message):
            load_encoder("torchvision:resnet18", weights=path)

    without = {name: value for name, value in resnet18.items() if name != "layer2.0.conv1.weight"}
    refused(without, r"missing \(1\): layer2.0.conv1.weight")
    refused(torchvision.models.resnet34(weights=None).state_dict(), r"unexpected \(\d+\): layer1.2.bn1.bias")
    refused(
        {**resnet18, "conv1.weight": torch.ones(64, 1, 7, 7)}, r"conv1.weight is \(64, 1, 7, 7\), expected \(64, 3"
    )
    refused({**resnet18, "module.bn1.weight": torch.ones(64)}, "holds bn1.weight twice")
    refused({"epoch": 3}, "holds no state dict")
    refused([1, 2], "holds no state dict")
    torch.save({"model": resnet18, "args": random.Random(0)}, path)
    with pytest.raises(ValueError, match=r"run code of whoever wrote it.*save its state dict alone"):
        load_encoder("torchvision:resnet18", weights=path)
    for content in (b"", b"PK\x03\x04 cut short", b"no checkpoint at all"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"weights\.pth.*damaged"):
            load_encoder("torchvision:resnet18", weights=path)
    (tmp_path / "weights.safetensors").write_bytes(b"short")
    with pytest.raises(ValueError, match="damaged or no safetensors"):
        load_encoder("torchvision:resnet18", weights=tmp_path / "weights.safetensors")


def test_an_export_replaces_the_old_one_whole(tmp_path):
    path = tmp_path / "encoder.safetensors"
    export_encoder(ResNet(18, width=8), path)
    second = ResNet(18, width=16)
    export_encoder(second, path)
    assert torch.equal(load_file(path)["conv1.weight"], second.conv1.weight)
    assert load_encoder(tmp_path).dim == 64
    assert sorted(p.name for p in tmp_path.iterdir()) == ["encoder.json", "encoder.safetensors"]


@pytest.mark.parametrize(("value", "name"), [(float("nan"), "conv1.weight"), (float("inf"), "bn1.running_var")])
def test_weights_that_are_no_numbers_are_refused_where_encoders_are_loaded(tmp_path, value, name):
    encoder = load_encoder("random:resnet18", width=8)
    encoder.state_dict()[name].flatten()[3] = value
    export_encoder(encoder, tmp_path / "encoder.safetensors")
    message = (
        rf"{tmp_path} has weights that are NaN or infinite, in 1 of \d+ tensors; the first is {name}, 1 of \d+ val"
    )
    with pytest.raises(ValueError, match=message):
        load_encoder(tmp_path)
    load_encoder(f"random:{tmp_path}")  # the architecture alone is fine


def test_files_beside_a_name_are_looked_into_as_well(resnet18, tmp_path):
    broken = {name: value.clone() for name, value in resnet18.items()}
    broken["layer1.0.conv1.weight"][:] = float("nan")
    torch.save(broken, tmp_path / "a.pth")
    with pytest.raises(
        ValueError, match=r"torchvision:resnet18 with .*a\.pth has weights .* is layer1\.0\.conv1\.weight"
    ):
        load_encoder("torchvision:resnet18", weights=tmp_path / "a.pth")
