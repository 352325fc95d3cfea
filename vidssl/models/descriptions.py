"""What an encoder is made of: architectures by the names of libraries, and the json beside exported weights.

A file never chooses code: what it names is held to what specs are held to.
"""

import difflib
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypedDict

import torch

from ..json_files import mismatch, read_json
from .adapters.huggingface import plain_config
from .encoder import IMAGENET_MEAN, IMAGENET_STD
from .resnet import BLOCKS


class _Architecture(TypedDict):
    family: str


class _AudioDescription(TypedDict):
    architecture: _Architecture


class _Description(_AudioDescription):
    mean: list[float]
    std: list[float]


def torchvision_architecture(name: str) -> dict[str, Any]:
    """Turn a name of torchvision into constructor arguments and "family".

    Raises:
        ValueError: torchvision has no such model of pictures or clips.
    """
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


def timm_architecture(name: str) -> dict[str, Any]:
    """Turn a name of timm, with or without the tag of its weights, into constructor arguments and "family".

    Raises:
        ValueError: timm has no such model.
    """
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


def read_description(path: Path, *, families: Iterable[str]) -> dict[str, Any]:
    """Read the json of an exported encoder as constructor arguments and "family", which is one of `families`."""
    if not path.is_file():
        raise ValueError(f"{path} is missing: an exported encoder is a .safetensors file and the json beside it")
    description = read_json(path)
    if "class" in description:  # weights.write_module wrote it
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
            f"that you trust, load it by {how_to_load(architecture, description, path)}"
        )
    if family not in families:
        raise ValueError(f"{path} describes the family {family!r:.80}; expected one of {', '.join(families)}")
    if is_audio:
        return architecture
    colors = {name: tuple(description[name]) for name in ("mean", "std")}
    # What is split over two networks may have any channels; how many, the parts say.
    is_split = family == "split_resnet"
    if unsound := [name for name, values in colors.items() if len(values) not in (1, 3) and not is_split]:
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
        timm_architecture(name)
    elif family.startswith("torchvision_"):
        if not isinstance(name, str):
            raise ValueError(f"name is {name!r:.80}, expected one of torchvision.models.list_models()")
        if (expected := torchvision_architecture(name)["family"]) != family and (expected, family) != (
            "resnet",
            "torchvision_conv",
        ):
            raise ValueError(f"torchvision's {name} is of the family {expected}, not {family}")
    elif family == "hf":
        if not isinstance(architecture.get("config"), dict):
            raise ValueError("config is no object")
        return {**architecture, "config": plain_config(architecture["config"])}
    return architecture


def how_to_load(architecture: dict[str, Any], description: dict[str, Any], path: Path) -> str:
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
