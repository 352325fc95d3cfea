"""What a small file can claim: pictures, clips, durations, rates beyond any use are refused before decoding."""

import subprocess
import sys
import time
import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidssl.data.corpus.scan import scan
from vidssl.data.media import container as _container
from vidssl.data.media.video import MediaError, open_audio, open_video

RSS = """
import json, sys, time
from pathlib import Path
from vidssl.data.media.video import MediaError, open_video
start = time.perf_counter()
try:
    open_video(sys.argv[1])
    reason = ""
except MediaError as error:
    reason = error.reason
seconds = time.perf_counter() - start
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps([reason, int(peak.split()[1]) / 1024, seconds]))
"""


def repeated(path: Path, *, width: int, height: int, num_frames: int, seconds_apart: int = 0) -> Path:
    """One black picture, encoded once, shown many times."""
    import av

    options = {"preset": "ultrafast", "x264-params": "rc-lookahead=0:sync-lookahead=0:bframes=0:ref=1:scenecut=0"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.thread_count = 1
        frame = av.VideoFrame(width, height, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        (packet,) = [*stream.encode(frame), *stream.encode()]
        for number in range(num_frames):
            copy = av.Packet(bytes(packet))
            copy.pts = copy.dts = number * max(1, 30 * seconds_apart)
            copy.time_base, copy.is_keyframe, copy.stream = Fraction(1, 30), True, stream
            container.mux(copy)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
def test_a_clip_of_67_megapixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """300 pictures of 8192 x 8192 would be 60 GB. FFmpeg decodes one to open the file, 100 MB."""
    import json

    path = repeated(tmp_path / "bomb.mp4", width=8192, height=8192, num_frames=300)
    answer = subprocess.run([sys.executable, "-c", RSS, str(path)], capture_output=True, text=True, check=True)
    reason, rss_mib, seconds = json.loads(answer.stdout)
    assert reason == "claims 8192 x 8192 pixels; at most 8192 x 4320 are decoded, scale it down first"
    assert rss_mib < 500 and seconds < 10


def test_a_thin_picture_is_not_scaled_up_without_bounds(tmp_path: Path) -> None:
    """16 x 4096 pixels, and a short side of 1024: each frame would take 800 MB."""
    with open_video(repeated(tmp_path / "thin.mp4", width=16, height=4096, num_frames=3)) as reader:
        assert reader.frames([0.0]).video.shape == (1, 3, 4096, 16)
        with pytest.raises(MediaError, match=r"thin\.mp4: 1 frames of 1024 x 262144 pixels are too much at once"):
            reader.frames([0.0], short_side=1024)


def test_a_clip_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = repeated(tmp_path / "a.mp4", width=64, height=64, num_frames=4)
    monkeypatch.setattr(_container, "MAX_CLIP_BYTES", 3 * 64 * 64 * 3)
    with open_video(path) as reader:
        assert len(reader.frames([0, 1 / 30, 2 / 30])) == 3
        with pytest.raises(MediaError, match="4 frames of 64 x 64 pixels are too much at once"):
            reader.frames([0, 1 / 30, 2 / 30, 3 / 30])


def test_years_of_video_are_refused(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    repeated(tmp_path / "clips" / "years.mkv", width=64, height=64, num_frames=3, seconds_apart=400_000)
    repeated(tmp_path / "clips" / "days.mkv", width=64, height=64, num_frames=3, seconds_apart=200_000)
    corpus = scan(tmp_path / "clips", cache=tmp_path / "cache", num_workers=1, progress=False)
    assert [(path.name, reason) for path, reason in corpus.bad] == [
        ("years.mkv", "claims to last 800000 s; at most a week is read: its header may be damaged")
    ]
    assert corpus.entries[0].num_frames == 3


def test_a_rate_that_no_sound_has_is_refused(tmp_path: Path) -> None:
    """A header of 44 bytes; a second of it at this rate would take 16 GB."""
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(2_000_000_000)
        file.writeframes(np.zeros(1000, np.int16).tobytes())
    with pytest.raises(MediaError, match="claims 2000000000 samples per second; at most 768000 are read"):
        open_audio(path)


def test_an_image_that_claims_to_be_huge_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    Image.new("1", (8192, 8192)).save(image)
    start = time.perf_counter()
    with pytest.raises(MediaError, match="claims 8192 x 8192 pixels"):
        open_video(image)
    assert time.perf_counter() - start < 1
    data = bytearray(image.read_bytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2  # IHDR: width and height
    image.write_bytes(data)
    with pytest.raises(MediaError, match=r"a\.png: is no readable image"):
        open_video(image)
