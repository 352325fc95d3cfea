"""Vision transformers of the package `transformers` as dense encoders of clips and of frames."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from ...json_files import mismatch, read_json
from ..encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder
from ..layers import block_layer_names, tapped, token_maps
from ..sizes import named_sizes
from ..vit import patch_grid

logger = logging.getLogger(__name__)

Grid = tuple[int, int, int]
"""Time steps, rows and columns of the tokens of a clip."""


class HuggingFaceEncoder(Encoder):
    """VideoMAE, V-JEPA 2, TimeSformer; and frame by frame ViT, DINOv2 (with and without registers), DINOv3.

    Features are the last hidden state of the model without its class and register tokens. Clips and frames of any
    size and length are taken:

    - VideoMAE: its fixed positions number the tokens of the clip it was made for one by one, so numbering those of
      another size would move all of them; they are interpolated instead, bicubically in space and linearly in time.
    - TimeSformer: its positions and times are interpolated by nearest neighbour, as its authors do it
      (facebookresearch/TimeSformer, vit.py).
    - V-JEPA 2: attention is rotated by step, row and column, which go on beyond the size it was trained at.
    - Models of frames interpolate their positions themselves. DINOv3's are never shaken, in train mode neither,
      unlike in the package.

    A single frame is repeated until it fills a tubelet.

    Args:
        config: Of the model, as in config.json.
        mean: Per RGB channel. None is the default of the processor that the package pairs with the type.
        std: Per RGB channel.

    Raises:
        ImportError: The package is not installed.
        ValueError: A model of another type; or no mean and std for DINOv2, whose published models are not normalised
            by the default of their processor's class.
    """

    def __init__(
        self,
        config: dict[str, Any],
        *,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> None:
        transformers = import_transformers()
        kind = _KINDS.get(config["model_type"])
        if kind is None:
            raise ValueError(
                f"models of the type {config['model_type']!r} are not handled; these are: {', '.join(_KINDS)}"
            )
        if config.get("attention_type") == "space_only":
            raise ValueError("a TimeSformer of attention_type 'space_only' has no dense features in time")
        mean, std = _colors_or_default(config["model_type"], kind, mean=mean, std=std)
        with _said("the config"):
            settings = transformers.AutoConfig.for_model(**config)
        if config["model_type"] == "dinov3_vit":
            # In train mode the package would shake the coordinates of patches; an encoder gives the same features
            # however it is trained, as timm's DINOv3 does.
            settings.pos_embed_shift = settings.pos_embed_jitter = settings.pos_embed_rescale = None
        try:
            net: Any = transformers.AutoModel.from_config(settings)
        except OSError as error:  # of a shared library: no file of a model is read here
            raise ImportError(
                f"a package that transformers imports wherever it is installed cannot be loaded ({error}); torchaudio, "
                f"for one, has to be of a release that fits torch {torch.__version__}, and nothing here needs it: "
                "pip uninstall torchaudio"
            ) from error
        if getattr(net, "pooler", None) is not None:
            net.pooler = None
        if config["model_type"] == "vjepa2":
            net.predictor = nn.Identity()
        super().__init__(
            dim=settings.hidden_size,
            stride=settings.patch_size,
            mean=mean,
            std=std,
            multiple=settings.patch_size,
            architecture={"family": "hf", "config": config},
            unused_keys=("pooler.", "predictor."),
        )
        self.net: Any = net
        self.kind = kind
        self.tubelet_frames = getattr(settings, "tubelet_size", 1)
        self.num_blocks = settings.num_hidden_layers

    def grid(self, clip: Tensor) -> Grid:
        """Time steps, rows and columns of the tokens of a clip (B, T, 3, H, W); of a frame for models of frames.

        Raises:
            ValueError: Frames do not divide into tubelets, or pixels into patches.
        """
        num_frames = clip.shape[1] if self.kind.takes_clips else 1
        if num_frames > 1 and num_frames % self.tubelet_frames:
            raise ValueError(
                f"a clip of {num_frames} frames does not divide into tubelets of {self.tubelet_frames}; use "
                f"{num_frames - num_frames % self.tubelet_frames} frames, or a single one"
            )
        return max(num_frames // self.tubelet_frames, 1), *patch_grid(clip, self.multiple)

    def features(self, clip: Tensor) -> Tensor:
        """Encode densely: (B, T, 3, H, W) in [0, 1] -> (B, T', D, H / patch, W / patch), T' = T / tubelet."""
        return self._layers(clip, ["last"])["last"]

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Blocks, "0" to "11" say, "11.cls" where there is a class token; and "last", "last.cls" after the norm."""
        return block_layer_names(self.num_blocks, facets=False, class_token=self.kind.has_class_token)

    def _blocks(self) -> nn.ModuleList:
        """The blocks, whatever the model and the version of the package call them."""
        lists = (module for module in self.net.modules() if isinstance(module, nn.ModuleList))
        return next(module for module in lists if len(module) == self.num_blocks)

    def _layers(self, clip: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        grid = self.grid(clip)
        if clip.shape[1] == 1:
            clip = clip.expand(-1, self.tubelet_frames, -1, -1, -1)
        pixels = (clip - self.mean) / self.std
        if not self.kind.takes_clips:
            pixels = rearrange(pixels, "b t c h w -> (b t) c h w")
        network = f"{self.architecture['config']['model_type']} of the package transformers"
        with named_sizes(network, clip), tapped(list(self._blocks()), names) as tokens:
            last = self.kind.run(self.net, pixels, grid)
        tokens = {**tokens, "last": last, "last.cls": last}
        if self.kind.time_runs_fastest:
            tokens = {name: _steps_first(value, grid) for name, value in tokens.items()}
        return token_maps(tokens, names, batch_size=len(clip), grid=grid)


def _colors_or_default(
    model_type: str, kind: "_Kind", *, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What is given of mean and std, and the default of the type for what is not."""
    if mean is not None and std is not None:
        return mean, std
    if kind.colors is None:
        raise ValueError(
            f"neither the folder (preprocessor_config.json) nor an option says which mean and std this {model_type} "
            "was trained with; give them: --encoder-options mean=(0.485,0.456,0.406) std=(0.229,0.224,0.225) are those "
            "of the published models"
        )
    mean, std = mean or kind.colors[0], std or kind.colors[1]
    logger.info("no preprocessor_config.json: mean %s and std %s, the default of %s", mean, std, model_type)
    return mean, std


def import_transformers() -> Any:
    """Import the package `transformers`.

    Raises:
        ImportError: It is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ImportError("hf:FOLDER needs the package transformers: pip install vidssl[hf]") from error
    return transformers


@contextmanager
def _said(what: str) -> Iterator[None]:
    """Turn what the package raises at values that cannot be into one line."""
    try:
        yield
    except (ValueError, OSError):
        raise
    except Exception as error:  # its validators have exceptions of their own, which differ by version
        raise ValueError(f"{what} describes no model: {' '.join(str(error).split()) or repr(error)}") from error


def plain_config(config: dict[str, Any]) -> dict[str, Any]:
    """Keep of a config.json what the installed package knows of models of its type.

    Anything else decides nothing about the network, but may name code or kernels to fetch (auto_map,
    attn_implementation).

    Raises:
        ValueError: A model of another type.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"models of the type {kind!r:.80} are not handled; these are: {', '.join(_KINDS)}")
    known = import_transformers().AutoConfig.for_model(kind).to_dict()
    left_out = sorted(name for name in config if name not in known or name.startswith("_"))
    if left_out:
        logger.info(
            "left out of the config of a %s, as it says nothing of the network: %s", kind, ", ".join(left_out)
        )
    return {name: value for name, value in config.items() if name not in left_out}


def read_folder(folder: str) -> dict[str, Any]:
    """Read what `save_pretrained` wrote about a model as arguments of `HuggingFaceEncoder`: config, mean and std.

    Raises:
        ValueError: There is no config.json, or one that names no model.
    """
    transformers = import_transformers()
    if not (Path(folder) / "config.json").is_file():
        raise ValueError(
            f"{folder} holds no config.json; hf:FOLDER wants a local folder as save_pretrained writes it, with "
            "config.json and model.safetensors; nothing is downloaded"
        )
    path = Path(folder) / "config.json"
    read_json(path)  # the package answers to what is deep or no json with a traceback
    with _said(str(path)):
        settings = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    config = json.loads(settings.to_json_string())
    for name in ("transformers_version", "_name_or_path"):
        config.pop(name, None)  # they say where it was saved, not what it is
    return {"config": config, **_colors(Path(folder))}


def read_weights(folder: str) -> dict[str, Tensor]:
    """Read the state dict of the bare model in a folder of `save_pretrained`; heads and decoders are left out.

    Raises:
        ValueError: There are no weights, or they do not fit.
    """
    transformers = import_transformers()
    try:
        net, report = transformers.AutoModel.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, output_loading_info=True, dtype=torch.float32
        )
    except (OSError, RuntimeError) as error:
        raise ValueError(f"the weights in {folder} cannot be read: {error}") from error
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(("pooler.", "predictor.")))
    if missing:
        raise ValueError(
            f"the weights in {folder} do not fit its config.json. missing ({len(missing)}): {', '.join(missing[:8])}"
        )
    return net.state_dict()


def _colors(folder: Path) -> dict[str, tuple[float, ...]]:
    """Mean and std that a folder's preprocessor normalises with; empty where there is none."""
    for name in ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json"):
        if not (folder / name).is_file():
            continue
        content = read_json(folder / name)
        for part in (content, content.get("video_processor", {}), content.get("image_processor", {})):
            if not isinstance(part, dict):
                raise ValueError(f"{folder / name} holds {part!r:.40} where settings of a processor belong")
            if part.get("do_normalize") is False:
                return {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
            told = {key: part[key] for key in ("image_mean", "image_std") if key in part}
            if problem := mismatch(told, dict[str, list[float]]):
                raise ValueError(f"{folder / name} is no preprocessor of pictures: {problem}")
            if len(told) == 2:
                return {"mean": tuple(part["image_mean"]), "std": tuple(part["image_std"])}
    return {}


def _steps_first(tokens: Tensor, grid: Grid) -> Tensor:
    """Reorder tokens that are stored place by place and there step by step: (B, prefix + h w t, D)."""
    steps, rows, columns = grid
    prefix, rest = tokens.tensor_split([tokens.shape[1] - steps * rows * columns], dim=1)
    return torch.cat([prefix, rearrange(rest, "b (p t) d -> b (t p) d", t=steps)], dim=1)


def _run_images(net: Any, frames: Tensor, grid: Grid) -> Tensor:
    return net(pixel_values=frames).last_hidden_state


def _run_vit(net: Any, frames: Tensor, grid: Grid) -> Tensor:
    return net(pixel_values=frames, interpolate_pos_encoding=True).last_hidden_state


def _run_videomae(net: Any, clip: Tensor, grid: Grid) -> Tensor:
    """VideoMAE's forward pass with positions for any grid."""
    made_for = net.config
    side = made_for.image_size // made_for.patch_size
    position = rearrange(
        net.embeddings.position_embeddings.to(clip),
        "1 (t h w) d -> t d h w",
        t=made_for.num_frames // made_for.tubelet_size,
        h=side,
    )
    if position.shape[-2:] != grid[1:]:
        position = F.interpolate(position, size=grid[1:], mode="bicubic")
    position = rearrange(position, "t d h w -> (h w) d t")
    if position.shape[-1] != grid[0]:
        position = F.interpolate(position, size=grid[0], mode="linear")
    volume = net.embeddings.patch_embeddings.projection(rearrange(clip, "b t c h w -> b c t h w"))
    tokens = rearrange(volume, "b d t h w -> b (t h w) d") + rearrange(position, "p d t -> 1 (t p) d")
    tokens = net.encoder(tokens).last_hidden_state
    return tokens if net.layernorm is None else net.layernorm(tokens)


def _run_timesformer(net: Any, clip: Tensor, grid: Grid) -> Tensor:
    """TimeSformer's forward pass with positions and times for any grid; its tokens run place by place."""
    steps, rows, columns = grid
    made_for, embeddings = net.config, net.embeddings
    side = made_for.image_size // made_for.patch_size
    stored = embeddings.position_embeddings
    position = rearrange(stored[:, 1:], "1 (h w) d -> 1 d h w", h=side)
    position = F.interpolate(position, size=(rows, columns), mode="nearest")
    times = F.interpolate(rearrange(embeddings.time_embeddings, "1 t d -> 1 d t"), size=steps, mode="nearest")
    maps = embeddings.patch_embeddings.projection(rearrange(clip, "b t c h w -> (b t) c h w"))
    tokens = rearrange(maps + position, "(b t) d h w -> b (h w) t d", t=steps) + rearrange(
        times, "1 d t -> 1 1 t d"
    )
    class_token = repeat(embeddings.cls_token + stored[:, :1], "1 1 d -> b 1 d", b=len(clip))
    tokens = torch.cat([class_token, rearrange(tokens, "b p t d -> b (p t) d")], dim=1)
    # Its blocks take the size of the clip from here.
    with _set(made_for, num_frames=steps, image_size=columns * made_for.patch_size):
        return net.layernorm(net.encoder(tokens).last_hidden_state)


def _run_vjepa2(net: Any, clip: Tensor, grid: Grid) -> Tensor:
    """V-JEPA 2's forward pass; every token is told its step, row and column.

    Its attention reads them off a number counted on a square grid, so tokens of other grids get the numbers they
    would have on the square that holds theirs.
    """
    side = max(grid[1:])
    axes = [torch.arange(size, device=clip.device) for size in grid]
    places = torch.cartesian_prod(*axes)
    number = (places @ torch.tensor([side * side, side, 1], device=clip.device)).expand(len(clip), -1)

    def tell_place(attention: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "position_mask": number}

    attentions = [layer.attention for layer in net.encoder.layer]
    handles = [one.register_forward_pre_hook(tell_place, with_kwargs=True) for one in attentions]
    before = [one.grid_size for one in attentions]
    try:
        for one in attentions:
            one.grid_size = side
        return net(pixel_values_videos=clip, skip_predictor=True).last_hidden_state
    finally:
        for one, grid_size, handle in zip(attentions, before, handles, strict=True):
            one.grid_size = grid_size
            handle.remove()


@contextmanager
def _set(settings: Any, **values: Any) -> Iterator[None]:
    """Give an object other values of attributes inside the block."""
    before = {name: getattr(settings, name) for name in values}
    try:
        for name, value in values.items():
            setattr(settings, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(settings, name, value)


@dataclass(frozen=True)
class _Kind:
    """How a type of model is run.

    Args:
        run: (model, normalised pixels, grid) -> tokens after the last norm (B, prefix + t h w, D).
        takes_clips: Whether pixels are clips (B, T, 3, H, W) rather than frames (N, 3, H, W).
        has_class_token: Whether the first token is a class token.
        time_runs_fastest: Whether tokens are stored place by place, all steps of a place together.
        colors: Mean and std that the class of the type's processor has by default (transformers 5.24); None where the
            published models have others.
    """

    run: Callable[[Any, Tensor, Grid], Tensor]
    takes_clips: bool
    has_class_token: bool
    time_runs_fastest: bool = False
    colors: tuple[tuple[float, ...], tuple[float, ...]] | None = None


_HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_IMAGENET = (IMAGENET_MEAN, IMAGENET_STD)
_KINDS = {
    "videomae": _Kind(_run_videomae, takes_clips=True, has_class_token=False, colors=_HALVES),
    "vjepa2": _Kind(_run_vjepa2, takes_clips=True, has_class_token=False, colors=_IMAGENET),
    "timesformer": _Kind(
        _run_timesformer, takes_clips=True, has_class_token=True, time_runs_fastest=True, colors=_IMAGENET
    ),
    "vit": _Kind(_run_vit, takes_clips=False, has_class_token=True, colors=_HALVES),
    "dinov2": _Kind(_run_images, takes_clips=False, has_class_token=True),
    "dinov2_with_registers": _Kind(_run_images, takes_clips=False, has_class_token=True),
    "dinov3_vit": _Kind(_run_images, takes_clips=False, has_class_token=True, colors=_IMAGENET),
}
