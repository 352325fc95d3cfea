"""One reader of lists for every command: the separators, headings and names that the lists of others have."""

import logging
import os
from pathlib import Path

import pytest

from vidssl.cli import main
from vidssl.data.lists.lists import Columns, read_list
from vidssl.data.lists.sources import find
from vidssl.data.published.labelled import _list, labelled_set

pytestmark = pytest.mark.usefixtures("looked_at_here")

FILES = ("clips/a.mp4", "clips/b c.mp4", "clips/d,e.mp4", "clips/f;g.mp4")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    for name in FILES:
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def rows(path: Path) -> list[tuple[str, str]]:
    return [
        (os.fspath(row.path.relative_to(path.parent)), row.texts.get("label", "")) for row in read_list(path).rows
    ]


@pytest.mark.parametrize(
    ("name", "text", "separator"),
    [
        ("slowfast.csv", "clips/a.mp4 0\nclips/b c.mp4 1\n", "a space"),
        ("slowfast.txt", "clips/a.mp4   0\r\nclips/b c.mp4\u00201\r\n\r\n", "a space"),
        ("vjepa.csv", '"clips/b c.mp4" 0\nclips/a.mp4 1\n', "a space"),
        ("vjepa2.csv", "clips/b c.mp4::0\nclips/d,e.mp4::1\n", "two colons"),
        ("tabs.tsv", "clips/b c.mp4\t0\nclips/d,e.mp4\t1\n", "a tab"),
        ("tabs.csv", "\ufefffile\tclass\r\nclips/f;g.mp4\t0\r\nclips/a.mp4\t1\r\n", "a tab"),
        ("semicolons.csv", "path;label\nclips/d,e.mp4;0\nclips/b c.mp4;1\n", "a semicolon"),
        ("semicolons.txt", 'clips/a.mp4; 0\n"clips/f;g.mp4"; 1\n', "a semicolon"),
        ("commas.txt", "clips/a.mp4,0\nclips/b c.mp4, 1\n", "a comma"),
        ("quoted.csv", '"clips/d,e.mp4",0\nclips/a.mp4,1\n', "a comma"),
        ("other_order.csv", "label,filepath\n0,clips/a.mp4\n1,clips/b c.mp4\n", "a comma"),
        ("old_mac.csv", "path,label\rclips/a.mp4,0\rclips/b c.mp4,1\r", "a comma"),
        ("spaces.csv", "path label split\nclips/a.mp4 0 train\nclips/b_c.mp4 1 test\n", "a space"),
    ],
)
def test_case_16_every_separator_is_found_and_named(place: Path, name: str, text: str, separator: str) -> None:
    (place / "clips/b_c.mp4").write_bytes(b"")
    (place / name).write_bytes(text.encode())
    listing = read_list(place / name)
    assert [row.texts["label"] for row in listing.rows] == ["0", "1"]
    assert all(row.path.is_file() for row in listing.rows) and len({row.path for row in listing.rows}) == 2
    assert f"2 lines, {', '.join(listing.columns)} separated by {separator}" in listing.description
    # What pretraining and checking find is what evaluations find.
    found = find(place / name, labels="none", media="video")
    assert found.paths == [row.path for row in listing.rows] and found.labels == [0, 1]
    assert [row.path for row in _list(place / name, Columns())] == found.paths


@pytest.mark.parametrize("name", ["l.txt", "l.csv"])
def test_case_16_paths_alone_may_hold_what_separates(place: Path, name: str) -> None:
    (place / name).write_text("".join(f"{one}\n" for one in FILES))
    assert rows(place / name) == [(one, "") for one in FILES]
    (place / name).write_text("".join(f'"{one}"\n' for one in FILES))
    assert rows(place / name) == [(one, "") for one in FILES]
    assert "4 lines, one path each" in read_list(place / name).description


def test_case_16_classes_and_files_with_spaces_where_spaces_separate(place: Path) -> None:
    (place / "clips/h i.mp4").write_bytes(b"")
    (place / "l.txt").write_text("clips/a.mp4 jumping jack\nclips/b c.mp4 long jump\nclips/h i.mp4 run\n")
    assert rows(place / "l.txt") == [
        ("clips/a.mp4", "jumping jack"),
        ("clips/b c.mp4", "long jump"),
        ("clips/h i.mp4", "run"),
    ]


def test_case_16_columns_without_use_are_named_and_missing_files_do_not_decide(place: Path) -> None:
    path = place / "l.csv"
    path.write_text("file,label,fold,url\nclips/gone.mp4,x,1,u\nclips/d.mp4,y,2,u\n")
    listing = read_list(path)
    assert "path, label separated by a comma; not used: fold, url" in listing.description
    path.write_text("clips/gone 1.mp4 0\nclips/gone 2.mp4 1\n")
    assert [row.texts["path"] for row in read_list(path).rows] == ["clips/gone 1.mp4", "clips/gone 2.mp4"]
    path.write_text("clips/gone.mp4;0\nclips/a.mp4;1\n")  # one file of two is there
    assert "separated by a semicolon" in read_list(path).description


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "clips/a.mp4,0\nclips/a.mp4;1\n",
            r":1: can be read in two ways: separated by a comma it is 'clips/a.mp4' and",
        ),
        (
            "clips/v 1\nclips/v 2\n",
            r":1: can be read in two ways: separated by a space it is 'clips/v' and '1', by noth",
        ),
    ],
)
def test_case_16_an_ambiguous_separator_is_told(place: Path, text: str, message: str) -> None:
    for folder in ("v", "v 1", "v 2"):
        (place / "clips" / folder).mkdir()
    (place / "l.txt").write_text(text)
    for read in (read_list, labelled_set, lambda path: find(path, labels="none", media="video")):
        with pytest.raises(ValueError, match=message):
            read(place / "l.txt")
    (place / "l.txt").write_text('"clips/v 1" 0\n"clips/v 2" 1\n')  # as the message advises
    assert rows(place / "l.txt") == [("clips/v 1", "0"), ("clips/v 2", "1")]


def test_case_16_absolute_paths_below_the_list_are_taken_and_others_if_that_is_allowed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place / "annotations" / "train.csv"
    path.parent.mkdir()
    path.write_text(f"{place}/clips/a.mp4 0\n{place}/clips/b c.mp4 1\n")
    with pytest.raises(ValueError, match=r"train\.csv:1: .* leads out of .*annotations.*VIDSSL_ALLOW_OUTSIDE=1"):
        read_list(path)
    path.rename(place / "train.csv")
    assert rows(place / "train.csv") == [("clips/a.mp4", "0"), ("clips/b c.mp4", "1")]
    monkeypatch.chdir(place)
    assert len(read_list(Path("train.csv")).rows) == 2  # a list named from where one is
    (place / "train.csv").rename(path)
    monkeypatch.setenv("VIDSSL_ALLOW_OUTSIDE", "1")
    assert [row.path for row in read_list(path).rows] == [place / "clips/a.mp4", place / "clips/b c.mp4"]
    assert len(find(path, labels="none", media="video", allow_outside=None).paths) == 2
    assert [row.path for row in _list(path, Columns())] == [place / "clips/a.mp4", place / "clips/b c.mp4"]


def test_case_16_a_heading_with_other_names_is_no_file_that_is_missing(place: Path) -> None:
    (place / "l.csv").write_text("clip,kind\n" + "clips/a.mp4,x\nclips/b c.mp4,x\n" * 100)
    for read in (labelled_set, lambda path: find(path, labels="none", media="video")):
        with pytest.raises(
            ValueError, match=r"l\.csv:1: .*clip does not exist; if the line is a heading, call the col"
        ):
            read(place / "l.csv")


def test_case_16_parts_of_files_are_refused_where_whole_ones_are_read(place: Path) -> None:
    (place / "l.csv").write_text("path,label,start_s,end_s\nclips/a.mp4,x,0,1\nclips/a.mp4,y,1,2\n")
    with pytest.raises(ValueError, match=r"l\.csv lists parts of files .*cut the files first"):
        find(place / "l.csv", labels="none", media="video").refuse_parts()


def test_case_16_data_check_says_how_it_read_a_list(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    (place / "l.csv").write_text("clips/a.mp4 0\nclips/b c.mp4 1\n")
    logging.getLogger("vidssl").setLevel(logging.INFO)
    with caplog.at_level(logging.INFO):
        assert main(["data", "check", str(place / "l.csv")]) == 1  # the files are empty
    assert "l.csv: 2 lines, path, label separated by a space" in caplog.text
    (place / "l.csv").write_text("path,label,split\nclips/a.mp4,0,train\nclips/b c.mp4,1,test\n")
    with caplog.at_level(logging.INFO):
        assert len(find(place / "l.csv", labels="none", media="video").paths) == 2
    assert "path, label, split separated by a comma; taken from every split: test, train" in caplog.text


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le", "utf-8-sig", "utf-8"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lists_of_spreadsheets_and_shells_are_read_whatever_their_encoding(
    place: Path, encoding: str, end: str
) -> None:
    (place / "clips/\u00fc.mp4").write_bytes(b"")
    text = end.join(["path\tlabel", "clips/\u00fc.mp4\t1", "clips/b c.mp4\t0", ""])
    mark = {"utf-16-be": b"\xfe\xff", "utf-16-le": b"\xff\xfe"}.get(encoding, b"")
    (place / "l.csv").write_bytes(mark + text.encode(encoding))
    assert rows(place / "l.csv") == [("clips/\u00fc.mp4", "1"), ("clips/b c.mp4", "0")]


@pytest.mark.parametrize("content", [b"\xff\xfec\0l\0i", "clips/a.mp4 0".encode("utf-16-le"), b"\0c\0l"])
def test_what_is_no_text_is_told(place: Path, content: bytes) -> None:
    (place / "l.txt").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"l\.txt is no text of UTF-(8, nor of UTF-16|16, though).*save it as UTF-8"
    ):
        read_list(place / "l.txt")


def test_lists_of_benchmarks_are_read_whatever_their_encoding(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "videos" / name).write_bytes(b"")
    (tmp_path / "meta").mkdir()
    (tmp_path / "audio").mkdir()
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for number in (1, 2):
        (tmp_path / f"audio/{number}.wav").write_bytes(b"")
        lines.append(f"{number}.wav,{number},0,dog,True,{number},A")
    (tmp_path / "meta/esc50.csv").write_bytes("\r\n".join(lines).encode("utf-16"))
    found = labelled_set(tmp_path)
    assert [item.path.name for item in (*found.train, *found.test)] == ["2.wav", "1.wav"]


def test_frame_lists_of_mmaction_are_read_without_the_number_of_frames(place: Path) -> None:
    """FOLDER NUM_FRAMES LABEL: the class was "120 0"."""
    for name in ("walk 1", "run"):
        (place / "clips" / name).mkdir()
    (place / "l.txt").write_text("clips/walk 1 120 0\nclips/run 7 1\n")
    listing = read_list(place / "l.txt")
    assert rows(place / "l.txt") == [("clips/walk 1", "0"), ("clips/run", "1")]
    assert listing.description.endswith("path, label separated by a space; not used: the number of frames")
    assert find(place / "l.txt", labels="none", media="video").labels == [0, 1]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("clips/run 7 1\nclips/a.mp4 0\n", 1),  # frames in one line, none in the other
        ("clips/a.mp4 120 0\nclips/b c.mp4 9 1\n", 1),  # no folder
        ("clips/run 1 7 1\n", 1),  # with a first frame
    ],
)
def test_several_numbers_behind_a_path_are_no_class(place: Path, text: str, line: int) -> None:
    (place / "clips/run").mkdir()
    (place / "l.txt").write_text(text)
    with pytest.raises(
        ValueError, match=rf"l\.txt:{line}: several numbers behind the path: '[\d ]+'; expected path"
    ):
        read_list(place / "l.txt")


def test_a_sample_under_two_labels_is_refused_and_one_listed_again_is_counted(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (place / "l.csv").write_text("path,label\nclips/a.mp4,0\nclips/b c.mp4,1\nclips/../clips/a.mp4,1\n")
    with pytest.raises(
        ValueError, match=r"l\.csv:4: 'clips/\.\./clips/a\.mp4' has the label '1' here and '0' in .*:2"
    ):
        find(place / "l.csv", labels="none", media="video")
    with pytest.raises(ValueError, match=r"l\.csv:4: .* a sample has one: keep one of the lines"):
        labelled_set(place / "l.csv")
    lines = ["clips/a.mp4,0,train", "clips/b c.mp4,1,test", "clips/a.mp4,0,train", "clips/b c.mp4,1,test"]
    (place / "l.csv").write_text("\n".join(["path,label,split", *lines]))
    caplog.clear()
    assert len(labelled_set(place / "l.csv").test) == 2
    assert caplog.messages[0].endswith(
        "2 lines name a sample that is listed before (l.csv:4 as l.csv:2, l.csv:5 as l.csv:3); it counts each time"
    )
    # Parts of one file are samples of their own.
    (place / "l.csv").write_text("path,label,start_s,end_s\nclips/a.mp4,0,0,1\nclips/a.mp4,1,1,2\n")
    caplog.clear()
    assert len(read_list(place / "l.csv").rows) == 2 and not caplog.messages


def test_published_lists_name_a_sample_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "train").mkdir()
    heading = "label,youtube_id,time_start,time_end,split"
    for split, name in (("train", "a"), ("val", "b")):
        (tmp_path / split / f"{name}_000001_000002.mp4").write_bytes(b"")
        lines = [heading, f"run,{name},1,2,{split}", f"run,{name},1,2,{split}"]
        if split == "train":
            (tmp_path / "train/c_000001_000002.mp4").write_bytes(b"")
            lines.append("walk,c,1,2,train")
        (tmp_path / f"{split}.csv").write_text("\n".join(lines))
    assert len(labelled_set(tmp_path).test) == 2
    assert "2 lines name a sample that is listed before (train.csv:3 as train.csv:2, val.csv:3" in caplog.text
    (tmp_path / "val.csv").write_text("\n".join([heading, "run,b,1,2,val", "walk,b,1,2,val"]))
    with pytest.raises(ValueError, match=r"val\.csv:3: .*has the label 'walk' here and 'run' in .*val\.csv:2"):
        labelled_set(tmp_path)
