"""Measure a model on sequences, beside the same network with random weights and beside labels that stay put."""

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...evaluate.propagation.protocols import Protocol
    from ...evaluate.propagation.runner import Benchmark
    from ...evaluate.results import Result

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MeasureOptions:
    """Options of every evaluation that carries labels through sequences."""

    model: str
    """A run folder, an exported .safetensors file, timm:NAME, torchvision:NAME, hub:FOLDER:ENTRY, hf:FOLDER; random:
    before any of these (random weights); or identity (labels stay where they were)."""
    weights: Path | None = None
    """File with the weights of timm:, torchvision: or hub:; without it they are random. Nothing is ever
    downloaded."""
    layer: str | None = None
    """Features of another layer or facet: layer2, 9, 11.keys, ...; None is the last."""
    short_side: int | None = None
    """Pixels of the shorter side of the frames instead of the protocol's; of both where it has square ones."""
    out: Path | None = None
    """Folder for the results. None is RUN/evaluate/TASK-PROTOCOL for runs, else runs/evaluate/MODEL-TASK-PROTOCOL."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1 or mps; auto is a CUDA GPU where there is one, else cpu."""
    seed: int = 0
    """Of random weights."""
    baselines: bool = True
    """Measure the same network with random weights and the identity as well, in OUT/baselines."""
    overlays: bool = True
    """Draw what the model predicts: a contact sheet and an mp4 per sequence."""
    encoder_options: tuple[str, ...] = ()
    """NAME=VALUE of the encoder, such as stride=8, layer=layer4 or padding_mode=reflect (the network of CRW's own
    code)."""


def measure(
    benchmark: "Benchmark",
    options: MeasureOptions,
    *,
    protocol: "Protocol | Callable[[str], Protocol]",
    root: Path,
    variant: str = "",
    command: str | None = None,
) -> "tuple[dict[str, Result], Path]":
    """Evaluate the model and its baselines; print them side by side.

    Args:
        benchmark: What is measured.
        options: What with, and where.
        protocol: How labels travel; or a function that chooses by the family of the encoder.
        root: Where the data lies, for the record: the report looks there again, from wherever it is made.
        variant: Name of the way that the task is measured in, where it has several: part of the default folder and
            of the title.
        command: Command line that started this, for the record.

    Returns:
        Results by the name of the model, which comes first, "random weights" and "identity"; and the folder of the
        model's.
    """
    from rich.console import Console

    from ...evaluate.propagation.runner import Carrier, evaluate_sequences
    from ...evaluate.results import side_by_side, slug
    from .._device import compute_device
    from .._model import load_for

    device = compute_device(options.device)
    # Row of the table -> what the result calls it, and what it carries labels with.
    rows: dict[str, tuple[str, Carrier]] = {}
    name_of_protocol = ""
    if options.model != "identity":

        def changed(family: str) -> "Protocol":
            chosen = protocol(family) if callable(protocol) else protocol
            side = options.short_side
            if side is None:
                return chosen
            if chosen.frame_size is not None:
                height, width = (round(one * side / min(chosen.frame_size)) for one in chosen.frame_size)
                return dataclasses.replace(chosen, frame_size=(height, width))
            return dataclasses.replace(chosen, short_side=side)

        def carrier(model: str, weights: Path | None) -> Carrier:
            encoder, chosen = load_for(
                model,
                protocol_of=changed,
                weights=weights,
                seed=options.seed,
                layer=options.layer,
                encoder_options=options.encoder_options,
            )
            return Carrier(encoder, chosen, device)

        name = f"{options.model} with {options.weights.name}" if options.weights else options.model
        own = carrier(options.model, options.weights)
        rows[name] = (name, own)
        assert own.protocol is not None
        name_of_protocol = own.protocol.name
        if options.baselines and not has_random_weights(options.model, options.weights):
            bare = f"random:{options.model}"
            rows["random weights"] = (bare, carrier(bare, None))
    if options.baselines or not rows:
        rows["identity"] = ("identity", Carrier(None, None, device))

    changes = [slug(options.layer or ""), f"{options.short_side}px" if options.short_side else ""]
    what = "-".join(part for part in (benchmark.task, variant, name_of_protocol, *changes) if part)
    out = options.out or default_folder(options.model, what=what, weights=options.weights, seed=options.seed)
    results: dict[str, Result] = {}
    for row, (model_name, carried) in rows.items():
        is_baseline = bool(results)  # the first is the model
        if is_baseline:
            logger.info("baseline: %s", row)
        results[row] = evaluate_sequences(
            benchmark,
            carried,
            out=out / "baselines" / row.split()[0] if is_baseline else out,
            model_name=model_name,
            root=root.resolve(),
            overlays=options.overlays and not is_baseline,
            progress=True,
            command=command,
        )
    num_sequences = len(benchmark.sequences)
    title = (
        f"{f'{benchmark.task} {variant}'.strip()}, {num_sequences} sequence{'s' * (num_sequences != 1)}, protocol "
        f"{name_of_protocol or 'any'}, per cent"
    )
    console = Console()
    console.print(side_by_side(results, title=title, width=console.width))
    logger.info("predictions, overlays and result.json are in %s", out)
    return results, out


def listed(names: str | None) -> list[str] | None:
    """Take names apart that stand with commas between them; None stays None."""
    return None if names is None else [name.strip() for name in names.split(",")]


def has_random_weights(model: str, weights: Path | None) -> bool:
    """Whether the weights of a model are random anyhow."""
    return model.startswith("random:") or (weights is None and model.startswith(("timm:", "torchvision:", "hub:")))


def default_folder(model: str, *, what: str, weights: Path | None, seed: int) -> Path:
    """Where results go that were given no folder: another one for each model, weights, seed, task and protocol."""
    from ...evaluate.results import slug

    bare = model.removeprefix("random:")
    drawn = [f"seed{seed}"] if seed else []
    if Path(bare).is_dir():
        return Path(bare) / "evaluate" / "-".join([*(["random"] if bare != model else []), *drawn, what])
    stem = [slug(weights.stem)] if weights else []
    return Path("runs/evaluate") / "-".join([slug(model), *stem, *drawn, what])
