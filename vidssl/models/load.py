"""Encoders by name, from files and from runs; and the file pair a run exports.

An exported encoder is two files: `NAME.safetensors` (its state dict) and `NAME.json` (architecture, mean, std,
stride, dim, the version of vidssl that wrote it).
"""

import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import __version__
from .adapters.hub import HubEncoder
from .adapters.huggingface import HuggingFaceEncoder, read_folder, read_weights
from .adapters.networks import TimmConvNet, TorchvisionConvNet, TorchvisionViT
from .adapters.torchvision_video import TorchvisionVideoNet
from .audio import AudioEncoder
from .convnet import ConvNet
from .descriptions import how_to_load, read_description, timm_architecture, torchvision_architecture
from .encoder import Encoder
from .resnet import ResNet
from .video_vit import VideoViT
from .vit import ViT
from .weights import check_finite, fill, read_tensors, write_module, write_weights

logger = logging.getLogger(__name__)

# What constructors raise for sizes that cannot be.
_MISFITS = (
    TypeError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
)


FAMILIES: dict[str, type[Encoder]] = {
    "resnet": ResNet,
    "convnet": ConvNet,
    "vit": ViT,
    "video_vit": VideoViT,
    "timm_conv": TimmConvNet,
    "torchvision_conv": TorchvisionConvNet,
    "torchvision_vit": TorchvisionViT,
    "torchvision_video": TorchvisionVideoNet,
    "hub": HubEncoder,
    "hf": HuggingFaceEncoder,
}
# A file never chooses code: a hub repository is named on the command line alone.
_FROM_FILES = tuple(name for name in FAMILIES if name != "hub")
# Encoders around a network of a library: files of that library hold the inner one.
_WRAPPERS = (
    ViT,
    TimmConvNet,
    TorchvisionConvNet,
    TorchvisionViT,
    TorchvisionVideoNet,
    HubEncoder,
    HuggingFaceEncoder,
)
# Arguments that the spec itself holds, not options beside it.
_IN_SPEC = ("name", "depth", "folder", "entry", "config")
_SPEC_FORMS = (
    "a run folder that holds encoder.safetensors, an exported .safetensors file, timm:NAME, torchvision:NAME, "
    "hub:FOLDER:ENTRY (a clone with a hubconf.py), hf:FOLDER (written by save_pretrained), "
    "or random: before any of these (random:NAME looks in torchvision, then in timm)"
)


def load_encoder(spec: str | Path, *, weights: str | Path | None = None, seed: int = 0, **options: Any) -> Encoder:
    """Build an encoder, in eval mode and without gradients. Nothing is ever downloaded.

    Args:
        spec: One of

            - a run folder ("runs/x", its `encoder.safetensors` and `encoder.json`);
            - an exported `.safetensors` file with its json beside it;
            - "timm:NAME". A name with a tag ("vit_base_patch16_224.augreg_in21k") takes that tag's mean and std; a
              bare one takes ImageNet's;
            - "torchvision:NAME", of images ("convnext_tiny", "vit_b_16") or of clips ("r3d_18", "s3d").
              ResNet-18, -34, -50, -101 and -152 of both libraries become `ResNet`;
            - "hub:FOLDER:ENTRY", a local clone of a torch.hub repository and the name of a function in its
              hubconf.py ("hub:clones/dino:dino_vits16"). This runs the code of that repository: `HubEncoder`;
            - "hf:FOLDER", a model as `save_pretrained` of the package transformers writes it (VideoMAE, V-JEPA 2,
              TimeSformer, ViT, DINOv2, DINOv3), with the mean and std of its preprocessor: `HuggingFaceEncoder`;
            - "random:" before any of these, or before a bare name, looked for in torchvision, then in timm: that
              architecture with random weights.
        weights: File to load for "timm:", "torchvision:" and "hub:": `.safetensors`, or anything else `torch.load`
            reads with `weights_only=True`; a state dict or a checkpoint with one under "teacher", "student",
            "state_dict" or "model", as DINO, DINOv2, MoCo, SwAV, VICReg, Barlow Twins, MAE, CRW and VFS write it.
            Without it the weights are random and a warning says so.
        seed: Of random weights. The global random state is left as it was.
        options: Constructor arguments of the family the spec names (`stride`, `layer`, `padding_mode` of ResNets,
            `pos_embed`, `img_size` of ViTs, `mean`, `std`); for a run or a file they override what was exported.

    Raises:
        ValueError: Unknown spec, name or option; a file that is missing, refused or does not fit, or holds weights
            that are NaN or infinite.
    """
    spec = str(spec)
    architecture, path = _resolve(spec.removeprefix("random:"), bare=spec.startswith("random:"))
    if chosen := [name for name in options if name in ("family", *_IN_SPEC)]:
        raise ValueError(f"{', '.join(chosen)} of {spec} stands in the spec and is no option beside it")
    # The description of an exported file may be anybody's.
    is_own = path is None or path.is_dir()
    encoder = _build({**architecture, **options}, spec=spec, seed=seed, is_own=is_own)
    if spec.startswith("random:"):
        if weights is not None:
            raise ValueError(f"{spec} asks for random weights; drop `random:` or the weights file {weights}")
    elif path is not None:
        if weights is not None:
            raise ValueError(f"{spec} brings its own weights; drop the weights file {weights}")
        _fill(encoder, path)
    elif weights is not None:
        _fill(encoder, Path(weights))
    else:
        logger.warning("%s: no weights given, so they are random (seed %d); nothing is downloaded", spec, seed)
    check_finite(encoder, what=spec if weights is None else f"{spec} with {weights}")
    return encoder.eval().requires_grad_(False)


def encoder_family(spec: str | Path) -> str:
    """Tell which of `FAMILIES` a spec names; "exported" for runs and their files, which carry their own options."""
    spec = str(spec)
    architecture, path = _resolve(spec.removeprefix("random:"), bare=spec.startswith("random:"))
    return architecture["family"] if path is None or path.is_dir() else "exported"


def load_audio_encoder(spec: str | Path, *, seed: int = 0) -> AudioEncoder:
    """Build an encoder of sound, in eval mode and without gradients.

    Args:
        spec: A run folder (its `audio_encoder.safetensors` and `.json`); an exported `.safetensors` file with its
            json beside it; or "random:" before either: that architecture with random weights.
        seed: Of random weights. The global random state is left as it was.

    Raises:
        ValueError: No such file, or one that is damaged or holds no encoder of sound.
    """
    spec = str(spec)
    name = spec.removeprefix("random:")
    path = Path(name) / "audio_encoder.safetensors" if Path(name).is_dir() else Path(name)
    if not path.is_file():
        raise ValueError(
            f"there is no {path}: expected a run of a method that listens (L3Net, XDC), which writes it with its "
            "checkpoints, or an exported .safetensors file"
        )
    architecture = read_description(path.with_suffix(".json"), families=("audio",))
    try:
        with _seeded(seed):
            encoder = AudioEncoder.from_architecture(architecture)
    except _MISFITS as error:
        raise ValueError(f"{path.with_suffix('.json')} describes no encoder of sound: {error!r}") from error
    if name == spec:
        fill(encoder, read_tensors(path), path=path, architecture=architecture)
    check_finite(encoder, what=spec)
    return encoder.eval().requires_grad_(False)


def export_encoder(encoder: Encoder, path: str | Path) -> None:
    """Write an encoder as `path` (.safetensors) and the json beside it; each file is replaced as a whole.

    Raises:
        ValueError: `path` does not end in .safetensors, or the encoder's architecture cannot be built again.
    """
    if encoder.architecture.get("family") not in FAMILIES:
        raise ValueError(
            f"cannot export a {type(encoder).__name__}: its architecture {encoder.architecture} names no family "
            f"that load_encoder can build ({', '.join(FAMILIES)})"
        )
    description = {
        "architecture": encoder.architecture,
        "mean": encoder.mean.flatten().tolist(),
        "std": encoder.std.flatten().tolist(),
        "stride": encoder.stride,
        "dim": encoder.dim,
        "vidssl": __version__,
    }
    if isinstance(encoder, HubEncoder):
        description["load"] = how_to_load(encoder.architecture, description, Path(path))
        logger.info(
            "%s holds weights alone, as code of a repository builds the network: %s", path, description["load"]
        )
    write_weights(encoder.state_dict(), description, Path(path))


def export_audio_encoder(encoder: AudioEncoder, path: str | Path) -> None:
    """Write an encoder of sound as `path` (.safetensors) and the json beside it, each replaced as a whole.

    Raises:
        ValueError: `path` does not end in .safetensors.
    """
    description = {"architecture": encoder.architecture, "dim": encoder.dim, "vidssl": __version__}
    write_weights(encoder.state_dict(), description, Path(path))


def export_encoders(method: Any, out: Path, *, network: nn.Module | None = None) -> None:
    """Write what a method learned into a folder: `encoder`, and `audio_encoder` of methods that listen.

    An encoder that is no `Encoder` (of text, of shape) is written as its weights, for the code that made it to load.

    Args:
        method: Has an `encoder`, and may have an `audio_encoder`; the tasks of a `Sum` may have it too.
        out: Folder of encoder.safetensors, audio_encoder.safetensors and their json.
        network: What is written in the place of `encoder`, such as the other one of student and teacher.
    """
    network = method.encoder if network is None else network
    if isinstance(network, Encoder):
        export_encoder(network, out / "encoder.safetensors")
    else:
        write_module(network, out / "encoder.safetensors")
    heard = [part.audio_encoder for part in method.modules() if hasattr(part, "audio_encoder")]
    if heard and isinstance(heard[0], AudioEncoder):
        export_audio_encoder(heard[0], out / "audio_encoder.safetensors")


def _resolve(spec: str, *, bare: bool) -> tuple[dict[str, Any], Path | None]:
    """Turn a spec without `random:` into constructor arguments (and "family"), and the weights it brings."""
    source, _, name = spec.partition(":")
    if source == "torchvision":
        return torchvision_architecture(name), None
    if source == "timm":
        return timm_architecture(name), None
    if source == "hub":
        folder, colon, entry = name.rpartition(":")
        if not colon:
            raise ValueError(f"{spec} names no entry; expected hub:FOLDER:ENTRY, a function in FOLDER/hubconf.py")
        return {"family": "hub", "folder": folder, "entry": entry}, None
    if source == "hf":
        return {"family": "hf", **read_folder(name)}, Path(name)
    path = Path(spec) / "encoder.safetensors" if Path(spec).is_dir() else Path(spec)
    if path.suffix == ".safetensors" and path.is_file():
        return read_description(path.with_suffix(".json"), families=_FROM_FILES), path
    if bare and "/" not in spec and not path.suffix == ".safetensors":
        import torchvision

        if spec in torchvision.models.list_models():
            return torchvision_architecture(spec), None
        return timm_architecture(spec), None
    if Path(spec).is_dir():
        raise ValueError(f"run folder {spec} holds no encoder.safetensors; make it with `vidssl export {spec}`")
    raise ValueError(f"cannot load an encoder from {spec!r}: no such file or folder. Accepted: {_SPEC_FORMS}")


def _build(architecture: dict[str, Any], *, spec: str, seed: int, is_own: bool) -> Encoder:
    """Construct an encoder with weights drawn from `seed`, leaving the global random state as it was."""
    arguments = {name: value for name, value in architecture.items() if name != "family"}
    family = FAMILIES[architecture["family"]]
    known = [name for name in inspect.signature(family).parameters if name not in _IN_SPEC]
    unknown = sorted(arguments.keys() - {*known, *_IN_SPEC})
    if unknown:
        raise ValueError(f"{spec} has no option {', '.join(unknown)}; its options: {', '.join(known)}")
    try:
        with _seeded(seed):
            return family(**arguments)
    except _MISFITS as error:
        if is_own:  # a fault of ours, or of the code of a hub repository
            raise
        raise ValueError(
            f"{spec}: no {architecture['family']} can be built of this description: {error or type(error).__name__}"
        ) from error


def redrawn(encoder: Encoder, *, seed: int = 0) -> Encoder:
    """Build the network of an encoder again with weights drawn from `seed`: what training has to beat.

    Args:
        encoder: Its `architecture`, mean and std say what is built; it is not changed.
        seed: Of the weights; the global random state stays as it was.

    Raises:
        ValueError: Only its author's code can build it.
    """
    if encoder.architecture.get("family") not in FAMILIES:
        raise ValueError(
            f"the weights of a {type(encoder).__name__} cannot be drawn anew: its architecture names no family of "
            f"{', '.join(FAMILIES)}; measure a second one of your own beside it, without baselines"
        )
    colors = {name: tuple(getattr(encoder, name).flatten().tolist()) for name in ("mean", "std")}
    return _build({**encoder.architecture, **colors}, spec="the encoder", seed=seed, is_own=True).eval()


def redrawn_audio(encoder: AudioEncoder, *, seed: int = 0) -> AudioEncoder:
    """`redrawn` for sound."""
    with _seeded(seed):
        return AudioEncoder.from_architecture(encoder.architecture).eval()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw weights from `seed` inside the block; the global random state is as it was after it."""
    with torch.random.fork_rng(devices=[]):
        # The CPU's generator alone: torch.manual_seed would also reseed every GPU.
        torch.default_generator.manual_seed(seed)
        yield


def network_of(encoder: Encoder) -> nn.Module:
    """The network whose names the files of its library have: of a wrapper the one inside it."""
    return encoder.get_submodule("net") if isinstance(encoder, _WRAPPERS) else encoder


def _fill(encoder: Encoder, path: Path) -> None:
    """Copy weights from a file into an encoder, strictly."""
    fill(
        network_of(encoder),
        read_weights(str(path)) if path.is_dir() else read_tensors(path),
        path=path,
        architecture=encoder.architecture,
        unused_keys=encoder.unused_keys,
    )
