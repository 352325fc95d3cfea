"""Vision transformers: position embeddings by both rules, tokens, sizes."""

import math

import numpy as np
import pytest
import timm
import torch

from vidssl.models import ViT
from vidssl.models.vit import resize_position_embedding


def cubic(distance, a=-0.75):
    """Keys' cubic kernel with PyTorch's coefficient."""
    distance = abs(distance)
    if distance <= 1:
        return (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    return a * (distance**3 - 5 * distance**2 + 8 * distance - 4) if distance < 2 else 0.0


def dino_oracle(grid, new_size):
    """Bicubic samples of `grid` (h, w) where DINO's scale factor of (new + 0.1) / old puts them."""

    def weights(old, new):
        table = np.zeros((new, old))
        for cell in range(new):
            position = (cell + 0.5) * old / (new + 0.1) - 0.5
            for tap in range(math.floor(position) - 1, math.floor(position) + 3):
                table[cell, min(max(tap, 0), old - 1)] += cubic(position - tap)
        return table

    return weights(grid.shape[0], new_size[0]) @ grid @ weights(grid.shape[1], new_size[1]).T


@pytest.mark.parametrize("new_size", [(9, 4), (5, 6), (6, 5)])
def test_dino_rule_samples_at_the_shifted_scale(new_size):
    embedding = torch.randn(1, 2 + 5 * 6, 3, dtype=torch.float64)
    resized = resize_position_embedding(embedding, grid=(5, 6), new_grid=new_size, rule="dino")
    assert torch.equal(resized[:, :2], embedding[:, :2])
    for channel in range(3):
        grid = embedding[0, 2:, channel].reshape(5, 6).numpy()
        expected = grid if new_size == (5, 6) else dino_oracle(grid, new_size)
        np.testing.assert_allclose(resized[0, 2:, channel].reshape(new_size).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("name", ["test_vit", "test_vit3", "vit_tiny_patch16_224"])
@torch.no_grad()
def test_timm_rule_equals_timm(name):
    theirs = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True).eval()
    ours = ViT(name, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)).eval()
    ours.net.load_state_dict(theirs.state_dict())
    clip = torch.rand(2, 1, 3, 64, 96)
    frames = (clip[:, 0] - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(
        3, 1, 1
    )
    tokens = theirs.fc_norm(theirs.forward_features(frames))[:, theirs.num_prefix_tokens :]
    expected = tokens.reshape(2, 4, 6, -1).permute(0, 3, 1, 2)
    torch.testing.assert_close(ours.features(clip)[:, 0], expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_dino_rule_puts_its_embeddings_into_the_network():
    ours = ViT("vit_tiny_patch16_224", pos_embed="dino").eval()
    theirs = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=0, img_size=(48, 80)).eval()
    state = ours.net.state_dict()
    state["pos_embed"] = resize_position_embedding(state["pos_embed"], grid=(14, 14), new_grid=(3, 5), rule="dino")
    theirs.load_state_dict(state)
    clip = torch.rand(1, 1, 3, 48, 80)
    tokens = theirs.forward_features((clip[:, 0] - ours.mean) / ours.std)[:, 1:]
    features = ours.features(clip)
    torch.testing.assert_close(features[0, 0].flatten(1).T, tokens[0], atol=1e-5, rtol=0)
    with_timm_rule = ViT("vit_tiny_patch16_224").eval()
    with_timm_rule.load_state_dict(ours.state_dict())
    assert (with_timm_rule.features(clip) - features).abs().max() > 1e-3


def test_rotary_transformers_run_at_any_size():
    encoder = ViT("vit_small_patch16_dinov3", pos_embed="dino").eval()
    assert encoder.net.num_prefix_tokens == 5
    with torch.no_grad():
        wide = encoder.features(torch.rand(1, 1, 3, 32, 64))
    assert wide.shape == (1, 1, 384, 2, 4)
    assert wide.isfinite().all()


def test_gradients_reach_the_stored_position_embeddings():
    encoder = ViT("test_vit")
    # A mean of normalised tokens would be constant: look at single cells.
    encoder.features(torch.rand(1, 1, 3, 32, 48))[0, 0, 0, 0, 0].backward()
    assert encoder.net.pos_embed.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_sizes_and_names_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"50 x 64 pixels .* patches of 16; .* 48 x 64"):
        ViT("test_vit").features(torch.rand(1, 1, 3, 50, 64))
    with pytest.raises(ValueError, match="pos_embed is 'dinov2'"):
        ViT("test_vit", pos_embed="dinov2")


def test_a_table_of_as_many_patches_in_another_layout_is_resized_without_timm(monkeypatch):
    # timm's own function left it as it was, up to 1.0.28.
    monkeypatch.setattr("timm.layers.resample_abs_pos_embed", lambda embedding, **_: embedding)
    embedding = torch.randn(1, 1 + 14 * 14, 5)
    resized = resize_position_embedding(embedding, grid=(14, 14), new_grid=(7, 28), rule="timm")
    table = embedding[:, 1:].reshape(1, 14, 14, 5).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(table, size=(7, 28), mode="bicubic", antialias=True)
    assert torch.equal(resized[:, :1], embedding[:, :1])
    assert torch.equal(resized[:, 1:], expected.permute(0, 2, 3, 1).reshape(1, 196, 5))
    assert (resized - embedding).abs().max() > 0.5
    assert torch.equal(
        resize_position_embedding(embedding, grid=(14, 14), new_grid=(14, 14), rule="timm"), embedding
    )


@pytest.mark.parametrize("new_grid", [(4, 6), (20, 33), (7, 28)])
def test_the_timm_rule_is_that_of_timm_bit_by_bit(new_grid):
    embedding = torch.randn(1, 2 + 14 * 14, 12)
    theirs = timm.layers.resample_abs_pos_embed(
        embedding, new_size=list(new_grid), old_size=[14, 14], num_prefix_tokens=2
    )
    assert torch.equal(resize_position_embedding(embedding, grid=(14, 14), new_grid=new_grid, rule="timm"), theirs)


@torch.no_grad()
def test_rotary_transformers_resize_their_tables_of_as_many_patches_too():
    encoder = ViT("eva02_tiny_patch14_224", img_size=56).eval()  # 4 x 4 patches
    tokens, _ = encoder.net._pos_embed(torch.zeros(1, 2, 8, encoder.dim))
    table = encoder.net.pos_embed[:, 1:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(table, size=(2, 8), mode="bicubic", antialias=True)
    torch.testing.assert_close(tokens[:, 1:], expected.flatten(2).transpose(1, 2))
