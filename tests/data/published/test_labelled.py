"""Data sets in their published layouts: small trees with the names the archives have, whose splits are known."""

import json
import logging
import re

import pytest

from vidssl.data.lists.lists import Columns
from vidssl.data.published.labelled import labelled_set, split_numbers
from vidssl.data.published.layouts import TREES


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def names(items):
    return [item.path.name for item in items]


def ucf101(root):
    write(root / "ucfTrainTestlist/classInd.txt", "1 ApplyEyeMakeup\n2 HandstandPushups\n")
    videos = [f"{group}_c{clip:02}" for group in ("g01", "g02", "g08") for clip in (1, 2)]
    for class_name, stem in (("ApplyEyeMakeup", "v_ApplyEyeMakeup"), ("HandstandPushups", "v_HandStandPushups")):
        touch(root, *(f"UCF-101/{class_name}/{stem}_{video}.avi" for video in videos))
    for split, held_out in ((1, "g01"), (2, "g02"), (3, "g08")):
        train, test = [], []
        for number, (class_name, stem) in enumerate(
            (("ApplyEyeMakeup", "v_ApplyEyeMakeup"), ("HandstandPushups", "v_HandStandPushups")), start=1
        ):
            for video in videos:
                line = f"{class_name}/{stem}_{video}.avi"
                if video.startswith(held_out):
                    test.append(line)
                else:
                    train.append(f"{line} {number}")
        # The published lists have the line ends of Windows.
        write(root / f"ucfTrainTestlist/trainlist{split:02}.txt", "\r\n".join(train) + "\r\n")
        write(root / f"ucfTrainTestlist/testlist{split:02}.txt", "\r\n".join(test) + "\r\n")
    return root


def test_ucf101(tmp_path):
    root = ucf101(tmp_path)
    assert split_numbers(root) == (1, 2, 3)
    data = labelled_set(root, split=2)
    assert (data.name, data.media) == ("UCF101 split 2", "video")
    assert data.class_names == ("ApplyEyeMakeup", "HandstandPushups")
    assert names(data.test) == [
        "v_ApplyEyeMakeup_g02_c01.avi",
        "v_ApplyEyeMakeup_g02_c02.avi",
        "v_HandStandPushups_g02_c01.avi",  # the folder of this class is spelled otherwise than its files
        "v_HandStandPushups_g02_c02.avi",
    ]
    assert [item.label for item in data.test] == [0, 0, 1, 1]
    # A source is class and group: groups of another class are other recordings.
    assert [item.source for item in data.test] == ["ApplyEyeMakeup g02"] * 2 + ["HandstandPushups g02"] * 2
    assert len(data.train) == 8
    assert not {item.source for item in data.train} & {item.source for item in data.test}


def test_ucf101_re_encoded_files_are_found(tmp_path):
    root = ucf101(tmp_path)
    for path in list((root / "UCF-101").rglob("*.avi")):
        path.rename(path.with_suffix(".mp4"))
    assert names(labelled_set(root).test)[0] == "v_ApplyEyeMakeup_g01_c01.mp4"


def test_errors_of_ucf101_name_file_and_line(tmp_path):
    root = ucf101(tmp_path)
    with pytest.raises(ValueError, match=r"split is 4, but .* has splits 1 to 3"):
        labelled_set(root, split=4)
    write(root / "ucfTrainTestlist/testlist01.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\nNoClass/v.avi\n")
    with pytest.raises(ValueError, match=r"testlist01.txt:2: got 'NoClass/v.avi', expected e.g. 'Apply"):
        labelled_set(root)
    write(root / "ucfTrainTestlist/testlist01.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi 2\n")
    with pytest.raises(ValueError, match=r"testlist01.txt:1: got .* a class and its number"):
        labelled_set(root)
    (root / "ucfTrainTestlist/testlist01.txt").unlink()
    with pytest.raises(ValueError, match=r"testlist01.txt is missing; expected\n  ROOT/UCF-101/CLASS"):
        labelled_set(root)


def test_missing_files_are_counted_named_and_past_a_budget_an_error(tmp_path, caplog):
    root = ucf101(tmp_path)
    (root / "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c02.avi").unlink()
    with pytest.raises(
        ValueError, match=r"1 of 12 files .* are missing, more than 0.01 of them:\n  .*trainlist01.t"
    ):
        labelled_set(root)
    with pytest.raises(ValueError, match=re.escape("Go on without them by --missing-budget 0.084.")):
        labelled_set(root)
    with caplog.at_level(logging.WARNING):
        data = labelled_set(root, missing_budget=0.084)
    assert len(data.train) == 7
    assert "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c02.avi" in caplog.text


def test_a_sample_in_both_splits_is_an_error(tmp_path):
    root = ucf101(tmp_path)
    with (root / "ucfTrainTestlist/testlist01.txt").open("a") as file:
        file.write("ApplyEyeMakeup/v_ApplyEyeMakeup_g02_c01.avi\n")
    with pytest.raises(
        ValueError, match=r"testlist01.txt:5: .*g02_c01.avi is a training sample, too .*list01.txt:1"
    ):
        labelled_set(root)


def test_hmdb51(tmp_path):
    films = ["April_09", "Brush#1_!&", "The[Film];(x)"]
    for class_name in ("brush_hair", "cartwheel"):
        files = [f"{film}_{class_name}_u_nm_np1_ba_goo_{number}.avi" for film in films for number in (0, 1)]
        touch(tmp_path, *(f"{class_name}/{name}" for name in files))
        for split in (1, 2, 3):
            use = {(split - 1) % 3: 1, split % 3: 2, (split + 1) % 3: 0}  # film -> train, test, unused
            lines = "".join(f"{name} {use[number // 2]} \n" for number, name in enumerate(files))
            write(tmp_path / f"testTrainMulti_7030_splits/{class_name}_test_split{split}.txt", lines)
    data = labelled_set(tmp_path, split=1)
    assert data.class_names == ("brush_hair", "cartwheel")
    assert [item.source for item in data.train] == ["April_09"] * 4
    assert [item.source for item in data.test] == ["Brush#1_!&"] * 4
    assert [item.label for item in data.test] == [0, 0, 1, 1]
    write(tmp_path / "testTrainMulti_7030_splits/cartwheel_test_split1.txt", "x.avi 3\n")
    with pytest.raises(
        ValueError, match=r"cartwheel_test_split1.txt:1: got 'x.avi 3', expected a file name and 1"
    ):
        labelled_set(tmp_path)


RIDING_AND_YOGA = '"riding, a bike",-3B32lodo2M,59,69,train\nyoga,abc,0,10,train\n'


@pytest.mark.parametrize("by_class", [False, True])
def test_kinetics(tmp_path, by_class):
    heading = "label,youtube_id,time_start,time_end,split\n"
    write(
        tmp_path / "annotations/train.csv",
        heading + '"riding, a bike",-3B32lodo2M,59,69,train\nyoga,abc,0,10,train\n',
    )
    write(tmp_path / "annotations/val.csv", heading + "yoga,xyz,172,182,validate\n")
    folder = {"riding": "riding a bike/", "yoga": "yoga/"} if by_class else {"riding": "", "yoga": ""}
    touch(
        tmp_path,
        f"train/{folder['riding']}-3B32lodo2M_000059_000069.mp4",
        f"train/{folder['yoga']}abc_000000_000010.mp4",
    )
    touch(tmp_path, f"val/{folder['yoga']}xyz_000172_000182.mp4")
    data = labelled_set(tmp_path)
    assert data.class_names == ("riding, a bike", "yoga")
    assert [(item.label, item.source) for item in data.train] == [(0, "-3B32lodo2M"), (1, "abc")]
    assert names(data.test) == ["xyz_000172_000182.mp4"] and data.test[0].label == 1
    write(tmp_path / "annotations/val.csv", heading + "juggling,xyz,172,182,validate\n")
    with pytest.raises(ValueError, match=r"val.csv:2: the class 'juggling' does not occur in the training list"):
        labelled_set(tmp_path)


def test_something_something(tmp_path):
    write(
        tmp_path / "labels/labels.json",
        json.dumps({"Holding something next to something": "0", "Poking a hole": "1"}),
    )
    entry = {"label": "holding potato next to bottle", "template": "Holding [something] next to [something]"}
    write(
        tmp_path / "labels/train.json",
        json.dumps([{"id": "78687", **entry}, {"id": "9", "template": "Poking a hole"}]),
    )
    write(tmp_path / "labels/validation.json", json.dumps([{"id": "74225", **entry}]))
    touch(tmp_path, *(f"20bn-something-something-v2/{number}.webm" for number in (78687, 9, 74225)))
    data = labelled_set(tmp_path)
    assert data.class_names == ("Holding something next to something", "Poking a hole")
    assert [(item.path.name, item.label) for item in data.train] == [("78687.webm", 0), ("9.webm", 1)]
    assert [(item.path.name, item.label) for item in data.test] == [("74225.webm", 0)]
    write(tmp_path / "labels/validation.json", json.dumps([{"id": "74225", "template": "Other"}]))
    with pytest.raises(ValueError, match=r"validation.json: entry 0: 'Other' is not in labels.json"):
        labelled_set(tmp_path)


@pytest.mark.parametrize(("suffix", "media"), [("JPEG", "image"), ("mp4", "video"), ("flac", "audio")])
def test_imagenet_style_folders(tmp_path, suffix, media):
    touch(tmp_path, *(f"train/{name}/{name}_{number}.{suffix}" for name in ("n02", "n01") for number in (10, 9)))
    touch(tmp_path, f"val/n02/val_1.{suffix}", "train/n01/.hidden.jpg", "train/n01/notes.txt")
    data = labelled_set(tmp_path)
    assert (data.media, data.class_names) == (media, ("n01", "n02"))
    assert names(data.train) == [f"{name}_{number}.{suffix}" for name in ("n01", "n02") for number in (9, 10)]
    assert [item.label for item in (*data.train, *data.test)] == [0, 0, 1, 1, 1]


def test_files_of_several_kinds_are_an_error(tmp_path):
    touch(tmp_path, "train/a/1.jpg", "train/a/2.mp4", "val/a/3.jpg")
    with pytest.raises(ValueError, match=r"all be videos, all images or all sounds; there are image .*video "):
        labelled_set(tmp_path)


def test_esc50_holds_out_the_fold(tmp_path):
    rows = [
        f"{fold}-100{number}-A-0.wav,{fold},0,dog,True,100{number},A" for fold in range(1, 6) for number in (0, 1)
    ]
    rows += [f"{fold}-200-A-1.wav,{fold},1,rooster,True,200,A" for fold in range(1, 6)]
    write(
        tmp_path / "meta/esc50.csv", "filename,fold,target,category,esc10,src_file,take\n" + "\n".join(rows) + "\n"
    )
    touch(tmp_path, *(f"audio/{row.split(',')[0]}" for row in rows))
    assert split_numbers(tmp_path) == (1, 2, 3, 4, 5)
    data = labelled_set(tmp_path, split=4)
    assert (data.media, len(data.train), len(data.test)) == ("audio", 12, 3)
    assert {item.path.name[0] for item in data.test} == {"4"}
    assert [item.source for item in data.test] == ["1000", "1001", "200"]


def test_a_split_is_drawn_by_recording_and_class(tmp_path, caplog):
    touch(tmp_path, *(f"run/film{film}_{clip}.mp4" for film in range(10) for clip in (1, 2, 3)))
    touch(tmp_path, *(f"jump/film{film}_{clip}.mp4" for film in range(20, 25) for clip in (1, 2)), "once/x.mp4")
    with caplog.at_level(logging.INFO):
        data = labelled_set(tmp_path, source_pattern=r"(film\d+)_", seed=3)
    assert "3 of 16 recordings (seed 3) are held out as the test split, 8 of 41 samples" in caplog.text
    assert not {item.source for item in data.train} & {item.source for item in data.test}
    by_class = [[item.label for item in data.test].count(label) for label in range(3)]
    # A fifth of the recordings of jump and run; the class of one file stays in training.
    assert by_class == [2, 0, 6]
    assert labelled_set(tmp_path, source_pattern=r"(film\d+)_", seed=3) == data
    draws = {tuple(labelled_set(tmp_path, source_pattern=r"(film\d+)_", seed=seed).test) for seed in range(8)}
    assert len(draws) > 4


def test_parts_of_a_file_stay_together_in_a_drawn_split(tmp_path, caplog):
    touch(tmp_path, *(f"{number}.mp4" for number in range(6)))
    rows = "".join(f"{number}.mp4,{number % 2},{start},{start + 2}\n" for number in range(6) for start in (0, 2))
    write(tmp_path / "parts.csv", "path,label,start_s,end_s\n" + rows)
    data = labelled_set(tmp_path / "parts.csv")
    assert not {item.path for item in data.train} & {item.path for item in data.test}
    assert {(item.start_seconds, item.end_seconds) for item in data.test} == {(0.0, 2.0), (2.0, 4.0)}
    # A list that puts parts of one file on both sides may mean it; it is told.
    rows = "".join(f"{number}.mp4,{number},{start},{start + 2},{'test' if start else 'train'}\n"
                   for number in range(6) for start in (0, 2))  # fmt: skip
    write(tmp_path / "instances.csv", "path,label,start_s,end_s,split\n" + rows)
    with caplog.at_level(logging.WARNING):
        labelled_set(tmp_path / "instances.csv")
    assert "6 files have parts in both splits" in caplog.text


def test_a_list_whose_columns_the_caller_names(tmp_path):
    touch(tmp_path, *(f"{digit}_{speaker}.wav" for digit in (2, 10) for speaker in ("ann", "bob", "cy")))
    rows = "".join(
        f"{digit}_{speaker}.wav,{digit},{speaker}\n" for digit in (2, 10) for speaker in ("ann", "bob", "cy")
    )
    path = tmp_path / "labels.csv"
    write(path, "file,digit,speaker\n" + rows)
    columns = Columns(label="digit", split="speaker", test_values=("cy",))
    data = labelled_set(path, columns=columns)
    assert data.class_names == ("2", "10") and data.media == "audio"
    assert names(data.test) == ["2_cy.wav", "10_cy.wav"]
    with pytest.raises(
        ValueError, match="no column 'label'; say which it is by --label-column: file, digit, speaker"
    ):
        labelled_set(path)
    with pytest.raises(ValueError, match="no column 'word'; it has file, digit, speaker"):
        labelled_set(path, columns=Columns(label="word"))
    with pytest.raises(ValueError, match="no sample has the split dan; there are ann, bob, cy"):
        labelled_set(path, columns=Columns(label="digit", split="speaker", test_values=("dan",)))
    with pytest.raises(
        ValueError, match=r"neither train nor test: ann, bob, cy; say which values .* --test-values"
    ):
        labelled_set(path, columns=Columns(label="digit", split="speaker"))


def test_lists_without_heading(tmp_path, caplog):
    touch(tmp_path, "a b.mp4", "c.mp4", "d.mp4", "e.mp4")
    write(tmp_path / "plain.csv", "a b.mp4,run,train\nc.mp4,jump,train\nd.mp4,run,val\ne.mp4,run,test\n")
    with caplog.at_level(logging.INFO):
        data = labelled_set(tmp_path / "plain.csv")
    assert (names(data.train), names(data.test)) == (["a b.mp4", "c.mp4"], ["e.mp4"])
    assert "1 samples of the split 'val' are not used" in caplog.text
    write(tmp_path / "spaces.txt", "a b.mp4 run\nc.mp4 run\nd.mp4 jump\ne.mp4 jump\n")
    data = labelled_set(tmp_path / "spaces.txt")
    assert len(data.train) == len(data.test) == 2 and data.class_names == ("jump", "run")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.mp4\n", r"x.csv:2: has no label, unlike line 1; either every line has a label or none"),
        ("path,label,start_s\na.mp4,run,soon\n", r"x.csv:2: 'soon' is no time in seconds"),
        (
            "path,label,start_s,end_s\na.mp4,run,2,2\n",
            r"x.csv:2: the part ends at 2.0 s, not after its start at 2.0",
        ),
        ("path,label\na.mp4,\n", r"x.csv:2: the label is empty; a comma separates the columns"),
        (
            "path,label\nb.mp4,run\na.mp4,run\n",
            r"1 of 2 files .*missing.*\n  .*x.csv:2: b.mp4\n.*budget 0.5.*\n  LIST",
        ),
        ("path,label\n", r"x.csv lists no files; expected one per line, e.g. 'clips/run.mp4,0'"),
    ],
)
def test_malformed_lists(tmp_path, text, message):
    touch(tmp_path, "a.mp4")
    write(tmp_path / "x.csv", text)
    with pytest.raises(ValueError, match=message):
        labelled_set(tmp_path / "x.csv")


def test_a_folder_of_no_layout_shows_them_all(tmp_path):
    touch(tmp_path, "1.mp4", "labels.csv")
    with pytest.raises(
        ValueError, match=r"no layout that is known; to read a list, give the list itself .labels.csv"
    ) as error:
        labelled_set(tmp_path)
    assert all(tree.splitlines()[0] in str(error.value) for tree in TREES.values())
    with pytest.raises(ValueError, match=r"nowhere does not exist; give the folder"):
        labelled_set(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"val is missing; expected\n  ROOT/train/CLASS/FILE"):
        labelled_set(tmp_path, layout="imagenet")


def test_lists_of_real_data(shared):
    media = shared / "data/media"
    signs = labelled_set(media / "asl_gestures/labels.csv", columns=Columns(label="signer"))
    assert (signs.media, signs.class_names, len(signs.train), len(signs.test)) == ("video", tuple("ABCDE"), 15, 5)
    sounds = labelled_set(media / "audio_esc10/labels.csv", columns=Columns(split="fold", test_values=("4",)))
    assert (sounds.media, len(sounds.class_names), len(sounds.train), len(sounds.test)) == ("audio", 10, 240, 80)
    digits = labelled_set(
        media / "audio_fsdd/labels.csv", columns=Columns(label="digit", split="speaker", test_values=("theo",))
    )
    assert (len(digits.class_names), len(digits.train), len(digits.test)) == (10, 350, 70)
    images = labelled_set(media / "images_camtrap/labels.csv")
    assert (images.media, len(images.class_names), len(images.train), len(images.test)) == ("image", 7, 14, 7)
    parts = labelled_set(media / "instance_timesplit.csv", columns=Columns(label="instance"))
    assert (parts.media, len(parts.class_names), len(parts.train) + len(parts.test)) == ("video", 43, 781)
    toys = labelled_set(
        media / "toys/labels.csv", columns=Columns(label="object", split="codec", test_values=("vp8",))
    )
    assert [len(toys.class_names), len(toys.train), len(toys.test)] == [6, 6, 6]
