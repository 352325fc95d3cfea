"""Files that strangers wrote: they choose no code, reach nothing, and what is wrong with them is one line."""

import contextlib
import json
import os
import socket
from pathlib import Path

import pytest
import torch
from models.adapters.test_hub import write_clone
from report.test_page import write_run

from vidssl.cli import main
from vidssl.data.bad_samples import BadSamples
from vidssl.files import own_file
from vidssl.json_files import MAX_DEPTH, mismatch, parse_json, read_json
from vidssl.models import ConvNet, ResNet, TimmConvNet, export_encoder, load_encoder
from vidssl.report.finding import find
from vidssl.report.page import write_report
from vidssl.train import checkpoint

pytestmark = pytest.mark.usefixtures("looked_at_here")

DEEP = "[" * 200_000 + "]" * 200_000


@pytest.fixture
def no_way_out(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What tried to reach the network or to load code of a hub."""
    tried: list[str] = []

    def refuse(*values, **options):
        tried.append(repr(values))
        raise OSError("reached out")

    for place, name in (
        (socket, "getaddrinfo"),
        (torch.hub, "load"),
        (torch.hub, "load_state_dict_from_url"),
        (socket.socket, "connect"),
    ):
        monkeypatch.setattr(place, name, refuse)
    return tried


def described(run: Path, architecture: dict) -> Path:
    """An exported encoder whose json says something else."""
    export_encoder(ConvNet(widths=(2,), strides=(2,)), run / "encoder.safetensors")
    content = json.loads((run / "encoder.json").read_text())
    (run / "encoder.json").write_text(json.dumps({**content, "architecture": architecture}))
    return run


# -- what a description may build


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        ({"family": "hub", "folder": "{clone}", "entry": "dino"}, "--model hub:FOLDER:ENTRY --weights"),
        ({"family": "vit", "name": "hf-hub:somebody/model"}, "timm has no model 'hf-hub:somebody/model'"),
        ({"family": "vit", "name": "hf_hub:somebody/model"}, "timm has no model"),
        ({"family": "vit", "name": "local-dir:{clone}"}, "timm has no model"),
        ({"family": "timm_conv", "name": "hf-hub:somebody/model"}, "timm has no model"),
        ({"family": "timm_conv", "name": "local-dir:{clone}"}, "timm has no model"),
        ({"family": "timm_conv", "name": "{clone}/net"}, "timm has no model"),
        ({"family": "timm_conv", "name": "resnet10t.hf-hub:x"}, "timm has no model"),
        ({"family": "timm_conv", "name": ["resnet10t"]}, "name is"),
        ({"family": "timm_conv"}, "name is None"),
        ({"family": "torchvision_conv", "name": "fasterrcnn_resnet50_fpn"}, "torchvision has no model"),
        ({"family": "torchvision_vit", "name": "../vit_b_16"}, "torchvision has no model"),
        ({"family": "torchvision_video", "name": "resnet18"}, "not torchvision_video"),
        ({"family": "hf", "config": {"model_type": "{clone}"}}, "are not handled"),
        ({"family": "hf", "config": [1]}, "config is no object"),
        ({"family": "os.system"}, "describes the family 'os.system'"),
        ({"family": ["resnet"]}, "architecture.family is a list"),
        ({"family": "resnet", "depth": "18"}, "no resnet can be built"),
        ({"family": "resnet", "depth": 18, "width": -3}, "no resnet can be built"),
        ({"family": "resnet", "depth": 18, "width": None}, "no resnet can be built"),
        ({"family": "convnet", "widths": 3, "strides": {}}, "no convnet can be built"),
        ({"family": "resnet", "depth": 18, "shell": "sh"}, "has no option shell"),
    ],
)
def test_a_description_chooses_no_code_and_reaches_nothing(tmp_path, no_way_out, architecture, said):
    clone = write_clone(tmp_path / "clone")
    filled = json.loads(json.dumps(architecture).replace("{clone}", str(clone)))
    run = described(tmp_path / "run", filled)
    for spec in (str(run), f"random:{run}", str(run / "encoder.safetensors")):
        with pytest.raises(ValueError, match=r"run") as caught:
            load_encoder(spec)
        assert said in str(caught.value) and "\n" not in str(caught.value)
    assert no_way_out == []


def test_a_config_of_transformers_names_no_code_of_others(tmp_path, no_way_out, caplog):
    pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = {"model_type": "vit", "image_size": 32, "patch_size": 16, **sizes}
    evil = {
        "auto_map": {"AutoModel": "somebody/repository--model.Model"},
        "attn_implementation": "somebody/kernels",
        "_attn_implementation": "somebody/kernels",
        "_name_or_path": "somebody/repository",
    }
    source = described(tmp_path / "plain", {"family": "hf", "config": config})
    with pytest.raises(ValueError, match="does not fit"):
        load_encoder(source)
    run = described(tmp_path / "run", {"family": "hf", "config": config | evil})
    with caplog.at_level("INFO"):
        assert load_encoder(f"random:{run}").dim == 8
    assert "_attn_implementation, _name_or_path, attn_implementation, auto_map" in caplog.text
    assert no_way_out == []


def test_options_name_no_other_network(no_way_out):
    for options in ({"name": "hf-hub:somebody/model"}, {"family": "hub"}, {"folder": "x", "entry": "y"}):
        with pytest.raises(ValueError, match=", ".join(options)):
            load_encoder("timm:convnext_atto", **options)
    assert no_way_out == []


def test_an_exported_hub_network_loads_as_its_export_says(tmp_path):
    clone = write_clone(tmp_path / "clone")
    source = load_encoder(f"random:hub:{clone}:dino", seed=1, mean=(0.5, 0.5, 0.25))
    export_encoder(source, tmp_path / "run" / "encoder.safetensors")
    said = json.loads((tmp_path / "run" / "encoder.json").read_text())["load"]
    weights = tmp_path / "run" / "encoder.safetensors"
    assert said.startswith(
        f"--model hub:FOLDER:ENTRY --weights {weights} --encoder-options 'mean=(0.5,0.5,0.25)' "
    )
    assert f"FOLDER '{clone}' and ENTRY 'dino'" in said
    with pytest.raises(
        ValueError, match=r"encoder\.json describes a network that code .* --weights .*encoder\.safe"
    ):
        load_encoder(tmp_path / "run")
    loaded = load_encoder(f"hub:{clone}:dino", weights=weights, mean=(0.5, 0.5, 0.25))
    clip = torch.rand(1, 1, 3, 32, 32)
    assert torch.equal(loaded(clip), source.eval()(clip))


def test_exports_of_every_built_in_family_load(tmp_path):
    for number, encoder in enumerate((ResNet(18, width=4), ConvNet(), TimmConvNet("convnext_atto"))):
        path = tmp_path / f"{number}.safetensors"
        export_encoder(encoder, path)
        assert load_encoder(path).architecture == encoder.architecture


# -- json


def test_json_is_held_to_its_type():
    said = {
        "[1, 2": "is no JSON",
        "\udcff": "is no JSON",
        "9" * 5000: "is no JSON",
        DEEP: f"nested more than {MAX_DEPTH} deep",
        '{"a":' * 200_000: "nested more than",
        "[" * 100 + "]" * 100: "nested more than",
        "[]": "it is a list, expected an object",
        "null": "it is null, expected an object",
    }
    for text, message in said.items():
        with pytest.raises(ValueError, match=message) as caught:
            parse_json(text, where="a.json")
        assert str(caught.value).startswith("a.json") and len(str(caught.value)) < 300
    assert parse_json("[" * 64 + "]" * 64, list, where="a.json")
    assert mismatch({"a": [1.5, True]}, dict[str, list[float]]) == "a[1] is true, expected a number"
    assert mismatch({"a": {"b": "x"}}, dict[str, dict[str, float | None]]) == (
        'a.b is "x", expected a number or null'
    )
    assert mismatch({"a": {"b": None}}, dict[str, dict[str, float | None]]) is None
    assert mismatch(2, int) is None and mismatch(2.0, int) == "it is 2.0, expected a whole number"


WRONG = ["{", DEEP, "[]", "null", "3", '"text"', "\ufeff{", '{"a": ' * 80 + "1" + "}" * 80]


def complaint(capsys, *words: str) -> str:
    """The single line with which a command refuses."""
    try:
        code = main(words)
    except SystemExit as stop:
        code = stop.code
    text = capsys.readouterr().err
    assert code == 2 and "Traceback" not in text, text[-500:]
    lines = text.strip().splitlines()
    assert lines[-1].startswith("error: ") and not any(line.startswith("error") for line in lines[:-1])
    return lines[-1]


@pytest.mark.parametrize("name", ["run.json", "encoder.json", "evaluate/x/result.json"])
def test_a_report_of_wrong_json_is_one_line(tmp_path, capsys, name):
    run = write_run(tmp_path / "run")
    (run / "evaluate" / "x").mkdir(parents=True)
    for text in WRONG:
        (run / name).write_text(text + "\n")
        said = complaint(capsys, "report", str(run))
        assert str(run / name) in said, said


def test_a_report_leaves_wrong_lines_of_metrics_out_and_names_them(tmp_path, caplog):
    run = write_run(tmp_path / "run")
    text = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text("\n".join([*WRONG, text]))
    assert main(["report", str(run)]) == 0
    damaged = [line for line in caplog.messages if "is damaged and left out" in line]
    assert [f"metrics.jsonl:{number} " in line for number, line in enumerate(damaged, 1)] == [True] * len(WRONG)
    assert all(len(line) < 400 for line in damaged)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"figures": []}, "figures is a list, expected an object"),
        ({"figures": {"J&F-Mean": "0.5"}}, 'figures.J&F-Mean is "0.5", expected a number or null'),
        ({"parts": {"a": 3}}, "parts.a is 3, expected an object"),
        ({"model": "me"}, 'model is "me", expected an object'),
        ({"model": {}}, "model.architecture, model.name, model.sha256 is missing"),
        ({"model": {"name": 5, "sha256": None, "architecture": None}}, "model.name is 5, expected a text"),
        ({"task": 3}, "task is 3, expected a text"),
        ({"date": 5}, "date is 5, expected a text or null"),
    ],
)
def test_mistyped_results_are_named(tmp_path, content, said):
    good = {
        "task": "davis",
        "figures": {},
        "parts": {},
        "model": {"name": "me", "sha256": None, "architecture": None},
    }
    path = tmp_path / "result.json"
    path.write_text(json.dumps(good))
    assert len(find(tmp_path)) == 1
    path.write_text(json.dumps(good | content))
    with pytest.raises(ValueError, match=r"result\.json is not what") as caught:
        find(tmp_path)
    assert said in str(caught.value)


def test_descriptions_and_manifests_of_wrong_json_are_one_line(tmp_path):
    export_encoder(ConvNet(widths=(2,), strides=(2,)), tmp_path / "encoder.safetensors")
    checkpoint.save(tmp_path / "checkpoints", {}, step=1)
    saved = tmp_path / "checkpoints" / "step_00000001"
    for text in [*WRONG, '{"sha256": 3}', '{"architecture": [], "mean": [], "std": []}']:
        (tmp_path / "encoder.json").write_text(text)
        (saved / "manifest.json").write_text(text)
        (tmp_path / "bad_samples.jsonl").write_text(text + "\n")
        for call, name in (
            (lambda: load_encoder(tmp_path), "encoder.json"),
            (lambda: checkpoint.check(saved), "manifest.json"),
            (lambda: BadSamples(tmp_path / "bad_samples.jsonl", first_step=1), "bad_samples.jsonl:1"),
        ):
            with pytest.raises(ValueError, match=name) as caught:
                call()
            assert "\n" not in str(caught.value)


def test_a_manifest_names_files_of_its_checkpoint_alone(tmp_path):
    path = checkpoint.save(tmp_path, {}, step=1)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["../../dev/zero"] = {"bytes": 1, "sha256": "0", "architecture": None}
    del manifest["sha256"]
    (path / "manifest.json").write_bytes(checkpoint._manifest_bytes(manifest))
    with pytest.raises(checkpoint.Damaged, match=r"names '\.\./\.\./dev/zero', which is no file of a checkpoint"):
        checkpoint.check(path)


# -- what a report embeds


@pytest.mark.parametrize("kind", ["link", "link to a folder", "pipe"])
@pytest.mark.parametrize(
    "name", ["pictures/secret_00000100.png", "run.json", "config.py", "encoder.json", "metrics.jsonl"]
)
def test_reports_embed_regular_files_of_the_run_alone(tmp_path, name, kind):
    run = write_run(tmp_path / "run")
    path, outside = run / name, tmp_path / "outside" / Path(name).name
    outside.parent.mkdir()
    with contextlib.suppress(FileNotFoundError):
        path.rename(outside)
    if not outside.exists():
        outside.write_text("secret")
    if kind == "link":
        path.symlink_to(outside)
    elif kind == "pipe":
        os.mkfifo(path)
    elif "/" in name:
        for file in path.parent.iterdir():
            file.rename(outside.parent / file.name)
        path.parent.rmdir()
        path.parent.symlink_to(outside.parent)
    else:
        return  # it lies in the run folder itself, which may be a link
    if kind == "pipe" and name == "run.json":
        return  # said to be no run folder
    with pytest.raises(ValueError, match=r"is a link|is no regular file"):
        write_report(run)
    assert not (run / "report.html").exists()


def test_a_run_folder_that_is_a_link_is_one(tmp_path):
    write_run(tmp_path / "elsewhere")
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    assert write_report(tmp_path / "run").is_file()


def test_files_of_a_folder(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("")
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a" / "b")
    folder = tmp_path / "a"
    assert own_file(folder / "b" / "c", folder=folder) == folder / "b" / "c"
    for path in (
        folder / "b" / ".." / "b" / "c",
        tmp_path / "a2",
        folder / "loop" / "c",
        folder / ".." / "a" / "b",
    ):
        with pytest.raises(ValueError, match=r"leads out of .* or is a link"):
            own_file(path, folder=folder)
    with pytest.raises(ValueError, match="is no regular file"):
        own_file(folder / "b", folder=folder)
    with pytest.raises(FileNotFoundError):
        own_file(folder / "absent", folder=folder)


def test_results_and_sheets_are_no_links(tmp_path):
    good = {
        "task": "davis",
        "figures": {},
        "parts": {},
        "model": {"name": "me", "sha256": None, "architecture": None},
    }
    (tmp_path / "outside.json").write_text(json.dumps(good))
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "result.json").symlink_to(tmp_path / "outside.json")
    with pytest.raises(ValueError, match=r"result\.json leads out of"):
        find(tmp_path / "e")


def test_read_json_reads(tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}
