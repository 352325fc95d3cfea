"""Fine-tuning: an encoder and a linear classifier on top learn from labels together, then face test samples."""

import copy
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from . import optim
from .batch import Batch
from .data.arrays import ArrayDataset
from .data.clips import ClipSampler
from .data.datasets import VideoDataset
from .data.loader import Loader
from .evaluate.metrics.interval import uncertainty
from .evaluate.recognition.class_counts import check_classes
from .evaluate.recognition.outcome import accuracies, accuracy_intervals, class_accuracies, top_classes
from .evaluate.recognition.predictions import guess_columns
from .method import Method
from .models import Encoder
from .models.layers import drop_paths
from .stop import check, stoppable
from .train.loop import fit
from .train.run import Run

DROPOUT = 0.5
WARMUP_SHARE = 0.05


class Classifier(Method):
    """Name the class of each clip: encoder, dropout, linear layer; cross-entropy over the samples that have a label.

    Encoder and classifier have learning rates of their own: `param_groups` gives them as scales of a schedule that
    starts at 1.

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] -> pooled features (B, D).
        num_classes: L.
        clips: Which frames; each clip of a sample is one to learn from.
        lr_backbone: Learning rate of the encoder.
        lr_head: Learning rate of the linear layer.
    """

    def __init__(
        self, encoder: Encoder, *, num_classes: int, clips: ClipSampler, lr_backbone: float, lr_head: float
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.clips = clips
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(encoder.dim, num_classes)
        # Features may have any scale: a small start keeps the first probabilities even.
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)
        self.lr_backbone = lr_backbone
        self.lr_head = lr_head

    def logits(self, batch: Batch) -> Tensor:
        """Classify each clip: -> (B, K, L)."""
        assert batch.video is not None
        clips = rearrange(batch.video, "b k t c h w -> (b k) t c h w").float() / 255
        logits = self.head(self.dropout(self.encoder(clips)))
        return rearrange(logits, "(b k) l -> b k l", k=batch.video.shape[1])

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Cross-entropy, mean over the clips of the samples with a label (not -1); 0 where no sample has one."""
        assert batch.label is not None
        logits = self.logits(batch).float()
        target = batch.label[:, None].expand(logits.shape[:2])
        num_labelled = (target >= 0).sum().clamp(min=1)
        loss = F.cross_entropy(logits.transpose(1, 2), target, ignore_index=-1, reduction="sum") / num_labelled
        return {"loss": loss, "accuracy": (logits.argmax(2) == target).sum() / num_labelled}

    def param_groups(self) -> list[dict[str, Any]]:
        """Matrices and vectors (without weight decay) of encoder and head, each with its learning rate as lr_scale."""
        groups = []
        for module, rate in ((self.encoder, self.lr_backbone), (self.head, self.lr_head)):
            trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
            matrices = [parameter for parameter in trainable if parameter.ndim > 1]
            vectors = [parameter for parameter in trainable if parameter.ndim <= 1]
            groups += [
                {"params": matrices, "lr_scale": rate},
                {"params": vectors, "lr_scale": rate, "weight_decay": 0.0},
            ]
        return [group for group in groups if group["params"]]


def finetune(
    encoder: Encoder,
    train: VideoDataset | ArrayDataset,
    test: VideoDataset | ArrayDataset,
    *,
    num_classes: int,
    out: Path,
    steps: int,
    lr_backbone: float = 1e-4,
    lr_head: float = 1e-3,
    batch_size: int = 32,
    weight_decay: float = 0.05,
    drop_path: float = 0.0,
    seed: int = 0,
    device: torch.device | str = "cpu",
    precision: Literal["float32", "bfloat16"] = "float32",
    num_workers: int = 0,
    test_source: Tensor | None = None,
) -> dict[str, Any]:
    """Train encoder and classifier on labelled clips with `fit`, and classify the test samples.

    AdamW; the learning rates rise for a twentieth of the training and fall to 0 along a cosine. Training clips are
    what `train` draws (a random place in time and along the long side), without further augmentation. At test time
    the probabilities of all clips of a sample are averaged. Stopped, it goes on where the newest checkpoint of `out`
    stands, exactly.

    Args:
        encoder: Start of the training; a copy is trained, itself stays as it is.
        train: Labelled samples to learn from.
        test: Labelled samples to classify; several clips of each if its `clips` gives several.
        num_classes: Classes are 0 .. num_classes - 1.
        out: Run folder of `fit`.
        steps: Of the optimizer.
        lr_backbone: Learning rate of the encoder; 0 keeps its parameters as they are.
        lr_head: Learning rate of the linear layer.
        batch_size: Samples per step.
        weight_decay: Of matrices.
        drop_path: Share of the branches of a transformer's last block that are left out in training
            (models.layers.drop_paths).
        seed: Of the initial classifier, the order of the data and every draw.
        device: Where to compute.
        precision: Of matrix products in training.
        num_workers: Decoding processes.
        test_source: Number of the recording of each test sample, int64, in the order of `test`; None is a recording
            each.

    Returns:
        "figures": "top1", "top5" (of six training classes or more), "mean_class"; "classes": accuracy by number of the
        class; "predicted": int64 (M,) and "label": int64 (M,), in the order of `test`; "uncertainty"
        (`metrics.interval.uncertainty`); "columns" of predictions.csv; "scored": numbers of the M test samples, all but
        those that cannot be read, int64 (M,); "num_train", "num_test" (M), and "unreadable": reasons by path of these.

    Raises:
        ValueError: A label is out of range, a test sample has none, all training samples are of one class, or `out`
            holds another run.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        method = Classifier(
            copy.deepcopy(encoder).requires_grad_(True),
            num_classes=num_classes,
            clips=train.clips,
            lr_backbone=lr_backbone,
            lr_head=lr_head,
        )
    if drop_path:
        drop_paths(method.encoder, rate=drop_path)
    _check_labels(train, num_classes=num_classes, least=-1, name="training")
    _check_labels(test, num_classes=num_classes, least=0, name="test")
    check_classes([label for label in _labels(train) if label >= 0])
    run = Run(
        method=method,
        dataset=train,
        optimizer=partial(torch.optim.AdamW, weight_decay=weight_decay),
        learning_rate=optim.warmup(optim.cosine(1.0), share=WARMUP_SHARE),
        steps=steps,
        batch_size=batch_size,
    )
    method = fit(run, out=out, seed=seed, device=device, precision=precision, num_workers=num_workers)  # type: ignore[assignment]
    loader = Loader(test, batch_size=batch_size, num_workers=num_workers)
    probabilities, label = classify(method, loader)
    scored = _readable(test, loader.bad)
    probabilities, label = probabilities[scored], label[scored]
    source = (torch.arange(len(test)) if test_source is None else test_source)[scored]
    num_classes_learned = len(set(_labels(train)) - {-1})
    ranked = top_classes(probabilities)
    intervals = accuracy_intervals(ranked, label, source, num_classes=num_classes_learned)
    return {
        "figures": accuracies(ranked, label, num_classes=num_classes_learned),
        "classes": class_accuracies(ranked[:, 0], label),
        "predicted": ranked[:, 0],
        "label": label,
        "num_train": len(train),
        "num_test": len(scored),
        "scored": scored,
        "uncertainty": uncertainty(intervals, num_units=len(source.unique()), num_samples=len(scored)),
        "columns": guess_columns(ranked, probabilities.sort(dim=1, descending=True, stable=True).values),
        "unreadable": dict(loader.bad),
    }


def _labels(dataset: VideoDataset | ArrayDataset) -> list[int]:
    if isinstance(dataset, ArrayDataset):
        return dataset.label.tolist()
    return [entry.label for entry in dataset.entries]


def _readable(dataset: VideoDataset | ArrayDataset, bad: Mapping[str, str]) -> Tensor:
    """Numbers of the samples that no other one stood in for, int64."""
    names = [dataset.name(number) for number in range(len(dataset))]
    scored = [number for number, name in enumerate(names) if name not in bad]
    if not scored:
        raise ValueError(f"none of the {len(names)} test samples can be read; the first: {names[0]}")
    return torch.tensor(scored)


def _check_labels(dataset: VideoDataset | ArrayDataset, *, num_classes: int, least: int, name: str) -> None:
    """Refuse labels outside of [least, num_classes), and data without any label."""
    labels = _labels(dataset)
    wrong = [number for number, label in enumerate(labels) if not least <= label < num_classes]
    if wrong:
        raise ValueError(
            f"{name} sample {wrong[0]} has label {labels[wrong[0]]}, expected {least} to {num_classes - 1} "
            f"({num_classes} classes; -1 is no label)"
        )
    if max(labels) < 0:
        raise ValueError(f"none of the {len(labels)} {name} samples has a label")


@stoppable
@torch.no_grad()
def classify(method: Classifier, loader: Loader) -> tuple[Tensor, Tensor]:
    """Probabilities of all samples of a dataset in its order, mean over their clips: (N, L) and labels int64 (N,)."""
    was_training, device = method.training, method.head.weight.device
    method.eval()
    probabilities, labels = [], []
    for batch in loader.in_order(len(loader.dataset)):
        assert batch.label is not None
        probabilities.append(method.logits(batch.to(device)).double().softmax(2).mean(1).cpu())
        labels.append(batch.label)
        check()
    method.train(was_training)
    return torch.cat(probabilities), torch.cat(labels)
