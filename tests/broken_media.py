"""One small file of each kind of damage, of lying headers, of strange times, of odd structure and of odd names.

Made from one clip of 60 numbered pictures (`media.py`), a key frame every 15.
"""

import os
import shutil
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from media import (
    FPS,
    GROUP,
    NAMES,
    NUM_FRAMES,
    RATE_HZ,
    boxes,
    change,
    copy,
    encode,
    join,
    numbered,
    png,
    shift,
    silence,
    wav,
)

LONG_FRAMES = 480
ONE_KEY_FRAME = {"sc_threshold": "0", "g": "9999", "keyint_min": "9999"}


def write_broken(folder: Path) -> None:
    frames, sound = numbered(), silence(NUM_FRAMES / FPS)
    base = encode(folder / "ok_base.mp4", frames, sound=sound)
    video = copy(base, folder / "video_only.mp4", tracks="v")
    _write_whole(folder, frames, sound)
    _write_truncated(folder, base)
    _write_no_media(folder, base, frames)
    _write_lying_headers(folder, video)
    _write_damaged_data(folder, video)
    _write_times(folder, base, video, frames)
    _write_missing_packets(folder, video)
    _write_structure(folder, base, video)
    _write_names(folder, video)
    _write_sound(folder)


def _write_whole(folder: Path, frames: np.ndarray, sound: np.ndarray) -> None:
    """Ordinary files of many codecs and containers."""
    encode(folder / "ok_faststart.mp4", frames, sound=sound, file_options={"movflags": "+faststart"})
    encode(folder / "ok_long_gop.mp4", frames, options=ONE_KEY_FRAME)
    encode(folder / f"long_gop_{LONG_FRAMES}.mp4", numbered(LONG_FRAMES), options={**ONE_KEY_FRAME, "crf": "30"})
    encode(
        folder / "open_gop_h264.mp4",
        frames,
        options={"x264-params": f"keyint={GROUP}:open-gop=1:bframes=3:scenecut=0"},
    )
    encode(
        folder / "open_gop_hevc.mp4",
        frames,
        codec="libx265",
        options={
            "x265-params": f"keyint={GROUP}:open-gop=1:bframes=4:log-level=none:pools=1",
            "preset": "ultrafast",
        },
    )
    encode(
        folder / "intra_refresh_no_idr.mp4",
        frames,
        options={"x264-params": "intra-refresh=1:keyint=30:bframes=0"},
    )
    webm = {"g": str(GROUP), "b": "400k", "deadline": "realtime", "cpu-used": "8"}
    encode(folder / "ok_vp9.webm", frames, codec="libvpx-vp9", options=webm)
    encode(
        folder / "ok_av1.mp4",
        frames,
        codec="libsvtav1",
        options={"preset": "12", "crf": "40", "g": "30", "svtav1-params": "lp=1"},
    )
    encode(folder / "ok_mpeg4_bframes.avi", frames, codec="mpeg4")
    _pack_b_frames(
        encode(folder / "_loose.avi", frames, codec="mpeg4", b_frames=1), folder / "ok_mpeg4_packed.avi"
    )
    encode(folder / "ok_mpeg1.mpg", frames, codec="mpeg1video")
    encode(folder / "ok_mpegts.ts", frames, sound=sound)
    encode(folder / "ok_mjpeg.avi", frames, codec="mjpeg", pix_fmt="yuvj420p")
    encode(folder / "ok_gif.gif", frames[:20], codec="gif", pix_fmt="rgb8", fps=10)
    encode(folder / "odd_111x63_yuv444.mp4", frames[:20, :63, :111], pix_fmt="yuv444p")
    encode(folder / "rgb24_lossless.mp4", frames[:20], codec="libx264rgb", pix_fmt="rgb24", options={"crf": "10"})
    encode(folder / "gray.mp4", frames[:20], pix_fmt="gray")
    encode(folder / "hi10.mp4", frames[:20], pix_fmt="yuv420p10le")
    encode(
        folder / "interlaced_tff.mp4",
        frames[:20],
        options={"flags": "+ilme+ildct", "x264-params": "tff=1"},
    )
    for name, count in (("single_frame.mp4", 1), ("two_frames.mp4", 2), ("seven_frames.mp4", 7)):
        encode(folder / name, frames[:count])
    encode(folder / "fps_1.mp4", frames[:10], fps=1)
    encode(folder / "fps_1000.mp4", frames, fps=1000)
    encode(folder / "fps_0.1.mp4", frames[:10], fps=Fraction(1, 10))


def _pack_b_frames(source: Path, path: Path) -> None:
    """Put each B frame into the packet of the frame before it and an empty one into its place, as DivX 5 did."""
    with av.open(str(source)) as read, av.open(str(path), "w") as written:
        target = written.add_stream_from_template(read.streams.video[0])
        packets = [packet for packet in read.demux(video=0) if packet.dts is not None]
        contents = [bytes(packet) for packet in packets]
        is_b = [content[content.index(b"\0\0\1\xb6") + 4] >> 6 == 2 for content in contents]
        for number, packet in enumerate(packets):
            content = contents[number]
            if number + 1 < len(packets) and is_b[number + 1]:
                content += contents[number + 1]
            elif is_b[number]:
                content = b"\0\0\1\xb6\x50\x4f"  # a P picture that is not coded
            if number == 0:
                start = content.index(b"\0\0\1\xb2") + 4  # user data: who made it, and that it is packed
                end = content.index(b"\0\0\1", start)
                content = content[:start] + b"DivX503b1393p" + content[end:]
            copied = av.Packet(content)
            copied.pts = copied.dts = number
            copied.time_base, copied.is_keyframe, copied.stream = packet.time_base, packet.is_keyframe, target
            written.mux(copied)
    source.unlink()


def _write_truncated(folder: Path, base: Path) -> None:
    def cut(source: str | Path, name: str, share: float) -> None:
        content = (folder / source).read_bytes()
        (folder / name).write_bytes(content[: int(share * len(content))])

    cut(base, "truncated_no_moov.mp4", 0.6)
    cut("ok_faststart.mp4", "truncated_mdat_50.mp4", 0.5)
    cut("ok_faststart.mp4", "truncated_mdat_98.mp4", 0.98)
    (folder / "truncated_header_only.mp4").write_bytes((folder / "ok_faststart.mp4").read_bytes()[:40])
    stream = (folder / "ok_mpegts.ts").read_bytes()
    (folder / "ts_cut_mid_gop.ts").write_bytes(stream[188 * (len(stream) // 188 * 4 // 10) :])
    with av.open(str(folder / "ok_mpegts.ts")) as read:
        key = [packet for packet in read.demux(video=0) if packet.is_keyframe][2]
    (folder / "truncated_ts_50.ts").write_bytes(stream[: key.pos + key.size // 2])  # inside its third key frame
    copy(base, folder / "ok_remux.mkv")
    cut("ok_remux.mkv", "truncated_mkv_50.mkv", 0.5)
    cut("ok_mpeg4_bframes.avi", "truncated_avi_no_index.avi", 0.7)


def _write_no_media(folder: Path, base: Path, frames: np.ndarray) -> None:
    (folder / "zero_byte.mp4").touch()
    copy(base, folder / "audio_only.mp4", tracks="a")
    (folder / "text.mp4").write_text("no video at all\n" * 100)
    (folder / "html_404.mp4").write_text("<!DOCTYPE html><html><body><h1>404 Not Found</h1></body></html>")
    (folder / "random_bytes.mp4").write_bytes(np.random.default_rng(0).bytes(100_000))
    png(folder / "png_renamed.mp4", frames[0])
    wav(folder / "wav_renamed.mp4", silence(0.5))
    (folder / "directory.mp4").mkdir()
    (folder / "broken_symlink.mp4").symlink_to("/nonexistent.mp4")
    (folder / "devzero_link.mp4").symlink_to("/dev/zero")
    (folder / "devnull_link.mp4").symlink_to("/dev/null")
    os.mkfifo(folder / "fifo.mp4")


def _write_lying_headers(folder: Path, video: Path) -> None:
    def duration(factor: float) -> Callable[[bytearray], None]:
        def edit(content: bytearray) -> None:
            for kind, start, _ in list(boxes(content)):
                place = {"mvhd": start + 16, "mdhd": start + 16, "tkhd": start + 20}.get(kind)
                if place is not None:
                    (value,) = struct.unpack_from(">I", content, place)
                    struct.pack_into(">I", content, place, int(value * factor))

        return edit

    def size(width: int, height: int) -> Callable[[bytearray], None]:
        def edit(content: bytearray) -> None:
            for kind, start, _ in list(boxes(content)):
                if kind == "stsd":  # one entry: 8 bytes, then a box whose size stands at 24
                    struct.pack_into(">HH", content, start + 8 + 8 + 24, width, height)
                if kind == "tkhd":
                    struct.pack_into(">II", content, start + 76, width << 16, height << 16)

        return edit

    def no_time_scale(content: bytearray) -> None:
        for kind, start, _ in list(boxes(content)):
            if kind == "mdhd":
                struct.pack_into(">I", content, start + 12, 0)

    def no_rate(content: bytearray) -> None:
        struct.pack_into("<I", content, content.index(b"avih") + 8, 0)
        struct.pack_into("<II", content, content.index(b"strh") + 28, 0, 0)

    def huge_pictures(content: bytearray) -> None:
        place = content.find(b"\xff\xc0\x00\x11")
        while place >= 0:
            struct.pack_into(">HH", content, place + 5, 60_000, 60_000)
            place = content.find(b"\xff\xc0\x00\x11", place + 4)

    for name, factor in (("x100", 100), ("zero", 0), ("half", 0.5)):
        change(video, folder / f"wrong_duration_{name}.mp4", duration(factor))
    change(video, folder / "dims_stsd_65535.mp4", size(65535, 65535))
    change(video, folder / "dims_stsd_zero.mp4", size(0, 0))
    change(video, folder / "timescale_zero.mp4", no_time_scale)
    change(folder / "ok_mpeg4_bframes.avi", folder / "fps_zero.avi", no_rate)
    change(folder / "ok_mjpeg.avi", folder / "bomb_mjpeg_60000.avi", huge_pictures)
    black = np.zeros((1, 4336, 8192, 3), np.uint8)  # a frame of it takes 107 MB as RGB, the file a few kB
    encode(folder / "big_tiny_file.mp4", black, options={"preset": "ultrafast"})


def _write_damaged_data(folder: Path, video: Path) -> None:
    def overwrite(first: float, last: float, share: float | None) -> Callable[[bytearray], None]:
        """With zeros, or with this share of random bytes, between two places of the coded pictures."""

        def edit(content: bytearray) -> None:
            start, end = next((start, end) for kind, start, end in boxes(content) if kind == "mdat")
            low, high = (start + int((end - start) * place) for place in (first, last))
            if share is None:
                content[low:high] = bytes(high - low)
                return
            generator = np.random.default_rng(1)
            for place in generator.integers(low, high, int((high - low) * share)):
                content[place] = generator.integers(256)

        return edit

    change(video, folder / "corrupt_1pct_bytes_mid.mp4", overwrite(0.4, 0.6, 0.01))
    change(video, folder / "corrupt_30pct_bytes_mid.mp4", overwrite(0.3, 0.7, 0.3))
    change(video, folder / "zeros_mid.mp4", overwrite(0.4, 0.6, None))
    change(video, folder / "zeros_tail.mp4", overwrite(0.8, 1, None))
    change(video, folder / "zeros_all_mdat.mp4", overwrite(0, 1, None))
    change(video, folder / "zeros_start.mp4", overwrite(0, 0.05, None))

    def some_of_a_third(content: bytearray) -> None:
        generator = np.random.default_rng(5)
        for place in generator.integers(len(content) // 3, 2 * len(content) // 3, 60):
            content[place] = generator.integers(256)

    change(folder / "ok_mpegts.ts", folder / "corrupt_ts.ts", some_of_a_third)


def _write_times(folder: Path, base: Path, video: Path, frames: np.ndarray) -> None:
    def late(number: int, packet: Any) -> None:
        packet.pts += 27_000 if number % 7 == 0 else 0

    def zero(number: int, packet: Any) -> None:
        packet.pts = packet.dts = 0

    def coarse(number: int, packet: Any) -> None:
        packet.pts, packet.dts = packet.pts // 1024 * 1024, packet.dts // 1024 * 1024

    copy(video, folder / "nonmono_pts.mkv", late)
    copy(video, folder / "all_pts_zero.mkv", zero)
    copy(video, folder / "no_packets.avi", lambda *_: False)
    copy(video, folder / "dup_pts.mkv", coarse)
    copy(
        base,
        folder / "negative_pts.mp4",
        lambda _, packet: shift(packet, -1.5),
        file_options={"avoid_negative_ts": "disabled", "use_editlist": "0"},
    )
    for name, seconds in (("start_1000s.ts", 1000), ("ts_wrap33bit.ts", 95_442.5)):
        copy(base, folder / name, lambda _, packet, seconds=seconds: shift(packet, seconds))
    for name, delayed in (
        ("video_starts_2s_after_audio.mp4", "video"),
        ("audio_starts_2s_after_video.mp4", "audio"),
    ):
        copy(
            base,
            folder / name,
            lambda _, packet, delayed=delayed: shift(packet, 2 * (packet.stream.type == delayed)),
        )

    def from_the_key_frame_before(number: int, packet: Any) -> bool:
        shift(packet, -32.1 / FPS)
        return number >= 2 * GROUP

    copy(video, folder / "editlist_cut.mp4", from_the_key_frame_before)
    copy(
        base, folder / "audio_2s_video_1s.mp4", lambda number, packet: packet.stream.type == "audio" or number < 32
    )
    kept = [number for number in range(NUM_FRAMES) if number % 10 < 3 or number > 40]
    ticks = [number * number if number < 10 else 60 + 7 * number for number in range(len(kept))]
    encode(folder / "vfr_strong.mp4", frames[kept], ticks=ticks, fps=300)


def _write_missing_packets(folder: Path, video: Path) -> None:
    copy(video, folder / "no_first_keyframe.mkv", lambda number, _: number > 0)
    copy(video, folder / "no_first_keyframe.mp4", lambda number, _: number > 0)
    copy(video, folder / "no_keyframes_at_all.mkv", lambda _, packet: not packet.is_keyframe)
    copy(video, folder / "drop_every_5th_packet.mkv", lambda number, _: number % 5 != 4)
    copy(video, folder / "mid_keyframe_missing.mkv", lambda number, _: number != 2 * GROUP)


def _write_structure(folder: Path, base: Path, video: Path) -> None:
    large = copy(video, folder / "_large.ts")
    small = encode(folder / "_small.ts", numbered(20, height=32, width=56))
    (folder / "resolution_change.ts").write_bytes(large.read_bytes() + small.read_bytes())
    (folder / "two_mp4_concatenated.mp4").write_bytes(2 * video.read_bytes())
    join(folder / "two_video_streams.mp4", [small, base], to_play=[base])
    cover = png(folder / "_cover.png", numbered(8)[7])
    join(folder / "cover_art_first_stream.mp4", [cover, base], to_play=[base])
    copy(base, folder / "fragmented.mp4", file_options={"movflags": "frag_keyframe+empty_moov+default_base_moof"})
    encode(
        folder / "pcm_mono.mov", numbered(), sound=silence(2, rate_hz=8000), sound_codec="pcm_s16le", rate_hz=8000
    )
    copy(
        base,
        folder / "encrypted_cenc.mp4",
        file_options={
            "encryption_scheme": "cenc-aes-ctr",
            "encryption_key": "00112233445566778899aabbccddeeff",
            "encryption_kid": "ffeeddccbbaa99887766554433221100",
        },
    )

    def quarter_turn(content: bytearray) -> None:
        place = next(start for kind, start, _ in boxes(content) if kind == "tkhd") + 40
        struct.pack_into(">9i", content, place, 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)

    change(base, folder / "rotate90.mp4", quarter_turn)
    for path in (large, small, cover):
        path.unlink()


def _write_names(folder: Path, video: Path) -> None:
    for name in NAMES:
        shutil.copy(video, folder / name)


def _write_sound(folder: Path) -> None:
    wav(folder / "wav_zero_samples.wav", np.zeros((1, 0)))
    whole = wav(folder / "_whole.wav", silence(2))
    content = bytearray(whole.read_bytes())
    (folder / "wav_truncated.wav").write_bytes(content[: len(content) // 3])
    struct.pack_into("<I", content, 4, 0xFFFFFFFF)
    struct.pack_into("<I", content, 40, 0xFFFFFFF0)
    (folder / "wav_wrong_length.wav").write_bytes(content)
    content[36:36] = struct.pack("<4sI", b"LIST", 0xFFFFFFF0)  # all that follows belongs to it
    (folder / "wav_lost_data.wav").write_bytes(content)
    samples = np.full(RATE_HZ, np.nan, "<f4").tobytes()
    header = struct.pack(
        "<4sI8sIHHIIHH", b"RIFF", 36 + len(samples), b"WAVEfmt ", 16, 3, 1, RATE_HZ, 4 * RATE_HZ, 4, 32
    )
    (folder / "wav_nan_float.wav").write_bytes(header + struct.pack("<4sI", b"data", len(samples)) + samples)
    whole.unlink()
