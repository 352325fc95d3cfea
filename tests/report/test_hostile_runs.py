"""Run folders that strangers filled: a page shows what lies in the run, and refuses the rest in one line."""

import dataclasses
import json
import os
import shutil
import struct
import zlib
from pathlib import Path

import pytest
from report.test_comparison import write_result
from report.test_page import write_run
from tiny_davis import write_davis

from vidssl.cli import main
from vidssl.evaluate.propagation.davis import evaluate_davis
from vidssl.evaluate.propagation.protocols import CRW
from vidssl.models import ResNet, export_encoder
from vidssl.report import charts
from vidssl.report.comparison import write_comparison
from vidssl.report.page import write_report


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with data in the layout of DAVIS and a run that was measured on them, and on features."""
    folder = tmp_path_factory.mktemp("hostile")
    root = write_davis(folder / "davis", {"still": 0})
    run = write_run(folder / "run")
    encoder = ResNet(18, width=4).eval().requires_grad_(False)
    export_encoder(encoder, run / "encoder.safetensors")
    protocol = dataclasses.replace(CRW, short_side=32)
    evaluate_davis(
        encoder, root=root, out=run / "evaluate" / "davis", model_name="runs/x", protocol=protocol, command="x"
    )
    settings = {"data": "x", "layers": ["layer4"], "views": {"clips": 1}}
    write_result(run / "evaluate" / "knn", 0.5, task="knn", protocol=None, settings=settings, num_sequences=None)
    return folder


@pytest.fixture
def place(made, tmp_path, monkeypatch) -> Path:
    """A copy of it whose charts, which take long and read nothing, are not drawn."""
    shutil.copytree(made, tmp_path / "copy")
    for name in ("bars", "along", "curve", "bars_with_spread", "dots"):
        monkeypatch.setattr(charts, name, lambda *_, **__: "<svg/>")
    path = tmp_path / "copy/run/evaluate/davis/result.json"
    text = path.read_text().replace(str(made), str(tmp_path / "copy"))
    path.write_text(text)
    return tmp_path / "copy"


def said_of(capsys, *words: str) -> str:
    """What a command refuses with: one line."""
    assert main(words) == 2
    text = capsys.readouterr().err
    assert "Traceback" not in text
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, text
    return lines[0]


def test_the_data_of_a_run_are_shown_where_no_link_leads_out_of_them(place, caplog):
    page = write_report(place / "run").read_text()
    assert page.count("data:image/jpeg") > 3 and "no pictures of masks" not in caplog.text
    # A stranger ships data of his own in which a folder of frames is one of the reader's.
    frames = place / "davis/JPEGImages/480p/still"
    frames.rename(place / "private")
    frames.symlink_to(place / "private")
    page = write_report(place / "run").read_text()
    assert "data:image/jpeg" not in page
    assert "no pictures of masks" in caplog.text and "or is a link" in caplog.text


@pytest.mark.parametrize(
    "name", ["davis/masks/still/00002.png", "davis/overlays/still.mp4", "knn/overlays/bear.png"]
)
def test_what_an_evaluation_drew_is_no_link(place, capsys, name):
    path = place / "run/evaluate" / name
    path.parent.mkdir(exist_ok=True)
    source = path if path.exists() else place / "run/evaluate/davis/overlays/still.png"
    shutil.copy(source, place / path.name)
    path.unlink(missing_ok=True)
    path.symlink_to(place / path.name)
    assert "or is a link" in said_of(capsys, "report", str(place / "run"))


@pytest.mark.parametrize("name", ["../../../secret", "/etc/passwd", "a/../../../../secret"])
def test_names_of_sequences_lead_nowhere(place, capsys, name):
    (place / "secret.json").write_text("{}")
    path = place / "run/evaluate/davis/result.json"
    result = json.loads(path.read_text())
    result["parts"] = {name: result["parts"]["still"]}
    path.write_text(json.dumps(result))
    assert "leads out of" in said_of(capsys, "report", str(place / "run"))


@pytest.mark.parametrize("where", ["evaluate/knn", "evaluate/knn/result.json", "run.json"])
def test_comparisons_follow_no_links(place, where):
    """Neither to a result nor to the folder of one, nor to the record of a run."""
    path, outside = place / "run" / where, place / "outside"
    path.rename(outside)
    path.symlink_to(outside)
    with pytest.raises(ValueError, match="is a link"):
        write_comparison([place / "run"], place / "page.html")


def test_the_run_that_a_result_names_is_no_link(place):
    """The name of the model of a result says where its run is."""
    path = place / "run/evaluate/knn/result.json"
    (place / "named").mkdir()
    (place / "named/run.json").symlink_to(place / "run/run.json")
    result = json.loads(path.read_text())
    result["model"]["name"] = str(place / "named")
    path.write_text(json.dumps(result))
    with pytest.raises(ValueError, match=r"named/run\.json leads out of .* or is a link"):
        write_comparison([path.parent], place / "page.html")


@pytest.mark.parametrize("name", ["evaluate/knn/result.json", "evaluate/davis/sequences/still.json"])
def test_pipes_are_refused_and_not_waited_for(place, capsys, name):
    (place / "run" / name).unlink()
    os.mkfifo(place / "run" / name)
    assert "is no regular file" in said_of(capsys, "report", str(place / "run"))


def test_pictures_that_claim_to_be_huge_or_are_none_are_named(place, capsys):
    """A sheet of 40,000 x 40,000 pixels in 60 bytes: Pillow's own limit is an error of a kind that nobody expects."""
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0), b"IDAT", b"IEND")
    chunks = [struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in chunks]
    huge = b"".join([b"\x89PNG\r\n\x1a\n", *chunks])
    sheet = place / "run/evaluate/knn/overlays/bear.png"
    sheet.parent.mkdir()
    for content, reason in ((huge, "claims 40000 x 40000 pixels"), (b"no picture", "is no readable image")):
        sheet.write_bytes(content)
        said = said_of(capsys, "report", str(place / "run"))
        assert reason in said and str(sheet) in said
