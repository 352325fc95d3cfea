"""One small file of each odd but sound kind: codecs, containers, rates, sizes, turns, times, tracks, colours.

Each holds numbered pictures (`media.py`), and sound whose pitch rises where it holds sound.
"""

import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from media import boxes, change, copy, encode, join, numbered, png, shift, silence, tone, wav

SHOWN = 15  # pictures of most files
VP9 = {"b": "400k", "deadline": "realtime", "cpu-used": "8", "g": "10"}
X265 = {"x265-params": "log-level=none:pools=1:keyint=10", "preset": "ultrafast"}


@dataclass(frozen=True)
class Odd:
    """What a reader should find: numbers of the pictures, upright size, mean rate, rate and channels of the sound."""

    numbers: tuple[int, ...] = tuple(range(SHOWN))
    width: int = 112
    height: int = 64
    fps: float = 30
    sound: tuple[int, int] | None = None


STEREO = Odd(sound=(48_000, 2))
GAP = Odd(sound=(48_000, 2), fps=28)  # FFmpeg's AVI writer leaves out one time after the first picture
HIDDEN = (10, 11, 25, 40)
VFR = tuple(range(12))
VFR_TICKS = [0, 1, 2, 10, 11, 40, 41, 42, 43, 80, 81, 99]
VFR_FPS = 30 * 12 / 64  # 37 ticks are a gap, in whose place one usual tick is counted; the last frame lasts one

ODD = {
    "-video-with-dash-.mp4": Odd(tuple(range(5)), fps=1),
    "1fps_mpeg4.avi": Odd(fps=1),
    "1x1_pixel_1fps.mp4": Odd(tuple(range(5)), 1, 1, 1),
    "alpha_vp9.webm": STEREO,
    "audio_longer_than_video.mp4": STEREO,
    "audio_track_silent.webm": Odd(
        tuple(number for number in range(60) if number not in HIDDEN), fps=30 * 56 / 60, sound=(48_000, 2)
    ),
    "av1.mkv": Odd(),
    "avi_av1-aac.avi": GAP,
    "avi_avc-aac.avi": STEREO,
    "avi_mpeg4-mp3.avi": GAP,
    "avi_vp8-mp3.avi": GAP,
    "avi_vp9-vorbis.avi": GAP,
    "bt709_full_range.mp4": Odd(),
    "corrupted_index.mp4": Odd(tuple(range(10))),
    "edit_list_discard.mp4": Odd(tuple(range(1, SHOWN))),
    "fragmented.mp4": STEREO,
    "h264_10bit.mp4": Odd(),
    "hevc_10bit.mp4": Odd(),
    "hevc_frames_numbered.mp4": Odd(fps=10),
    "msmpeg4v3.asf": Odd(),
    "multi_cluster.mkv": Odd(tuple(range(60))),
    "no_duration.webm": Odd(sound=(48_000, 2)),
    "ntsc.mp4": Odd(fps=29.97),
    "phone_h263_amr.3gp": Odd(width=176, height=144, fps=15, sound=(8000, 1)),
    "rotated_0.mov": Odd(),
    "rotated_180.mov": Odd(),
    "rotated_270.mov": Odd(width=64, height=112),
    "rotated_90.mov": Odd(width=64, height=112),
    "sar_2x1.mp4": Odd(),
    "surround.mp4": Odd(sound=(48_000, 6)),
    "three_frames.mp4": Odd(tuple(range(3)), fps=10),
    "two_pairs_of_tracks.mp4": Odd(tuple(range(SHOWN)), sound=(16_000, 2)),
    "unordered_pts.mov": Odd(tuple(range(4)), fps=32),
    "vfr_numbered.mp4": Odd(VFR, fps=VFR_FPS),
    "vfr_rot180.mp4": Odd(VFR, fps=VFR_FPS, sound=(48_000, 1)),
    "vp8.webm": Odd(sound=(48_000, 2)),
    "vp9_opus.webm": STEREO,
    "wrong_keyframe_flags.mp4": Odd(tuple(range(60))),
}

# Files without a picture, and why.
WITHOUT_PICTURES = {
    "audio_only_count.mp4": "no video stream: it holds sound alone",
    "dash_init_only.mp4": "holds no picture",
    "empty.wav": "no video stream: it holds sound alone",
    "missing_sps.mp4": "no picture can be decoded",
    "mp3_with_cover.mp3": "no video stream: it holds sound alone",
    "short_48_samples.wav": "no video stream: it holds sound alone",
    "silence.wav": "no video stream: it holds sound alone",
}


def write_odd(folder: Path) -> None:
    frames = numbered(60)
    some = frames[:SHOWN]
    stereo = {"sound": tone(1, rate_hz=48_000, channels=2), "rate_hz": 48_000}
    _write_codecs(folder, some, stereo)
    _write_colours(folder, some, stereo)
    _write_times(folder, frames, stereo)
    _write_turns(folder, some)
    _write_structure(folder, frames, stereo)
    _write_without_pictures(folder, some)


def _write_codecs(folder: Path, frames: np.ndarray, stereo: dict[str, Any]) -> None:
    av1 = {"codec": "libsvtav1", "options": {"preset": "11", "crf": "40", "svtav1-params": "lp=1"}}
    encode(folder / "av1.mkv", frames, **av1)
    encode(folder / "avi_av1-aac.avi", frames, **av1, **stereo)
    encode(folder / "avi_avc-aac.avi", frames, b_frames=0, **stereo)
    encode(folder / "avi_mpeg4-mp3.avi", frames, codec="mpeg4", b_frames=0, sound_codec="libmp3lame", **stereo)
    vp8 = {"b": "400k", "deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "0"}
    encode(folder / "avi_vp8-mp3.avi", frames, codec="libvpx", options=vp8, sound_codec="libmp3lame", **stereo)
    encode(folder / "avi_vp9-vorbis.avi", frames, codec="libvpx-vp9", options=VP9, sound_codec="vorbis", **stereo)
    encode(folder / "vp8.webm", frames, codec="libvpx", options=vp8, sound_codec="libopus", **stereo)
    encode(folder / "vp9_opus.webm", frames, codec="libvpx-vp9", options=VP9, sound_codec="libopus", **stereo)
    encode(folder / "hevc_frames_numbered.mp4", frames, codec="libx265", options=X265, fps=10)
    encode(folder / "msmpeg4v3.asf", frames, codec="msmpeg4")
    phone = {"sound": tone(1, rate_hz=8000), "rate_hz": 8000, "sound_codec": "libopencore_amrnb"}
    encode(folder / "phone_h263_amr.3gp", numbered(15, height=144, width=176), codec="h263", fps=15, **phone)
    surround = {"sound": tone(1, rate_hz=48_000, channels=6), "rate_hz": 48_000}
    encode(folder / "surround.mp4", frames, **surround)
    silent = {"sound": np.repeat(silence(2, rate_hz=48_000), 2, axis=0), "rate_hz": 48_000}
    path = folder / "audio_track_silent.webm"
    encode(path, numbered(60), codec="libvpx", options=vp8, sound_codec="libopus", **silent)
    with av.open(str(path)) as read:
        packets = [bytes(packet) for packet in read.demux(video=0)]

    def hide(content: bytearray) -> None:
        """Some pictures are only there for later ones to refer to: they have packets and are never shown."""
        for number in HIDDEN:
            content[content.index(packets[number])] &= ~0x10

    change(path, path, hide)


def _write_colours(folder: Path, frames: np.ndarray, stereo: dict[str, Any]) -> None:
    half = np.full((*frames.shape[:3], 1), 128, np.uint8)
    alpha = np.concatenate([frames, half], axis=3)
    encode(folder / "alpha_vp9.webm", alpha, codec="libvpx-vp9", pix_fmt="yuva420p",
           options={**VP9, "auto-alt-ref": "0"}, sound_codec="libopus", **stereo)  # fmt: skip
    encode(folder / "bt709_full_range.mp4", frames, pix_fmt="yuvj420p", options={"colorspace": "bt709"})
    encode(folder / "h264_10bit.mp4", frames, pix_fmt="yuv420p10le")
    encode(folder / "hevc_10bit.mp4", frames, codec="libx265", options=X265, pix_fmt="yuv420p10le")
    encode(folder / "sar_2x1.mp4", frames, pixel_aspect=Fraction(2, 1))
    one = np.arange(0, 250, 50, dtype=np.uint8).reshape(5, 1, 1, 1).repeat(3, axis=3)
    encode(folder / "1x1_pixel_1fps.mp4", one, pix_fmt="yuv444p", fps=1)


def _write_times(folder: Path, frames: np.ndarray, stereo: dict[str, Any]) -> None:
    encode(folder / "-video-with-dash-.mp4", frames[:5], fps=1)
    encode(folder / "1fps_mpeg4.avi", frames[:SHOWN], codec="mpeg4", b_frames=0, fps=1)
    encode(folder / "ntsc.mp4", frames[:SHOWN], fps=Fraction(30_000, 1001))
    encode(folder / "three_frames.mp4", frames[:3], fps=10)
    encode(folder / "vfr_numbered.mp4", frames[: len(VFR)], ticks=VFR_TICKS)
    longer = {"sound": tone(2, rate_hz=48_000, channels=2), "rate_hz": 48_000}
    encode(folder / "audio_longer_than_video.mp4", frames[:SHOWN], **longer)
    whole = encode(folder / "_whole.mp4", frames[:SHOWN])
    copy(whole, folder / "edit_list_discard.mp4", lambda _, packet: shift(packet, -1 / 30))
    encode(folder / "unordered_pts.mov", frames[:4], fps=32, b_frames=2)
    encode(folder / "multi_cluster.mkv", frames, file_options={"cluster_time_limit": "300"})
    live = {"file_options": {"live": "1"}}
    encode(folder / "no_duration.webm", frames[:SHOWN], codec="libvpx-vp9", options=VP9, sound_codec="libopus",
           **stereo, **live)  # fmt: skip
    whole.unlink()


TURNS = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}


def turned(content: bytearray, degrees: int) -> None:
    """Ask a player to turn the pictures, clockwise."""
    place = next(start for kind, start, _ in boxes(content) if kind == "tkhd") + 40
    a, b, c, d = (value << 16 for value in TURNS[degrees])
    struct.pack_into(">9i", content, place, a, b, 0, c, d, 0, 0, 0, 1 << 30)


def _write_turns(folder: Path, frames: np.ndarray) -> None:
    for degrees in TURNS:
        # Held like this, the camera saw the upright scene turned the other way.
        held = numbered(SHOWN, height=112, width=64) if degrees in (90, 270) else frames
        stored = np.ascontiguousarray(np.rot90(held, degrees // 90, axes=(1, 2)))
        path = encode(folder / "_stored.mov", stored, options={"crf": "10"})
        change(path, folder / f"rotated_{degrees}.mov", lambda content, degrees=degrees: turned(content, degrees))
    upside_down = np.ascontiguousarray(np.rot90(frames[: len(VFR)], 2, axes=(1, 2)))
    path = encode(
        folder / "_stored.mp4", upside_down, ticks=VFR_TICKS, sound=tone(1, rate_hz=48_000), rate_hz=48_000
    )
    change(path, folder / "vfr_rot180.mp4", lambda content: turned(content, 180))
    path.unlink()
    (folder / "_stored.mov").unlink()


def _write_structure(folder: Path, frames: np.ndarray, stereo: dict[str, Any]) -> None:
    some = frames[:SHOWN]
    encode(
        folder / "fragmented.mp4", some, **stereo,
        file_options={"movflags": "frag_keyframe+empty_moov+default_base_moof"},
    )  # fmt: skip

    def wrong_sizes(content: bytearray) -> None:
        """From the 11th on, the table says that packets begin elsewhere."""
        for kind, start, end in boxes(content):
            if kind == "stsz":
                for place in range(start + 12 + 4 * 10, end, 4):
                    (size,) = struct.unpack_from(">I", content, place)
                    struct.pack_into(">I", content, place, size + 7)

    whole = encode(folder / "_whole.mp4", some, b_frames=0, options={"g": "5"})
    change(whole, folder / "corrupted_index.mp4", wrong_sizes)

    def every_fifth_is_a_key(number: int, packet: Any) -> None:
        packet.is_keyframe = number % 5 == 0

    long = encode(folder / "_long.mp4", frames, b_frames=0)
    copy(long, folder / "wrong_keyframe_flags.mp4", every_fifth_is_a_key)
    small = encode(
        folder / "_small.mp4", numbered(10, height=32, width=56), sound=tone(1, rate_hz=8000), rate_hz=8000
    )
    large = encode(folder / "_large.mp4", some, sound=tone(1, channels=2))
    join(folder / "two_pairs_of_tracks.mp4", [small, large], to_play=[small, large])
    for path in (whole, long, small, large):
        path.unlink()


def _write_without_pictures(folder: Path, frames: np.ndarray) -> None:
    encode(folder / "audio_only_count.mp4", sound=tone(3, rate_hz=22_050), rate_hz=22_050)
    cover = png(folder / "_cover.png", frames[0])
    plain = encode(folder / "_plain.mp3", sound=tone(1, rate_hz=44_100), sound_codec="libmp3lame", rate_hz=44_100)
    join(folder / "mp3_with_cover.mp3", [plain, cover], to_play=[plain])
    for path in (plain, cover):
        path.unlink()
    wav(folder / "silence.wav", silence(2, rate_hz=48_000), rate_hz=48_000)
    wav(folder / "short_48_samples.wav", tone(0.001, rate_hz=48_000), rate_hz=48_000)
    wav(folder / "empty.wav", np.zeros((1, 0)), rate_hz=48_000)
    whole = encode(
        folder / "_whole.mp4", frames, file_options={"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    )
    content = whole.read_bytes()
    first = next(start for kind, start, _ in boxes(content) if kind == "moof") - 8
    (folder / "dash_init_only.mp4").write_bytes(content[:first])

    def lose(content: bytearray) -> None:
        """Take away what a decoder must be told of the pictures before the first."""
        content[content.index(b"avcC") + 9] &= 0xE0  # the number of sequence parameter sets

    change(encode(whole, frames), folder / "missing_sps.mp4", lose)
    whole.unlink()
