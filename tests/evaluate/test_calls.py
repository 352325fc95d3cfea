"""Every evaluator is a Python call that takes the encoder first, and gives the figures of its command."""

import inspect
import json
import math

import pytest
import torch
from PIL import Image

from vidssl import cli, evaluate
from vidssl.data.published.labelled import labelled_set
from vidssl.evaluate.recognition.features.extract import Thumbnails
from vidssl.evaluate.recognition.features.views import Views
from vidssl.models import ResNet, export_encoder

pytestmark = pytest.mark.usefixtures("looked_at_here")

TASKS = [name.removeprefix("evaluate ") for name in cli.COMMANDS if name.startswith("evaluate ")]


@pytest.mark.parametrize("task", [task for task in TASKS if task != "finetune"])
def test_every_task_has_a_call(task):
    parameters = inspect.signature(getattr(evaluate, task)).parameters
    assert next(iter(parameters)) == "encoder"
    assert all(one.kind is inspect.Parameter.KEYWORD_ONLY for one in list(parameters.values())[2:])
    assert parameters["out"].default is None and parameters["baselines"].default is False


def test_a_name_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(AttributeError, match="no attribute 'vip2'; it has CRW, DINO"):
        evaluate.__getattr__("vip2")


@pytest.fixture
def pictures(tmp_path):
    """Three classes of grey, four pictures each in train and two in val, laid out as ImageNet."""
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 4), ("val", 2)):
        for number, name in enumerate(("dark", "grey", "light")):
            for place in range(count):
                folder = tmp_path / "data" / split / name
                folder.mkdir(parents=True, exist_ok=True)
                value = 60 * number + 40 + int(torch.randint(20, (), generator=generator))
                Image.new("RGB", (24, 24), (value,) * 3).save(folder / f"{place}.png")
    return tmp_path / "data"


def test_knn_of_grey_pictures_is_right(pictures, tmp_path):
    extraction = evaluate.Extraction(views=Views(num_frames=1, size_px=16), cache=tmp_path / "cache")
    data = labelled_set(pictures)
    result = evaluate.knn(Thumbnails(), data, out=tmp_path / "out", extraction=extraction, neighbours=(1, 2))
    assert (result.task, len(data.test)) == ("knn", 6)
    # Cosine similarity of constant pictures is 1: what is found is in the file, whatever it is.
    written = json.loads((tmp_path / "out" / "result.json").read_text())
    for name, value in result.figures.items():
        assert written["figures"][name] == (None if math.isnan(value) else pytest.approx(value))


def test_the_call_gives_the_figures_of_the_command(pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch.manual_seed(0)
    encoder = ResNet(18, width=4).eval()
    export_encoder(encoder, tmp_path / "encoder.safetensors")
    words = ["evaluate", "knn", "--root", str(pictures), "--model", str(tmp_path / "encoder.safetensors")]
    options = [
        "--size-px",
        "32",
        "--neighbours",
        "1",
        "2",
        "--device",
        "cpu",
        "--num-workers",
        "0",
        "--no-baselines",
    ]
    assert cli.main([*words, *options, "--out", str(tmp_path / "command")]) == 0
    result = evaluate.knn(
        encoder,
        labelled_set(pictures),
        out=tmp_path / "call",
        extraction=evaluate.Extraction(views=Views(num_frames=1, stride_frames=1, size_px=32)),
        neighbours=(1, 2),
    )
    written = json.loads((tmp_path / "command" / "result.json").read_text())
    assert {name: None if math.isnan(value) else value for name, value in result.figures.items()} == written[
        "figures"
    ]


def test_a_spec_is_measured_up_to_its_last_stage_beside_its_baselines(pictures, tmp_path):
    extraction = evaluate.Extraction(views=Views(num_frames=1, size_px=32), cache=tmp_path / "cache")
    result = evaluate.knn("torchvision:resnet18", pictures, baselines=True, extraction=extraction, neighbours=(1,))
    assert result.record["model"]["architecture"]["layer"] == "layer4"
    assert list(result.baselines) == ["random weights", "raw pixels", "chance"]
    # torchvision's weights are random here as well, but drawn otherwise than ours.
    assert {one.record["model"]["name"] for one in result.baselines.values()} >= {"random:torchvision:resnet18"}
    assert result.baselines["chance"].figures["top1"] == pytest.approx(1 / 3)


def test_weights_of_an_encoder_of_ones_own_cannot_be_drawn_anew(pictures, tmp_path):
    extraction = evaluate.Extraction(views=Views(num_frames=1, size_px=16), cache=tmp_path / "cache")
    with pytest.raises(ValueError, match="the weights of a Thumbnails cannot be drawn anew"):
        evaluate.knn(Thumbnails(), pictures, baselines=True, extraction=extraction)
