"""datasets/prepare_*.py: small archives of the published layouts become trees that our readers read."""

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image
from tiny_archives import write_rar4, write_tar, write_zip

from vidssl import config
from vidssl.data.published import rar
from vidssl.data.published.benchmarks import davis_sequences, youtubevos_sequences
from vidssl.data.published.labelled import labelled_set
from vidssl.data.published.parts import vip_sequences
from vidssl.data.published.poses import jhmdb_sequences
from vidssl.data.published.tracks import got10k_sequences, otb_sequences

DATASETS = Path(__file__).resolve().parents[1] / "datasets"
PROGRAM = next((name for name in rar.PROGRAMS if shutil.which(name)), None)


def load(name: str):
    return config.load_module(DATASETS / f"prepare_{name}.py")


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind)
    return buffer.getvalue()


JPG = encoded(np.full((8, 12, 3), 100, np.uint8), "JPEG")


def mask(*ids: int) -> bytes:
    """A mask of 8 rows whose columns from the left are the objects, then background."""
    pixels = np.zeros((8, 12), np.uint8)
    for column, number in enumerate(ids):
        pixels[:, column] = number
    return encoded(pixels, "PNG")


def labels(items) -> list[tuple[str, int, str]]:
    return [(item.path.name, item.label, item.source) for item in items]


# Masks.


def davis_files(top: str, names: list[str], *, num_frames: int = 4, ids=(1, 2)) -> dict[str, bytes]:
    files = {f"{top}/JPEGImages/480p/{name}/{i:05d}.jpg": JPG for name in names for i in range(num_frames)}
    return files | {
        f"{top}/Annotations/480p/{name}/{i:05d}.png": mask(*ids) for name in names for i in range(num_frames)
    }


def test_davis_2017(tmp_path):
    files = davis_files("DAVIS", ["bear", "camel", "cows"]) | {
        "DAVIS/ImageSets/2017/train.txt": b"bear\n",
        "DAVIS/ImageSets/2017/val.txt": b"camel\ncows\n",
        "DAVIS/README.md": b"",
    }
    archive = write_zip(tmp_path / "DAVIS-2017-trainval-480p.zip", files)
    script = load("davis")
    with pytest.raises(ValueError, match="train at 480p has 1 sequences and 4 frames, published are 60 and 4209"):
        script.prepare_davis((archive,), out=tmp_path / "DAVIS")
    script.prepare_davis((archive,), out=tmp_path / "DAVIS", check=False)
    counts = json.loads((tmp_path / "DAVIS" / "prepared.json").read_text())["counts"]
    assert counts["val sequences"] == 2 and counts["val frames at 480p"] == 8
    sequences = davis_sequences(tmp_path / "DAVIS")
    assert [(one.name, len(one), one.num_objects) for one in sequences] == [("camel", 4, 2), ("cows", 4, 2)]


def test_davis_with_a_frame_missing_is_refused_even_unchecked(tmp_path):
    files = davis_files("DAVIS", ["camel"]) | {"DAVIS/ImageSets/2017/val.txt": b"camel\n"}
    del files["DAVIS/Annotations/480p/camel/00002.png"]
    archive = write_zip(tmp_path / "a.zip", files)
    with pytest.raises(ValueError, match="without frames or masks: camel"):
        load("davis").prepare_davis((archive,), out=tmp_path / "DAVIS", check=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_davis_2016(tmp_path):
    lines = "".join(f"/JPEGImages/480p/cows/{i:05d}.jpg /Annotations/480p/cows/{i:05d}.png \n" for i in range(4))
    files = davis_files("DAVIS", ["cows"], ids=(255, 255)) | {"DAVIS/ImageSets/480p/val.txt": lines.encode()}
    archive = write_zip(tmp_path / "DAVIS-data.zip", files)
    load("davis").prepare_davis((archive,), out=tmp_path / "DAVIS", year=2016, check=False)
    (sequence,) = davis_sequences(tmp_path / "DAVIS", year=2016)
    assert sequence.name == "cows" and sequence.mask(3).numpy().sum() == 2 * 8


def test_youtubevos(tmp_path):
    valid = {f"valid/JPEGImages/0a/{i:05d}.jpg": JPG for i in range(0, 15, 5)} | {
        "valid/Annotations/0a/00000.png": mask(1),
        "valid/Annotations/0a/00005.png": mask(0, 2),
        "valid/meta.json": json.dumps({"videos": {"0a": {"objects": {"1": {"category": "cat"}}}}}).encode(),
    }
    archive = write_zip(tmp_path / "valid.zip", valid)
    load("youtubevos").prepare_youtubevos(valid=archive, out=tmp_path / "Y")
    (sequence,) = youtubevos_sequences(tmp_path / "Y" / "valid")
    assert sequence.name == "0a" and sequence.first_frames == {1: 0, 2: 1}
    broken = write_zip(tmp_path / "train.zip", {"train/JPEGImages/0b/00000.jpg": JPG})
    with pytest.raises(ValueError, match=r"1 videos of train; frames or masks are missing of \['0b'\]"):
        load("youtubevos").prepare_youtubevos(broken, out=tmp_path / "Z")


# Joints and boxes.


def test_jhmdb(tmp_path):
    joints = np.arange(2 * 15 * 3, dtype=np.float64).reshape(2, 15, 3) / 16  # pixels of frames of 12 x 8
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"pos_img": joints + 1})
    frames = {f"Rename_Images/catch/a_catch/{i:05d}.png": mask(0) for i in (1, 2, 3)}
    images = write_tar(tmp_path / "Rename_Images.tar.gz", {**frames, "Rename_Images/._catch": b""}, "w:gz")
    poses = write_zip(
        tmp_path / "joint_positions.zip", {"joint_positions/catch/a_catch/joint_positions.mat": buffer.getvalue()}
    )
    lists = write_zip(
        tmp_path / "splits.zip", {"splits/catch_test_split1.txt": b"a_catch.avi 2 \nb_catch.avi 1 \n"}
    )
    script = load("jhmdb")
    with pytest.raises(ValueError, match=r"the files hold 1 videos, .* published are 928 videos"):
        script.prepare_jhmdb(images, joints=poses, splits=lists, out=tmp_path / "J")
    script.prepare_jhmdb(images, joints=poses, splits=lists, out=tmp_path / "J", check=False)
    assert json.loads((tmp_path / "J/prepared.json").read_text())["counts"]["test videos of split 1"] == 1
    (sequence,) = jhmdb_sequences(tmp_path / "J")
    assert sequence.name == "a_catch" and np.array_equal(sequence.joints, joints.transpose(2, 1, 0))


def test_vip(tmp_path):
    files = {f"VIP_Fine/Images/videos1/{i:012d}.jpg": JPG for i in (1, 26)} | {
        f"VIP_Fine/Annotations/Category_ids/videos1/{i:012d}.png": mask(13, 2) for i in (1, 26)
    }
    archive = write_zip(tmp_path / "VIP_Fine.zip", {**files, "VIP_Fine/lists/val_videos.txt": b"videos1\n"})
    script = load("vip")
    with pytest.raises(ValueError, match="the files hold 1 validation videos; published are 50"):
        script.prepare_vip(archive, out=tmp_path / "V")
    script.prepare_vip(archive, out=tmp_path / "V", check=False)
    (sequence,) = vip_sequences(tmp_path / "V")
    assert sequence.name == "videos1" and sorted(set(sequence.mask(1).flatten().tolist())) == [0, 2, 13]
    broken = write_zip(tmp_path / "b.zip", {"VIP_Fine/lists/val_videos.txt": b"videos1\n"})
    with pytest.raises(ValueError, match="frames or categories are missing of videos1"):
        script.prepare_vip(broken, out=tmp_path / "W")


def test_otb(tmp_path):
    folder = tmp_path / "zips"
    folder.mkdir()
    boxes = b"2,3,4,5\r\n3,3,4,5\r\n"
    frames = {f"Crossing/img/{i:04d}.jpg": JPG for i in (1, 2)}
    write_zip(
        folder / "Crossing.zip", {**frames, "Crossing/groundtruth_rect.txt": boxes, "__MACOSX/Crossing/._img": b""}
    )
    script = load("otb")
    with pytest.raises(ValueError, match="the files hold 1 folders; published are 98 folders"):
        script.prepare_otb(folder, out=tmp_path / "OTB")
    script.prepare_otb(folder, out=tmp_path / "OTB", check=False)
    (sequence,) = otb_sequences(tmp_path / "OTB", subset=None)
    assert sequence.name == "Crossing" and sequence.boxes.tolist() == [[1, 2, 4, 5], [2, 2, 4, 5]]
    with pytest.raises(ValueError, match=r"get Basketball\.zip and the other sequences"):
        script.prepare_otb(out=tmp_path / "none")


def got10k_files(split: str) -> dict[str, bytes]:
    name = f"GOT-10k_{split}_000001"
    files = {f"{name}/{i:08d}.jpg": JPG for i in (1, 2)}
    return {**files, f"{name}/groundtruth.txt": b"1,2,3,4\n2,2,3,4\n", f"{name}/cover.label": b"8\n8\n"}


def test_got10k(tmp_path):
    val = {f"val/{name}": content for name, content in got10k_files("Val").items()}
    archive = write_zip(tmp_path / "val_data.zip", {**val, "val/list.txt": b"GOT-10k_Val_000001\n"})
    script = load("got10k")
    with pytest.raises(ValueError, match="val has 1 of 180 sequences; 0 are listed and not there"):
        script.prepare_got10k((archive,), out=tmp_path / "G")
    script.prepare_got10k((archive,), out=tmp_path / "G", check=False)
    (sequence,) = got10k_sequences(tmp_path / "G")
    assert sequence.name == "GOT-10k_Val_000001" and sequence.boxes.tolist() == [[1, 2, 3, 4], [2, 2, 3, 4]]


def test_got10k_as_one_archive_of_archives(tmp_path):
    train = write_zip(tmp_path / "inner.zip", got10k_files("Train")).read_bytes()
    val = write_zip(
        tmp_path / "inner.zip", {f"val/{name}": content for name, content in got10k_files("Val").items()}
    )
    full = {
        "full_data/train_data/GOT-10k_Train_split_01.zip": train,
        "full_data/train_data/list.txt": b"GOT-10k_Train_000001\n",
        "full_data/val_data.zip": val.read_bytes(),
    }
    archive = write_zip(tmp_path / "full_data.zip", full)
    load("got10k").prepare_got10k((archive,), out=tmp_path / "G", check=False)
    assert sorted(path.name for path in (tmp_path / "G").iterdir()) == ["prepared.json", "train", "val"]
    for split in ("train", "val"):
        (sequence,) = got10k_sequences(tmp_path / "G", split=split)
        assert sequence.name == f"GOT-10k_{split.title()}_000001" and len(sequence) == 2


# Labelled sets.

WRITERS = [pytest.param(write_zip, id="zip")]
WRITERS += [pytest.param(write_rar4, id="rar")] if PROGRAM else []


@pytest.mark.parametrize("write", WRITERS)
def test_ucf101(tmp_path, write):
    names = ["Archery/v_Archery_g01_c01.avi", "Archery/v_Archery_g08_c01.avi", "Surfing/v_Surfing_g08_c02.avi"]
    videos = write(tmp_path / "UCF101.rar", {f"UCF-101/{name}": b"video" for name in names})
    lists = {
        "classInd.txt": b"1 Archery\r\n2 Surfing\r\n",
        "trainlist01.txt": f"{names[1]} 1\r\n{names[2]} 2\r\n".encode(),
        "testlist01.txt": f"{names[0]}\r\n".encode(),
    }
    splits = write_zip(tmp_path / "lists.zip", {f"ucfTrainTestlist/{name}": text for name, text in lists.items()})
    script = load("ucf101")
    with pytest.raises(ValueError, match="the files hold 2 classes, 3 videos, 2 lists; published are 101 classes"):
        script.prepare_ucf101(videos, splits=splits, out=tmp_path / "U")
    script.prepare_ucf101(videos, splits=splits, out=tmp_path / "U", check=False)
    data = labelled_set(tmp_path / "U")
    assert labels(data.train) == [
        ("v_Archery_g08_c01.avi", 0, "Archery g08"),
        ("v_Surfing_g08_c02.avi", 1, "Surfing g08"),
    ]
    assert labels(data.test) == [("v_Archery_g01_c01.avi", 0, "Archery g01")]


@pytest.mark.parametrize("write", WRITERS)
def test_hmdb51(tmp_path, write):
    names = {"wave": ["A_wave_u_0.avi", "B_wave_u_0.avi"], "catch": ["C_catch_u_0.avi"]}
    inner = {}
    for class_name, files in names.items():
        packed = write(tmp_path / "inner", {f"{class_name}/{name}": name.encode() for name in files})
        inner[f"{class_name}.rar"] = packed.read_bytes()
    videos = write(tmp_path / "hmdb51_org.rar", inner)
    lists = {"wave": b"A_wave_u_0.avi 1 \nB_wave_u_0.avi 2 \n", "catch": b"C_catch_u_0.avi 1 \n"}
    splits = write(
        tmp_path / "test_train_splits.rar",
        {f"testTrainMulti_7030_splits/{name}_test_split1.txt": text for name, text in lists.items()},
    )
    script = load("hmdb51")
    with pytest.raises(ValueError, match="is published with 15e67781e70dcfbdce2d7dbb9b3344b5"):
        script.prepare_hmdb51(videos, splits=splits, out=tmp_path / "H")
    script.prepare_hmdb51(videos, splits=splits, out=tmp_path / "H", check=False)
    assert (tmp_path / "H/hmdb51_org/wave/B_wave_u_0.avi").read_bytes() == b"B_wave_u_0.avi"
    data = labelled_set(tmp_path / "H")
    assert data.class_names == ("catch", "wave")
    assert labels(data.train) == [("C_catch_u_0.avi", 0, "C"), ("A_wave_u_0.avi", 1, "A")]
    assert labels(data.test) == [("B_wave_u_0.avi", 1, "B")]


def kinetics_downloads(folder: Path) -> dict[str, Path]:
    lists = {"train": [("waving", "aa", 3), ("waving", "gone", 5)], "val": [("waving", "-b_", 10)]}
    paths = {}
    for split, rows in lists.items():
        text = "label,youtube_id,time_start,time_end,split,is_cc\n"
        text += "".join(f"{name},{video},{start},{start + 10},{split},0\n" for name, video, start in rows)
        paths[split] = folder / f"{split}.csv"
        paths[split].write_text(text)
    (folder / "downloads" / "part_0").mkdir(parents=True)
    (folder / "downloads" / "part_0" / "aa_000003_000013.mp4").write_bytes(b"aa")
    (folder / "downloads" / "-b_.mp4").write_bytes(b"b")
    return paths


@pytest.mark.parametrize("copy", [False, True])
def test_kinetics(tmp_path, copy):
    lists = kinetics_downloads(tmp_path)
    load("kinetics").prepare_kinetics(
        lists["train"], val_list=lists["val"], videos=tmp_path / "downloads", out=tmp_path / "K", copy=copy
    )
    data = labelled_set(tmp_path / "K")
    assert labels(data.train) == [("aa_000003_000013.mp4", 0, "aa")]
    assert labels(data.test) == [("-b__000010_000020.mp4", 0, "-b_")]
    assert (tmp_path / "K/missing.txt").read_text() == "train/gone_000005_000015\n"
    assert data.test[0].path.read_bytes() == b"b" and data.test[0].path.stat().st_nlink == (1 if copy else 2)


def test_something_something(tmp_path):
    whole = write_tar(
        tmp_path / "whole", {f"20bn-something-something-v2/{n}.webm": b"%d" % n for n in (7, 8)}, "w:gz"
    )
    parts = tmp_path / "parts"
    parts.mkdir()
    for number in range(3):
        part = parts / f"20bn-something-something-v2-{number:02d}"
        part.write_bytes(whole.read_bytes()[100 * number : 100 * (number + 1) if number < 2 else None])
    entry = {"label": "pushing a cup", "template": "Pushing [something]", "placeholders": ["a cup"]}
    files = {
        "labels": {"Pushing something": "0"},
        "train": [{"id": "7", **entry}],
        "validation": [{"id": "8", **entry}],
    }
    labels_zip = write_zip(
        tmp_path / "labels.zip", {f"labels/{name}.json": json.dumps(x).encode() for name, x in files.items()}
    )
    script = load("something")
    script.prepare_something(parts, labels=labels_zip, out=tmp_path / "S", check=False)
    data = labelled_set(tmp_path / "S")
    assert [item.path.read_bytes() for item in (*data.train, *data.test)] == [b"7", b"8"]
    assert data.class_names == ("Pushing something",)
    (parts / "20bn-something-something-v2-01").unlink()
    with pytest.raises(ValueError, match="has the parts 00, 02; one is missing"):
        script.prepare_something(parts, labels=labels_zip, out=tmp_path / "T")


def test_esc50(tmp_path):
    table = (
        "filename,fold,target,category,esc10,src_file,take\n"
        "1-17-A-0.wav,1,0,dog,True,17,A\n2-18-A-1.wav,2,1,rain,False,18,A\n2-19-A-0.wav,2,0,dog,False,19,A\n"
    )
    files = {f"ESC-50-master/audio/{name}.wav": b"wav" for name in ("1-17-A-0", "2-18-A-1", "2-19-A-0")}
    archive = write_zip(tmp_path / "ESC-50-master.zip", {**files, "ESC-50-master/meta/esc50.csv": table.encode()})
    script = load("esc50")
    with pytest.raises(ValueError, match="the files hold 3 sounds, 1 lists; published are 2000 sounds"):
        script.prepare_esc50(archive, out=tmp_path / "E")
    script.prepare_esc50(archive, out=tmp_path / "E", check=False)
    data = labelled_set(tmp_path / "E", split=1)
    assert data.class_names == ("dog", "rain")
    assert labels(data.test) == [("1-17-A-0.wav", 0, "17")] and len(data.train) == 2


def test_imagenet(tmp_path):
    ids = ["n02119789", "n01440764"]  # not sorted, as in the devkit
    inner = {}
    for name in ids:
        images = {f"{name}_{number}.JPEG": f"{name} {number}".encode() for number in (3, 10)}
        inner[f"{name}.tar"] = write_tar(tmp_path / "inner", images).read_bytes()
    train = write_tar(tmp_path / "ILSVRC2012_img_train.tar", inner)
    val = write_tar(tmp_path / "val.tar", {f"ILSVRC2012_val_{n:08d}.JPEG": b"%d" % n for n in (1, 2, 3)})
    synsets = np.array(list(zip([1, 2], ids, strict=True)), dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O")])
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"synsets": synsets})
    data = {"meta.mat": buffer.getvalue(), "ILSVRC2012_validation_ground_truth.txt": b"2\n1\n2\n"}
    devkit = write_tar(
        tmp_path / "devkit.tar.gz", {f"ILSVRC2012_devkit_t12/data/{k}": v for k, v in data.items()}, "w:gz"
    )
    subset = tmp_path / "1percent.txt"
    subset.write_text("n01440764_10.JPEG\n")
    script = load("imagenet")
    options = {"val": val, "devkit": devkit, "subsets": (subset,), "out": tmp_path / "I"}
    with pytest.raises(
        ValueError, match=r"ILSVRC2012_img_train\.tar is published with 1d675b47d978889d74fa0da5fadfb00e"
    ):
        script.prepare_imagenet(train, **options)
    script.prepare_imagenet(train, **options, check=False)
    read = labelled_set(tmp_path / "I")
    assert read.class_names == ("n01440764", "n02119789")
    assert [(item.path.read_bytes(), item.label) for item in read.train] == [
        (b"n01440764 3", 0),
        (b"n01440764 10", 0),
        (b"n02119789 3", 1),
        (b"n02119789 10", 1),
    ]
    assert [(item.path.read_bytes(), item.label) for item in read.test] == [(b"1", 0), (b"3", 0), (b"2", 1)]
    few = labelled_set(tmp_path / "I" / "1percent.csv")
    assert labels(few.train)[0][0] == "n01440764_10.JPEG" and len(few.train) == 1 and len(few.test) == 3


# All of them.


@pytest.mark.parametrize("path", sorted(DATASETS.glob("prepare_*.py")), ids=lambda path: path.stem)
def test_the_readme_names_every_script(path):
    assert f"datasets/{path.name}" in (DATASETS / "README.md").read_text()


def test_no_script_reaches_for_the_network():
    for path in DATASETS.glob("*.py"):
        assert not re.search(
            r"urllib|requests|http\.client|socket|gdown|huggingface_hub|wget", path.read_text()
        ), path
