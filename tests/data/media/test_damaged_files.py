"""Damage of all kinds: what comes without a word is whole and right, and the process lives."""

import base64
import collections
import importlib.util
import zlib
from fractions import Fraction
from pathlib import Path

import pytest
from damaged_files import (
    FPS,
    NUM_FRAMES,
    SOURCES,
    examine_all,
    number_of,
    numbered,
    outcome,
    write_sources,
)

from vidssl.data.corpus.audit import audit
from vidssl.data.corpus.scan import scan
from vidssl.data.media.audit import audit_file
from vidssl.data.media.video import open_video

RIGHT = {"whole", "whole, other times", "flagged", "refused"}
# A flipped bit in coded pictures that still decode: no checksum tells, and the frame is the one that was asked for.
DAMAGED = "whole, damaged pictures, not flagged"

DEEP = (
    "eNqTcr2/eL5TWyOj03cg/tTI4vS5kcOpqaU8NSnXqb2Ryam1kUkiuCGdkQEEGB8J+s4u2eW7uzt4dYuo58q04DWNCyE8sZB12UDe"
    "Md/dPUCeUMjh9OA1TYzCEK5M8O5sEPfMG4g5DJEMtAIgVy3Qur6xmd/JwbehxSexLC3cEUy5dHY4FB0AKwI59sQ6qFvsrzcyFh/t"
    "gOpnnNPIoLR1TnNpXkpHI0Nba1h8WIBlcyOj8uPmFtavDxkeTNjQKLCrUWBWI1PohpbQnY2MIL9eLS6+lHygOxlhTPqJOa6L2139"
    "nP1dXINc2vuBLkhWyMlMKiuo0C0rsEw/sch1cYdLaJBjiKe/n0v7FAMDKzDSMzaAAgYGeedtpbeeNzIsXt3IwNAwybPZiYGhgqGa"
    "QUaIj0eHgUEigYFBYP//bwvW////XyMeSHzMYGBYPLmRIYVhGoPDpDkMAQwMzAoMDE4OIMETUEG/B1BBUKxM3N2/uZFhexcw9j82"
    "MeZ+aGQGAG/EoSQ="
)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    write_sources(folder)
    return folder


@pytest.mark.parametrize(
    ("backend", "files_per_kind"),
    [
        ("pyav", 8),  # the table of docs/reliability.md counts 50
        pytest.param(
            "decord",
            2,
            marks=pytest.mark.skipif(importlib.util.find_spec("decord") is None, reason="decord is not installed"),
        ),
    ],
)
def test_every_damaged_file_is_whole_or_flagged_or_refused(
    tmp_path: Path, backend: str, files_per_kind: int
) -> None:
    answers = examine_all(tmp_path, files_per_kind=files_per_kind, backend=backend, num_workers=1)
    assert len(answers) == 4 * 7 * files_per_kind
    found = collections.Counter(outcome(answer) for _, answer in answers)
    assert set(found) <= RIGHT | {DAMAGED}
    assert found[DAMAGED] <= 0.01 * len(answers)
    # The damage is real: little of it leaves a file whole, and of every format some are read.
    assert found["whole"] < 0.1 * len(answers)
    assert {source for source, answer in answers if answer["read"] != "refused"} == set(SOURCES)


def test_the_files_before_they_are_damaged_are_whole(sources: Path) -> None:
    for name in SOURCES:
        assert [
            one for one in audit_file(sources / name) if one.kind != "slow: every read decodes from the start"
        ] == []
        with open_video(sources / name) as reader:
            pictures = reader.frames(reader.info.pts_seconds).video.permute(0, 2, 3, 1).numpy()
        assert [number_of(picture) for picture in pictures] == list(range(NUM_FRAMES))


def test_a_number_that_is_half_there_is_none() -> None:
    five, nine = numbered()[[5, 9]]
    assert (number_of(five), number_of(nine)) == (5, 9)
    mixed = five.copy()
    mixed[:36] = nine[:36]
    assert number_of(mixed) is None
    grey = five.copy()
    grey[:16, :16] = 128
    assert number_of(grey) is None


def with_times(source: Path, path: Path, places: dict[int, int]) -> Path:
    """Copy packets; the n-th in order of presentation gets the time of another."""
    import av

    with av.open(str(source)) as read, av.open(str(path), "w") as written:
        stream = read.streams.video[0]
        copy = written.add_stream_from_template(stream)
        packets = [packet for packet in read.demux(stream) if packet.dts is not None]
        times = sorted(packet.pts for packet in packets)
        for packet in packets:
            packet.pts = times[places.get(times.index(packet.pts), times.index(packet.pts))]
            packet.dts -= int(Fraction(1, 2) / stream.time_base)
            packet.stream = copy
            written.mux(packet)
    return path


@pytest.mark.parametrize("places", [{5: 9, 9: 5}, {30: 44, 44: 30}, {21: 22, 22: 21}])
def test_times_that_contradict_the_order_of_the_pictures(
    sources: Path, tmp_path: Path, places: dict[int, int]
) -> None:
    """The table of times is damaged alone: every packet decodes, and only H.264 itself tells the order."""
    path = with_times(sources / "h264.mp4", tmp_path / "a.mp4", places)
    first = audit_file(path)[0]
    assert (first.severity, first.kind) == ("note", "times are put in order")
    with open_video(path) as reader:
        assert reader.info.distrust == "times contradict the order of the pictures"
        pictures = reader.frames(reader.info.pts_seconds).video.permute(0, 2, 3, 1).numpy()
        assert [number_of(picture) for picture in pictures] == list(range(NUM_FRAMES))
    untouched = with_times(sources / "h264.mp4", tmp_path / "b.mp4", {})
    assert audit_file(untouched) == []
    with open_video(untouched) as reader:
        pictures = reader.frames(reader.info.pts_seconds).video.permute(0, 2, 3, 1).numpy()
        assert [number_of(picture) for picture in pictures] == list(range(NUM_FRAMES))


def test_zeros_over_coded_pictures_are_seen(sources: Path, tmp_path: Path) -> None:
    """The decoder makes pictures of them without a word."""
    data = bytearray((sources / "h264_faststart.mp4").read_bytes())
    place, units = data.index(b"mdat") + 4, []
    while place < len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        units.append((size, place + 4))
        place += 4 + size
    size, start = max(units)
    data[start + size - 200 : start + size - 170] = bytes(30)  # inside the largest picture
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    assert "damaged packets" in {one.kind for one in audit_file(path)}
    with open_video(path) as reader:
        assert reader.info.distrust == "packets are damaged"


def test_webm_whose_pictures_decode_to_anything_is_flagged_by_a_second_decoder(
    sources: Path, tmp_path: Path
) -> None:
    data = bytearray((sources / "vp9.webm").read_bytes())
    for place in (9_000, 9_500, 10_000):
        data[place] ^= 0xFF
    path = tmp_path / "a.webm"
    path.write_bytes(data)
    with open_video(path) as reader:  # FFmpeg's own decoder takes it
        assert len(reader.frames(reader.info.pts_seconds)) == NUM_FRAMES
    assert any("libvpx refuses" in one.detail for one in audit_file(path))


def test_deep_colour_is_no_damage(tmp_path: Path) -> None:
    """Three frames by ffmpeg -c:v libvpx-vp9 -pix_fmt yuv420p10le; libvpx as PyAV brings it refuses them."""
    (tmp_path / "a.webm").write_bytes(zlib.decompress(base64.b64decode(DEEP)))
    assert audit_file(tmp_path / "a.webm") == []


def test_a_scan_names_files_that_are_cut_off(
    sources: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "clips"
    root.mkdir()
    for name in ("h264_faststart.mp4", "vp9.webm", "mpeg4.avi"):
        data = (sources / name).read_bytes()
        (root / f"whole_{name}").write_bytes(data)
        (root / f"cut_{name}").write_bytes(data[: len(data) // 2])
    corpus = scan(root, cache=tmp_path / "cache", num_workers=2, progress=False)
    damage = {entry.path.name: entry.damage for entry in corpus.entries}
    assert {name for name, found in damage.items() if found} == {
        f"cut_{name}" for name in SOURCES if name != "h264.mp4"
    }
    assert "pictures, the header says 60" in damage["cut_mpeg4.avi"]
    assert "3 of 6 files" in caplog.text and "are damaged or cut off" in caplog.text
    assert "damaged or cut off: 3\n" in corpus.summary()
    again = scan(root, cache=tmp_path / "cache", num_workers=2, progress=False)
    assert again == corpus  # what is known of a file is kept with it
    for entry in corpus.entries:  # every promised frame of every file comes, with its own number
        with open_video(entry.path, index=entry.index) as reader:
            frames = reader.frames(reader.info.pts_seconds)
        numbers = [number_of(picture) for picture in frames.video.permute(0, 2, 3, 1).numpy()]
        assert len(numbers) == entry.num_frames < NUM_FRAMES + 1
        wrong = [
            seen
            for seen, seconds in zip(numbers, frames.time, strict=True)
            if seen not in (None, round(float(seconds) * FPS))
        ]
        assert wrong == [] and numbers.count(None) <= 1


def test_one_picture_less_than_promised_is_a_note(sources: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.webm"
    data = (sources / "vp9.webm").read_bytes()
    for share in (0.99, 0.98, 0.97, 0.96):
        path.write_bytes(data[: int(share * len(data))])
        report = audit(path, progress=False)
        with open_video(path) as reader:
            num_frames = reader.info.num_frames
        kinds = {one.kind for one in report.files[0][1]}
        assert num_frames == NUM_FRAMES or kinds & {"shorter than its header says", "cut off", "damaged data"}
