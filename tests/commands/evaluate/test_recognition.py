"""vidssl extract and evaluate knn, linear, lowshot, retrieval, cluster, as they are typed."""

import csv
import json
import logging
import shutil

import numpy as np
import pytest
import torch
from conftest import write_video
from PIL import Image

from vidssl.cli import main
from vidssl.models import ResNet, export_encoder

pytestmark = pytest.mark.usefixtures("looked_at_here")

CLASSES = ("left", "right", "top")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("COLUMNS", "120")
    # Loggers stay as main sets them up; caplog must hear them.
    logging.getLogger("vidssl").setLevel(logging.INFO)


def picture(name, *, size_px=16, seed=0):
    """A bright bar at one side of dim noise: its class can be seen in 8 x 8 grey values."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 60, (size_px, size_px, 3), dtype=np.uint8)
    half = size_px // 2
    part = {"left": np.s_[:, :half], "right": np.s_[:, half:], "top": np.s_[:half], "bottom": np.s_[half:]}[name]
    pixels[part] += 180
    return pixels


@pytest.fixture
def images(tmp_path):
    root = tmp_path / "bars"
    for split, num_each in (("train", 8), ("val", 3)):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(num_each):
                seed = 100 * label + number + (1000 if split == "val" else 0)
                Image.fromarray(picture(name, seed=seed)).save(folder / f"{number}.png")
    return root


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "small.safetensors"
    torch.manual_seed(1)
    export_encoder(ResNet(18, width=4), path)
    return path


def run(*words):
    return main([str(word) for word in words])


def result(folder):
    return json.loads((folder / "result.json").read_text())


def test_knn_beside_its_baselines(images, model, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["evaluate", "knn", "--root", images, "--model", model, "--size-px", 16, "--num-workers", 0]
    assert run(*words, "--out", out) == 0
    own = result(out)
    assert own["task"] == "knn" and own["model"]["name"] == str(model) and len(own["model"]["sha256"]) == 64
    assert own["settings"]["views"]["size_px"] == 16 and own["settings"]["views"]["num_frames"] == 1
    assert own["chosen"]["num_train"] == 24 and own["chosen"]["num_test"] == 9
    assert set(own["classes"]) == set(CLASSES)
    assert own["command"].startswith("vidssl evaluate knn --root")
    pixels = result(out / "baselines/raw")
    assert pixels["figures"]["top1"] == 1.0 and pixels["model"]["sha256"] is None
    random = result(out / "baselines/random")
    assert random["model"]["name"] == f"random:{model}" and random["model"]["sha256"] != own["model"]["sha256"]
    assert result(out / "baselines/chance")["figures"] == pytest.approx(
        {"top1": 1 / 3, "mean_class": 1 / 3, "conventional_top1": 1 / 3}
    )
    shown = capsys.readouterr().out
    assert "knn on bars: 3 classes, 24 training and 9 test samples; 1 clip x 1 crop of 1 frame, 16 px" in shown
    assert "raw pixels" in shown and "100.0" in shown and "33.3" in shown


def test_finished_results_are_taken_over_while_they_hold(images, model, tmp_path, caplog):
    out = tmp_path / "out"
    words = [
        "evaluate",
        "knn",
        "--root",
        images,
        "--model",
        model,
        "--size-px",
        16,
        "--num-workers",
        0,
        "--out",
        out,
    ]
    run(*words)
    dates = {path: path.stat().st_mtime_ns for path in out.rglob("result.json") if "chance" not in str(path)}
    shutil.rmtree(tmp_path / "xdg")  # not even the features are needed
    caplog.clear()
    run(*words)
    assert caplog.text.count("taken over from") == 3 and not (tmp_path / "xdg").exists()
    assert dates == {path: path.stat().st_mtime_ns for path in dates}
    # A stop before the baselines were done: the model's own result stays.
    (out / "baselines/raw/result.json").unlink()
    caplog.clear()
    run(*words)
    assert caplog.text.count("taken over from") == 2 and (out / "baselines/raw/result.json").is_file()
    # Another knob, other data: done again.
    caplog.clear()
    run(*words, "--neighbours", 3)
    assert "taken over" not in caplog.text and "is replaced" in caplog.text
    assert result(out)["settings"]["neighbours"] == [3]
    Image.fromarray(picture("top", seed=77)).save(images / "val/left/0.png")
    caplog.clear()
    run(*words, "--neighbours", 3)
    assert "taken over" not in caplog.text
    assert result(out / "baselines/raw")["figures"]["top1"] == pytest.approx(8 / 9)


@pytest.mark.parametrize(
    ("task", "options", "perfect", "by_chance"),
    [
        ("linear", ["--solver", "exact"], {"top1": 1.0, "mean_class": 1.0}, {"top1": 1 / 3}),
        ("lowshot", ["--shots", 1, 2, "--fractions", 0.5, "--classifier", "knn", "--num-draws", 2],
         {"1-shot top1": 1.0, "50% top1": 1.0, "50% top1 std": 0.0}, {"1-shot top1": 1 / 3}),
        ("retrieval", ["--ranks", 1, 5], {"R@1": 1.0, "R@5": 1.0}, {"R@1": 8 / 24}),
        ("cluster", ["--samples", "test"], {"nmi": 1.0, "ari": 1.0, "purity": 1.0}, {}),
    ],
)  # fmt: skip
def test_what_pixels_can_tell(images, model, tmp_path, task, options, perfect, by_chance):
    out = tmp_path / "out"
    words = [
        "evaluate",
        task,
        "--root",
        images,
        "--model",
        model,
        "--size-px",
        16,
        "--num-workers",
        0,
        "--out",
        out,
    ]
    assert run(*words, *options) == 0
    pixels, chance = result(out / "baselines/raw")["figures"], result(out / "baselines/chance")["figures"]
    assert {name: pixels[name] for name in perfect} == pytest.approx(perfect)
    assert {name: chance[name] for name in by_chance} == pytest.approx(by_chance)
    if task == "cluster":
        assert abs(chance["ari"]) < 0.2 and 1 / 3 < chance["purity"] < 0.7
    if task == "retrieval":
        # Nine queries of six neighbours; a ninth row would be a ninth query.
        with Image.open(out / "retrieval.png") as sheet:
            assert sheet.width > 6 * 112 and sheet.height > 8 * 112
        assert not (out / "baselines/raw/retrieval.png").exists()
        assert set(result(out)["parts"]) == set(CLASSES)


def test_layers_are_measured_one_by_one_or_together(images, model, tmp_path):
    common = [
        "--root",
        images,
        "--model",
        model,
        "--size-px",
        32,
        "--num-workers",
        0,
        "--layers",
        "layer1",
        "last",
    ]
    run("evaluate", "knn", *common, "--out", tmp_path / "knn")
    assert result(tmp_path / "knn/layers/layer1")["settings"]["layers"] == ["layer1"]
    assert (tmp_path / "knn/baselines/random/layers/last/result.json").is_file()
    run("evaluate", "linear", *common, "--out", tmp_path / "linear", "--steps", 20)
    heads = result(tmp_path / "linear")["parts"]
    assert {name.split()[0] for name in heads} == {"layer1", "last"} and len(heads) == 2 * 13
    assert result(tmp_path / "linear")["chosen"]["layer"] in ("layer1", "last")


@pytest.mark.parametrize(
    ("words", "layer", "dim"),
    [
        ([], "layer4", 512),
        (["--layer", "layer3"], "layer3", 256),
        (["--layers", "layer2"], "layer2", 128),
        (["--encoder-options", "layer=layer3"], "layer3", 256),
    ],
)
def test_a_resnet_is_measured_by_its_last_stage(images, tmp_path, capsys, words, layer, dim):
    common = ["--root", images, "--model", "random:torchvision:resnet18", "--size-px", 32, "--num-workers", 0]
    out = tmp_path / "out"
    assert run("evaluate", "knn", *common, "--no-baselines", "--out", out, *words) == 0
    assert result(out)["model"]["layers"] == [{"layer": layer, "dim": dim}]
    assert f"{layer} ({dim} numbers)" in " ".join(capsys.readouterr().out.split())
    if len(words) == 0:
        # Another layer is another request: nothing is taken over.
        before = result(out)["key"]
        run("evaluate", "knn", *common, "--no-baselines", "--out", out, "--layers", "layer3")
        assert result(out)["key"] != before and result(out)["model"]["layers"][0]["dim"] == 256


def test_extract_gives_the_last_stage(images, tmp_path, caplog):
    common = ["--root", images, "--model", "random:torchvision:resnet18", "--size-px", 32, "--num-workers", 0]
    assert run("extract", *common, "--out", tmp_path / "out") == 0
    assert np.load(tmp_path / "out/last.npy").shape == (33, 1, 512)
    assert "layer last (layer4): 33 x 1 x 512" in caplog.text


@pytest.mark.parametrize("task", ["knn", "linear", "lowshot", "retrieval", "cluster", "finetune"])
def test_one_class_is_refused_before_anything_is_read(images, model, tmp_path, capsys, task):
    for split in ("train", "val"):
        for name in ("right", "top"):
            shutil.rmtree(images / split / name)
    words = ["--root", images, "--model", model, "--size-px", 16, "--num-workers", 0, "--out", tmp_path / "out"]
    assert run("evaluate", task, *words) == 2
    said = " ".join(capsys.readouterr().err.split())
    num = 11 if task == "cluster" else 8
    what = "clustered (all)" if task == "cluster" else "training"
    assert f"all {num} {what} samples are of class 'left': there is nothing to tell apart" in said
    assert "--label-column" in said and not (tmp_path / "out").exists() and not (tmp_path / "xdg").exists()


@pytest.mark.parametrize("task", ["knn", "finetune"])
def test_odd_classes_are_counted_and_named(images, model, tmp_path, caplog, task):
    shutil.rmtree(images / "train/top")
    for number in range(1, 8):
        (images / f"train/left/{number}.png").unlink()
    (images / "train/bottom").mkdir()
    for number in range(2):
        Image.fromarray(picture("bottom", seed=number)).save(images / f"train/bottom/{number}.png")
    words = ["--root", images, "--model", model, "--size-px", 16, "--num-workers", 0, "--no-baselines"]
    words += ["--steps", 2, "--batch-size", 2] if task == "finetune" else []
    assert run("evaluate", task, *words, "--out", tmp_path / "out") == 0
    assert (
        "1 of 3 test classes have no training sample and cannot be found; their 3 of 9 test samples count as wrong: top"
    ) in caplog.text
    assert "1 of 3 training classes have a single training sample" in caplog.text
    assert "1 of 3 training classes have no test sample, so no figure tells of them: bottom" in caplog.text
    assert result(tmp_path / "out")["odd_classes"] == {
        "without_training_samples": ["top"],
        "with_one_training_sample": ["left"],
        "without_test_samples": ["bottom"],
    }


def test_ordinary_classes_are_not_spoken_of(images, model, tmp_path, caplog):
    words = ["--root", images, "--model", model, "--size-px", 16, "--num-workers", 0, "--no-baselines"]
    assert run("evaluate", "knn", *words, "--out", tmp_path / "out") == 0
    assert "classes have" not in caplog.text and not any(result(tmp_path / "out")["odd_classes"].values())


@pytest.fixture
def ucf101(tmp_path):
    """Three classes of three groups of one clip; split i tests group i. Split 3 has a video in the wrong class."""
    root = tmp_path / "UCF101"
    lists = root / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    (lists / "classInd.txt").write_text(
        "".join(f"{number} {name}\n" for number, name in enumerate(CLASSES, start=1))
    )
    for label, name in enumerate(CLASSES):
        for group in (1, 2, 3):
            shown = "right" if (name, group) == ("left", 3) else name
            frames = np.stack([picture(shown, size_px=32, seed=100 * label + group)] * 4)
            write_video(root / f"UCF-101/{name}/v_{name}_g{group:02}_c01.avi", frames)
    for split in (1, 2, 3):
        lines = {"train": "", "test": ""}
        for label, name in enumerate(CLASSES, start=1):
            for group in (1, 2, 3):
                part = "test" if group == split else "train"
                lines[part] += f"{name}/v_{name}_g{group:02}_c01.avi" + (
                    f" {label}\n" if part == "train" else "\n"
                )
        for part, text in lines.items():
            (lists / f"{part}list{split:02}.txt").write_text(text)
    return root


def test_all_splits_are_averaged_and_share_one_pass_over_the_videos(ucf101, model, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["evaluate", "knn", "--root", ucf101, "--model", model, "--size-px", 32, "--frames", 2, "--stride", 1]
    assert run(*words, "--num-workers", 0, "--splits", "all", "--out", out) == 0
    by_split = [result(out / f"baselines/raw/splits/{split}")["figures"]["top1"] for split in (1, 2, 3)]
    assert by_split[2] == pytest.approx(2 / 3)  # its "left" video shows "right"
    mean = result(out / "baselines/raw")
    assert mean["figures"]["top1"] == pytest.approx(sum(by_split) / 3)
    assert mean["settings"]["splits"] == [1, 2, 3] and mean["settings"]["data"] == "UCF101 splits all"
    assert {part: figures["top1"] for part, figures in mean["parts"].items()} == {
        f"split {split}": pytest.approx(value) for split, value in enumerate(by_split, start=1)
    }
    assert "knn on UCF101 splits all" in capsys.readouterr().out
    assert len(list((tmp_path / "xdg/vidssl/features").iterdir())) == 3  # model, random weights, pixels


def test_sound_is_retrieved_by_video_and_back(tmp_path):
    from vidssl.models import AudioEncoder, LogMel, export_audio_encoder

    model, ears = tmp_path / "eyes.safetensors", tmp_path / "audio_encoder.safetensors"
    export_encoder(ResNet(18, width=4), model)
    export_audio_encoder(AudioEncoder(LogMel(), widths=(8, 8), strides=(2, 2)), ears)
    rows = "path,label,split\n"
    for label, name in enumerate((*CLASSES, "bottom")):
        for number in range(3):
            frames = np.stack([picture(name, size_px=32, seed=10 * label + number)] * 12)
            write_video(tmp_path / f"{name}{number}.mp4", frames, tone_hz=300 * (label + 1))
            rows += f"{name}{number}.mp4,{name},{'test' if number == 2 else 'train'}\n"
    (tmp_path / "list.csv").write_text(rows)
    words = [
        "evaluate",
        "retrieval",
        "--root",
        tmp_path / "list.csv",
        "--audio-model",
        ears,
        "--audio-seconds",
        0.5,
    ]
    words += ["--size-px", 32, "--frames", 2, "--num-workers", 0, "--ranks", 1, 2]
    out = tmp_path / "out"
    assert run(*words, "--model", model, "--out", out) == 0
    raw = result(out / "baselines/raw")
    assert raw["figures"] == {
        f"{direction} R@{rank}": 1.0 for direction in ("video to audio", "audio to video") for rank in (1, 2)
    }
    assert raw["parts"]["video to audio"]["median_rank"] == 1.0
    chance = result(out / "baselines/chance")["figures"]
    assert chance["video to audio R@1"] == 0.25 and chance["audio to video R@2"] == 0.5
    assert result(out)["audio_model"]["name"] == str(ears)
    assert result(out / "baselines/random")["audio_model"]["name"] == f"random:{ears}"
    assert result(out / "baselines/random")["settings"] == result(out)["settings"]
    assert (out / "audio-video-retrieval.png").is_file()


def test_finetune_learns_from_labels_and_is_taken_over(images, model, tmp_path, caplog, capsys):
    out = tmp_path / "out"
    words = ["evaluate", "finetune", "--root", images, "--model", model, "--size-px", 16, "--num-workers", 0]
    words += ["--steps", 16, "--batch-size", 12, "--lr-backbone", 0.01, "--lr-head", 0.1, "--out", out]
    assert run(*words) == 0
    own = result(out)
    assert own["figures"]["top1"] == 1.0 and own["classes"] == dict.fromkeys(CLASSES, 1.0)
    assert own["model"]["layers"] == [{"layer": "layer3", "dim": 16}]  # all that was exported
    assert "layer3 (16 numbers)" in " ".join(capsys.readouterr().out.split())
    assert own["settings"]["num_frames"] == 1 and own["settings"]["lr_head"] == 0.1
    assert result(out / "baselines/random")["model"]["name"] == f"random:{model}"
    assert result(out / "baselines/chance")["figures"]["top1"] == pytest.approx(1 / 3)
    caplog.clear()
    run(*words)
    assert caplog.text.count("taken over from") == 2
    (tmp_path / "parts.csv").write_text(
        "path,label,split,end_s\nbars/val/top/0.png,a,train,1\nbars/val/top/1.png,a,test,1\n"
    )
    assert run(*words[:2], "--root", tmp_path / "parts.csv", *words[4:]) == 2
    assert "fine-tuning reads whole files, not parts of them" in " ".join(capsys.readouterr().err.split())


def test_extract_writes_a_row_per_sample(images, model, tmp_path):
    out = tmp_path / "out"
    common = ["--model", model, "--size-px", 32, "--num-workers", 0, "--out", out]
    assert run("extract", "--root", images, *common, "--layers", "layer2", "last", "--level", "frames") == 0
    with (out / "samples.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 33 and rows[0]["label"] == "left" and rows[-1]["split"] == "test"
    values = np.load(out / "last.npy")
    from vidssl.models import load_encoder

    number = next(number for number, row in enumerate(rows) if row["path"].endswith("val/top/1.png"))
    pixels = torch.from_numpy(np.asarray(Image.open(rows[number]["path"]).resize((32, 32), Image.BILINEAR)).copy())
    expected = load_encoder(model)(pixels.permute(2, 0, 1)[None, None].float() / 255)
    assert values.shape == (33, 1, 1, 16) and np.allclose(values[number, 0], expected.numpy(), atol=1e-4)
    assert run("extract", "--root", images / "val", *common, "--no-labels") == 0
    assert np.load(out / "last.npy").shape == (9, 1, 16)


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (
            "knn",
            ["--root", "nowhere"],
            "nowhere does not exist; give the folder of a labelled data set, or a list",
        ),
        ("knn", ["--splits", "some"], "--splits is 'some', expected a number, 1,3 or all"),
        ("knn", ["--splits", "2"], "split is 2, but"),
        ("knn", ["--layers", "layer7"], "has no layer 'layer7'; its layers: layer1, layer2"),
        ("knn", ["--size-px", "0"], "--size-px is 0, expected at least 1"),
        ("knn", ["--label-column", "word"], "columns are of lists"),
        ("knn", ["--neighbours", "0"], "--neighbours is 0, expected at least 1"),
        ("retrieval", ["--audio-model", "no.safetensors"], "there is no no.safetensors"),
        ("lowshot", ["--fractions", "--shots", "99"], "shots (99,) are too many: a class has 8 recordings"),
    ],
)
def test_errors_are_one_paragraph(images, model, tmp_path, capsys, task, options, message):
    words = ["evaluate", task, "--root", images, "--model", model, "--size-px", 16, "--num-workers", 0]
    assert run(*words, "--out", tmp_path / "out", *options) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert message in said and "Traceback" not in said


def test_real_photographs(shared, model, tmp_path):
    out = tmp_path / "out"
    words = ["evaluate", "knn", "--root", shared / "data/media/images_camtrap/labels.csv", "--model", model]
    assert run(*words, "--size-px", 64, "--num-workers", 0, "--out", out) == 0
    # Seven species of three photographs each, one of them for testing; day and night look alike in any species.
    pixels = result(out / "baselines/raw")
    assert pixels["chosen"]["num_train"] == 14 and pixels["chosen"]["num_test"] == 7
    assert pixels["figures"]["top1"] == pytest.approx(3 / 7)
    assert result(out / "baselines/chance")["figures"]["top1"] == pytest.approx(1 / 7)
