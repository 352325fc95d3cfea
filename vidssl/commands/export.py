"""vidssl export: the encoder of a run as a file of its own."""

import logging
from pathlib import Path

import tyro

logger = logging.getLogger(__name__)


def export(run: tyro.conf.Positional[Path], *, out: Path | None = None) -> None:
    """Write the encoder of a run as a .safetensors file, with its architecture, mean and std as .json beside it.

    The encoder of sound, where the run has one, goes to audio_NAME.safetensors in the same folder.

    Args:
        run: Run folder.
        out: File to write, NAME.safetensors. None is <name of the run>_encoder.safetensors in this folder.
    """
    from ..models import export_audio_encoder, export_encoder, load_audio_encoder, load_encoder

    if not (run / "encoder.safetensors").is_file():
        raise ValueError(f"{run} holds no encoder yet; a run writes it with its first checkpoint (--save-every)")
    out = out or Path(f"{run.resolve().name}_encoder.safetensors")
    export_encoder(load_encoder(run), out)
    logger.info("%s and %s hold the encoder: load_encoder(%r)", out, out.with_suffix(".json"), str(out))
    if (run / "audio_encoder.safetensors").is_file():
        heard = out.with_name(f"audio_{out.name}")
        export_audio_encoder(load_audio_encoder(run), heard)
        logger.info(
            "%s and %s hold that of sound: load_audio_encoder(%r)", heard, heard.with_suffix(".json"), str(heard)
        )
