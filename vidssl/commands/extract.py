"""vidssl extract: encode every file of a data set once, and keep the features."""

import csv
import io
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .evaluate._options import DataOptions, FeatureOptions, load_pictures_encoder, load_sound_encoder
from .evaluate.recognition import Data, Model

if TYPE_CHECKING:
    from ..data.corpus.corpus import Corpus
    from ..data.published.labelled import Item

_MAX_LISTED = 20

logger = logging.getLogger(__name__)


def extract(
    data: Data,
    model: Model,
    *,
    level: Literal["pooled", "frames", "patches"] = "pooled",
    labels: bool = True,
    out: Path | None = None,
) -> None:
    """Encode every file of a data set once, and keep the features: what all evaluations read.

    Running the same command again goes on where it stopped, and takes over what is done.

    Args:
        data: What is encoded.
        model: What with.
        level: pooled takes the mean over frames and cells; frames over cells; patches keeps them.
        labels: Whether the data is labelled. Without, --root is any folder or list of videos or images.
        out: Folder for a copy: LAYER.npy and samples.csv, a row per sample. None fills the cache alone.
    """
    import numpy as np

    from ..evaluate.recognition.features import extract as features
    from ..evaluate.recognition.subject import layers_measured
    from ..files import replacing
    from ._device import compute_device

    rows, media, class_names = _rows(data, model, labels=labels)
    encoder = (
        load_sound_encoder(model.model, seed=model.seed) if media == "audio" else load_pictures_encoder(model)
    )
    found = features.extract(
        encoder,
        [item for _, item in rows],
        views=model.views(media),  # type: ignore[arg-type]
        layers=model.layers,
        level=level,
        cache=model.cache,
        batch_size=model.batch_size,
        num_workers=model.num_workers,
        device=compute_device(model.device),
        bad_file_budget=data.bad_file_budget,
        progress=True,
    )
    for (layer, one), own in zip(found.items(), layers_measured(encoder, found), strict=True):
        name = layer if layer == own["layer"] else f"{layer} ({own['layer']})"
        logger.info("layer %s: %s", name, " x ".join(map(str, one.values.shape)))
    if out is None:
        logger.info("the features are in %s", model.cache or features.default_feature_cache())
        return
    split_of = {id(item): split for split, item in rows}
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["path", "start_s", "end_s", "split", "label", "source"])
    for item in next(iter(found.values())).items:
        class_name = class_names[item.label] if item.label >= 0 else ""
        part = ["" if one is None else one for one in (item.start_seconds, item.end_seconds)]
        table.writerow([item.path, *part, split_of[id(item)], class_name, item.source])
    with replacing(out / "samples.csv") as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", errors="surrogateescape")
    for layer, one in found.items():
        with replacing(out / f"{layer}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, one.values.numpy())
    logger.info("samples.csv and the features, a row per sample in the same order, are in %s", out)


def _rows(
    data: DataOptions, model: FeatureOptions, *, labels: bool
) -> "tuple[list[tuple[str, Item]], str, tuple[str, ...]]":
    """(split, sample) of everything there is, the kind of media, the class names."""
    from ..data.corpus.scan import scan
    from ..data.published.labelled import Item

    if labels:
        splits = data.splits_wanted()
        if len(splits) > 1:
            raise ValueError(
                f"--splits is {data.splits!r}; every file is encoded, whichever split is named: give one"
            )
        found = data.load(splits[0], seed=model.seed)
        rows = [("train", item) for item in found.train] + [("test", item) for item in found.test]
        return rows, found.media, found.class_names
    corpus = scan(data.root, media="any")
    if corpus.entries[:1] and corpus.entries[0].member is not None:
        raise ValueError(f"{data.root} is shards, which are for pretraining; give a folder or a list of files")
    _check_bad(corpus, budget=data.bad_file_budget)
    media = "video" if any(entry.num_frames > 1 for entry in corpus.entries) else "image"
    return [("", Item(entry.path, -1, entry.source)) for entry in corpus.entries], media, ()


def _check_bad(corpus: "Corpus", *, budget: float) -> None:
    """Name the files that the scan could not read; raise ValueError if there are too many."""
    from ..data.media.container import printable

    lines = [f"{printable(path)}: {reason}" for path, reason in corpus.bad]
    num_files = len(lines) + len(corpus)
    if len(corpus) == 0 or len(lines) > max(1, int(budget * num_files)):  # one always may
        raise ValueError(
            f"{len(lines)} of {num_files} files cannot be read, more than the share of {budget:g} that may be:\n"
            + "".join(f"  {line}\n" for line in lines[:_MAX_LISTED])
            + "  ...\n" * (len(lines) > _MAX_LISTED)
            + "Repair them or take them out of the list, or raise --bad-file-budget"
        )
    for line in lines[:_MAX_LISTED]:
        logger.warning("%s; it is left out", line)
    if len(lines) > _MAX_LISTED:
        logger.warning("so are %d more; `vidssl data check` names them", len(lines) - _MAX_LISTED)
