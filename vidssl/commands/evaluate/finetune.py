"""vidssl evaluate finetune: an encoder and a classifier on top learn from labels together."""

import csv
import dataclasses
import datetime
import functools
import hashlib
import io
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ...evaluate.recognition.class_counts import look_at_classes
from ..pretrain import default_workers
from ._options import DataOptions, EvaluationOptions
from ._recognize import print_results

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from torch import device as Device

    from ...data.datasets import VideoDataset
    from ...data.published.labelled import Item, LabelledSet
    from ...evaluate.results import Result
    from ...models import Encoder

logger = logging.getLogger(__name__)


def finetune(
    data: Annotated[DataOptions, tyro.conf.arg(name="")],
    evaluation: Annotated[EvaluationOptions, tyro.conf.arg(name="")],
    *,
    model: str,
    weights: Path | None = None,
    encoder_options: tuple[str, ...] = (),
    steps: int = 10_000,
    batch_size: int = 32,
    lr_backbone: float = 1e-4,
    lr_head: float = 1e-3,
    weight_decay: float = 0.05,
    drop_path: float = 0.0,
    precision: Literal["float32", "bfloat16"] = "float32",
    frames: int = 8,
    stride: int = 4,
    size_px: int = 224,
    clips: int = 1,
    num_workers: int | None = None,
    device: str = "auto",
    seed: int = 0,
    command: str | None = None,
) -> None:
    """Train an encoder with a linear classifier on labelled videos or images; print its accuracies on the test samples.

    The same network from random weights, and chance, are measured beside it. Stopped, the same command goes on from
    the newest checkpoint; what is done is taken over.

    Args:
        data: What is learned from and measured on.
        evaluation: Where results go.
        model: A run folder, an exported .safetensors file, timm:NAME, torchvision:NAME, hub:FOLDER:ENTRY, hf:FOLDER;
            random: before any of these (random weights).
        weights: File with the weights of timm:, torchvision: or hub:; without it they are random. Nothing is ever
            downloaded.
        encoder_options: NAME=VALUE of the encoder, such as layer=layer3: a ResNet that ends there. Without it
            convolutional networks of timm and torchvision go to their last stage; a run to where it was trained.
        steps: Of the optimizer.
        batch_size: Samples per step.
        lr_backbone: Learning rate of the encoder.
        lr_head: Learning rate of the classifier.
        weight_decay: Of matrices.
        drop_path: Share of the branches of a transformer's last block that are left out in training, of earlier ones
            less; 0.1 for the ViT-B of MAE.
        precision: Of matrix products in training.
        frames: Frames of a clip (videos).
        stride: Frames of the file from one frame of a clip to the next (videos).
        size_px: Height and width of the clips.
        clips: Clips of each test sample, whose probabilities are averaged; in training one is drawn.
        num_workers: Decoding processes; None is one less than there are cores. They change speed only.
        device: Where to compute: auto, cpu, cuda, cuda:1 or mps; auto is a CUDA GPU where there is one, else cpu.
        seed: Of random weights, of a drawn test split, of the classifier and the order of the data.
        command: Command line that started this, for the record.
    """
    from ...evaluate.recognition.subject import spoken_layers
    from ...evaluate.results import slug
    from ...models import load_last_stage
    from .._device import compute_device
    from .._model import parsed_options
    from ._measure import default_folder, has_random_weights

    splits = data.splits_wanted()
    if len(splits) > 1:
        raise ValueError(f"--splits is {data.splits!r}; fine-tuning is one training per split: give one at a time")
    labelled = data.load(splits[0], seed=seed)
    _check_kind(labelled)
    odd = look_at_classes(labelled)
    still = labelled.media == "image"
    how = {
        "steps": steps,
        "batch_size": batch_size,
        "lr_backbone": lr_backbone,
        "lr_head": lr_head,
        "weight_decay": weight_decay,
        **({"drop_path": drop_path} if drop_path else {}),
        "precision": precision,
        "num_frames": 1 if still else frames,
        "stride_frames": 1 if still else stride,
        "size_px": size_px,
        "num_test_clips": 1 if still else clips,
        "seed": seed,
    }
    rows = {"model": f"{model} with {weights.name}" if weights else model}
    if evaluation.baselines and not has_random_weights(model, weights):
        rows["random weights"] = f"random:{model}"
    out = evaluation.out or default_folder(
        model, what=f"finetune-{slug(labelled.name)}", weights=weights, seed=seed
    )
    results: dict[str, Result] = {}
    for row, name in rows.items():
        own = row == "model"
        encoder = load_last_stage(
            model if own else name,
            weights=weights if own else None,
            seed=seed,
            **parsed_options(encoder_options),
        )
        results[name if own else row] = _tuned(
            encoder,
            labelled,
            how,
            model_name=name,
            out=out if own else out / "baselines" / "random",
            lists=out / "lists",
            num_workers=default_workers() if num_workers is None else num_workers,
            device=compute_device(device),
            bad_file_budget=data.bad_file_budget,
            common={"root": str(data.root.resolve()), "command": command, "odd_classes": odd},
        )
    if evaluation.baselines:
        results["chance"] = _chance(labelled, how, columns=list(next(iter(results.values())).figures))
        results["chance"].write(out / "baselines" / "chance")
    views = (
        f"{how['num_test_clips']} clip of {how['num_frames']} frames every {how['stride_frames']}, {size_px} px"
    )
    layers = spoken_layers(next(iter(results.values())).record["model"]["layers"])
    print_results(
        results,
        title=f"finetune on {labelled.name}: {len(labelled.class_names)} classes, {len(labelled.train)} training and "
        f"{len(labelled.test)} test samples; {steps} steps of {batch_size}; {views}; {layers}; per cent",
    )
    logger.info("result.json, predictions.csv (what was said of each sample) and the training are in %s", out)


def _tuned(
    encoder: "Encoder",
    data: "LabelledSet",
    how: dict[str, Any],
    *,
    model_name: str,
    out: Path,
    lists: Path,
    num_workers: int,
    device: "Device",
    bad_file_budget: float,
    common: dict[str, Any],
) -> "Result":
    """Fine-tune one encoder, unless `out` holds the result; the files are listed in `lists`."""
    from ...evaluate.provenance import device_name, fingerprint, versions
    from ...evaluate.recognition.features.extract import data_fingerprint
    from ...evaluate.recognition.measure import taken_over
    from ...evaluate.recognition.predictions import NAME, write_predictions
    from ...evaluate.recognition.subject import layers_measured
    from ...evaluate.results import Result
    from ...finetune import finetune as tune

    model = {
        "name": model_name,
        "architecture": encoder.architecture,
        "sha256": fingerprint(encoder),
        "layers": layers_measured(encoder, ["last"]),
    }
    settings = {"data": data.name, "num_classes": len(data.class_names), **how}
    asked = {
        "task": "finetune",
        "settings": settings,
        "model": model,
        "train": data_fingerprint(data.train),
        "test": data_fingerprint(data.test),
        "versions": {name: versions()[name] for name in ("vidssl", "torch")},
        "device": device.type,
    }
    key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    if (out / NAME).is_file() and (finished := taken_over(out, key)) is not None:
        return finished
    folder = out / "training" / key[:12]  # another request starts afresh, the same goes on
    clips = {
        "train": functools.partial(_drawn_clip, num_frames=how["num_frames"], stride_frames=how["stride_frames"]),
        "test": functools.partial(
            _even_clips,
            num_clips=how["num_test_clips"],
            num_frames=how["num_frames"],
            stride_frames=how["stride_frames"],
        ),
    }
    datasets = {
        part: _dataset(items, clips[part], lists / f"{part}.csv", size_px=how["size_px"], budget=bad_file_budget)
        for part, items in (("train", data.train), ("test", data.test))
    }
    found = tune(
        encoder,
        datasets["train"],
        datasets["test"],
        num_classes=len(data.class_names),
        out=folder,
        steps=how["steps"],
        lr_backbone=how["lr_backbone"],
        lr_head=how["lr_head"],
        batch_size=how["batch_size"],
        weight_decay=how["weight_decay"],
        drop_path=how.get("drop_path", 0.0),
        seed=how["seed"],
        device=device,
        precision=how["precision"],
        num_workers=num_workers,
        test_source=_sources(datasets["test"], data.test),
    )
    by_path = {item.path: item for item in data.test}
    entries = datasets["test"].entries
    write_predictions(
        out / NAME,
        [
            dataclasses.replace(by_path[entries[number].path], label=label)
            for number, label in zip(found["scored"].tolist(), found["label"].tolist(), strict=True)
        ],
        found["columns"],
        root=Path(common["root"]),
        class_names=data.class_names,
    )
    bad = [(str(path), reason) for dataset in datasets.values() for path, reason in dataset.corpus.bad]
    result = Result(
        "finetune",
        found["figures"],
        {},
        {
            "settings": settings,
            "protocol": None,
            "model": model,
            "uncertainty": found["uncertainty"],
            "chosen": {"num_train": found["num_train"], "num_test": found["num_test"]},
            "classes": {data.class_names[number]: value for number, value in found["classes"].items()},
            "unreadable": [list(one) for one in [*bad, *found["unreadable"].items()]],
            **common,
            "device": device_name(device),
            "versions": versions(),
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "key": key,
        },
    )
    result.write(out)
    return result


def _sources(dataset: "VideoDataset", items: "Sequence[Item]") -> "Tensor":
    """Number of the recording of each sample of a dataset of these items, int64."""
    import torch

    from ...evaluate.recognition.features.extract import source_numbers

    number = dict(zip((item.path for item in items), source_numbers(items), strict=True))
    return torch.tensor([number[entry.path] for entry in dataset.entries])


def _check_kind(data: "LabelledSet") -> None:
    """Refuse sounds, and parts of files."""
    items = (*data.train, *data.test)
    part = next((item for item in items if item.start_seconds is not None or item.end_seconds is not None), None)
    if part is not None:
        raise ValueError(f"{part.path}: fine-tuning reads whole files, not parts of them; cut the files first")
    if data.media == "audio":
        raise ValueError(f"{items[0].path} is a sound; fine-tuning is for encoders of pictures")


def _dataset(items: "Sequence[Item]", clips: Any, path: Path, *, size_px: int, budget: float) -> "VideoDataset":
    """Look at the files of one split; write their list to `path`."""
    from ...data.corpus.scan import scan
    from ...data.datasets import VideoDataset
    from ...files import replacing

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [["path", "label"], *([item.path, item.label] for item in items)]
    )
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", errors="surrogateescape")
    corpus = scan(path, allow_outside=True)  # a list of our own
    if len(corpus.bad) > max(1, int(budget * len(items))):
        shown = "".join(f"  {file}: {reason}\n" for file, reason in corpus.bad[:10])
        raise ValueError(
            f"{len(corpus.bad)} of {len(items)} files cannot be read, more than --bad-file-budget {budget:g}:\n{shown}"
        )
    return VideoDataset(corpus, clips=clips, size_px=size_px)


def _drawn_clip(
    duration_seconds: float, fps: float, generator: "Generator", *, num_frames: int, stride_frames: int
) -> "Tensor":
    """One clip at a random place; a shorter video repeats its last frame. Times, float64 (1, T)."""
    from ...data.clips import padded, random_clips

    sampler = functools.partial(random_clips, num_frames=num_frames, stride_frames=stride_frames)
    span = (num_frames - 1) * stride_frames + 1
    return padded(sampler, duration_seconds, fps, generator, span_frames=span)[0]


def _even_clips(
    duration_seconds: float,
    fps: float,
    generator: "Generator",
    *,
    num_clips: int,
    num_frames: int,
    stride_frames: int,
) -> "Tensor":
    """Clips that divide a video evenly, as for frozen features. Times, float64 (K, T)."""
    from ...evaluate.recognition.features.views import clip_times

    return clip_times(
        duration_seconds, fps, num_clips=num_clips, num_frames=num_frames, stride_frames=stride_frames
    )[0]


def _chance(data: "LabelledSet", how: dict[str, Any], *, columns: Sequence[str]) -> "Result":
    from ...evaluate.recognition.chance import classification_chance
    from ...evaluate.results import Result

    num_classes = len({item.label for item in data.train})
    model = {"name": "chance", "architecture": None, "sha256": None}
    record = {"model": model, "protocol": None, "settings": {"data": data.name, **how}}
    return Result("finetune", classification_chance(columns, num_classes=num_classes), {}, record)
