"""The command line: exit codes, messages, help, and what each command leaves behind."""

import dataclasses
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path

import numpy as np
import processes
import pytest
import torch
from conftest import moving_square, write_video
from PIL import Image
from test_files import holder
from tiny_davis import write_davis

from vidssl.cli import COMMANDS, _LogHandler, command, main
from vidssl.commands._begun import _refuse_another_run
from vidssl.commands.pretrain import FitOptions, _record
from vidssl.config import load as load_config
from vidssl.models import ResNet, export_encoder

pytestmark = pytest.mark.usefixtures("looked_at_here")

ROOT = Path(__file__).resolve().parents[1]
CONFIG = '''"""A small network on small frames, for tests."""

from functools import partial

import torch
from beside import WIDTH

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import VideoDataset, scan
from vidssl.data.clips import frame_tuple
from vidssl.methods import VideoColorization
from vidssl.models import ResNet
from vidssl.models.heads import FrameHead


def run(root: str, *, steps: int = 2, lr: float = 1e-3) -> Run:
    """Train on a folder of videos.

    Args:
        root: Folder.
        steps: Number of optimizer steps.
        lr: Learning rate.
    """
    encoder = ResNet(18, stride=8, layer="layer3", color="gray", width=WIDTH)
    clips = partial(frame_tuple, offsets_frames=(0, 2, 4, 6))
    view = RandomResizedCrop(32, scale=(0.5, 1.0))
    method = VideoColorization(encoder, head=FrameHead(encoder.dim, 16), view=view, clips=clips)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root), clips=clips, size_px=48),
        optimizer=partial(torch.optim.Adam, lr=lr),
        learning_rate=optim.constant(lr),
        steps=steps,
        batch_size=2,
    )
'''


@pytest.fixture(autouse=True)
def _own_place(tmp_path, monkeypatch):
    """Run each test in a folder and with a cache of its own, one thread, and forget its modules."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    loaded = set(sys.modules)
    yield
    for name in set(sys.modules) - loaded:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def config(tmp_path) -> Path:
    """Write a config of the user's own, with a module beside it."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "beside.py").write_text("WIDTH = 8\n")
    (folder / "small_config.py").write_text(CONFIG)
    return folder / "small_config.py"


def said(capsys) -> str:
    """What was printed to stderr, on one line."""
    return " ".join(capsys.readouterr().err.split())


def pretrain(config: Path, corpus: Path, *options: str) -> int:
    fixed = ["--root", str(corpus), "--out", "run", "--device", "cpu", "--num-workers", "0"]
    return main(["pretrain", str(config), *fixed, *options])


# What answers at once.


def test_quick_answers_import_no_torch():
    code = (
        "import sys\nfrom vidssl.cli import main\n"
        "print([main(words.split()) for words in ('--help', 'methods', 'pretain', 'pretrain', '--version')])\n"
        "print('torch' in sys.modules, 'tyro' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert answer.stdout.splitlines()[-2:] == ["[0, 0, 2, 2, 0]", "False False"]
    assert "video/colorization_resnet18" in answer.stdout
    assert "there is no command 'pretain'; perhaps you meant pretrain." in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("evaluate davsi", "no command 'evaluate davsi'; perhaps you meant evaluate davis"),
        ("check", "no command 'check'; perhaps you meant data check"),
        ("frobnicate", "no command 'frobnicate'; the commands are pretrain, evaluate davis,"),
        ("pretrain --root x", "the config comes first. usage: vidssl pretrain NAME|FILE --root DIR"),
        ("pretrain colorization_resnet", "perhaps you meant video/colorization_resnet18"),
        ("pretrain absent.py", "there is no config file absent.py"),
        ("data check absent", "absent"),
        ("report absent", "absent is no run folder: it holds no run.json"),
        ("export absent", "absent holds no encoder yet"),
    ],
)
def test_errors_of_the_user_are_one_paragraph(capsys, words, answer):
    assert main(words.split()) == 2
    text = said(capsys)
    assert text.startswith("error: ") and answer in text and "Traceback" not in text


def test_every_command_exists_and_explains_itself(capsys):
    for name in COMMANDS:
        assert callable(command(name))
        # The other commands leave their help to tyro, which exits.
        with nullcontext() if name in ("pretrain", "slurm") else pytest.raises(SystemExit, match="0"):
            main([*name.split(), "--help"])
        assert f"vidssl {name}" in capsys.readouterr().out


def test_help_names_units_and_defaults(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["pretrain", "video/colorization_resnet18", "--help"])
    text = " ".join(capsys.readouterr().out.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ").split())
    assert "Number of optimizer steps. (default: 40000)" in text
    assert "Height and width of the training clips. (default: 256)" in text
    assert "Steps between checkpoints. (default: 500)" in text
    assert "--device STR Where to compute: auto, cpu, cuda, cuda:1 or mps" in text


def test_an_unknown_option_is_refused_with_the_valid_one_named(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["pretrain", "video/colorization_resnet18", "--root", "x", "--stepz", "4"])
    text = said(capsys)
    assert "--stepz" in text and "--steps INT" in text


@pytest.mark.parametrize(
    ("device", "answer"),
    [("tpu", "expected auto, cpu, cuda, cuda:NUMBER or mps"), ("cuda:99", "--device cuda:99 is not there")],
)
def test_a_device_that_is_not_there(capsys, config, small_corpus, device, answer):
    assert main(["pretrain", str(config), "--root", str(small_corpus), "--device", device]) == 2
    assert answer in said(capsys)


def test_torchvision_of_another_torch_is_said_in_a_line(capsys, monkeypatch):
    """What importing it raises then, for its operators need the torch that they were compiled with."""

    def command(words):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("vidssl.cli._dispatch", command)
    assert main(["methods"]) == 2
    assert f"error: torch {version('torch')} and torchvision {version('torchvision')} were not built" in said(
        capsys
    )


def test_ctrl_c_outside_of_the_loop(capsys, tmp_path):
    (tmp_path / "interrupted.py").write_text("def run(root: str):\n    raise KeyboardInterrupt\n")
    assert main(["pretrain", "interrupted.py", "--root", "x"]) == 130
    assert "stopped by Ctrl-C" in said(capsys)


# Configs of the user's own.


def test_a_config_that_takes_any_option_is_refused(capsys, tmp_path):
    (tmp_path / "any_option.py").write_text("def run(**options): ...\n")
    assert main(["pretrain", "any_option.py"]) == 2
    assert "run = functools.partial(base.run, lr=1e-4)" in said(capsys)


def test_a_partial_is_a_config_with_other_defaults(capsys, config):
    varied = config.with_name("varied_config.py")
    varied.write_text("import functools\nimport small_config\nrun = functools.partial(small_config.run, lr=0.5)\n")
    with pytest.raises(SystemExit, match="0"):
        main(["pretrain", str(varied), "--help"])
    assert "Learning rate. (default: 0.5)" in " ".join(capsys.readouterr().out.split())


def test_a_config_named_like_a_loaded_module_is_refused(capsys, tmp_path):
    (tmp_path / "json.py").write_text("def run(root: str): ...\n")
    assert main(["pretrain", "json.py"]) == 2
    assert "json.py has the name of the module json" in said(capsys)


# A run.


def test_pretrain_writes_continues_and_keeps_apart(capsys, config, small_corpus):
    assert pretrain(config, small_corpus, "--seed", "3") == 0
    record = json.loads(Path("run/run.json").read_text())
    assert record["options"] == {
        "root": str(small_corpus),
        "steps": 2,
        "lr": 1e-3,
        "init_from": None,
        "weights": None,
        "seed": 3,
        "precision": "float32",
        "accumulate": 1,
        "shard_window": None,
        "sync_batch_norm": False,
        "frame_rate_hz": None,
        "clip_seconds": None,
    }
    assert record["overrides"] == {"root": str(small_corpus)}
    assert record["command"].startswith(f"vidssl pretrain {config} --root {small_corpus} --out run")
    assert record["num_videos"] == 12 and record["device"] == "cpu"
    assert record["versions"]["torch"] == torch.__version__
    assert Path("run/config.py").read_text() == CONFIG
    weights = Path("run/encoder.safetensors").read_bytes()

    # Seeded before the networks are built: another process of the same seed has the same weights.
    torch.manual_seed(99)
    assert main([*record["command"].replace("--out run", "--out twin").split()[1:]]) == 0
    assert Path("twin/encoder.safetensors").read_bytes() == weights

    # The same again, with options that change nothing of what is learned, and other words in the config.
    described = CONFIG.replace('"""A small', '"""Scored 40: a small').replace("Learning rate.", "The rate.")
    config.write_text(described.replace("    encoder = ", "    # another comment\n    encoder = "))
    capsys.readouterr()
    assert pretrain(config, small_corpus, "--seed", "3", "--save-every", "7") == 0
    assert "continuing from run/checkpoints/step_00000002" in said(capsys)
    assert json.loads(Path("run/run.json").read_text()) == record

    # Another run does not fit in.
    config.write_text(CONFIG.replace("stride=8", "stride=4"))
    assert pretrain(config, small_corpus, "--steps", "5", "--lr", "0.1") == 2
    text = said(capsys)
    for difference in (
        "steps: 2 there, 5 now",
        "lr: 0.001 there, 0.1 now",
        "seed: 3 there, 0 now",
        "is not the program",
    ):
        assert difference in text
    assert "root:" not in text and "choose another --out" in text
    assert json.loads(Path("run/run.json").read_text()) == record


def test_a_run_without_a_checkpoint_is_begun_anew(capsys, config, small_corpus):
    assert pretrain(config, small_corpus) == 0
    shutil.rmtree("run/checkpoints")
    assert pretrain(config, small_corpus, "--lr", "0.01") == 0
    assert json.loads(Path("run/run.json").read_text())["options"]["lr"] == 0.01


# What may change when a run is continued, and what makes it another one. Whoever adds an option decides.
SAFE = {
    "halve_on_oom": True,
    "checkpoint_activations": True,
    "sharded": True,
    "compile": True,
    "export": "student",
    "reproducible": True,
    "device": "cuda",
    "num_workers": 7,
    "log_every": 7,
    "save_every": 7,
    "picture_every": 7,
    "bad_file_budget": 0.07,
    "online": "elsewhere",
    "online_every": 7,
    "online_sequences": "seven",
    "online_frames": 7,
    "online_protocol": "dino",
}
UNSAFE = {
    "init_from": "torchvision:resnet34",
    "weights": Path("resnet34.pth"),
    "seed": 7,
    "precision": "bfloat16",
    "accumulate": 2,
    "shard_window": 3,
    "sync_batch_norm": True,
    "frame_rate_hz": 7.5,
    "clip_seconds": 7.5,
    "root": "elsewhere",
    "steps": 7,
    "lr": 7.0,
}


def test_every_option_is_safe_or_unsafe_to_change(config, small_corpus, tmp_path):
    names = {item.name for item in dataclasses.fields(FitOptions)} - {"out", "restart"}
    assert names <= SAFE.keys() | UNSAFE.keys() and not SAFE.keys() & UNSAFE.keys()
    chosen = load_config(str(config))

    def record(**changed) -> dict:
        own = {name: value for name, value in changed.items() if name in ("root", "steps", "lr")}
        options = {name: value for name, value in changed.items() if name not in own}
        return _record(chosen, {"root": "videos", **own}, FitOptions(**options), command="x")

    (tmp_path / "config.py").write_text(CONFIG)
    began = record()
    for name, value in SAFE.items():
        _refuse_another_run(tmp_path, began, record(**{name: value}), chosen)
    for name, value in UNSAFE.items():
        with pytest.raises(ValueError, match=rf"{name}: .* there, {value} now\nchoose another --out .*--restart"):
            _refuse_another_run(tmp_path, began, record(**{name: value}), chosen)


def test_what_may_change_is_told(capsys, config, small_corpus):
    assert pretrain(config, small_corpus) == 0
    capsys.readouterr()
    record = json.loads(Path("run/run.json").read_text())
    record["versions"]["torch"] = "2.0"
    Path("run/run.json").write_text(json.dumps(record))
    assert pretrain(config, small_corpus, "--save-every", "7", "--log-every", "3") == 0
    text = said(capsys)
    assert "without effect on what it learns: log_every: 10 there, 3 now save_every: 500 there, 7 now" in text
    assert f"may round differently: torch: 2.0 there, {torch.__version__} now" in text


def test_restart_keeps_the_old_run_under_another_name(capsys, config, small_corpus):
    assert pretrain(config, small_corpus, "--restart") == 0  # nothing is there yet
    weights = Path("run/encoder.safetensors").read_bytes()
    assert pretrain(config, small_corpus, "--seed", "8") == 2
    assert "begin anew by --restart, which keeps the old one under another name" in said(capsys)
    for number in (1, 2):
        assert pretrain(config, small_corpus, "--seed", "8", "--restart") == 0
        assert f"run is moved to run.old-{number}" in said(capsys)
    assert Path("run.old-1/encoder.safetensors").read_bytes() == weights
    new = Path("run/encoder.safetensors").read_bytes()
    assert Path("run.old-2/encoder.safetensors").read_bytes() == new != weights
    assert [len(Path(f"{name}/metrics.jsonl").read_text().splitlines()) for name in ("run", "run.old-1")] == [1, 1]


@pytest.mark.parametrize(
    ("names", "said_of"),
    [
        (["thesis.tex"], "but thesis.tex"),
        (["run.json"], "but run.json"),
        (["run.json", "config.py"], "but config.py, run.json"),
        (["lock", "photos/a.jpg"], "but photos"),
        (["checkpoints/last.ckpt"], "but checkpoints"),
        (["a", "b", "c", "d", "e", "f"], "but a, b, c, d, e, ..."),
    ],
)
def test_restart_touches_run_folders_alone(capsys, config, small_corpus, names, said_of):
    for name in names:
        (Path("run") / name).parent.mkdir(parents=True, exist_ok=True)
        (Path("run") / name).write_text("[]")
    assert pretrain(config, small_corpus, "--restart") == 2
    text = said(capsys)
    assert "--restart moves run folders aside, but run is none" in text and said_of in text
    assert sorted(str(path) for path in Path("run").rglob("*") if path.is_file()) == sorted(
        f"run/{name}" for name in names
    )
    assert all((Path("run") / name).read_text() == "[]" for name in names)
    assert not Path("run.old-1").exists()


def test_restart_of_a_file_and_of_a_lock_of_somebody_else(capsys, config, small_corpus):
    Path("run").write_text("mine")
    assert pretrain(config, small_corpus, "--restart") == 2
    assert "--out run is no folder" in said(capsys) and Path("run").read_text() == "mine"
    Path("run").unlink()
    Path("run").mkdir()
    Path("run/lock").write_text("yale 7")
    for options in ([], ["--restart"]):
        assert pretrain(config, small_corpus, *options) == 2
        assert "run/lock is a file of somebody else" in said(capsys)
        assert Path("run/lock").read_text() == "yale 7"


def test_a_run_folder_in_use_is_refused(capsys, config, small_corpus):
    with holder(Path("run")) as process:
        for options in ([], ["--restart"]):
            assert pretrain(config, small_corpus, *options) == 2
            assert f"run is in use by process {process.pid} on" in said(capsys)
        assert [path.name for path in Path("run").iterdir()] == ["lock"]
    assert pretrain(config, small_corpus) == 0


def test_checkpoints_that_are_not_those_of_run_json_are_refused(capsys, config, small_corpus):
    assert pretrain(config, small_corpus) == 0
    assert pretrain(config, small_corpus, "--seed", "8", "--out", "other") == 0
    shutil.rmtree("run/checkpoints")
    shutil.copytree("other/checkpoints", "run/checkpoints")
    assert pretrain(config, small_corpus) == 2
    assert "step_00000002 was written by a run with other options or another config than run/run.json" in said(
        capsys
    )
    Path("run/run.json").unlink()
    assert pretrain(config, small_corpus) == 2
    assert "run holds checkpoints, but its run.json, which tells what of, cannot be read" in said(capsys)


def test_a_signal_ends_the_run_with_its_code(config, small_corpus, tmp_path):
    words = [
        "--root",
        str(small_corpus),
        "--out",
        "run",
        "--steps",
        "100000",
        "--num-workers",
        "0",
        "--log-every",
        "1",
    ]
    process = processes.command("pretrain", config, *words, said=tmp_path / "said")
    metrics = Path("run/metrics.jsonl")
    while not (metrics.exists() and metrics.read_text()):
        assert process.poll() is None, process.said.read_text()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == 143 and "Traceback" not in process.said.read_text()
    last_step = json.loads(metrics.read_text().splitlines()[-1])["step"]
    assert last_step > 0 and Path(f"run/checkpoints/step_{last_step:08d}").is_dir()


def test_a_terminal_that_is_gone_ends_nothing(monkeypatch, capsys):
    class Gone:
        def print(self, *arguments, **options):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("rich.get_console", Gone)
    _LogHandler().handle(logging.makeLogRecord({"msg": "step 3", "levelno": logging.INFO, "levelname": "INFO"}))
    assert "Input/output error" in capsys.readouterr().err


def test_unreadable_files_are_listed_and_bounded(capsys, config, tmp_path):
    corpus = tmp_path / "corpus"
    for number in range(4):
        write_video(corpus / f"{number}.mp4", moving_square(12, seed=number))
    for name in ("cut.mp4", "noise.mp4"):
        (corpus / name).write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(200))
    assert main(["data", "check", str(corpus)]) == 1
    out = capsys.readouterr().out
    assert "6 files, 2 with errors" in out and "cut.mp4" in out and "noise.mp4" in out

    assert pretrain(config, corpus) == 2
    text = said(capsys)
    assert f"2 of 6 files of {corpus} cannot be read (33.3%), more than --bad-file-budget 0.01 allows" in text
    assert "cut.mp4" in text and "go on without them by --bad-file-budget 0.34" in text
    assert not Path("run/run.json").exists()

    assert pretrain(config, corpus, "--bad-file-budget", "0.34") == 0
    listed = Path("run/bad_files.txt").read_text().splitlines()
    assert [line.partition(":")[0] for line in listed] == [str(corpus / "cut.mp4"), str(corpus / "noise.mp4")]
    assert "2 of 6 files cannot be read: see run/bad_files.txt" in said(capsys)

    for name in ("cut.mp4", "noise.mp4"):
        (corpus / name).unlink()
    assert main(["data", "check", str(corpus)]) == 0


# Measuring.


def test_identity_prints_the_official_columns(capsys, tmp_path):
    root = write_davis(tmp_path / "davis", {"still": 0, "fast": 4})
    assert main(["evaluate", "davis", "--root", str(root), "--model", "identity", "--sequences", "still"]) == 0
    out = capsys.readouterr().out
    assert "J&F-Mean" in out and "F-Decay" in out and "1.0000" in out
    result = json.loads(Path("runs/evaluate/identity-davis/result.json").read_text())
    assert result["figures"]["J&F-Mean"] == 1.0 and list(result["parts"]) == ["still"]
    assert result["command"] == f"vidssl evaluate davis --root {root} --model identity --sequences still"

    assert main(["evaluate", "davis", "--root", str(root), "--model", "identity", "--out", "both"]) == 0
    # Frames 1 to 3 count: the square of 16 px is off by 4, 8 and 12 px, so J is 12/20, 8/24 and 4/28.
    expected = (12 / 20 + 8 / 24 + 4 / 28) / 3
    result = json.loads(Path("both/result.json").read_text())
    assert result["parts"]["fast"]["J-Mean"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("model", "protocol", "architecture"),
    [
        ("torchvision:resnet18", "crw", {"stride": 8, "layer": "layer3", "padding_mode": "reflect"}),
        ("timm:vit_tiny_patch16_224", "dino", {"pos_embed": "dino"}),
    ],
)
def test_models_need_no_further_option(capsys, tmp_path, model, protocol, architecture):
    root = write_davis(tmp_path / "davis", {"still": 0}, num_frames=3)
    assert main(["evaluate", "davis", "--root", str(root), "--model", model, "--device", "cpu"]) == 0
    assert "no weights given, so they are random (seed 0); nothing is downloaded" in said(capsys)
    folder = Path("runs/evaluate") / f"{model.replace(':', '_')}-davis-{protocol}"
    result = json.loads((folder / "result.json").read_text())
    assert result["protocol"]["name"] == protocol
    assert architecture.items() <= result["model"]["architecture"].items()
    assert sorted(path.name for path in (folder / "overlays").iterdir()) == ["still.mp4", "still.png"]


def test_baselines_stand_beside_the_model(capsys, tmp_path):
    """A run with weights is measured beside its architecture at random and the identity, under the same protocol."""
    root = write_davis(tmp_path / "davis", {"still": 0, "fast": 4})
    torch.manual_seed(5)
    export_encoder(ResNet(18, width=4), tmp_path / "net.safetensors")
    words = [
        "evaluate",
        "davis",
        "--root",
        str(root),
        "--model",
        str(tmp_path / "net.safetensors"),
        "--out",
        "out",
    ]
    assert main([*words, "--device", "cpu", "--protocol", "vfs", "--short-side", "48", "--layer", "layer2"]) == 0
    out = capsys.readouterr().out
    folders = {"model": "out", "random": "out/baselines/random", "identity": "out/baselines/identity"}
    results = {name: json.loads(Path(folder, "result.json").read_text()) for name, folder in folders.items()}
    for name, result in results.items():
        assert f"{100 * result['figures']['J&F-Mean']:.1f}" in out, name
    assert results["random"]["model"]["name"] == f"random:{tmp_path / 'net.safetensors'}"
    assert len({result["model"]["sha256"] for result in results.values()}) == 3
    assert results["model"]["protocol"] == results["random"]["protocol"]
    assert results["model"]["protocol"]["short_side"] == 48 and results["identity"]["protocol"] is None
    assert results["model"]["model"]["architecture"]["name"] == "layer2"
    # Frames 1 to 3 count: the square of 16 px is off by 4, 8 and 12 px.
    assert results["identity"]["parts"]["fast"]["J-Mean"] == pytest.approx(
        (12 / 20 + 8 / 24 + 4 / 28) / 3, abs=1e-12
    )
    assert not Path("out/baselines/random/overlays").exists() and Path("out/overlays/fast.mp4").exists()

    before = Path("out/baselines/random/masks/fast/00001.png").stat().st_mtime_ns
    assert main([*words, "--device", "cpu", "--protocol", "vfs", "--short-side", "48", "--layer", "layer2"]) == 0
    assert "2 of 2 sequences are taken over from out/baselines/random" in said(capsys)
    assert Path("out/baselines/random/masks/fast/00001.png").stat().st_mtime_ns == before

    # Random weights are their own baseline.
    assert main(["evaluate", "davis", "--root", str(root), "--model", "random:resnet18", "--out", "bare"]) == 0
    assert [path.name for path in Path("bare/baselines").iterdir()] == ["identity"]
    assert main(["evaluate", "davis", "--root", str(root), "--model", "identity", "--no-baselines"]) == 0


def test_options_of_the_encoder_go_over_those_of_the_protocol(capsys, tmp_path):
    root = write_davis(tmp_path / "davis", {"still": 0}, num_frames=3)
    words = [
        "evaluate",
        "davis",
        "--root",
        str(root),
        "--model",
        "torchvision:resnet18",
        "--out",
        "out",
        "--device",
        "cpu",
    ]
    assert main([*words, "--no-overlays", "--encoder-options", "stride=4", "layer=layer1"]) == 0
    architecture = json.loads(Path("out/result.json").read_text())["model"]["architecture"]
    assert (architecture["stride"], architecture["layer"]) == (4, "layer1")
    assert not Path("out/overlays").exists()
    assert main([*words, "--encoder-options", "stride"]) == 2
    assert "--encoder-options takes NAME=VALUE, got 'stride'" in said(capsys)
    with pytest.raises(SystemExit, match="2"):
        main([*words, "--protocol", "drw"])


def test_a_run_is_measured_exported_and_propagated_with(capsys, config, small_corpus, tmp_path):
    assert pretrain(config, small_corpus) == 0
    root = write_davis(tmp_path / "davis", {"still": 0}, num_frames=3)
    for model in ("run", "random:run"):
        assert main(["evaluate", "davis", "--root", str(root), "--model", model, "--device", "cpu"]) == 0
    results = {
        path.parent.name: json.loads(path.read_text()) for path in Path("run/evaluate").glob("*/result.json")
    }
    assert set(results) == {"davis-crw", "random-davis-crw"}
    assert results["davis-crw"]["model"]["sha256"] != results["random-davis-crw"]["model"]["sha256"]

    assert main(["export", "run"]) == 0
    assert Path("run_encoder.safetensors").read_bytes() == Path("run/encoder.safetensors").read_bytes()
    assert json.loads(Path("run_encoder.json").read_text()) == json.loads(Path("run/encoder.json").read_text())

    frame = np.array(Image.open(root / "JPEGImages/480p/still/00000.jpg"))
    video = write_video(tmp_path / "dog.mp4", np.stack([frame] * 4))
    first = root / "Annotations/480p/still/00000.png"
    words = [
        "propagate",
        str(video),
        "--labels",
        str(first),
        "--model",
        "run_encoder.safetensors",
        "--device",
        "cpu",
    ]
    assert main(words) == 0
    masks = sorted(Path("runs/propagate/dog/masks").iterdir())
    assert len(masks) == 4
    last, mask = np.array(Image.open(masks[-1])), np.array(Image.open(first))
    assert (last & mask).sum() / (last | mask).sum() > 0.8  # nothing moves
    record = json.loads(Path("runs/propagate/dog/labels.json").read_text())
    assert record["command"] == " ".join(["vidssl", *words]) and record["protocol"]["name"] == "crw"

    assert main(["report", "run"]) == 0
    assert "the report is run/report.html" in said(capsys)
    page = Path("run/report.html").read_text()
    assert "small_config.py" in page and "Random weights" in page
