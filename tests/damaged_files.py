"""Files damaged from a seed, and what becomes of each: read whole, flagged, or refused.

Four small files of 60 numbered pictures are cut, overwritten and shortened in seven ways, fifty times each. As a script
this prints the table of docs/reliability.md:

    python tests/damaged_files.py --backend pyav
"""

import argparse
import collections
import functools
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from vidssl.data.corpus.probe import probe
from vidssl.data.media.audit import audit_file
from vidssl.data.media.isolation import call_each
from vidssl.data.media.video import MediaError, open_video

NUM_FRAMES, FPS, HEIGHT, WIDTH, CELL_PX = 60, 30, 72, 128, 16
SOURCES = ("h264.mp4", "h264_faststart.mp4", "mpeg4.avi", "vp9.webm")
KINDS = ("cut", "10 bytes", "300 bytes", "zeros", "bytes removed", "head", "tail")
FILES_PER_KIND = 50  # 4 x 7 x 50 = 1400
# Notes of the audit that tell of damage; the others tell of cost.
TELLING_NOTES = {"shorter than its header says", "gap between frames", "times are interpolated"}


def numbered() -> np.ndarray:
    """Moving texture; 8 light or dark cells on top hold the frame number, 8 at the bottom its complement."""
    texture = np.random.default_rng(0).integers(60, 196, (9, 64, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    frames = np.stack([texture[:, 4 * number % 256 :][:, :WIDTH] for number in range(NUM_FRAMES)])
    for number, frame in enumerate(frames):
        for bit in range(8):
            cell = slice(CELL_PX * bit, CELL_PX * (bit + 1))
            frame[:CELL_PX, cell], frame[-CELL_PX:, cell] = (
                255 * (number >> bit & 1),
                255 * (1 - (number >> bit & 1)),
            )
    return frames


def number_of(picture: np.ndarray) -> int | None:
    """The frame number that both strips of a picture agree on; None if they do not, or a cell is grey."""
    if picture.shape != (HEIGHT, WIDTH, 3):
        return None
    inner = slice(CELL_PX // 4, -CELL_PX // 4)
    strips = [part.reshape(CELL_PX, 8, CELL_PX, 3)[inner, :, inner] for part in (picture[:16], picture[-16:])]
    top, bottom = (strip.mean(axis=(0, 2, 3)) for strip in strips)
    if (np.abs(np.concatenate([top, bottom]) - 127.5) < 64).any() or ((top > 128) == (bottom > 128)).any():
        return None
    return sum(int(value > 128) << bit for bit, value in enumerate(top))


def write_sources(folder: Path) -> None:
    import av

    codecs = {
        "h264.mp4": ("libx264", {"g": "15", "crf": "20"}),
        "h264_faststart.mp4": ("libx264", {"g": "15", "crf": "20"}),
        "mpeg4.avi": ("mpeg4", {"g": "15", "qscale": "4"}),
        "vp9.webm": ("libvpx-vp9", {"g": "15", "b": "400k", "deadline": "realtime", "cpu-used": "8"}),
    }
    for name, (codec, options) in codecs.items():
        flags = {"movflags": "+faststart"} if "faststart" in name else {}
        with av.open(str(folder / name), "w", options=flags) as container:
            stream = container.add_stream(codec, rate=FPS, options=options)
            stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
            stream.codec_context.thread_count = 1
            for picture in numbered():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())


def damaged(data: bytes, kind: str, generator: np.random.Generator) -> bytes:
    damaged, size = bytearray(data), len(data)
    if kind == "cut":
        return data[: int(size * generator.uniform(0.02, 0.995))]
    if kind in ("zeros", "bytes removed"):
        length = int(size * generator.uniform(0.005, 0.2))
        start = int(generator.integers(0, size - length))
        damaged[start : start + length] = bytes(length) if kind == "zeros" else b""
        return bytes(damaged)
    count = {"10 bytes": 10, "300 bytes": 300}.get(kind, 20)
    first, end = {"head": (0, 1024), "tail": (size - 1024, size)}.get(kind, (0, size))
    for place in generator.integers(first, end, count):
        damaged[place] = generator.integers(256)
    return bytes(damaged)


def examine(item: str) -> dict[str, Any]:
    """Damage one file and look at it as a user would: by scan, by check and by reading; runs in a child process."""
    folder, source, kind, number, backend = json.loads(item)
    generator = np.random.default_rng([0, SOURCES.index(source), KINDS.index(kind), number])
    path = Path(folder, f"{number}-{kind.replace(' ', '-')}-{source}")
    path.write_bytes(damaged(Path(folder, source).read_bytes(), kind, generator))
    scanned, found = probe(str(path)), audit_file(path)
    flagged = {
        "scan": bool(scanned.get("reason") or scanned["damage"]),
        "check": any(one.severity == "error" or one.kind in TELLING_NOTES for one in found),
    }
    warnings: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = warnings.append  # type: ignore[method-assign]
    logging.getLogger("vidssl").addHandler(handler)
    try:
        with open_video(path, backend=backend) as reader:
            pictures, times = _read(reader, reader.info.pts_seconds)
            alone = generator.integers(0, len(times), 3)
            singles = [_read(reader, [times[place]])[0][0] for place in alone]
    except MediaError:
        return {"flagged": flagged, "read": "refused"}
    finally:
        logging.getLogger("vidssl").removeHandler(handler)
        path.unlink()
    flagged["read"] = bool(warnings)
    numbers = [number_of(picture) for picture in pictures]
    # Where all frames are there, each has its number; where some are lost, its time tells which it should be.
    expected = range(NUM_FRAMES) if len(numbers) == NUM_FRAMES else [round(seconds * FPS) for seconds in times]
    reference = whole_pictures(folder, source)
    return {
        "flagged": flagged,
        "read": "whole" if len(numbers) == NUM_FRAMES else "short",
        "num_wrong": sum(seen not in (None, wanted) for seen, wanted in zip(numbers, expected, strict=True))
        + sum(number_of(one) != numbers[place] for one, place in zip(singles, alone, strict=True)),
        "num_damaged": sum(
            seen is None or bool(np.abs(picture - reference[seen]).mean() > 3)
            for seen, picture in zip(numbers, pictures, strict=True)
            if seen is None or seen < NUM_FRAMES
        ),
        "other_times": not np.allclose(times, np.array(expected) / FPS, atol=0.002),
        "backend": reader.backend,
    }


@functools.cache
def whole_pictures(folder: str, source: str) -> np.ndarray:
    """The pictures of the file before it was damaged, int (60, 72, 128, 3)."""
    with open_video(Path(folder, source)) as reader:
        return _read(reader, reader.info.pts_seconds)[0].astype(int)


def _read(reader: Any, times: Any) -> tuple[np.ndarray, list[float]]:
    frames = reader.frames(times)
    return frames.video.permute(0, 2, 3, 1).numpy(), frames.time.tolist()


def outcome(answer: dict[str, Any]) -> str:
    """One of those that are all right, or what is wrong."""
    if "died" in answer:
        return f"the process died: {answer['died']}"
    if answer["read"] == "refused":
        return "refused"
    if any(answer["flagged"].values()):
        return "flagged"
    if answer["num_wrong"]:
        return "WRONG FRAMES, not flagged"
    if answer["read"] == "short":
        return "SHORT, not flagged"
    if answer["num_damaged"]:
        return "whole, damaged pictures, not flagged"
    return "whole, other times" if answer["other_times"] else "whole"


def examine_all(
    folder: Path, *, files_per_kind: int, backend: str = "pyav", num_workers: int = 1
) -> list[tuple[str, dict[str, Any]]]:
    """Return (source, answer of `examine`) for each damaged file."""
    write_sources(folder)
    keys = [(source, kind, number) for source in SOURCES for kind in KINDS for number in range(files_per_kind)]
    items = [json.dumps([str(folder), *key, backend]) for key in keys]
    answers = call_each("damaged_files:examine", items, num_workers=num_workers, timeout_seconds=120)
    return [(keys[place][0], answer) for place, answer in sorted(answers, key=lambda answer: answer[0])]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", default="pyav")
    parser.add_argument("--files-per-kind", type=int, default=FILES_PER_KIND)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        answers = examine_all(Path(folder), files_per_kind=options.files_per_kind, backend=options.backend)
    table = collections.Counter((outcome(answer), source) for source, answer in answers)
    write = sys.stdout.write
    write(f"| {options.backend} | all | {' | '.join(SOURCES)} |\n|{'---|' * (2 + len(SOURCES))}\n")
    for kind in sorted({kind for kind, _ in table}):
        counts = [table[kind, source] for source in SOURCES]
        write(f"| {kind} | {sum(counts)} | {' | '.join(map(str, counts))} |\n")
    for by in ("scan", "check"):
        count = sum(answer.get("flagged", {}).get(by, False) for _, answer in answers)
        write(f"{by} alone names {count} of {len(answers)}\n")
    read = collections.Counter(answer.get("backend") for _, answer in answers)
    write(f"read by {dict(read)}\n")


if __name__ == "__main__":
    main()
