"""Options of the commands that read labelled data and features."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ...data.published.labelled import Layout
from ..pretrain import default_workers

if TYPE_CHECKING:
    from ...data.published.labelled import LabelledSet
    from ...data.published.layouts import Media
    from ...evaluate.recognition.features.views import SoundViews, Views
    from ...models import AudioEncoder, Encoder


@dataclass(frozen=True)
class DataOptions:
    """Options of every command that reads labelled data."""

    root: Path
    """Folder of a labelled data set as published, or a list (.csv, .txt); datasets/README.md shows the layouts."""
    layout: Layout = "auto"
    """Which of the layouts; auto tells by what lies there."""
    splits: str = "1"
    """Split of UCF101, HMDB51 (1 to 3) or ESC-50 (1 to 5: the fold that is tested); several as 1,3; or all, whose
    figures are averaged."""
    path_column: str | None = None
    """Column of a list that holds the file names; None is path or file."""
    label_column: str | None = None
    """Column of the classes; None is label."""
    split_column: str | None = None
    """Column of the split; None is split."""
    source_column: str | None = None
    """Column of the recordings that samples were cut from; None is source. Samples of one recording are never
    neighbours."""
    test_values: tuple[str, ...] = ()
    """Values of the split column that are tested; all others are learned from. None given: test, else val."""
    source_pattern: str | None = None
    r"""Regular expression whose groups name the recording in a file's path, e.g. "(film\d+)_"."""
    test_share: float = 0.2
    """Share of the recordings of each class that is tested, where no split is published."""
    missing_budget: float = 0.01
    """Share of the listed files, in [0, 1], that may be missing."""
    bad_file_budget: float = 0.01
    """Share of the samples, in [0, 1], that may be unreadable."""

    def splits_wanted(self) -> tuple[int, ...]:
        """Numbers of the splits."""
        from ...data.published.labelled import split_numbers

        if self.splits == "all":
            return split_numbers(self.root, layout=self.layout)
        try:
            return tuple(sorted({int(number) for number in self.splits.split(",")}))
        except ValueError as error:
            raise ValueError(f"--splits is {self.splits!r}, expected a number, 1,3 or all") from error

    def load(self, split: int, *, seed: int) -> "LabelledSet":
        """Read the lists of a split."""
        from ...data.lists.lists import Columns
        from ...data.published.labelled import labelled_set

        return labelled_set(
            self.root,
            layout=self.layout,
            split=split,
            columns=Columns(
                path=self.path_column,
                label=self.label_column,
                split=self.split_column,
                source=self.source_column,
                test_values=self.test_values,
            ),
            source_pattern=self.source_pattern,
            test_share=self.test_share,
            seed=seed,
            missing_budget=self.missing_budget,
        )


@dataclass(frozen=True)
class FeatureOptions:
    """Options of every command that extracts features."""

    model: str
    """A run folder, an exported .safetensors file, timm:NAME, torchvision:NAME, hub:FOLDER:ENTRY, hf:FOLDER; random:
    before any of these (random weights). For sounds: a run with an audio encoder, or its .safetensors file."""
    weights: Path | None = None
    """File with the weights of timm:, torchvision: or hub:; without it they are random. Nothing is ever
    downloaded."""
    layers: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--layer"])] = ("last",)
    """Layers whose features are measured, all extracted in one pass: layer3, 9, 11.keys, last.cls, ... Convolutional
    networks of timm and torchvision go to their last stage (layer4 of a ResNet); a run to where it was trained."""
    clips: int = 1
    """Clips of each video or sound, spread evenly; one is the middle."""
    crops: Literal[1, 3] = 1
    """Squares cut from each clip: the middle one, or three along the long side."""
    frames: int = 8
    """Frames of a clip (videos)."""
    stride: int = 4
    """Frames of the file from one frame of a clip to the next (videos)."""
    size_px: int = 224
    """Height and width of the squares."""
    short_side_px: int | None = None
    """Short side that frames are scaled to before squares are cut; None is size-px. DINO's kNN: 256 for 224."""
    audio_seconds: float = 1.0
    """Length of a clip of sound."""
    encoder_options: tuple[str, ...] = ()
    """NAME=VALUE of the encoder, such as stride=8, or layer=layer3: a ResNet that ends there."""
    cache: Path | None = None
    """Folder for features; None is ~/.cache/vidssl/features."""
    batch_size: int = 16
    """Clips encoded at a time."""
    num_workers: int = field(default_factory=default_workers)
    """Decoding processes; 0 decodes between the batches. They change speed only."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1 or mps; auto is a CUDA GPU where there is one, else cpu."""
    seed: int = 0
    """Of random weights, of a drawn test split, and of the draws of the evaluation."""

    def views(self, media: "Media", *, sample_rate_hz: int = 16_000) -> "Views | SoundViews":
        """What is looked at of each sample; an image is a clip of one frame."""
        from ...evaluate.recognition.features.views import SoundViews, Views

        if media == "audio":
            return SoundViews(
                num_clips=self.clips, audio_seconds=self.audio_seconds, sample_rate_hz=sample_rate_hz
            )
        still = media == "image"
        return Views(
            num_clips=1 if still else self.clips,
            num_crops=self.crops,
            num_frames=1 if still else self.frames,
            stride_frames=1 if still else self.stride,
            size_px=self.size_px,
            short_side_px=self.short_side_px,
        )

    @property
    def model_name(self) -> str:
        """What results call the model."""
        return f"{self.model} with {self.weights.name}" if self.weights else self.model


@dataclass(frozen=True)
class EvaluationOptions:
    """Options of every evaluation of recognition."""

    out: Path | None = None
    """Folder for the results. None is RUN/evaluate/TASK-DATA for runs, else runs/evaluate/MODEL-TASK-DATA."""
    baselines: bool = True
    """Measure the same network with random weights, raw pixels (raw sound) and chance as well, in OUT/baselines."""


def load_pictures_encoder(options: FeatureOptions, *, random: bool = False) -> "Encoder":
    """Load the encoder of pictures that the options name, or the same with random weights."""
    from ...models import load_last_stage
    from .._model import parsed_options

    return load_last_stage(
        f"random:{options.model}" if random else options.model,
        weights=None if random else options.weights,
        seed=options.seed,
        **parsed_options(options.encoder_options),
    )


def load_sound_encoder(spec: str, *, seed: int, random: bool = False) -> "AudioEncoder":
    """Load an encoder of sound, or the same with random weights."""
    from ...models import load_audio_encoder

    return load_audio_encoder(f"random:{spec}" if random else spec, seed=seed)
