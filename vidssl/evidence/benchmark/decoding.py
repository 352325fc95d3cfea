"""Rows of decoding: clips at random places of videos, as training reads them."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from ...data.corpus.prepare import prepare
from ...data.media.video import open_video
from .measuring import Case, MissingPeer, Peers, Row, at_least, at_most

CLIP_FRAMES, STRIDE_FRAMES = 16, 4
SPAN_FRAMES = (CLIP_FRAMES - 1) * STRIDE_FRAMES + 1
MIN_FRAMES = 200
SHORT_SIDE_PX = 256
LARGE_SIZE = (720, 1280)
# What the large video is made of: the first frames of so many videos.
NUM_PIECES = 3

# (file, first frames of the clips that are asked of it)
Plan = list[tuple[Path, list[int]]]
Read = Callable[[], list[np.ndarray]]


def long_videos(peers: Peers) -> dict[Path, int]:
    """Give the number of frames of the H.264 videos of --peer clips that are long enough, in order of their names."""
    found = {}
    files = peers.folders["clips"].iterdir()
    for path in sorted(path for path in files if path.suffix in {".mp4", ".mkv"}):
        with open_video(path) as reader:
            if reader.info.codec == "h264" and reader.info.num_frames >= MIN_FRAMES:
                found[path] = reader.info.num_frames
    if len(found) < NUM_PIECES:
        raise MissingPeer(
            f"--peer clips has {len(found)} H.264 videos of {MIN_FRAMES} frames or more; {NUM_PIECES} are needed"
        )
    return found


def _plan(videos: Mapping[Path, int], *, num_clips: int, repeats: int = 1) -> Plan:
    """Random starts, drawn once: both sides read the same clips."""
    generator = np.random.default_rng(0)
    return [
        (path, generator.integers(0, num_frames - SPAN_FRAMES, num_clips).tolist())
        for _ in range(repeats)
        for path, num_frames in videos.items()
    ]


def _numbers(starts: list[int]) -> np.ndarray:
    return np.concatenate([start + STRIDE_FRAMES * np.arange(CLIP_FRAMES) for start in starts])


def _ours(plan: Plan, *, short_side_px: int | None = None) -> Read:
    """Read all clips of a file by one plan, with the packet index that the scan of a corpus keeps: (T, 3, H, W)."""
    known = {}
    for path in {path for path, _ in plan}:
        with open_video(path) as reader:
            known[path] = (reader.packed_index(), reader.info.pts_seconds)

    def read() -> list[np.ndarray]:
        clips = []
        for path, starts in plan:
            index, times = known[path]
            with open_video(path, index=index) as reader:
                clips.append(
                    reader.frames(times[_numbers(starts)].tolist(), short_side=short_side_px).video.numpy()
                )
        return clips

    return read


def _decord(plan: Plan, *, size: tuple[int, int] | None = None) -> Read:
    """Read with decord, opened anew for every clip, one thread: (T, H, W, 3)."""
    import decord

    options = {} if size is None else {"height": size[0], "width": size[1]}

    def clip(path: Path, start: int) -> np.ndarray:
        reader = decord.VideoReader(str(path), num_threads=1, **options)
        return reader.get_batch(_numbers([start]).tolist()).asnumpy()

    return lambda: [np.concatenate([clip(path, start) for start in starts]) for path, starts in plan]


def _unequal(mine: list[np.ndarray], theirs: list[np.ndarray]) -> Mapping[str, float]:
    """Count the frames that differ in any byte."""
    pairs = zip(mine, theirs, strict=True)
    wrong = [(ours.transpose(0, 2, 3, 1) != peer).any(axis=(1, 2, 3)).sum() for ours, peer in pairs]
    return {"frames": sum(map(len, mine)), "unequal_frames": int(sum(wrong))}


def _clip(peers: Peers) -> Case:
    plan = _plan(long_videos(peers), num_clips=1, repeats=6)
    return Case(_ours(plan), _decord(plan), _unequal)


def _four_clips(peers: Peers) -> Case:
    plan = _plan(long_videos(peers), num_clips=4, repeats=2)
    return Case(_ours(plan), _decord(plan), _unequal)


def _large(peers: Peers) -> Case:
    video = write_large_video(list(long_videos(peers)))
    plan = _plan({video: NUM_PIECES * MIN_FRAMES}, num_clips=1, repeats=6)
    return Case(_ours(plan, short_side_px=SHORT_SIDE_PX), _decord(plan, size=_small(LARGE_SIZE)))


def _prepared(peers: Peers) -> Case:
    video = write_large_video(list(long_videos(peers)))
    out = Path(tempfile.mkdtemp()) / "prepared"
    prepare(video.parent, out=out, num_workers=1, num_timed_clips=0, progress=False)
    small = out / video.name
    plan = _plan({video: NUM_PIECES * MIN_FRAMES}, num_clips=1, repeats=6)
    size_ratio = small.stat().st_size / video.stat().st_size
    return Case(
        _ours([(small, starts) for _, starts in plan]),
        _decord(plan, size=_small(LARGE_SIZE)),
        lambda ours, peer: {"size_ratio": size_ratio},
    )


def _small(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width at the short side that training looks at, even."""
    return SHORT_SIDE_PX, round(size[1] * SHORT_SIDE_PX / size[0] / 2) * 2


def write_large_video(pieces: Sequence[Path]) -> Path:
    """Write 600 frames as people upload them: 720p with the grain of a camera, a key frame every 250 frames.

    Args:
        pieces: The first 200 frames of the first three are taken.
    """
    import av

    path = Path(tempfile.mkdtemp()) / "large.mp4"
    generator = np.random.default_rng(0)
    height, width = LARGE_SIZE
    with av.open(str(path), "w") as container:
        options = {"crf": "23", "preset": "medium", "g": "250", "threads": "1"}
        stream = container.add_stream("libx264", rate=30, options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        number = 0
        for piece in pieces[:NUM_PIECES]:
            with av.open(str(piece)) as source:
                for _, frame in zip(range(MIN_FRAMES), source.decode(video=0), strict=False):
                    scaled = frame.reformat(width=width, height=height, format="rgb24", interpolation="BICUBIC")
                    grain = np.rint(generator.normal(0, 3, (height, width, 1)))
                    pixels = (scaled.to_ndarray() + grain).clip(0, 255).astype(np.uint8)
                    picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                    picture.pts, picture.time_base = number, Fraction(1, 30)
                    container.mux(stream.encode(picture))
                    number += 1
        container.mux(stream.encode())
    return path


_CLIP = f"{CLIP_FRAMES} frames, every {STRIDE_FRAMES}th"
_NEEDS = ("clips", "decord")
_OURS = "data.open_video with the corpus' index"
_PEER = "decord, opened for every clip, 1 thread"

ROWS = (
    Row(
        name="decode_clip",
        what=f"A clip of {_CLIP}, from six random places of each video, in its native size.",
        ours=_OURS,
        peer=_PEER,
        needs=_NEEDS,
        prepare=_clip,
        goals=(at_most("ratio", 0.60), at_most("unequal_frames", 0)),
    ),
    Row(
        name="decode_four_clips",
        what=f"Twice four clips of {_CLIP}, from random places of each video: one plan against four openings.",
        ours=_OURS,
        peer=_PEER,
        needs=_NEEDS,
        prepare=_four_clips,
        goals=(at_most("ratio", 0.35), at_most("unequal_frames", 0)),
    ),
    Row(
        name="decode_720p",
        what=f"A clip of {_CLIP}, from six random places of a 720p video, at short side {SHORT_SIDE_PX}.",
        ours=_OURS,
        peer=f"{_PEER}, width and height given",
        needs=_NEEDS,
        prepare=_large,
        goals=(at_most("ratio", 0.65),),
        rounds=5,
    ),
    Row(
        name="decode_prepared",
        what="The same clips, ours from the file that `vidssl data prepare` made of the 720p video.",
        ours=_OURS,
        peer=f"{_PEER}, width and height given, on the original",
        needs=_NEEDS,
        prepare=_prepared,
        goals=(at_least("speedup", 20), at_most("size_ratio", 0.5)),
        rounds=5,
    ),
)
