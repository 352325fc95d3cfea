"""Encoders by name, from files and from runs; and the file pair a run exports.

An exported encoder is two files: `NAME.safetensors` (its state dict) and `NAME.json` (architecture, mean, std,
stride, dim, the version of vidssl that wrote it).
"""

import difflib
import inspect
import logging
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

import torch

from .. import __version__
from ..json_files import mismatch, read_json
from .adapters.hub import HubEncoder
from .adapters.huggingface import HuggingFaceEncoder, plain_config, read_folder, read_weights
from .adapters.networks import TimmConvNet, TorchvisionConvNet, TorchvisionViT
from .adapters.torchvision_video import TorchvisionVideoNet
from .audio import AudioEncoder
from .convnet import ConvNet
from .encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder
from .resnet import BLOCKS, ResNet
from .video_vit import VideoViT
from .vit import ViT
from .weights import check_finite, fill, read_tensors, write_weights

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


class _Architecture(TypedDict):
    family: str


class _AudioDescription(TypedDict):
    architecture: _Architecture


class _Description(_AudioDescription):
    mean: list[float]
    std: list[float]


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
    architecture = _read_description(path.with_suffix(".json"), families=("audio",))
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
        description["load"] = _how_to_load(encoder.architecture, description, Path(path))
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


def export_encoders(method: Any, out: Path) -> None:
    """Write what a method learned into a folder: `encoder`, and `audio_encoder` of methods that listen.

    An encoder that is no `Encoder` (of text, of shape) is written as its weights, for the code that made it to load.

    Args:
        method: Has an `encoder`, and may have an `audio_encoder`; the tasks of a `Sum` may have it too.
        out: Folder of encoder.safetensors, audio_encoder.safetensors and their json.
    """
    if isinstance(method.encoder, Encoder):
        export_encoder(method.encoder, out / "encoder.safetensors")
    else:
        kind = type(method.encoder)
        description = {"class": f"{kind.__module__}.{kind.__qualname__}", "vidssl": __version__}
        write_weights(method.encoder.state_dict(), description, out / "encoder.safetensors")
    heard = [part.audio_encoder for part in method.modules() if hasattr(part, "audio_encoder")]
    if heard and isinstance(heard[0], AudioEncoder):
        export_audio_encoder(heard[0], out / "audio_encoder.safetensors")


def _resolve(spec: str, *, bare: bool) -> tuple[dict[str, Any], Path | None]:
    """Turn a spec without `random:` into constructor arguments (and "family"), and the weights it brings."""
    source, _, name = spec.partition(":")
    if source == "torchvision":
        return _torchvision_architecture(name), None
    if source == "timm":
        return _timm_architecture(name), None
    if source == "hub":
        folder, colon, entry = name.rpartition(":")
        if not colon:
            raise ValueError(f"{spec} names no entry; expected hub:FOLDER:ENTRY, a function in FOLDER/hubconf.py")
        return {"family": "hub", "folder": folder, "entry": entry}, None
    if source == "hf":
        return {"family": "hf", **read_folder(name)}, Path(name)
    path = Path(spec) / "encoder.safetensors" if Path(spec).is_dir() else Path(spec)
    if path.suffix == ".safetensors" and path.is_file():
        return _read_description(path.with_suffix(".json"), families=_FROM_FILES), path
    if bare and "/" not in spec and not path.suffix == ".safetensors":
        import torchvision

        if spec in torchvision.models.list_models():
            return _torchvision_architecture(spec), None
        return _timm_architecture(spec), None
    if Path(spec).is_dir():
        raise ValueError(f"run folder {spec} holds no encoder.safetensors; make it with `vidssl export {spec}`")
    raise ValueError(f"cannot load an encoder from {spec!r}: no such file or folder. Accepted: {_SPEC_FORMS}")


def _torchvision_architecture(name: str) -> dict[str, Any]:
    import torchvision

    of_clips = torchvision.models.list_models(module=torchvision.models.video)
    if name in of_clips:
        return {"family": "torchvision_video", "name": name}
    known = [*torchvision.models.list_models(module=torchvision.models), *of_clips]
    if name not in known:
        raise ValueError(_unknown("torchvision", name, known))
    if name in {f"resnet{depth}" for depth in BLOCKS}:
        return {"family": "resnet", "depth": int(name.removeprefix("resnet"))}
    return {"family": "torchvision_vit" if name.startswith("vit_") else "torchvision_conv", "name": name}


def _timm_architecture(name: str) -> dict[str, Any]:
    import timm

    bare_name, _, tag = name.partition(".")
    tagged = timm.models.get_arch_pretrained_cfgs(bare_name) if timm.is_model(bare_name) else {}
    if not timm.is_model(bare_name) or (tag and name not in tagged):
        raise ValueError(_unknown("timm", name, [*timm.list_models(), *tagged]))
    colours = {"mean": tuple(tagged[name].mean), "std": tuple(tagged[name].std)} if tag else {}
    if bare_name in {f"resnet{depth}" for depth in BLOCKS}:
        return {"family": "resnet", "depth": int(bare_name.removeprefix("resnet")), **colours}
    is_vit = timm.models.is_model_in_modules(bare_name, ["vision_transformer", "deit", "eva"])
    return {"family": "vit" if is_vit else "timm_conv", "name": bare_name, **colours}


def _unknown(library: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    return f"{library} has no model {name!r}" + (f"; perhaps you meant {', '.join(near)}" if near else "")


def _read_description(path: Path, *, families: Iterable[str]) -> dict[str, Any]:
    """Read the json of an exported encoder as constructor arguments and "family", which is one of `families`."""
    if not path.is_file():
        raise ValueError(f"{path} is missing: an exported encoder is a .safetensors file and the json beside it")
    description = read_json(path)
    if isinstance(description, dict) and "class" in description:
        raise ValueError(
            f"{path} describes a {description['class']!s:.80}, no encoder of frames or sound: the weights beside it "
            "are for the code that made it"
        )
    is_audio = "audio" in families
    told = description.get("architecture")
    if isinstance(told, dict) and (told.get("family") == "audio") != is_audio:
        family = repr(told.get("family"))
        raise ValueError(f"{path} describes the family {family:.80}; expected one of {', '.join(families)}")
    if problem := mismatch(description, _AudioDescription if is_audio else _Description):
        raise ValueError(f"{path} does not describe an encoder of vidssl: {problem}")
    architecture = description["architecture"]
    family = architecture["family"]
    if family == "hub" and not is_audio:
        raise ValueError(
            f"{path} describes a network that code of a hub repository builds, which no file may choose; with a clone "
            f"that you trust, load it by {_how_to_load(architecture, description, path)}"
        )
    if family not in families:
        raise ValueError(f"{path} describes the family {family!r:.80}; expected one of {', '.join(families)}")
    if is_audio:
        return architecture
    colors = {name: tuple(description[name]) for name in ("mean", "std")}
    if unsound := [name for name, values in colors.items() if len(values) not in (1, 3)]:
        raise ValueError(f"{path}: {' and '.join(unsound)} must have one value per channel, 1 or 3")
    try:
        return {**_checked(architecture), **colors}
    except ValueError as error:
        raise ValueError(f"{path} does not describe an encoder of vidssl: {error}") from error


def _checked(architecture: dict[str, Any]) -> dict[str, Any]:
    """Hold the names in an architecture to what specs are held to, so that installed packages alone build it.

    timm takes `hf-hub:` and `local-dir:` as names, which reach network and disk; torchvision has detectors that
    download their backbone.
    """
    family, name = architecture["family"], architecture.get("name")
    if family in ("vit", "timm_conv"):
        name = "vit_small_patch16_224" if name is None and family == "vit" else name
        if not isinstance(name, str):
            raise ValueError(f"name is {name!r:.80}, expected one of timm.list_models()")
        _timm_architecture(name)
    elif family.startswith("torchvision_"):
        if not isinstance(name, str):
            raise ValueError(f"name is {name!r:.80}, expected one of torchvision.models.list_models()")
        if (expected := _torchvision_architecture(name)["family"]) != family and (expected, family) != (
            "resnet",
            "torchvision_conv",
        ):
            raise ValueError(f"torchvision's {name} is of the family {expected}, not {family}")
    elif family == "hf":
        if not isinstance(architecture.get("config"), dict):
            raise ValueError("config is no object")
        return {**architecture, "config": plain_config(architecture["config"])}
    return architecture


def _how_to_load(architecture: dict[str, Any], description: dict[str, Any], path: Path) -> str:
    """Options of the command line that load the weights of an exported hub network."""
    colors = [
        f"{name}={tuple(description[name])}".replace(" ", "")
        for name, usual in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD))
        if not torch.equal(torch.tensor(description[name]), torch.tensor(usual))
    ]
    words = ["--model", "hub:FOLDER:ENTRY", "--weights", str(path.with_suffix(".safetensors"))]
    told = (architecture.get("folder"), architecture.get("entry"))
    origin = f" (it was made with FOLDER {told[0]!r:.200} and ENTRY {told[1]!r:.80})"
    return shlex.join([*words, *(["--encoder-options", *colors] if colors else [])]) + origin


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


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw weights from `seed` inside the block; the global random state is as it was after it."""
    with torch.random.fork_rng(devices=[]):
        # The CPU's generator alone: torch.manual_seed would also reseed every GPU.
        torch.default_generator.manual_seed(seed)
        yield


def _fill(encoder: Encoder, path: Path) -> None:
    """Copy weights from a file into an encoder, strictly."""
    network = encoder.get_submodule("net") if isinstance(encoder, _WRAPPERS) else encoder
    fill(
        network,
        read_weights(str(path)) if path.is_dir() else read_tensors(path),
        path=path,
        architecture=encoder.architecture,
        unused_keys=encoder.unused_keys,
    )
