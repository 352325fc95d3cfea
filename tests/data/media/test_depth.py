"""Grey video of more than 8 bits, as thermal and depth cameras store it; what has 8 bits or colour is read as ever."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from vidssl.data import scan
from vidssl.data.media.audit import audit_file
from vidssl.data.media.video import MediaError, open_video

pytestmark = pytest.mark.usefixtures("looked_at_here")

HEIGHT, WIDTH = 48, 64


def write(path: Path, pixels: str, values: np.ndarray, *, codec: str = "ffv1", num_frames: int = 4) -> Path:
    """Encode one grey picture (H, W), its values as they are, several times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        for _ in range(num_frames):
            frame = av.VideoFrame(WIDTH, HEIGHT, pixels)
            chroma = np.full((HEIGHT // 2, WIDTH // 2), 512)
            for plane, part in zip(frame.planes, (values, chroma, chroma), strict=False):
                kind = np.dtype(
                    "u1" if plane.line_size < 2 * part.shape[1] else ">u2" if "be" in pixels else "<u2"
                )
                rows = np.zeros((len(part), plane.line_size // kind.itemsize), kind)
                rows[:, : part.shape[1]] = part
                plane.update(rows.tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def ramp(low: int, high: int) -> np.ndarray:
    return low + (np.arange(WIDTH)[None] + np.arange(HEIGHT)[:, None]) % (high - low + 1)


@pytest.mark.parametrize(
    ("name", "pixels", "codec"),
    [
        ("a.mkv", "gray16le", "ffv1"),
        ("a.mkv", "gray12le", "ffv1"),
        ("a.mkv", "gray14le", "ffv1"),
        ("a.mkv", "gray10le", "ffv1"),
        ("a.avi", "gray16le", "ffv1"),
        ("a.mov", "gray16be", "png"),
    ],
)
def test_case_9_grey_video_of_more_than_8_bits_is_refused_with_its_range(tmp_path, name, pixels, codec):
    path = write(tmp_path / name, pixels, ramp(925, 972), codec=codec)
    low, high = (925, 972) if codec != "libx264" else (r"\d+", r"\d+")
    reason = (
        rf"has more than 8 bits per channel: grey values of gray1\d[lb]e, {low} to {high} in its first picture"
    )
    with pytest.raises(MediaError, match=reason):
        open_video(path)
    assert "grey values of gray1" in next(one.detail for one in audit_file(path) if one.severity == "error")
    corpus = scan(tmp_path, cache=tmp_path / "cache", num_workers=1, progress=False)
    assert len(corpus) == 0 and "grey values of gray1" in corpus.bad[0][1]


def test_case_9_deep_grey_frames_of_a_folder_are_refused_alike(tmp_path):
    from PIL import Image

    for number in range(2):
        Image.fromarray(ramp(925, 972).astype(np.uint16)).save(tmp_path / f"{number}.png")
    with pytest.raises(MediaError, match=r"0\.png: .* grey values of I;16, 925 to 972 in its first picture"):
        open_video(tmp_path)


def test_case_9_grey_of_8_bits_is_read_as_it_is(tmp_path):
    values = ramp(20, 60)
    with open_video(write(tmp_path / "a.mkv", "gray", values)) as reader:
        assert (reader.frames([0.0]).video[0] == torch_of(values)).all()


def test_case_9_deep_colour_is_read_as_ever(tmp_path):
    path = write(tmp_path / "a.mkv", "yuv420p10le", ramp(64, 940))
    with open_video(path) as reader, av.open(str(path)) as container:
        expected = next(container.decode(video=0)).to_ndarray(format="rgb24")
        assert (reader.frames([0.0]).video[0].permute(1, 2, 0).numpy() == expected).all()
    assert audit_file(path)[0].severity == "note"


def test_monochrome_h264_has_the_limited_range_of_video(tmp_path):
    """Luma 16 and 235 are black and white, what lies beyond is cut: depth maps have to be written with that range."""
    values = np.repeat([[16, 235, 5, 250]], HEIGHT, axis=0).repeat(WIDTH // 4, axis=1)
    path = write(tmp_path / "a.mp4", "gray", values, codec="libx264")
    with open_video(path) as reader:
        picture = reader.frames([0.0]).video[0, :, 24]
    assert picture[0, 4] <= 3 and picture[0, 20] >= 252
    assert picture[0, 40] == 0 and picture[0, 60] == 255


def torch_of(values: np.ndarray):
    import torch

    return torch.from_numpy(values)
