"""The feature cache: what is read of each sample, and what survives kills, damage and other orders."""

import logging
import math
import os
import re
import signal
import sys
import warnings
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_video
from PIL import Image
from torch import nn

from vidssl.data.lists.lists import Columns
from vidssl.data.published.labelled import Item, labelled_set
from vidssl.evaluate.recognition.features import extract as module
from vidssl.evaluate.recognition.features.extract import LogMelStatistics, Thumbnails, extract
from vidssl.evaluate.recognition.features.views import SoundViews, Views, clip_times
from vidssl.evaluate.recognition.outcome import Samples
from vidssl.evaluate.recognition.retrieval import evaluate_retrieval
from vidssl.models import ResNet, VideoViT
from vidssl.models.encoder import Encoder
from vidssl.stop import Stopped

GREY = Views(num_frames=1, size_px=8)


class Counting(Encoder):
    """Grey value of every frame, in two layers; counts the clips it saw."""

    def __init__(self):
        super().__init__(dim=1, stride=1, architecture={"family": "counting"})
        self.num_clips = 0
        self.stop_after = math.inf
        self.asked_after = math.inf

    @property
    def layer_names(self):
        return ("last", "double")

    def _layers(self, clip, names):
        if self.num_clips >= self.stop_after:
            raise KeyboardInterrupt
        if self.num_clips == self.asked_after:
            os.kill(os.getpid(), signal.SIGTERM)
        self.num_clips += len(clip)
        grey = 255 * clip.mean(2, keepdim=True)
        return {"last": grey, "double": 2 * grey}


def frame_folder(path, num_frames, *, first=0):
    """A video of frames whose grey value is their number."""
    path.mkdir(parents=True)
    for number in range(num_frames):
        Image.new("RGB", (12, 8), (first + number,) * 3).save(path / f"{number:03}.png")
    return path


@pytest.fixture
def stills(tmp_path):
    """24 images; image i has the grey value 10 i."""
    (tmp_path / "stills").mkdir()
    items = []
    for number in range(24):
        path = tmp_path / "stills" / f"{number:02}.png"
        Image.new("RGB", (8, 8), (10 * number,) * 3).save(path)
        items.append(Item(path, label=number % 3, source=""))
    return items


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of four samples, six in all."""
    monkeypatch.setattr(module, "_CHUNK_CLIPS", 4)


def grey_of(items):
    return torch.tensor([10.0 * int(item.path.stem) for item in items])[:, None, None]


# ---------------------------------------------------------------- what is read


def test_clips_divide_a_video_and_short_ones_repeat_their_last_frame():
    times, is_short = clip_times(2.0, 10.0, num_clips=2, num_frames=3, stride_frames=2)
    assert (
        torch.allclose(times, torch.tensor([[0, 0.2, 0.4], [1.5, 1.7, 1.9]], dtype=torch.float64)) and not is_short
    )
    times, _ = clip_times(2.0, 10.0, num_clips=1, num_frames=3, stride_frames=2)
    assert torch.allclose(times, torch.tensor([[0.7, 0.9, 1.1]], dtype=torch.float64))
    times, is_short = clip_times(0.2, 10.0, num_clips=2, num_frames=4, stride_frames=1)
    assert torch.allclose(times, torch.tensor([[0, 0.1, 0.1, 0.1]] * 2, dtype=torch.float64)) and is_short


def test_frames_of_clips_and_parts(tmp_path, caplog):
    path = frame_folder(tmp_path / "video", 50)  # 24 frames per second, frame i has the grey value i
    whole, part = Item(path, 0, ""), Item(path, 1, "", start_seconds=0.5, end_seconds=1.0)  # frames 12 to 23
    tail = Item(path, 1, "", start_seconds=2.0)  # frames 48 and 49
    views = Views(num_clips=2, num_frames=4, stride_frames=3, size_px=8)
    with caplog.at_level(logging.INFO):
        found = extract(Counting(), [whole, part, tail], views=views, level="frames", cache=tmp_path / "cache")[
            "last"
        ]
    assert found.values.shape == (3, 2, 4, 1)
    assert found.values[..., 0].round().int().tolist() == [
        [[0, 3, 6, 9], [40, 43, 46, 49]],
        [[12, 15, 18, 21], [14, 17, 20, 23]],
        [[48, 49, 49, 49], [48, 49, 49, 49]],
    ]
    assert "1 of 3 samples are shorter than a clip: their last frame is repeated" in caplog.text
    assert found.names == ("video", "video [0.5-1 s]", "video [2-end s]")


def test_crops_lie_along_the_long_side(tmp_path):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    picture = np.repeat(np.array(colours, dtype=np.uint8), 16, axis=0)[None].repeat(16, axis=0)
    Image.fromarray(picture).save(tmp_path / "wide.png")
    Image.fromarray(picture.transpose(1, 0, 2)).save(tmp_path / "high.png")
    items = [Item(tmp_path / "wide.png", 0, ""), Item(tmp_path / "high.png", 0, "")]
    views = Views(num_crops=3, num_frames=1, size_px=16)
    found = extract(Thumbnails(cells=1), items, views=views, cache=tmp_path / "cache")["last"].values
    luma = torch.tensor([0.299, 0.587, 0.114])
    assert torch.allclose(found[..., 0], luma.expand(2, 3), atol=1e-6)
    one = extract(Thumbnails(cells=1), items, views=Views(num_frames=1, size_px=16), cache=tmp_path / "cache")[
        "last"
    ]
    assert torch.allclose(one.values[..., 0], luma[1].expand(2, 1), atol=1e-6)


@pytest.mark.parametrize("encoder", [ResNet(18, width=4), VideoViT(dim=24, depth=2, num_heads=2)])
def test_levels_and_layers_agree_with_the_encoder(tmp_path, encoder):
    encoder = encoder.eval()
    generator = np.random.default_rng(0)
    path = write_video(tmp_path / "noise.mp4", generator.integers(0, 255, (12, 32, 48, 3), dtype=np.uint8))
    image = tmp_path / "still.png"
    Image.fromarray(generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(image)
    options = {"views": Views(num_frames=4, stride_frames=2, size_px=32), "cache": tmp_path / "cache"}
    inner = encoder.layer_names[0]
    patches = extract(encoder, [Item(path, 0, "")], layers=[inner, "last"], level="patches", **options)
    from vidssl.data.media.video import open_video

    times, _ = clip_times(0.5, 24.0, num_clips=1, num_frames=4, stride_frames=2)
    with open_video(path) as reader:
        clip = reader.frames(times[0].tolist(), short_side=32).video[None, :, :, :, 8:40].float() / 255
    expected = encoder.layers(clip, [inner, "last"])
    for name in (inner, "last"):
        assert torch.allclose(patches[name].values[0], expected[name], atol=1e-5)
        frames = extract(encoder, [Item(path, 0, "")], layers=[name], level="frames", **options)[name].values
        assert torch.allclose(frames[0], expected[name].mean((3, 4)), atol=1e-5)
        pooled = extract(encoder, [Item(path, 0, "")], layers=[name], **options)[name].values
        assert torch.allclose(pooled[0], expected[name].mean((1, 3, 4)), atol=1e-5)
    # A single frame, for encoders of frames and of clips.
    still = extract(encoder, [Item(image, 0, "")], views=Views(num_frames=1, size_px=32), cache=tmp_path / "cache")
    pixels = torch.from_numpy(np.asarray(Image.open(image)).copy()).permute(2, 0, 1)[None, None].float() / 255
    assert torch.allclose(still["last"].values[0], encoder(pixels), atol=1e-5)


class Peaks(nn.Module):
    """First, last and mean sample of a waveform."""

    dim = 3
    architecture = {"family": "peaks"}  # noqa: RUF012

    def forward(self, waveform):
        return torch.stack([waveform[:, 0], waveform[:, -1], waveform.mean(1)], dim=1)


def write_wave(path, samples, *, rate=16_000):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.asarray(samples) * 32768).round().astype("<i2").tobytes())
    return path


def test_windows_of_sound(tmp_path, caplog):
    ramp = write_wave(tmp_path / "ramp.wav", np.arange(32_000) / 64_000)  # 2 s, from 0 to 1/2
    short = write_wave(tmp_path / "short.wav", np.full(8000, 0.25))  # 0.5 s
    items = [Item(ramp, 0, ""), Item(short, 0, ""), Item(ramp, 0, "", 0.5, 1.0)]
    views = SoundViews(num_clips=3, audio_seconds=1.0)
    with caplog.at_level(logging.INFO):
        found = extract(Peaks(), items, views=views, cache=tmp_path / "cache")["last"].values
    assert torch.allclose(found[0, :, 0], torch.tensor([0, 0.125, 0.25]), atol=1e-4)
    assert torch.allclose(found[0, :, 1], torch.tensor([0.25, 0.375, 0.5]), atol=1e-4)
    assert torch.allclose(found[1], torch.tensor([0.25, 0, 0.125]).expand(3, 3), atol=1e-4)
    # Nothing beyond the part: half a second from 1/8 to 1/4, then silence.
    assert torch.allclose(found[2], torch.tensor([0.125, 0, 0.09375]).expand(3, 3), atol=1e-4)
    assert "2 of 3 samples are shorter than a clip: silence follows them" in caplog.text
    middle = extract(Peaks(), items[:1], views=SoundViews(), cache=tmp_path / "cache")["last"].values
    assert torch.allclose(middle[0, 0], torch.tensor([0.125, 0.375, 0.25]), atol=1e-4)


def test_statistics_of_sound_tell_a_loud_tone_from_a_quiet_one(tmp_path):
    seconds = np.arange(16_000) / 16_000
    tones = [0.5 * np.sin(2 * np.pi * 440 * seconds), 0.05 * np.sin(2 * np.pi * 440 * seconds)]
    items = [Item(write_wave(tmp_path / f"{n}.wav", tone), 0, "") for n, tone in enumerate(tones)]
    found = extract(LogMelStatistics(), items, views=SoundViews(), cache=tmp_path / "cache")["last"].values
    mean, deviation = found[:, 0, :40], found[:, 0, 40:]
    assert mean[0].argmax() == mean[1].argmax()
    # Ten times quieter is a hundredth of the energy; a steady tone varies only where it is mirrored, at its ends.
    assert torch.isclose((mean[0] - mean[1]).max(), torch.tensor(math.log(100)), atol=0.02)
    assert deviation[0, mean[0].argmax()] < 0.2


def test_recordings_are_numbered_over_all_items(stills, tmp_path):
    items = [Item(item.path, item.label, "film" if number in (2, 5) else "") for number, item in enumerate(stills)]
    found = extract(Counting(), items, views=GREY, class_names=("a", "b", "c"), cache=tmp_path / "cache")["last"]
    assert found.source[2] == found.source[5] and len(found.source.unique()) == 23
    assert found.label.tolist() == [number % 3 for number in range(24)] and found.class_names == ("a", "b", "c")
    taken = found.take([5, 2])
    assert taken.values.flatten().tolist() == [50.0, 20.0] and taken.names == ("05.png", "02.png")


# ---------------------------------------------------------------- what is kept


def test_nothing_is_encoded_twice(stills, tmp_path, small_chunks):
    encoder = Counting()
    options = {"views": GREY, "cache": tmp_path / "cache"}
    found = extract(encoder, stills, **options)["last"]
    assert torch.equal(found.values, grey_of(stills)) and encoder.num_clips == 24
    relabelled = [Item(item.path, 7, "elsewhere") for item in reversed(stills)]
    found = extract(encoder, [*relabelled, relabelled[0]], **options)["last"]
    assert torch.equal(found.values, grey_of([*relabelled, relabelled[0]])) and set(found.label.tolist()) == {7}
    assert encoder.num_clips == 24
    # Another layer of the same samples is another pass; the first one is taken over.
    both = extract(encoder, stills, layers=["last", "double"], **options)
    assert torch.equal(both["double"].values, 2 * grey_of(stills)) and encoder.num_clips == 48
    # A file that changed, other options, another model: nothing old is believed.
    Image.new("RGB", (9, 9), (77,) * 3).save(stills[0].path)
    assert extract(encoder, stills, **options)["last"].values[0].item() == 77
    assert encoder.num_clips == 72
    extract(encoder, stills, views=Views(num_frames=2, size_px=8), cache=tmp_path / "cache")
    other = Counting()
    other.architecture = {"family": "counting", "other": True}
    extract(other, stills, **options)
    assert (encoder.num_clips, other.num_clips) == (96, 24)


def test_features_are_memory_mapped_and_writing_to_them_changes_no_file(stills, tmp_path):
    options = {"views": GREY, "cache": tmp_path / "cache"}
    found = extract(Counting(), stills, **options)["last"]
    file = next((tmp_path / "cache").rglob("last.npy"))
    assert str(file) in Path("/proc/self/maps").read_text() or sys.platform != "linux"
    before = file.read_bytes()
    found.values.zero_()
    assert file.read_bytes() == before
    assert np.array_equal(np.load(file).flatten(), grey_of(stills).flatten().numpy())


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_interrupted_extraction_goes_on_where_it_was(stills, tmp_path, small_chunks, caplog, num_workers):
    encoder = Counting()
    encoder.stop_after = 10
    options = {"views": GREY, "cache": tmp_path / "cache", "batch_size": 2, "num_workers": num_workers}
    with pytest.raises(KeyboardInterrupt), caplog.at_level(logging.INFO):
        extract(encoder, stills, **options)
    assert "what was encoded is kept" in caplog.text and encoder.num_clips == 10
    encoder.stop_after = math.inf
    with caplog.at_level(logging.INFO):
        found = extract(encoder, stills, **options)["last"]
    assert "features: 8 of 24 samples are in" in caplog.text  # two chunks of four; the third was not finished
    assert encoder.num_clips == 10 + 16 and torch.equal(found.values, grey_of(stills))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_extraction_stops_after_the_sample(stills, tmp_path, small_chunks, caplog, num_workers):
    encoder = Counting()
    encoder.asked_after = 10
    options = {"views": GREY, "cache": tmp_path / "cache", "batch_size": 2, "num_workers": num_workers}
    with pytest.raises(Stopped) as stopped, caplog.at_level(logging.INFO):
        extract(encoder, stills, **options)
    assert stopped.value.code == 143 and encoder.num_clips == 12
    assert "stopped by SIGTERM" in caplog.text and "what was encoded is kept" in caplog.text
    found = extract(encoder, stills, **options)["last"]
    assert encoder.num_clips in (12 + 12, 12 + 16) and torch.equal(found.values, grey_of(stills))


class Deadly(Counting):
    """Ends its process, without a word, after twelve clips."""

    def _layers(self, clip, names):
        if self.num_clips == 12:
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._layers(clip, names)


def test_a_killed_extraction_goes_on_where_it_was(stills, tmp_path, small_chunks):
    options = {"views": GREY, "cache": tmp_path / "cache", "batch_size": 4}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: this process has threads
        child = os.fork()
    if child == 0:
        extract(Deadly(), stills, **options)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    encoder = Counting()
    found = extract(encoder, stills, **options)["last"]
    assert encoder.num_clips == 12 and torch.equal(found.values, grey_of(stills))


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


def rows_start(path):
    return path.stat().st_size - 24 * 4


DAMAGE = {
    # name: (what is done to the files of the cache, clips that are encoded again)
    "a flipped bit": (lambda folder: flip(folder / "last.npy", rows_start(folder / "last.npy") + 4 * 5), 4),
    "two flipped bits": (lambda folder: [flip(folder / "last.npy", -4 * row) for row in (1, 24)], 8),
    "zeros after a power cut": (
        lambda folder: (folder / "last.npy").write_bytes((folder / "last.npy").read_bytes()[:-40] + bytes(40)), 12),
    "cut short": (lambda folder: (folder / "last.npy").write_bytes((folder / "last.npy").read_bytes()[:-20]), 8),
    "bytes too many": (
        lambda folder: (folder / "last.npy").write_bytes((folder / "last.npy").read_bytes() + b"more"), 0),
    "a damaged header": (lambda folder: flip(folder / "last.npy", 30), 0),
    "rows gone": (lambda folder: (folder / "last.npy").unlink(), 24),
    "journal gone": (lambda folder: (folder / "journal.jsonl").unlink(), 24),
    "a damaged line": (lambda folder: flip(folder / "journal.jsonl", 60), 4),
    "a torn line": (
        lambda folder: (folder / "journal.jsonl").write_bytes((folder / "journal.jsonl").read_bytes()[:-30]), 4),
    "a damaged request": (lambda folder: flip(folder / "request.json", 10), 0),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_seen_and_exactly_the_damaged_chunks_are_extracted_again(
    stills, tmp_path, small_chunks, caplog, damage
):
    options = {"views": GREY, "cache": tmp_path / "cache"}
    encoder = Counting()
    extract(encoder, stills, **options)
    (folder,) = (tmp_path / "cache").iterdir()
    spoil, num_clips = DAMAGE[damage]
    spoil(folder)
    caplog.clear()
    found = extract(encoder, stills, **options)["last"]
    assert encoder.num_clips == 24 + num_clips
    assert torch.equal(found.values, grey_of(stills))
    if num_clips and damage != "journal gone":
        assert "damaged" in caplog.text and "extracted again" in caplog.text
    caplog.clear()
    extract(encoder, stills, **options)  # whole again
    assert encoder.num_clips == 24 + num_clips and not caplog.text


def test_unreadable_files_are_named_left_out_and_past_a_budget_an_error(stills, tmp_path, small_chunks, caplog):
    stills[5].path.write_bytes(b"no image")
    options = {"views": GREY, "cache": tmp_path / "cache"}
    found = extract(Counting(), stills, **options)["last"]
    rest = [item for number, item in enumerate(stills) if number != 5]
    assert torch.equal(found.values, grey_of(rest)) and len(found) == 23
    assert found.bad[0][0] == "05.png" and "no readable media" in found.bad[0][1]
    assert "05.png cannot be read and is left out" in caplog.text
    assert extract(Counting(), stills, **options)["last"].bad == found.bad  # kept in the cache, too
    stills[9].path.write_bytes(b"")
    message = re.escape("2 of 24 samples cannot be read, more than the share of 0.01 that may be:\n")
    with pytest.raises(ValueError, match=message + r"  .*05.png: .*\n  .*09.png: is empty"):
        extract(Counting(), stills, **options)
    found = extract(Counting(), stills, bad_file_budget=0.1, **options)["last"]
    assert len(found) == 22 and [name for name, _ in found.bad] == ["05.png", "09.png"]


def test_what_does_not_fit_is_said_before_anything_is_read(stills, tmp_path):
    vit = VideoViT(dim=24, depth=1, num_heads=2)
    with pytest.raises(ValueError, match=r"frames of 40 px .* patches of 16 px .* such as 32 or 48"):
        extract(vit, stills, views=Views(num_frames=1, size_px=40), cache=tmp_path)
    with pytest.raises(ValueError, match="has no layer 'layer9'"):
        extract(vit, stills, views=GREY, layers=["layer9"], cache=tmp_path)
    with pytest.raises(ValueError, match="a Counting cannot encode SoundViews"):
        extract(Counting(), stills, views=SoundViews(), cache=tmp_path)
    with pytest.raises(ValueError, match="num_crops is 2, expected 1"):
        Views(num_crops=2)
    with pytest.raises(ValueError, match="smaller than the square of 224 px"):
        Views(short_side_px=200)
    with pytest.raises(ValueError, match="there are no samples"):
        extract(Counting(), [], views=GREY)


def test_toys_are_found_in_another_codec(shared, tmp_path):
    columns = Columns(label="object", split="codec", test_values=("vp8",))
    toys = labelled_set(shared / "data/media/toys/labels.csv", columns=columns)
    views = Views(num_frames=1, size_px=64)
    found = extract(Thumbnails(), [*toys.train, *toys.test], views=views, cache=tmp_path)["last"]
    samples = Samples(found.values, found.label, found.source)
    h264, vp8 = samples.take(torch.arange(6)), samples.take(torch.arange(6, 12))
    assert evaluate_retrieval(h264, vp8, ranks=(1,)).figures == {"R@1": 1.0}
    # The same content: thumbnails of both codecs are closer than a grey value is wide.
    assert (h264.values[h264.label.argsort()] - vp8.values[vp8.label.argsort()]).abs().mean() < 1 / 255
