"""Values of an encoder.json that cannot be: one line, whatever stands there."""

import json
from importlib.metadata import version

import pytest
import torch

from vidssl.models import ConvNet, export_encoder, load_encoder


def load(tmp_path, **changes):
    torch.manual_seed(0)
    export_encoder(ConvNet(widths=(4,), strides=(2,)), tmp_path / "e.safetensors")
    description = json.loads((tmp_path / "e.json").read_text())
    (tmp_path / "e.json").write_text(json.dumps(description | changes))
    return load_encoder(tmp_path / "e.safetensors")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("mean", [float("nan")] * 3),
        ("mean", [0.5, float("inf"), 0.5]),
        ("std", [float("inf")] * 3),
        ("std", [0.5, 0.0, 0.5]),
        ("std", [-1.0]),
    ],
)
def test_mean_and_std_that_make_features_meaningless_are_refused(tmp_path, name, values) -> None:
    with pytest.raises(ValueError, match=rf"{name} .*of an encoder; expected numbers, std above 0"):
        load(tmp_path, **{name: values})


@pytest.mark.parametrize("values", [[0], [-1], [2.0], [True]])
def test_strides_that_cannot_be_are_refused(tmp_path, values) -> None:
    architecture = ConvNet(widths=(4,), strides=(2,)).architecture
    with pytest.raises(ValueError, match=r"strides .* must be whole numbers above 0"):
        load(tmp_path, architecture=architecture | {"strides": values})


@pytest.mark.skipif(version("transformers")[0] == "4", reason="transformers 4 takes values of any type")
def test_configs_of_transformers_with_values_of_another_type_are_one_line(tmp_path) -> None:
    pytest.importorskip("transformers")
    config = {"model_type": "vit", "image_size": "big"}
    with pytest.raises(ValueError, match=r"config describes no model: .*image_size"):
        load(tmp_path, architecture={"family": "hf", "config": config})
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json describes no model: .*image_size"):
        load_encoder(f"hf:{tmp_path}")
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"config\.json is nested more than 64 deep"):
        load_encoder(f"hf:{tmp_path}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"image_mean": 5, "image_std": 5}', "image_mean is 5, expected a list"),
        ('{"image_mean": ["a"], "image_std": [1.0]}', r'image_mean\[0\] is "a", expected a number'),
        ('{"video_processor": [1]}', r"holds \[1\] where settings of a processor belong"),
    ],
)
def test_preprocessors_of_other_types_are_one_line(tmp_path, text, message) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(ValueError, match=rf"preprocessor_config\.json .*{message}"):
        load_encoder(f"hf:{tmp_path}")
