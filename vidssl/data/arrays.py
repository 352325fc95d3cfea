"""Videos and sounds that lie in memory."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.data import Dataset

from .clips import ClipSampler, as_asked, still
from .samples import Layout, Sample, sample_seed


class ArrayDataset(Dataset[Sample]):
    """Clips of videos held in memory (vidssl.evidence.worlds), sampled as a VideoDataset samples files.

    Args:
        video: uint8 (N, F, 3, H, W), F frames each; images have F = 1.
        clips: Which frames (vidssl.data.clips).
        fps: Frame rate.
        audio: Mono waveforms in [-1, 1], float32 (N, samples), that start with the first frame.
        audio_seconds: Length of the sound that starts with each clip; needed with `audio`.
        sample_rate_hz: Of the waveforms.
        label: int64 (N,); None is no labels.
        source_id: int64 (N,); None is a source for each video.
    """

    def __init__(
        self,
        video: Tensor,
        *,
        clips: ClipSampler = still,
        fps: float = 25.0,
        audio: Tensor | None = None,
        audio_seconds: float = 1.0,
        sample_rate_hz: int = 16_000,
        label: Tensor | None = None,
        source_id: Tensor | None = None,
    ) -> None:
        self.video = video
        self.clips = as_asked(clips)
        self.fps = fps
        self.audio = audio
        self.audio_seconds = audio_seconds
        self.sample_rate_hz = sample_rate_hz
        self.label = torch.full((len(video),), -1) if label is None else label
        self.source_id = source_id

    def __len__(self) -> int:
        return len(self.video)

    @property
    def layout(self) -> Layout:
        """Of every sample."""
        num_clips, num_frames = self.clips(self.video.shape[1] / self.fps, self.fps, torch.Generator()).shape
        audio = None
        if self.audio is not None:
            audio = (num_clips, round(self.audio_seconds * self.sample_rate_hz))
        return Layout((num_clips, num_frames, *self.video.shape[2:]), audio)

    def name(self, index: int) -> str:
        """Of a video, for messages."""
        return f"video {index} in memory"

    def blame(self, index: int, reason: str) -> None:
        """Refuse to go on: there is no file that could be damaged."""
        raise RuntimeError(f"{self.name(index)} cannot be read: {reason}")

    def __getitem__(self, key: tuple[int | None, int]) -> Sample:
        return self.sample(key)

    def sample(
        self, key: tuple[int | None, int], *, out: Tensor | None = None, note: Callable[[int], None] | None = None
    ) -> Sample:
        """Read the sample of key = (seed, position), as in `VideoDataset`."""
        seed, position = key
        index = position % len(self)
        if note is not None:
            note(index)
        drawn = 0 if seed is None else sample_seed(seed, 0)
        num_frames = self.video.shape[1]
        times = self.clips(num_frames / self.fps, self.fps, torch.Generator().manual_seed(drawn))
        frames = (times * self.fps).round().long().clamp(max=num_frames - 1)
        audio = None
        if self.audio is not None:
            num_samples = round(self.audio_seconds * self.sample_rate_hz)
            starts = (times[:, 0] * self.sample_rate_hz).round().long().tolist()
            # Past the end of a recording there is silence.
            padded = torch.nn.functional.pad(self.audio[index], (0, num_samples))
            audio = torch.stack([padded[start : start + num_samples] for start in starts])
        video = self.video[index, frames]
        return Sample(
            index=index,
            seed=drawn,
            video=video if out is None else out.copy_(video),
            time=frames / torch.tensor(self.fps, dtype=torch.float64),
            audio=audio,
            label=int(self.label[index]),
            source_id=None if self.source_id is None else int(self.source_id[index]),
        )
