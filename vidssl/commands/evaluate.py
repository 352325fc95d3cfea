"""vidssl evaluate: figures of a frozen encoder under an official protocol."""

import logging
from pathlib import Path
from typing import Literal

logger = logging.getLogger(__name__)


def davis(
    root: Path,
    model: str,
    *,
    weights: Path | None = None,
    protocol: Literal["dino", "crw", "vfs", "dinov3"] | None = None,
    sequences: str | None = None,
    subset: str = "val",
    resolution: str = "480p",
    out: Path | None = None,
    device: str = "auto",
    seed: int = 0,
    overlays: bool = True,
    encoder_options: tuple[str, ...] = (),
    command: str | None = None,
) -> None:
    """Carry the first mask of every sequence through it with frozen features; print the official DAVIS figures.

    Writes masks, overlays, per-sequence figures and result.json to OUT. Running the same command again takes over
    the sequences that are done.

    Args:
        root: Folder in the layout of DAVIS: JPEGImages/480p, Annotations/480p, ImageSets/2017/val.txt.
        model: A run folder, an exported .safetensors file, timm:NAME, torchvision:NAME, random:NAME or random:RUN
            (random weights), or identity (the first mask on every frame).
        weights: File with the weights of timm:NAME or torchvision:NAME; without it they are random. Nothing is
            ever downloaded.
        protocol: How labels travel; published figures differ by protocol. None is dino for vision transformers and
            crw for everything else.
        sequences: Names of sequences, with commas between them. None is all of the subset.
        subset: List of sequences, ImageSets/2017/SUBSET.txt.
        resolution: Folder inside JPEGImages and Annotations.
        out: Folder for the results. None is RUN/evaluate/PROTOCOL for runs, else runs/evaluate/MODEL-PROTOCOL.
        device: Where to compute: auto, cpu, cuda, cuda:1 or mps; auto is a CUDA GPU where there is one, else cpu.
        seed: Of random weights.
        overlays: Draw the masks over the frames: a contact sheet and an mp4 per sequence.
        encoder_options: NAME=VALUE of the encoder, such as stride=8, layer=layer4 or padding_mode=reflect (the
            network of CRW's own code).
        command: Command line that started this, for the record.
    """
    from rich.console import Console

    from ..evaluate.davis import evaluate_davis
    from ._device import compute_device
    from ._model import model_and_protocol

    encoder, chosen = None, None
    if model != "identity":
        encoder, chosen = model_and_protocol(
            model, weights=weights, seed=seed, protocol_name=protocol, encoder_options=encoder_options
        )
    name = chosen.name if chosen else ""
    out = out or default_folder(model, protocol=name, weights=weights, seed=seed)
    result = evaluate_davis(
        encoder,
        root=root.resolve(),  # the report looks there again, from wherever it is made
        out=out,
        model_name=f"{model} with {weights.name}" if weights else model,
        protocol=chosen,
        sequences=None if sequences is None else [name.strip() for name in sequences.split(",")],
        subset=subset,
        resolution=resolution,
        device=compute_device(device),
        overlays=overlays,
        progress=True,
        command=command,
    )
    Console().print(result)
    logger.info("masks, overlays and result.json are in %s", out)


def default_folder(model: str, *, protocol: str, weights: Path | None, seed: int) -> Path:
    """Where results go that were given no folder: another one for each model, weights, seed and protocol."""
    from ._model import slug

    if model == "identity":
        return Path("runs/evaluate/identity")
    bare = model.removeprefix("random:")
    drawn = [f"seed{seed}"] if seed else []
    if Path(bare).is_dir():
        return Path(bare) / "evaluate" / "-".join([*(["random"] if bare != model else []), *drawn, protocol])
    stem = [slug(weights.stem)] if weights else []
    return Path("runs/evaluate") / "-".join([slug(model), *stem, *drawn, protocol])
