"""MAE, VideoMAE and V-JEPA beside their authors' code."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...methods import MAE, VJEPA, VideoMAE
from ...models import VideoViT
from ...models.video_vit import EMBEDDINGS, TokenPredictor
from ...ops.draws import mix
from ...ops.masks import tubes
from .comparing import (
    Row,
    ToUnit,
    difference,
    gradient_difference,
    gradients,
    imported,
    largest,
    randomize,
    video_batch,
)


def blocks_of(state: Mapping[str, Tensor], *, theirs: str, ours: str = "blocks.") -> dict[str, Tensor]:
    """Blocks of a transformer by the names of timm; queries and values have a bias of their own in VideoMAE's."""
    found = {}
    for name, value in state.items():
        if name.startswith(theirs) and not name.endswith(("q_bias", "v_bias")):
            found[ours + name.removeprefix(theirs)] = value
        if name.startswith(theirs) and name.endswith("q_bias"):
            bias = torch.cat([value, torch.zeros_like(value), state[name.replace("q_bias", "v_bias")]])
            found[ours + name.removeprefix(theirs).replace("q_bias", "qkv.bias")] = bias
    return found


def embedding_of(weight: Tensor) -> Tensor:
    """Convolution on patches (D, 3, [f,] y, x) as a matrix."""
    volume = weight if weight.ndim == 5 else weight[:, :, None]
    return rearrange(volume, "d c f y x -> d (f y x c)")


def named(state: Mapping[str, Tensor], pairs: Mapping[str, str]) -> dict[str, Tensor]:
    """Their tensors by our names, "theirs" -> "ours" of layers with weight and bias."""
    return {
        name.replace(theirs, ours, 1): value
        for theirs, ours in pairs.items()
        for name, value in state.items()
        if name.rpartition(".")[0] == theirs
    }


def load(network: nn.Module, state: Mapping[str, Tensor], *, absent: tuple[str, ...] = ()) -> None:
    """Load weights; those that the other network lacks are zero."""
    missing, unexpected = network.load_state_dict(dict(state), strict=False)
    own = {name for name, _ in network.named_parameters()}
    assert set(missing) & own == set(absent) and not unexpected, (missing, unexpected)
    for name in absent:
        nn.init.zeros_(network.get_parameter(name))


def normalized(video: Tensor, encoder: VideoViT) -> Tensor:
    """Frames as the networks see them: (B, T, 3, H, W) in [0, 1]."""
    return (video - encoder.mean) / encoder.std


def mae(root: Path) -> list[Row]:
    """Networks and loss (models_mae.py) without the class token."""
    from timm.models import vision_transformer

    def block(*args: Any, qk_scale: None = None, **options: Any) -> nn.Module:
        return vision_transformer.Block(*args, **options)

    timm = {"PatchEmbed": vision_transformer.PatchEmbed, "Block": block}
    sizes = {"embed_dim": 24, "depth": 2, "num_heads": 2, "decoder_embed_dim": 16, "decoder_depth": 1}
    with imported(root, "models_mae", stand_ins={"timm.models.vision_transformer": timm}) as (models,):
        theirs = models.MaskedAutoencoderViT(
            16, 4, **sizes, decoder_num_heads=2, norm_pix_loss=True, norm_layer=partial(nn.LayerNorm, eps=1e-6)
        )
    randomize(theirs)
    encoder = VideoViT(dim=24, depth=2, num_heads=2, patch_px=4, tubelet_frames=1, positions="space")
    decoder = TokenPredictor(24, 48, width=16, depth=1, num_heads=2, positions="space")
    method = MAE(encoder, decoder=decoder, view=ToUnit())

    def weights(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        first = {**named(state, {"norm": "norm"}), **blocks_of(state, theirs="blocks.")}
        first |= {"embed.weight": embedding_of(state["patch_embed.proj.weight"])}
        first |= {"embed.bias": state["patch_embed.proj.bias"]}
        pairs = {"decoder_embed": "embed", "decoder_norm": "norm", "decoder_pred": "out"}
        second = {**named(state, pairs), **blocks_of(state, theirs="decoder_blocks.")}
        return first, {**second, "mask_token": state["mask_token"]}

    for network, state in zip((encoder, decoder), weights(theirs.state_dict()), strict=True):
        load(network, state)
    batch = video_batch(3, 1, 16)
    assert batch.video is not None and batch.seed is not None
    video = batch.video[:, 0].float() / 255
    visible, hidden = method.split(batch.seed, (1, 4, 4))
    pictures, row = normalized(video, encoder)[:, 0], torch.arange(3)[:, None]
    tokens = (theirs.patch_embed(pictures) + theirs.pos_embed[:, 1:])[row, visible]
    for layer in (*theirs.blocks, theirs.norm, theirs.decoder_embed):
        tokens = layer(tokens)
    place = theirs.decoder_pos_embed[0, 1:]
    tokens = torch.cat([tokens + place[visible], theirs.mask_token + place[hidden]], dim=1)
    for layer in (*theirs.decoder_blocks, theirs.decoder_norm, theirs.decoder_pred):
        tokens = layer(tokens)
    order = torch.cat([visible, hidden], dim=1).argsort(1)
    mask = torch.ones(3, 16).scatter(1, visible, 0.0)
    expected = theirs.forward_loss(pictures, tokens[row, order], mask)
    expected.backward()
    loss = method(batch, 0.0)["loss"]
    loss.backward()
    grads = weights(gradients(theirs))
    gradient = largest(
        *(gradient_difference(net, part) for net, part in zip((encoder, decoder), grads, strict=True))
    )
    place = EMBEDDINGS["space"]((1, 4, 4), 24)
    return [
        Row("positions", difference(place, theirs.pos_embed[0, 1:])),
        Row("loss", difference(loss, expected), gradient),
        Row("class token", declared="there is none"),
    ]


def videomae(root: Path) -> list[Row]:
    """Networks (modeling_pretrain.py) and loss (engine_for_pretraining.py)."""
    from timm import layers

    class Meters:
        def log_every(self, loader: Any, frequency: int, header: str) -> Any:
            return loader

        def __getattr__(self, name: str) -> Any:
            return MagicMock()

    utils = {"MetricLogger": lambda delimiter: Meters(), "SmoothedValue": MagicMock()}
    stand_ins = {
        "timm.models.layers": {
            name: getattr(layers, name) for name in ("drop_path", "to_2tuple", "trunc_normal_")
        },
        "timm.models.registry": {"register_model": lambda function: function},
        "utils": utils,
    }
    names = "modeling_pretrain", "engine_for_pretraining"
    encoder = VideoViT(dim=24, depth=2, num_heads=2, patch_px=8, positions="order")
    decoder = TokenPredictor(24, encoder.patch_values, width=16, depth=1, num_heads=2, positions="order")
    method = VideoMAE(encoder, decoder=decoder, view=ToUnit(), mask_ratio=0.75)

    def weights(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        first = {**named(state, {"encoder.norm": "norm"}), **blocks_of(state, theirs="encoder.blocks.")}
        first |= {"embed.weight": embedding_of(state["encoder.patch_embed.proj.weight"])}
        first |= {"embed.bias": state["encoder.patch_embed.proj.bias"]}
        pairs = {"encoder_to_decoder": "embed", "decoder.norm": "norm", "decoder.head": "out"}
        second = {**named(state, pairs), **blocks_of(state, theirs="decoder.blocks.")}
        return first, {**second, "mask_token": state["mask_token"]}

    batch = video_batch(2, 16, 32)
    assert batch.video is not None and batch.seed is not None
    losses: list[Tensor] = []

    class Backward:
        def __call__(self, loss: Tensor, *args: Any, **options: Any) -> None:
            losses.append(loss)
            loss.backward()

        def state_dict(self) -> dict[str, float]:
            return {"scale": 1.0}

    optimizer: Any = SimpleNamespace(zero_grad=lambda: None, param_groups=[{"lr": 0.0, "weight_decay": 0.0}])
    with imported(root, *names, stand_ins=stand_ins) as (models, engine):
        theirs = models.PretrainVisionTransformer(
            img_size=32,
            patch_size=8,
            encoder_embed_dim=24,
            encoder_depth=2,
            encoder_num_heads=2,
            decoder_num_classes=encoder.patch_values,
            decoder_embed_dim=16,
            decoder_depth=1,
            decoder_num_heads=2,
            qkv_bias=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
        )
        randomize(theirs)
        for network, state, absent in zip(
            (encoder, decoder), weights(theirs.state_dict()), ((), ("embed.bias",)), strict=True
        ):
            load(network, state, absent=absent)
        _, hidden = method.split(batch.seed, (8, 4, 4))
        mask = torch.zeros(2, 128).scatter(1, hidden, 1.0)
        video = rearrange(normalized(batch.video[:, 0].float() / 255, encoder), "b t c h w -> b c t h w")
        engine.train_one_epoch(
            theirs, [(video, mask)], optimizer, torch.device("cpu"), 0, Backward(), patch_size=8, start_steps=0
        )
    loss = method(batch, 0.0)["loss"]
    loss.backward()
    grads = weights(gradients(theirs))
    gradient = largest(
        *(gradient_difference(net, part) for net, part in zip((encoder, decoder), grads, strict=True))
    )
    place = EMBEDDINGS["order"]((8, 4, 4), 24)
    return [
        Row("positions", difference(place, theirs.encoder.pos_embed[0])),
        Row("loss", difference(loss, losses[0]), gradient),
        Row("decoder's embedding", declared="has a bias, as MAE's"),
        Row("first weights", declared="patches' by Glorot's rule, mask token not cut off, as MAE's"),
    ]


def jepa(root: Path) -> list[Row]:
    """Networks (src/models) and the loss of app/vjepa/train.py, whose lines stand in its loop and are restated."""
    names = "src.models.vision_transformer", "src.models.predictor", "src.masks.utils"
    encoder = VideoViT(dim=26, depth=2, num_heads=2, patch_px=8, positions="space_time_full")
    width = {"width": 20, "depth": 1, "num_heads": 2}
    predictor = TokenPredictor(26, 26, **width, positions="space_time_full", num_mask_tokens=2)
    method = VJEPA(encoder, predictor=predictor, view=ToUnit())
    batch = video_batch(2, 4, 64)
    assert batch.video is not None and batch.seed is not None
    video = batch.video[:, 0].float() / 255
    norm = partial(nn.LayerNorm, eps=1e-6)
    shape = {
        "img_size": 64,
        "patch_size": 8,
        "num_frames": 4,
        "uniform_power": True,
        "num_heads": 2,
        "norm_layer": norm,
    }

    def encoder_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = {**named(state, {"norm": "norm"}), **blocks_of(state, theirs="blocks.")}
        found |= {"embed.weight": embedding_of(state["patch_embed.proj.weight"])}
        return {**found, "embed.bias": state["patch_embed.proj.bias"]}

    def predictor_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        pairs = {"predictor_embed": "embed", "predictor_norm": "norm", "predictor_proj": "out"}
        found = {**named(state, pairs), **blocks_of(state, theirs="predictor_blocks.")}
        return {**found, "mask_token": torch.cat([state[f"mask_tokens.{n}"] for n in range(2)])}

    with imported(root, *names) as (models, predictors, masks):
        student, teacher = (models.VisionTransformer(embed_dim=26, depth=2, **shape) for _ in range(2))
        theirs = predictors.VisionTransformerPredictor(
            embed_dim=26, predictor_embed_dim=20, depth=1, use_mask_tokens=True, **shape
        )
        for network in (student, teacher, theirs):
            randomize(network)
        load(method.student, encoder_weights(student.state_dict()))
        load(method.encoder, encoder_weights(teacher.state_dict()))
        load(predictor, predictor_weights(theirs.state_dict()))
        clips = rearrange(normalized(video, encoder), "b t c h w -> b c t h w")
        with torch.no_grad():
            targets = F.layer_norm(teacher(clips), (26,))
        errors = []
        for number, mask in enumerate(method.masks):
            cells = mask(mix(batch.seed, number), rows=8, columns=8)
            visible, hidden = (tubes(kind, num_steps=2, num_cells=64) for kind in cells)
            predicted = theirs(student(clips, [visible]), None, [visible], [hidden], mask_index=number)
            errors.append((predicted - masks.apply_masks(targets, [hidden])).abs().mean())
        expected = sum(errors) / len(errors)
        expected.backward()
    loss = method(batch, 0.0)["loss"]
    loss.backward()
    gradient = largest(
        gradient_difference(method.student, encoder_weights(gradients(student))),
        gradient_difference(predictor, predictor_weights(gradients(theirs))),
    )
    place = EMBEDDINGS["space_time_full"]((2, 8, 8), 26)
    return [
        Row("positions", difference(place, student.pos_embed[0])),
        Row("loss", difference(loss, expected), gradient),
        Row("masks", declared="every sample hides and shows as many tokens as any other"),
        Row("first weights", declared="drawn as MAE's"),
    ]
