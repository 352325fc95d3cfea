"""vidssl propagate: the masks of a first frame, carried through a user's own video."""

import logging
from pathlib import Path
from typing import Literal

import tyro

logger = logging.getLogger(__name__)


def propagate(
    video: tyro.conf.Positional[Path],
    *,
    labels: Path,
    model: str,
    out: Path | None = None,
    weights: Path | None = None,
    protocol: Literal["dino", "crw", "vfs", "dinov3", "siammae"] | None = None,
    layer: str | None = None,
    device: str = "auto",
    seed: int = 0,
    encoder_options: tuple[str, ...] = (),
    command: str | None = None,
) -> None:
    """Carry the masks of the first frame through a video; write masks, an overlay mp4 and the area of each object.

    Args:
        video: Video file, or folder of frames.
        labels: PNG of the size of the first frame with an object id per pixel: 0 background, 1, 2, ...; or one of
            0 and 255 alone, which is one object. No soft edges.
        model: A run folder, an exported .safetensors file, timm:NAME, torchvision:NAME, hub:FOLDER:ENTRY, hf:FOLDER; or
            random: before any of these.
        out: Folder for the results, new, empty, or of an earlier call for the same video. None is
            runs/propagate/<name of the video>.
        weights: File with the weights of timm:NAME or torchvision:NAME; without it they are random. Nothing is
            ever downloaded.
        protocol: How labels travel. None is dino for vision transformers and crw for everything else.
        layer: Features of another layer or facet: layer2, 9, 11.keys, ...; None is the last.
        device: Where to compute: auto, cpu, cuda, cuda:1 or mps; auto is a CUDA GPU where there is one, else cpu.
        seed: Of random weights.
        encoder_options: NAME=VALUE of the encoder, such as stride=8, layer=layer4 or padding_mode=reflect.
        command: Command line that started this, for the record.
    """
    from ..evaluate.propagation.video import propagate_video
    from ..evaluate.results import slug
    from ._device import compute_device
    from ._model import load_for, protocol_named

    encoder, chosen = load_for(
        model,
        protocol_of=protocol_named(protocol),
        weights=weights,
        seed=seed,
        layer=layer,
        encoder_options=encoder_options,
    )
    path = propagate_video(
        video,
        labels,
        encoder,
        protocol=chosen,
        out=out or Path("runs") / "propagate" / slug(video.stem),
        model_name=f"{model} with {weights.name}" if weights else model,
        device=compute_device(device),
        progress=True,
        command=command,
    )
    logger.info("the overlay is %s, with the masks beside it", path)
