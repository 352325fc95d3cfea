"""Networks of local clones of torch.hub repositories as dense encoders of frames."""

import inspect
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from einops import rearrange
from torch import Tensor, nn

from ..encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder
from ..layers import block_layer_names, has_qkv, tapped, token_maps
from ..sizes import named_sizes
from ..vit import patch_grid


class HubEncoder(Encoder):
    """What an entry of a hubconf.py builds: a vision transformer as DINO and DINOv2 write it, or a convolutional one.

    The code of that repository is run: give only clones whose authors you trust. Nothing is downloaded; the entry is
    called with `pretrained=False` where it knows that option, and weights come from a file.

    A transformer offers `get_intermediate_layers`; its features are the patch tokens of the last block after the
    norm, and positions are interpolated as its own code does it. Any other network gives feature maps (N, D, h, w)
    when it is called with frames (N, 3, H, W).

    Args:
        folder: Of the clone, with a hubconf.py.
        entry: Name of the function in hubconf.py.
        mean: Per RGB channel. ImageNet's by default.
        std: Per RGB channel.

    Raises:
        ValueError: No such entry, or one that fails, wants to download, or builds a network without dense features.
    """

    def __init__(
        self,
        folder: str,
        *,
        entry: str,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        net = _build_entry(folder, entry)
        is_transformer = hasattr(net, "get_intermediate_layers")
        dim, stride = _size_of_transformer(net) if is_transformer else _size_of_maps(net, entry)
        super().__init__(
            dim=dim,
            stride=stride,
            mean=mean,
            std=std,
            multiple=stride if is_transformer else 1,
            architecture={"family": "hub", "folder": folder, "entry": entry},
            unused_keys=("head.", "fc."),
        )
        self.net: Any = net
        self.is_transformer = is_transformer

    def features(self, clip: Tensor) -> Tensor:
        """Encode every frame by itself: (B, T, 3, H, W) in [0, 1] -> (B, T, D, h, w)."""
        return self._layers(clip, ["last"])["last"]

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Of a transformer the blocks, "11.keys" and so on, "11.cls", "last", "last.cls"; otherwise "last" alone."""
        if not self.is_transformer:
            return ("last",)
        blocks = getattr(self.net, "blocks", [])
        # DINOv2 may keep its blocks in chunks, for training.
        num_blocks = 0 if any(isinstance(block, nn.ModuleList) for block in blocks) else len(blocks)
        return block_layer_names(num_blocks, facets=has_qkv(blocks), class_token=hasattr(self.net, "cls_token"))

    def _layers(self, clip: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        frames = (rearrange(clip, "b t c h w -> (b t) c h w") - self.mean) / self.std
        network = f"{self.architecture['entry']} of {self.architecture['folder']}"
        if not self.is_transformer:
            with named_sizes(network, clip):
                maps = self.net(frames)
            return {"last": rearrange(maps, "(b t) d h w -> b t d h w", b=len(clip))}
        grid = patch_grid(clip, self.multiple)
        with named_sizes(network, clip), tapped(getattr(self.net, "blocks", []), names) as tokens:
            last = self._last_tokens(frames)
        return token_maps({**tokens, "last": last, "last.cls": last}, names, batch_size=len(clip), grid=(1, *grid))

    def _last_tokens(self, frames: Tensor) -> Tensor:
        """Tokens after the norm, class token first: (N, 3, H, W) -> (N, 1 + h * w, D)."""
        if "return_class_token" not in inspect.signature(self.net.get_intermediate_layers).parameters:
            return self.net.get_intermediate_layers(frames, n=1)[0]  # DINO
        ((patches, class_token),) = self.net.get_intermediate_layers(frames, n=1, return_class_token=True)
        return torch.cat([class_token[:, None], patches], dim=1)


def _build_entry(folder: str, entry: str) -> nn.Module:
    if not (Path(folder) / "hubconf.py").is_file():
        raise ValueError(f"{folder} holds no hubconf.py; hub:FOLDER:ENTRY wants a local clone of a hub repository")
    try:
        with _no_network(f"{entry} of {folder}"):
            try:
                net = torch.hub.load(folder, entry, source="local", pretrained=False)
            except TypeError as error:
                if "pretrained" not in str(error):
                    raise
                net = torch.hub.load(folder, entry, source="local")  # it knows no such option
    except RuntimeError as error:
        if not str(error).startswith(("Cannot find callable", "Missing dependencies")):  # of torch.hub itself
            raise
        raise ValueError(f"{folder}/hubconf.py cannot give {entry!r}: {error}") from error
    except OSError as error:
        raise ValueError(
            f"{entry} of {folder} could not be built: {error}. Nothing is downloaded: fetch the file yourself and "
            "pass it as weights (--weights)"
        ) from error
    _check_origin(net, folder)
    if not isinstance(net, nn.Module):
        raise ValueError(f"{entry} of {folder} gives a {type(net).__name__}, expected a torch.nn.Module")
    return net


def _check_origin(net: Any, folder: str) -> None:
    """Refuse code of another clone: Python imports a module named `vision_transformer` once, whoever asks next."""
    name = type(net).__module__
    wanted = (Path(folder) / f"{name.replace('.', '/')}.py").resolve()
    if name in sys.modules and wanted.is_file():
        given = Path(inspect.getfile(type(net))).resolve()
        if given != wanted:
            raise ValueError(
                f"{folder} wants its own {wanted.name}, but {given} was imported under that name before; use one clone "
                "per process"
            )


@contextmanager
def _no_network(what: str) -> Iterator[None]:
    """Let every attempt to reach another machine fail inside the block: each starts with looking up its address."""

    def refuse(host: Any, *args: Any, **kwargs: Any) -> NoReturn:
        raise OSError(f"{what} wants to connect to {host}")

    lookup = socket.getaddrinfo
    socket.getaddrinfo = refuse
    try:
        yield
    finally:
        socket.getaddrinfo = lookup


def _size_of_transformer(net: Any) -> tuple[int, int]:
    """Width of the tokens and side of the patches in pixels."""
    patch = net.patch_embed.patch_size
    rows, columns = (patch, patch) if isinstance(patch, int) else patch
    if rows != columns:
        raise ValueError(f"patches of {rows} x {columns} pixels; only square ones are handled")
    return net.embed_dim, rows


@torch.no_grad()
def _size_of_maps(net: nn.Module, entry: str) -> tuple[int, int]:
    """Width of the feature maps and pixels per cell, from a frame of 256 x 256 pixels."""
    net.eval()  # the probe must not move batch-norm statistics
    maps = net(torch.zeros(1, 3, 256, 256))
    net.train()
    if not isinstance(maps, Tensor) or maps.ndim != 4:
        shape = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise ValueError(
            f"{entry} gives {shape} for a frame, expected feature maps (1, D, h, w) or a network with "
            "get_intermediate_layers; the weights of a ResNet load with torchvision:resnet50 and --weights"
        )
    return maps.shape[1], round(256 / maps.shape[-1])
