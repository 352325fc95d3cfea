"""Continuing from released weights: who takes them, what they are held to, and what the run remembers."""

import json
import logging
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import torchvision
from tiny_training import assert_equal
from torch import nn

from vidssl import Method, Run, fit, init_from, load_encoder, optim
from vidssl.augment import RandomResizedCrop
from vidssl.cli import main
from vidssl.data import ArrayDataset
from vidssl.methods import BYOL, DINO, VJEPA, MoCo, SimCLR, Sum
from vidssl.methods.image.dino import DINOHead
from vidssl.models import ConvNet, ResNet, VideoViT, ViT, export_encoder
from vidssl.models.video_vit import TokenPredictor

VIEW = RandomResizedCrop(32)
CLIP = torch.rand(2, 3, 3, 64, 64, generator=torch.Generator().manual_seed(5))


def shaken(encoder, seed: int = 1):
    """Give every weight and statistic of an encoder a value of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in encoder.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.02 * torch.rand(tensor.shape, generator=generator))
    return encoder.eval()


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """torchvision's own ResNet-18, classifier included, and the file of its state dict."""
    path = tmp_path_factory.mktemp("released") / "resnet18.pth"
    network = shaken(torchvision.models.resnet18(weights=None))
    torch.save(network.state_dict(), path)
    return network, path


def byol(encoder) -> BYOL:
    return BYOL(encoder, views=(VIEW, VIEW), hidden_dim=4, out_dim=2)


def simclr(encoder) -> SimCLR:
    return SimCLR(encoder, view=VIEW, projector=nn.Linear(encoder.dim, 2))


def assert_same_features(first, second) -> None:
    with torch.no_grad():
        assert torch.allclose(first.eval().features(CLIP), second.eval().features(CLIP), atol=1e-5, rtol=1e-5)


def exported(encoder, folder: Path) -> Path:
    export_encoder(encoder, folder / "encoder.safetensors")
    return folder


# What the encoder makes of a clip is what its source made of it.


@torch.no_grad()
def test_file_of_torchvision(released, caplog):
    """Oracle: torchvision's network itself, on pixels normalised by ImageNet's mean and deviation."""
    network, path = released
    # Its recipe normalises by nothing, which would be wrong for these weights.
    method = simclr(ResNet(18, stride=32, layer="layer4", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
    before = method.projector.weight.clone()
    with caplog.at_level(logging.INFO):
        start = init_from(method, "torchvision:resnet18", weights=path)
    frames = torchvision.transforms.functional.normalize(
        CLIP.flatten(0, 1), mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]
    )
    whole = nn.Sequential(*list(network.children())[:-2])(frames)
    assert torch.allclose(method.encoder.eval().features(CLIP).flatten(0, 1), whole, atol=1e-5, rtol=1e-5)
    assert (start.spec, start.weights, start.modules) == ("torchvision:resnet18", str(path), ["encoder"])
    assert start.mean == pytest.approx([0.485, 0.456, 0.406]) and torch.equal(method.projector.weight, before)
    assert "left out 2 tensors that the encoder does not have: fc.weight, fc.bias" in caplog.text
    assert all(parameter.requires_grad for parameter in method.encoder.parameters())


def test_stride_and_padding_are_the_recipes_own(released):
    _, path = released
    own = {"stride": 8, "layer": "layer4", "padding_mode": "reflect"}
    method = simclr(ResNet(18, **own))
    init_from(method, "torchvision:resnet18", weights=path)
    assert_same_features(method.encoder, load_encoder("torchvision:resnet18", weights=path, **own))


def test_export_and_encoder_of_ones_own(tmp_path):
    """An export of a shorter stride, and the object it was written from; later layers are passed over and said."""
    source = shaken(ResNet(18, stride=8, layer="layer4", width=4, mean=(0.1, 0.2, 0.3)))
    folder = exported(source, tmp_path)
    for given in (folder, str(folder / "encoder.safetensors"), source):
        method = simclr(ResNet(18, stride=16, layer="layer3", width=4))
        start = init_from(method, given)
        assert_same_features(method.encoder, load_encoder(folder, stride=16, layer="layer3"))
        assert {name.partition(".")[0] for name in start.left_out} == {"layer4"}
    starts = [
        init_from(simclr(ResNet(18, stride=8, layer="layer4", width=4)), given) for given in (folder, source)
    ]
    assert starts[0].sha256 == starts[1].sha256


def test_names_of_hub_repositories(tmp_path, monkeypatch):
    """A network of a clone and timm's of the same names and shapes, which make the same features."""
    (tmp_path / "hubconf.py").write_text(
        "from timm import create_model\n\n"
        "def net(pretrained=False):\n"
        "    net = create_model('test_vit', num_classes=3)\n"
        "    net.patch_embed.strict_img_size = False\n"
        "    net.get_intermediate_layers = lambda frames, n: [net.forward_features(frames)]\n"
        "    return net\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec, path = f"hub:{tmp_path}:net", tmp_path / "net.pth"
    torch.save(shaken(load_encoder(spec)).net.state_dict(), path)
    method = simclr(ViT("test_vit"))
    start = init_from(method, spec, weights=path)
    assert start.left_out == ["head.weight", "head.bias"]
    clip = torch.rand(1, 2, 3, 160, 160)
    assert torch.allclose(method.encoder.eval().features(clip), load_encoder(spec, weights=path).features(clip))


@torch.no_grad()
def test_videomae_of_transformers(tmp_path):
    """The released VideoMAE is ours under other names, with the positions of its recipe and no others."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96}
    clips = {"image_size": 16, "patch_size": 4, "num_frames": 4, "tubelet_size": 2, "use_mean_pooling": False}
    model = transformers.VideoMAEModel(transformers.VideoMAEConfig(**sizes, **clips))
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path)

    def method(positions: str, *, depth: int = 2) -> VJEPA:
        encoder = VideoViT(dim=24, depth=depth, num_heads=2, patch_px=4, positions=positions)
        return VJEPA(encoder, predictor=TokenPredictor(24, 24, width=12, depth=1, num_heads=1), view=VIEW)

    ours = method("order")
    start = init_from(ours, f"hf:{tmp_path}")
    assert start.modules == ["student", "encoder"] and start.mean == [0.5, 0.5, 0.5]
    clip = torch.rand(2, 4, 3, 16, 16)
    pixels = (clip - 0.5) / 0.5
    expected = model.eval()(pixels).last_hidden_state.reshape(2, 2, 4, 4, 24).permute(0, 1, 4, 2, 3)
    assert torch.allclose(ours.encoder.eval().features(clip), expected, atol=1e-4)
    assert "the features of a clip differ, by" in refused(method("space_time"), f"hf:{tmp_path}")
    assert "unexpected (12): blocks.1.attn.proj.bias" in refused(method("order", depth=1), f"hf:{tmp_path}")


# Student and teacher.


def dino(encoder) -> DINO:
    head = DINOHead(encoder.dim, num_prototypes=3, hidden_dim=4, bottleneck_dim=2)
    return DINO(encoder, global_views=(VIEW, VIEW), local_view=VIEW, num_local_views=0, head=head)


def vjepa(encoder) -> VJEPA:
    return VJEPA(encoder, predictor=TokenPredictor(12, 12, width=12, depth=1, num_heads=1), view=VIEW)


def both(encoder) -> Sum:
    return Sum({"one": (simclr(encoder), 1.0), "two": (byol(encoder), 0.5)})


def convnet(**options) -> ConvNet:
    return ConvNet(widths=(4, 8), strides=(2, 2), **options)


@pytest.mark.parametrize(
    ("build", "network", "modules"),
    [
        (byol, convnet, ["encoder", "teacher.0"]),
        (partial(MoCo, view=VIEW, num_keys=4, out_dim=2), convnet, ["encoder", "teacher.0"]),
        (dino, convnet, ["student.0", "teacher.0"]),
        (vjepa, partial(VideoViT, dim=12, depth=1, num_heads=1), ["student", "encoder"]),
        (both, convnet, ["tasks.one.encoder", "tasks.two.teacher.0"]),
    ],
)
def test_student_and_teacher_both_start_from_it(build, network, modules):
    clip = torch.rand(1, 2, 3, 32, 32)
    source = shaken(network(std=(0.3, 0.3, 0.4)))
    method = build(network())
    assert init_from(method, source).modules == modules
    with torch.no_grad():
        for name in modules:
            taken = method.get_submodule(name).eval()
            assert torch.allclose(taken.features(clip), source.features(clip), atol=1e-6)
    trained = [parameter.requires_grad for parameter in method.get_submodule(modules[-1]).parameters()]
    assert not any(trained)  # a teacher stays without gradients


# What does not fit is refused by name, and nothing is changed.


def refused(method, source, **options) -> str:
    before = {name: value.clone() for name, value in method.state_dict().items()}
    with pytest.raises(ValueError) as raised:
        init_from(method, source, **options)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    return str(raised.value)


def test_shapes_missing_and_unexpected_are_named(released):
    _, path = released
    text = refused(simclr(ResNet(18, stride=32, layer="layer4", width=8)), "torchvision:resnet18", weights=path)
    assert f"torchvision:resnet18 with {path} does not fit the ResNet of SimCLR (width 64 there, 8 here)" in text
    assert "conv1.weight is (64, 3, 7, 7), expected (8, 3, 7, 7)" in text

    text = refused(simclr(ResNet(18, stride=32, layer="layer4")), ResNet(18, stride=8, layer="layer3"))
    assert "missing (25): layer4.0.bn1.bias" in text
    assert "What fits it: the encoder of a run of the same recipe and options, or torchvision:resnet18" in text

    text = refused(simclr(ResNet(34, width=4)), ResNet(50, width=4))
    assert "depth 50 there, 34 here" in text and "unexpected" in text and "layer1.0.bn3.bias" in text

    text = refused(simclr(ConvNet(color="gray")), ConvNet())
    assert (
        "(color rgb there, gray here)" in text and "net.0.weight is (20, 3, 3, 3), expected (20, 1, 3, 3)" in text
    )

    text = refused(simclr(ConvNet()), ResNet(18, width=4))
    assert "family resnet there, convnet here" in text


def test_tensors_that_fit_another_network():
    """Heads of attention and strides of a plain network leave no trace in the weights, the features tell."""
    text = refused(vjepa(VideoViT(dim=12, depth=1, num_heads=1)), VideoViT(dim=12, depth=1, num_heads=3))
    assert "num_heads 3 there, 1 here" in text and "the features of a clip differ, by" in text
    text = refused(simclr(ConvNet(widths=(2, 2), strides=(1, 2))), ConvNet(widths=(2, 2), strides=(2, 2)))
    assert "the features of a clip are (1, 4, 2, 16, 16), expected (1, 4, 2, 32, 32)" in text


def test_the_same_network_by_another_name(caplog):
    """timm's ViT and DeiT are one network."""
    source = shaken(ViT("deit_tiny_patch16_224"))
    method = simclr(ViT("vit_tiny_patch16_224", pos_embed="dino"))
    init_from(method, source)
    clip = torch.rand(1, 1, 3, 224, 224)
    with torch.no_grad():
        assert torch.allclose(method.encoder.eval().features(clip), source.features(clip), atol=1e-5)


@pytest.mark.parametrize(
    ("source", "options", "text"),
    [
        ("torchvision:resnet18", {}, "names a network and not its weights, and nothing is downloaded"),
        ("random:resnet18", {}, "has random weights, and every run starts with such"),
        ("torchvision:resnet18", {"weights": "absent.pth"}, "weights file absent.pth does not exist"),
        (convnet(), {"weights": "some.pth"}, "an encoder brings its own weights"),
        ("runs/absent", {}, "cannot load an encoder from 'runs/absent'"),
    ],
)
def test_sources_without_weights(source, options, text):
    assert text in refused(simclr(convnet()), source, **options)


def test_weights_that_are_no_numbers():
    source = convnet()
    with torch.no_grad():
        source.net[0].weight[0, 0] = float("nan")
    assert "NaN or infinite" in refused(simclr(convnet()), source)


def test_an_encoder_that_sees_no_frames():
    class Text(Method):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Linear(2, 2)

    assert "Text trains a Linear, which encodes no frames" in refused(Text(), convnet())


# Runs.

CONFIG = '''"""Noise in memory, for tests."""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.methods import BYOL
from vidssl.models import ResNet


def run(*, steps: int = 4, width: int = 4) -> Run:
    """Train on noise.

    Args:
        steps: Number of optimizer steps.
        width: Of the ResNet.
    """
    view = RandomResizedCrop(32)
    encoder = ResNet(18, stride=32, layer="layer4", width=width)
    method = BYOL(encoder, views=(view, view), hidden_dim=4, out_dim=2)
    video = torch.randint(256, (8, 1, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Run(
        method=method,
        dataset=ArrayDataset(video, clips=method.clips),
        optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        learning_rate=optim.cosine(0.1),
        steps=steps,
        batch_size=4,
    )
'''


@pytest.fixture
def config(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "noise_config.py").write_text(CONFIG)
    yield tmp_path / "noise_config.py"
    sys.modules.pop("noise_config", None)


@pytest.fixture
def source(tmp_path):
    """An exported run whose mean and deviation are not those that the recipe would take."""
    colors = {"mean": (0.4, 0.4, 0.4), "std": (0.3, 0.2, 0.1)}
    return exported(shaken(ResNet(18, stride=8, layer="layer4", width=4, **colors)), tmp_path / "old")


def pretrain(config: Path, *options: str) -> int:
    return main(["pretrain", str(config), "--device", "cpu", "--num-workers", "0", "--save-every", "2", *options])


def said(capsys) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_no_steps_export_the_source(released, tmp_path):
    """What a run has learned before its first step: what its source knew."""
    old = exported(shaken(ResNet(18, stride=8, layer="layer4", width=4, mean=(0.4, 0.4, 0.4))), tmp_path / "old")
    options = {"stride": 32, "layer": "layer4"}
    for spec, weights, width in (("torchvision:resnet18", released[1], 64), (old, None, 4)):
        method = byol(ResNet(18, width=width, **options))
        init_from(method, spec, weights=weights)
        run = Run(
            method=method,
            dataset=ArrayDataset(torch.zeros(2, 1, 3, 8, 8, dtype=torch.uint8), clips=method.clips),
            optimizer=partial(torch.optim.SGD, lr=0.1),
            learning_rate=optim.constant(0.1),
            steps=0,
            batch_size=2,
        )
        fit(run, out=tmp_path / f"run{width}")
        assert_same_features(
            load_encoder(tmp_path / f"run{width}"), load_encoder(spec, weights=weights, **options)
        )


def test_a_run_goes_on_bit_by_bit_without_its_source(config, source, capsys):
    assert pretrain(config, "--out", "whole", "--init-from", "old") == 0
    assert "encoder and teacher.0 of BYOL from old, mean [0.4" in said(capsys)
    shutil.copytree("whole", "half")
    shutil.rmtree("half/checkpoints/step_00000004")
    shutil.rmtree("old")
    assert pretrain(config, "--out", "half", "--init-from", "old") == 0
    assert "continuing from half/checkpoints/step_00000002" in said(capsys)
    for name in ("encoder.safetensors", "encoder.json"):
        assert Path("half", name).read_bytes() == Path("whole", name).read_bytes()
    whole, half = (
        torch.load(Path(run, "checkpoints/step_00000004/state.pt"), weights_only=True) for run in ("whole", "half")
    )
    assert_equal(half["method"], whole["method"])
    assert_equal(half["optimizer"], whole["optimizer"])
    assert json.loads(Path("half/encoder.json").read_text())["std"] == pytest.approx([0.3, 0.2, 0.1])

    # Without it, or from another one, it is another run.
    assert pretrain(config, "--out", "half") == 2
    assert "init_from: old there, None now" in said(capsys)


def test_the_record_says_from_what(config, source):
    assert pretrain(config, "--out", "run", "--init-from", "old", "--steps", "1") == 0
    record = json.loads(Path("run/run.json").read_text())
    assert record["options"]["init_from"] == "old"
    started = record["initialized_from"]
    assert started["spec"] == "old" and started["modules"] == ["encoder", "teacher.0"]
    method = byol(ResNet(18, stride=32, layer="layer4", width=4))
    assert started["sha256"] == init_from(method, "old").sha256
    assert pretrain(config, "--out", "other", "--steps", "1") == 0
    assert json.loads(Path("other/run.json").read_text())["initialized_from"] is None


def test_what_would_fit_is_said(config, source, capsys):
    assert pretrain(config, "--out", "run", "--init-from", "old", "--width", "8") == 2
    text = said(capsys)
    assert "width 4 there, 8 here" in text and f"or --width 4 of {config}" in text
    assert not Path("run/run.json").exists()
    assert pretrain(config, "--out", "run", "--weights", "old/encoder.safetensors") == 2
    assert "is for --init-from, which is not given" in said(capsys)
