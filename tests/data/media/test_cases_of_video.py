"""Valid videos that were read wrongly once: times out of order, mirrors, gaps, left crops, dropped pictures, notes."""

import importlib
import itertools
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from vidssl.data import VideoDataset, clips, scan
from vidssl.data.corpus.audit import audit
from vidssl.data.corpus.encode import encode_file
from vidssl.data.media.audit import audit_file
from vidssl.data.media.isolation import allowed_seconds, call_each
from vidssl.data.media.packets.nal import Picture, contradicts_order, picture_parser
from vidssl.data.media.packets.parameter_sets import cuts_corner
from vidssl.data.media.packets.times import (
    Length,
    gaps,
    in_order,
    pauses,
    rate_and_duration,
    repaired_times,
)
from vidssl.data.media.video import open_video
from vidssl.evaluate.recognition.features.views import clip_times

pytestmark = pytest.mark.usefixtures("looked_at_here")

BACKENDS = ["pyav", "decord", "torchcodec"]
UNIT = Fraction(1, 12_800)


def needs(backend: str) -> None:
    try:
        importlib.import_module({"decord": "decord", "torchcodec": "torchcodec.decoders"}[backend])
    except (ImportError, OSError, RuntimeError) as error:  # torchcodec without FFmpeg raises the last
        pytest.skip(f"{backend} cannot be used here: {str(error).splitlines()[0]}")


def numbered(num_frames: int = 120) -> np.ndarray:
    """Moving texture with the frame number as 8 light or dark cells on top: uint8 (T, 72, 128, 3)."""
    texture = np.random.default_rng(0).integers(0, 255, (9, 64, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    frames = np.stack([texture[:, number % 256 :][:, :128] for number in range(num_frames)])
    for number, frame in enumerate(frames):
        for bit in range(8):
            frame[:16, 16 * bit : 16 * bit + 16] = 255 * (number >> bit & 1)
    return frames


def read_numbers(pictures: np.ndarray) -> list[int]:
    """Read the frame numbers of pictures (T, 72, 128, 3)."""
    cells = [pictures[:, 4:12, 16 * bit + 4 : 16 * bit + 12].mean(axis=(1, 2, 3)) > 128 for bit in range(8)]
    return [int(number) for number in sum(cell.astype(int) << bit for bit, cell in enumerate(cells))]


def write(
    path: Path, pictures, *, times=None, codec="libx264", fps=25, matrix=None, context=None, **options
) -> Path:
    """Encode pictures (H, W, 3), shown at `times` seconds; `matrix` is a display matrix, `context` what else is set."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options={"threads": "1", **options})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for name, value in (context or {}).items():
            setattr(stream.codec_context, name, value)
        if matrix is not None:
            stream.set_display_matrix(matrix)
        if times is not None:
            stream.codec_context.time_base = UNIT
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times is not None:
                frame.time_base, frame.pts = UNIT, round(times[number] / UNIT)
                following = times[number + 1] if number + 1 < len(times) else times[number] + 1 / fps
                frame.duration = round(following / UNIT) - frame.pts
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def kinds(path: Path) -> dict[str, str]:
    return {one.kind: one.severity for one in audit_file(path)}


def seen_numbers(path: Path) -> list[int]:
    with open_video(path) as reader:
        return read_numbers(reader.frames(reader.info.pts_seconds).video.permute(0, 2, 3, 1).numpy())


# -- case 1: stamps that are each other's


@pytest.mark.parametrize("num_b_frames", [1, 2, 3])
def test_case_1_stamps_in_the_order_of_decoding_are_sorted(tmp_path: Path, num_b_frames: int) -> None:
    """AVI numbers its packets: pictures that refer forwards come out with each other's stamps."""
    source = write(tmp_path / "a.avi", numbered(60), fps=30, bf=str(num_b_frames))
    with av.open(str(source)) as container:
        stamps = [frame.pts for frame in container.decode(video=0)]
    assert (np.diff(stamps) < 0).sum() > 10  # the file shows the fault
    encode_file(source, tmp_path / "a.mp4", short_side_px=72)
    for path in (source, tmp_path / "a.mp4"):
        with open_video(path) as reader:
            np.testing.assert_allclose(np.diff(reader.info.pts_seconds), 1 / 30, atol=1e-6)
            assert reader.info.fps == pytest.approx(30)
            assert reader.info.duration_seconds == pytest.approx(2)
        assert seen_numbers(path) == list(range(60))
    found = kinds(source)
    assert found["times are put in order"] == "note"
    assert "times are interpolated" not in found
    assert set(found.values()) == {"note"}


def test_case_1_sound_begins_with_the_first_picture_of_the_sorted(tmp_path: Path) -> None:
    """The first picture may carry the stamp of a later one."""
    with open_video(write(tmp_path / "a.avi", numbered(30), fps=30, bf="2")) as reader:
        assert reader._zero_seconds == pytest.approx(1 / 30)


def test_case_1_only_stretches_that_are_permutations_are_sorted() -> None:
    def sort(values: list[int]) -> list[int]:
        return [value for _, value in in_order(list(enumerate(values)))]

    assert sort([3, 4, 6, 5, 7, 9, 8, 10]) == [3, 4, 5, 6, 7, 8, 9, 10]
    assert sort([10, 50, 30, 20, 40, 60]) == [10, 20, 30, 40, 50, 60]  # a pyramid
    assert sort([1, 2, 3, 90, 92, 91, 93]) == [1, 2, 3, 90, 91, 92, 93]  # a gap beside it is nobody's fault
    for damaged in ([0, 10, 99, 30, 40], [1, 2, 2, 3], [*range(40), 5, *range(41, 60)], [5, 5, 5], [7], []):
        assert sort(damaged) == damaged
    far = [0, 40, *range(1, 40), *range(41, 60)]  # further than any decoder puts a picture back
    assert sort(far) == far
    np.testing.assert_allclose(
        repaired_times([3, 4, 6, 5, None, 8, 7], time_base=1, fps=1), [0, 1, 2, 3, 3.5, 4, 5]
    )


# -- case 2: the eight orientations

SCENE = np.full((48, 80, 3), 30, dtype=np.uint8)
SCENE[:16, :16], SCENE[:16, -16:] = 220, 120
# (a, b, c, d) of x' = a x + c y, y' = b x + d y, and how the upright picture is stored so that it comes out again.
ORIENTATIONS = {
    "as it is": ((1, 0, 0, 1), lambda x: x),
    "left to right": ((-1, 0, 0, 1), lambda x: x[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda x: x[::-1]),
    "half a turn": ((-1, 0, 0, -1), lambda x: x[::-1, ::-1]),
    "transposed": ((0, 1, 1, 0), lambda x: x.swapaxes(0, 1)),
    "transposed at the other diagonal": ((0, -1, -1, 0), lambda x: x[::-1, ::-1].swapaxes(0, 1)),
    "a quarter turn": ((0, -1, 1, 0), lambda x: np.rot90(x, -1)),
    "three quarter turns": ((0, 1, -1, 0), lambda x: np.rot90(x, 1)),
}


def corners(picture) -> list[int]:
    """Grey levels of the corners of (3, H, W), to the nearest ten."""
    grey = picture.float().mean(0)
    places = (grey[2:10, 2:10], grey[2:10, -10:-2], grey[-10:-2, 2:10], grey[-10:-2, -10:-2])
    return [10 * round(float(place.mean()) / 10) for place in places]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_case_2_the_whole_display_matrix_is_read(tmp_path: Path, orientation: str, backend: str) -> None:
    if backend != "pyav":
        needs(backend)
    (a, b, c, d), stored = ORIENTATIONS[orientation]
    fixed = [value << 16 for value in (a, b, c, d)]
    matrix = [fixed[0], fixed[1], 0, fixed[2], fixed[3], 0, 0, 0, 1 << 30]
    path = write(tmp_path / "a.mp4", [np.ascontiguousarray(stored(SCENE))] * 3, matrix=matrix, crf="4")
    encode_file(path, tmp_path / "prepared.mp4", short_side_px=48, crf=4)
    for name in ("a.mp4", "prepared.mp4"):
        with open_video(tmp_path / name, backend=backend) as reader:
            assert (reader.info.height, reader.info.width) == (48, 80)
            assert corners(reader.frames([0.04]).video[0]) == [220, 120, 30, 30], name
            with open_video(tmp_path / name, index=reader.packed_index()) as knows:
                small = knows.frames([0.04], short_side=24).video[0]
            assert small.shape == (3, 24, 40) and float(small[0, 3, 3]) > 190
    assert ("mirrored" in kinds(path)) == (a * d - b * c < 0)


# -- case 3: gaps in time


def bursts(path: Path, *, lengths=(40, 40, 40), pause=30.0, fps=25) -> Path:
    starts = [number * pause for number in range(len(lengths))]
    times = [start + frame / fps for start, length in zip(starts, lengths, strict=True) for frame in range(length)]
    return write(path, numbered(sum(lengths)), times=times, fps=fps)


SAMPLERS = {
    "random": partial(clips.random_clips, num_frames=8, stride_frames=2, num_clips=3),
    "uniform": partial(clips.uniform_clips, num_frames=8, stride_frames=2, num_clips=7),
    "dense": partial(clips.dense_clips, num_frames=8, stride_frames=2, step_frames=5),
    "nearby": partial(clips.nearby_clips, num_frames=8, stride_frames=2, num_clips=3, max_distance_seconds=0.4),
    "tuple": partial(clips.frame_tuple, offsets_frames=(0, 4, 9)),
    "sound": partial(clips.clip_with_sound, num_frames=4, audio_seconds=0.8),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_case_3_no_clip_crosses_a_gap_and_none_is_frozen(tmp_path: Path, name: str) -> None:
    (tmp_path / "clips").mkdir()
    bursts(tmp_path / "clips/a.mp4")
    corpus = scan(tmp_path / "clips", cache=tmp_path / "cache", progress=False, num_workers=1)
    dataset = VideoDataset(corpus, clips=SAMPLERS[name], size_px=32)
    parts = set()
    for seed in range(20):
        times = dataset.read(0, seed=seed).time
        steps = times.diff(dim=1) * 25
        stride = {"tuple": [4.0, 5.0], "sound": [1.0] * 3}.get(name, [2.0] * 7)
        np.testing.assert_allclose(steps, [stride] * len(times), atol=1e-6)
        parts |= {int(start // 30) for start in times[:, 0].tolist()}
        if name == "nearby":
            assert times[:, 0].max() - times[:, 0].min() < 0.41
        if name == "sound":
            assert (times[:, 0] % 30).max() <= 0.8 + 1e-6  # 20 frames of sound fit behind it
    assert parts == {0, 1, 2}


def test_case_3_every_start_that_is_left_is_as_likely_as_the_others() -> None:
    length = Length(100.0, [(0.0, 10, 10.0), (50.0, 3, 10.0), (60.0, 8, 20.0)])
    generator = torch.Generator().manual_seed(0)
    drawn = clips.random_clips(length, 10.0, generator, num_frames=2, stride_frames=4, num_clips=9000)
    starts, counts = drawn[:, 0].mul(1000).round().long().unique(return_counts=True)
    assert starts.tolist() == [0, 100, 200, 300, 400, 500, 60_000, 60_050, 60_100, 60_150]  # 6 and 4 starts
    assert (counts - 900).abs().max() < 4 * 28.5  # standard deviation of Binomial(9000, 1/10)
    late = drawn[drawn[:, 0] > 55]
    torch.testing.assert_close(late[:, 1] - late[:, 0], torch.full((len(late),), 0.2).double())  # of its own rate
    with pytest.raises(ValueError, match=r"the longest part of the video between gaps has 10 frames .* spans 11"):
        clips.random_clips(length, 10.0, generator, num_frames=11)


def test_case_3_evaluation_looks_at_every_part(tmp_path: Path) -> None:
    with open_video(bursts(tmp_path / "a.mp4")) as reader:
        length, fps = reader.info.length(), reader.info.fps
        assert fps == pytest.approx(25) and reader.info.duration_seconds == pytest.approx(61.6)
        times, is_short = clip_times(length, fps, num_clips=3, num_frames=8, stride_frames=2)
        assert not is_short and (times[:, 0] // 30).tolist() == [0, 1, 2]
        np.testing.assert_allclose(times.diff(dim=1), 0.08, atol=1e-6)
        times, is_short = clip_times(length, fps, num_clips=2, num_frames=50, stride_frames=1)
        assert is_short and float(times.max() - times.min()) == pytest.approx(39 / 25)
        second = reader.info.length(start_seconds=30.4, end_seconds=50.0)
        assert second.parts == ((pytest.approx(0.0), 30, pytest.approx(25)),)


def test_case_3_what_is_a_gap() -> None:
    def after(steps: list[float]) -> list[int]:
        return gaps(np.append(0, np.cumsum(steps))).tolist()

    assert after([0.04] * 9 + [5.0] + [0.04] * 9 + [3600.0] + [0.04] * 5) == [9, 19]
    assert after([0.04] * 9 + [0.9] + [0.04] * 9) == []  # not a second
    assert after([60.0] * 30) == after([0.1] * 10 + [2.0] * 9) == []  # a camera that is slow, or becomes it
    assert after([0.5] * 9 + [4.0] + [0.5] * 9) == []  # eight of its steps
    assert after([]) == after([50.0]) == after([0.02, 0.02, 0.96, 0.01, 1.99]) == []  # too few to tell


def test_case_3_pauses_of_a_steady_recording_are_noted(tmp_path: Path) -> None:
    """Five pictures of a file of 25 a second are gone; a camera froze for .5 s among steps that vary a little."""
    times = [number / 25 for number in range(70) if not 30 <= number < 35]
    path = write(tmp_path / "missing.mp4", numbered(len(times)), times=times, bf="0")
    assert [str(one) for one in audit_file(path)] == [
        "frames are missing: 0.24 s between two, from 1.16 s, where 0.040 s is usual"
    ]
    steps = np.random.default_rng(0).uniform(0.028, 0.038, 80)
    steps[[20, 50]] = 0.5, 0.2
    path = write(tmp_path / "frozen.mp4", numbered(81), times=np.append(0, np.cumsum(steps)), bf="0")
    (note,) = audit_file(path)
    assert note.kind == "frames are missing" and note.detail.startswith("0.50 s between two, from 0.6")
    assert note.detail.endswith("where 0.033 s is usual, the longest of 2")


def test_case_3_pauses_of_ordinary_recordings_are_none() -> None:
    def num_pauses(steps: Sequence[float]) -> int:
        return len(pauses(np.append(0, np.cumsum(steps)))[0])

    generator = np.random.default_rng(0)
    phone = 1 / 30 + generator.normal(0, 0.002, 900)
    phone[::50] *= 2  # one frame is dropped here and there
    phone[400:600] = 1 / 24 + generator.normal(0, 0.002, 200)  # it gets dark
    assert num_pauses(phone) == 0
    screen = generator.choice([1, 1, 1, 1, 2, 3, 10, 40], 900) / 60
    typing = np.where(np.arange(900) % 30 == 29, 0.4, 1 / 60)  # bursts with pauses between
    slow_motion = np.repeat([1 / 30, 1 / 240, 1 / 30], [60, 600, 60])
    assert num_pauses(screen) == num_pauses(typing) == num_pauses(slow_motion) == 0
    assert num_pauses([60.0] * 30) == num_pauses([0.04] * 5 + [0.2] + [0.04] * 5) == 0
    assert num_pauses([0.04] * 20 + [5.0] + [0.04] * 20) == 0  # a gap
    assert num_pauses([0.04] * 20 + [0.16] + [0.04] * 20) == 1
    assert num_pauses([0.04] * 20 + [0.12] + [0.04] * 20) == 0


def test_case_3_ordinary_draws_are_what_they_were() -> None:
    generator = torch.Generator().manual_seed(5)
    times = clips.random_clips(10.0, 29.97, generator, num_frames=3, stride_frames=4, num_clips=2)
    starts = torch.randint(300 - 9 + 1, (2, 1), generator=torch.Generator().manual_seed(5))
    assert torch.equal(times, (starts + 4 * torch.arange(3, dtype=torch.float64)) / 29.97)


# -- case 4: crops at the left and the top


def cropped(path: Path, codec: str, *, left: int, top: int) -> Path:
    """Write numbered pictures of 72 x 128 whose stream says that columns and rows are not to be shown."""
    options = {"x265-params": "log-level=none:pools=1:keyint=4"} if codec == "libx265" else {"g": "4"}
    source = write(path.with_suffix(".whole.mp4"), numbered(12), codec=codec, **options)
    kind = "hevc" if codec == "libx265" else "h264"
    with av.open(str(source)) as read, av.open(str(path), "w") as written:
        stream = read.streams.video[0]
        copy = written.add_stream_from_template(stream)
        edit = av.bitstream.BitStreamFilterContext(
            f"{kind}_metadata=crop_left={left}:crop_top={top}", stream, copy
        )
        for packet in read.demux(stream):
            for edited in edit.filter(packet if packet.size else None):
                edited.stream = copy
                written.mux(edited)
    return path


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("left", "top"), [(16, 0), (2, 0), (0, 8), (16, 8), (32, 0)])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_case_4_what_is_cut_off_at_the_left_is_not_shown(
    tmp_path: Path, codec: str, left: int, top: int, backend: str
) -> None:
    if backend != "pyav":
        needs(backend)
    path = cropped(tmp_path / "a.mp4", codec, left=left, top=top)
    with open_video(path.with_suffix(".whole.mp4")) as whole, open_video(path, backend=backend) as reader:
        times = [0.2, 0.0, 0.44]
        assert (reader.info.height, reader.info.width) == (72 - top, 128 - left)
        expected = whole.frames(times).video[:, :, top:, left:]
        video = reader.frames(times).video
        # Colours lie at half the resolution: at an edge they are interpolated from what is there.
        assert (video.float() - expected.float())[..., 2:, 2:].abs().max() <= 2
        assert reader.frames(times, short_side=36).video.shape[-2:] == (36, round(36 * (128 - left) / (72 - top)))
        assert reader.backend == "pyav"
    assert kinds(path) == {}


def test_case_4_parameter_sets_that_cannot_be_read_are_not_trusted() -> None:
    assert not cuts_corner("vp9", None) and not cuts_corner("h264", b"\x00\x00\x00\x01")
    assert cuts_corner("h264", bytes([1] * 12)) and cuts_corner("hevc", bytes([1] * 30))


# -- case 6: empty chunks of AVI


def with_drops(path: Path, codec: str = "mjpeg") -> Path:
    """40 pictures over 60 intervals: the muxer writes empty chunks for the 20 in between."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 72, 128, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number, picture in enumerate(numbered(40)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.time_base, frame.pts = Fraction(1, 25), number + (20 if number >= 30 else 0)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_case_6_dropped_pictures_are_a_note(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    path = with_drops(tmp_path / "clips/a.avi")
    report = audit(tmp_path / "clips", progress=False, num_workers=1)
    assert report.bad == []
    assert {str(one) for one in report.files[0][1]} >= {"pictures were dropped: 20 of 60 chunks are empty"}
    corpus = scan(tmp_path / "clips", cache=tmp_path / "cache", progress=False, num_workers=1)
    assert corpus.entries[0].damage == "" and corpus.entries[0].num_frames == 40
    with open_video(path) as reader:
        np.testing.assert_allclose(reader.info.pts_seconds[[0, 29, 30, 39]], [0, 1.16, 2.0, 2.36])
    data = path.read_bytes()
    for share in (0.3, 0.6, 0.85):  # before, in and behind the drops
        path.write_bytes(data[: int(share * len(data))])
        found = {one.kind for one in audit_file(path) if one.severity == "error"}
        assert found & {"cut off", "damaged data"}, share
        again = scan(tmp_path / "clips", cache=tmp_path / "cache", progress=False, num_workers=1)
        assert all(entry.damage for entry in again.entries), share


# -- case 18: long files


def test_case_18_the_time_allowed_grows_with_the_file(tmp_path: Path) -> None:
    assert allowed_seconds(0, timeout_seconds=60) == 60
    assert allowed_seconds(150_000_000, timeout_seconds=60) == 660  # 20 minutes of a megabit per second
    assert allowed_seconds(-1, timeout_seconds=5) == 5
    ((_, answer),) = call_each("time:sleep", [9], num_workers=1, timeout_seconds=[0.2])  # type: ignore[list-item]
    assert "no answer within 0.2 s; allow more (timeout_seconds)" in answer["died"]
    assert "ffmpeg -i IN -c copy OUT.mp4" in answer["died"]


# -- how long the last frame is shown


@pytest.mark.parametrize("b_frames", ["0", "3"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_the_last_frame_of_uneven_times_is_shown_as_long_as_the_container_says(
    tmp_path: Path, suffix: str, b_frames: str
) -> None:
    times = [0.1 * number for number in range(10)] + [1.0 + number for number in range(10)]
    path = write(tmp_path / f"a.{suffix}", numbered(20), times=times, fps=10, bf=b_frames)
    encode_file(path, tmp_path / "b.mp4")
    for one in (path, tmp_path / "b.mp4"):
        with open_video(one) as reader:
            assert reader.info.duration_seconds == pytest.approx(10.1, abs=0.002)
            assert reader.info.fps == pytest.approx(1.98, abs=0.001)


def test_a_last_frame_is_never_shown_longer_than_all_others() -> None:
    times = np.array([0.0, 0.1, 0.3, 0.4])
    rate = partial(rate_and_duration, times, unit_seconds=0.001, fps=9.0)
    assert rate(last_seconds=0.15) == (pytest.approx(4 / 0.55), pytest.approx(0.55))
    assert rate(last_seconds=9.0) == (pytest.approx(4 / 0.6), pytest.approx(0.6))
    assert rate(last_seconds=0.0) == (pytest.approx(7.5), pytest.approx(0.4 + 1 / 7.5))  # the mean
    even = rate_and_duration(np.array([0.0, 0.033, 0.067, 0.1]), unit_seconds=0.001, last_seconds=9.0, fps=1.0)
    assert even == (3 / 0.1, 0.1 + 1 / (3 / 0.1))


# -- what `data check` notes


def noted(path: Path, how: str) -> Path:
    pictures = numbered(30)
    if how == "pixels are not square":
        return write(path, pictures, context={"sample_aspect_ratio": Fraction(4, 3)})
    if how == "interlaced":
        return write(path, pictures, **{"x264-params": "tff=1"})
    if how == "high dynamic range":
        return write(path, pictures, context={"color_trc": 16})
    if how == "mirrored":
        return write(path, pictures, matrix=[-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30])
    if how == "gap between frames":
        return bursts(path, lengths=(10, 10), pause=4)
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for stream, (height, width) in zip(streams, [(72, 128), (48, 64)], strict=True):
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for picture, stream in itertools.product(pictures, streams):
            cut = np.ascontiguousarray(picture[: stream.height, : stream.width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(cut, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode())
    return path


NOTES = {
    "pixels are not square": "each is 4:3 wide; pictures are read as stored, not stretched",
    "interlaced": "30 of 30 pictures hold two fields, taken one after the other",
    "high dynamic range": "PQ (SMPTE ST 2084); colours are read without tone mapping and look pale",
    "mirrored": "its display matrix mirrors the stored pictures; they are read as it says",
    "gap between frames": "3.64 s without a frame, from 0.36 s",
    "several video streams": "number 0 of 2 is read (128x72, 64x48)",
}


@pytest.mark.parametrize("how", NOTES)
def test_what_changes_a_result_is_noted_by_check_and_prepare_alike(tmp_path: Path, how: str) -> None:
    path = noted(tmp_path / "a.mp4", how)
    (found,) = audit_file(path)
    assert (found.severity, found.kind, found.detail) == ("note", how, NOTES[how])
    assert encode_file(path, tmp_path / "b.mp4")["note"] == str(found)


# -- what other libraries make of times


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("aac", "mp4"), ("aac", "mkv"), ("aac", "ts"), ("libmp3lame", "mp4"), ("libmp3lame", "mkv")],
)
def test_sound_that_is_encoded_with_a_lead_is_at_its_place(tmp_path: Path, codec: str, suffix: str) -> None:
    click = np.zeros((1, 32_000), np.float32)
    click[0, 22_400:23_040] = 0.8  # from 0.7 s on
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as container:
        sound, stream = (
            container.add_stream(codec, rate=32_000, layout="mono"),
            container.add_stream("libx264", rate=25),
        )
        stream.height, stream.width, stream.pix_fmt = 72, 128, "yuv420p"
        for picture in numbered(25):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
        frame = av.AudioFrame.from_ndarray(click, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 32_000, 0
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
    with open_video(path) as reader:
        heard = np.flatnonzero(reader.audio(0.0, 1.0, sample_rate_hz=32_000).abs().numpy() > 0.4)
    assert heard[0] / 32_000 == pytest.approx(0.7, abs=0.0015)


def test_approximate_torchcodec_counts_frames_that_are_not_there(tmp_path: Path) -> None:
    """Why `OtherReader` asks for the exact mode: on uneven times the other one names frames by the mean rate."""
    needs("torchcodec")
    from torchcodec.decoders import VideoDecoder

    times = [0.1 * number for number in range(10)] + [1.0 + number for number in range(10)]
    path = write(tmp_path / "a.mp4", numbered(20), times=times, fps=10, bf="0")
    guess = VideoDecoder(str(path), dimension_order="NHWC", seek_mode="approximate")
    assert read_numbers(guess.get_frame_at(15).data[None].numpy()) != [15]
    with open_video(path, backend="torchcodec") as reader:
        video = reader.frames([reader.info.pts_seconds[15]]).video
        assert read_numbers(video.permute(0, 2, 3, 1).numpy()) == [15] and reader.backend == "torchcodec"


# Two groups of twenty pictures, each of which ends with pictures that refer forwards.
GROUPS = "keyint=20:bframes=3:b-adapt=0:scenecut=0:open-gop={}"
QUIET = ":log-level=none:pools=1"
CODED = {
    "libx264": {"x264-params": GROUPS.format(0)},
    "libx265": {"x265-params": GROUPS.format(0) + ":log2-max-poc-lsb=4" + QUIET, "preset": "ultrafast"},
    "layers": {"x265-params": GROUPS.format(0) + ":temporal-layers=3:slices=2" + QUIET, "preset": "ultrafast"},
    "open": {"x265-params": GROUPS.format(1) + QUIET, "preset": "ultrafast"},
}


def restamped(path: Path, coded: str, stamp: Callable[[int, int], tuple[int, int]]) -> Path:
    """Write 40 numbered pictures at 25 per second; `stamp` gives (pts, dts) of a packet from its place and its pts."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264" if coded == "libx264" else "libx265", rate=25, options=CODED[coded]
        )
        stream.width, stream.height, stream.pix_fmt = 128, 72, "yuv420p"
        pictures = [av.VideoFrame.from_ndarray(picture, format="rgb24") for picture in numbered(40)]
        packets = [packet for frame in (*pictures, None) for packet in stream.encode(frame)]
        for number, packet in enumerate(packets):
            packet.pts, packet.dts = stamp(number, packet.pts)
            packet.time_base = Fraction(1, 25)
            container.mux(packet)
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("coded", ["libx264", "libx265", "layers"])
@pytest.mark.parametrize("first", [0, 20])
def test_case_1_stamps_in_the_order_of_the_file_are_not_believed(
    tmp_path: Path, suffix: str, coded: str, first: int
) -> None:
    """H.264 and HEVC tell the order of their pictures: a clip of two frames skipped those that refer to both."""
    path = restamped(tmp_path / f"a.{suffix}", coded, lambda n, pts: (n, n) if n >= first else (pts, n - 4))
    with open_video(path) as reader:
        assert reader.info.distrust == "times contradict the order of the pictures"
        assert np.allclose(np.diff(reader.info.pts_seconds), 0.04)
        for start in (0.8, 0.96, 1.0):
            shown = reader.frames([start, start + 0.04]).video.permute(0, 2, 3, 1).numpy()
            assert read_numbers(shown) == [round(25 * start), round(25 * start) + 1]


@pytest.mark.parametrize("coded", list(CODED))
@pytest.mark.parametrize("swapped", [{25: 29, 29: 25}, {19: 20, 20: 19}])
def test_case_1_single_stamps_that_belong_to_others(tmp_path: Path, coded: str, swapped: dict[int, int]) -> None:
    """Within a group of pictures, and from one to the next."""
    whole = restamped(tmp_path / "whole.mp4", coded, lambda n, pts: (pts, n - 8))
    path = restamped(tmp_path / "a.mp4", coded, lambda n, pts: (swapped.get(pts, pts), n - 8))
    for file, distrust in ((whole, None), (path, "times contradict the order of the pictures")):
        with open_video(file) as reader:
            assert reader.info.distrust == distrust
            shown = reader.frames(reader.info.pts_seconds).video.permute(0, 2, 3, 1).numpy()
            assert read_numbers(shown) == list(range(40))


@pytest.mark.parametrize("coded", ["layers", "open"])
def test_case_1_orders_of_hevc_are_counted_from_its_lowest_layer(tmp_path: Path, coded: str) -> None:
    """Of each four pictures three refer to others; of an open group those that lead it do."""
    path = restamped(tmp_path / "a.mp4", coded, lambda n, pts: (pts, n - 8))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        look = picture_parser("hevc", stream.codec_context.extradata)
        found = {
            round(packet.pts * stream.time_base * 25): look(memoryview(packet))
            for packet in container.demux(stream)
            if packet.size
        }
    anchors = {order for order, picture in found.items() if picture.is_anchor}
    assert {0, 4, 8, 12, 16, 20, 24, 28} <= anchors and not anchors & {1, 3, 5, 7, 17, 21, 23}
    assert coded == "open" or [found[order].order for order in range(20)] == list(range(20))
    if coded == "layers":
        assert not anchors & {2, 6, 22}  # of the layer between
    else:
        assert not anchors & {17, 18, 19}  # they lead


def test_case_1_orders_are_counted_from_pictures_that_others_refer_to() -> None:
    """Of 4 bits: 0, 15 (one before, to which none refers), 8. From 15 on the last one would be 8 before the first."""
    pictures = [
        Picture(False, order=order, max_order=16, is_anchor=order != 15, is_first=order == 0)
        for order in (0, 15, 8)
    ]
    assert not contradicts_order(pictures, [1, 0, 9])
    assert contradicts_order(pictures, [0, 1, 9])
    assert not contradicts_order(pictures, [1, None, 9])


def test_case_1_stamps_are_sorted_where_pictures_were_dropped() -> None:
    stamps = [2, 6, 3, 7, 8, 10, 9, 11, 12, 13, 14, 15]  # Xvid in AVI: 4 and 5 are empty
    assert [stamp for _, stamp in in_order(list(enumerate(stamps)))] == sorted(stamps)
    odd = [0, 10, 57, 20, 50, 60, 70, 80, 90, 100, 110, 120]  # a damaged stamp fits nowhere
    assert [stamp for _, stamp in in_order(list(enumerate(odd)))] == odd
