"""The video transformer: patches, positions, partial encoding, one frame, export."""

import itertools
import math

import pytest
import torch
from einops import rearrange
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from vidssl.models import VideoViT, export_encoder, load_encoder
from vidssl.models.video_vit import (
    EMBEDDINGS,
    TokenPredictor,
    full_embedding,
    order_embedding,
    position_embedding,
    space_embedding,
)


def tiny(**options) -> VideoViT:
    return VideoViT(**{"dim": 24, "depth": 2, "num_heads": 2, "patch_px": 4, "tubelet_frames": 2, **options})


def test_positions_are_sines_of_time_row_and_column():
    table = position_embedding((2, 3, 4), 27)
    token = 0
    for step in range(2):
        for row in range(3):
            for column in range(4):
                expected = []
                for place in (step, row, column):
                    angles = [place / 10_000 ** (k / 4) for k in range(4)]
                    expected += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
                torch.testing.assert_close(table[token], torch.tensor([*expected, 0, 0, 0]), atol=1e-6, rtol=0)
                token += 1
    assert token == len(table)


@pytest.mark.parametrize("dim", [1024, 384, 26])
def test_full_positions_have_frequencies_in_all_of_the_width(dim):
    table, per_axis = full_embedding((3, 2, 2), dim), math.ceil(dim / 6)
    for token, places in enumerate(itertools.product(range(3), range(2), range(2))):
        expected = []
        for place in places:
            angles = [place / 10_000 ** (k / per_axis) for k in range(per_axis)]
            expected += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
        torch.testing.assert_close(table[token], torch.tensor(expected[:dim]), atol=1e-6, rtol=0)
    assert per_axis * 6 - dim == {1024: 2, 384: 0, 26: 4}[dim]  # cosines of the column are cut off
    assert torch.equal(table, position_embedding((3, 2, 2), dim)) == (dim == 384)


@pytest.mark.parametrize("dim", [384, 7])
def test_positions_by_order_are_sines_and_cosines_of_the_number_in_turn(dim):
    table = order_embedding((8, 14, 14), dim)
    assert table.shape == (1568, dim) and table.dtype == torch.float32
    for token in (0, 1, 14, 196, 1567):
        expected = [(math.sin, math.cos)[k % 2](token / 10_000 ** (2 * (k // 2) / dim)) for k in range(dim)]
        torch.testing.assert_close(table[token], torch.tensor(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize("positions", ["space_time_full", "order"])
def test_positions_are_those_asked_for_and_are_exported(positions, tmp_path):
    encoder, clip = tiny(dim=26, depth=0, positions=positions).eval(), torch.rand(1, 4, 3, 8, 12)
    place = EMBEDDINGS[positions]((2, 2, 3), 26)
    colors = (encoder.patches(clip) - encoder.mean.flatten()) / encoder.std.flatten()
    expected = encoder.norm(encoder.embed(colors.flatten(2)) + place)
    torch.testing.assert_close(encoder.tokens(clip), expected, atol=1e-6, rtol=0)
    export_encoder(encoder, tmp_path / "encoder.safetensors")
    assert torch.equal(load_encoder(tmp_path).tokens(clip), encoder.tokens(clip))

    predictor = TokenPredictor(26, 5, width=26, depth=0, num_heads=2, positions=positions)
    tokens, visible, hidden = torch.randn(1, 3, 26), torch.tensor([[5, 0, 2]]), torch.tensor([[1, 7]])
    found = predictor(tokens, visible=visible, hidden=hidden, grid=(2, 2, 3))
    torch.testing.assert_close(found, predictor.out(predictor.norm(place[hidden])))


def test_each_kind_of_mask_has_its_token():
    predictor = TokenPredictor(24, 5, width=12, depth=1, num_heads=2, num_mask_tokens=2)
    assert (predictor.mask_token == 0).all()
    torch.nn.init.normal_(predictor.mask_token)
    one = TokenPredictor(24, 5, width=12, depth=1, num_heads=2)
    split = {"visible": torch.tensor([[5, 0]]), "hidden": torch.tensor([[1, 7]]), "grid": (2, 2, 2)}
    for number in range(3):
        state = {**predictor.state_dict(), "mask_token": predictor.mask_token[number % 2][None]}
        one.load_state_dict(state)
        tokens = torch.randn(1, 2, 24)
        expected = one(tokens, **split, mask_number=number)
        torch.testing.assert_close(predictor(tokens, **split, mask_number=number), expected)


def test_mask_tokens_are_drawn_with_the_deviation_asked_for():
    token = TokenPredictor(24, 5, width=1000, depth=0, num_heads=2, mask_token_std=0.02).mask_token
    assert float(token.detach().std()) == pytest.approx(0.02, rel=0.1)


def test_positions_of_images_are_sines_of_column_and_row():
    table, token = space_embedding((1, 3, 4), 12), 0
    for row in range(3):
        for column in range(4):
            expected = []
            for place in (column, row):
                angles = [place / 10_000 ** (k / 3) for k in range(3)]
                expected += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
            torch.testing.assert_close(table[token], torch.tensor(expected), atol=1e-6, rtol=0)
            token += 1
    assert token == len(table)
    # None of its dimensions is constant, as the third that the other code keeps for time is on images.
    assert (table.std(0) > 0).all()


def test_an_encoder_of_images_sees_the_frames_of_a_clip_one_by_one(tmp_path):
    encoder = tiny(tubelet_frames=1, positions="space").eval()
    clip = torch.rand(2, 3, 3, 8, 12)
    with torch.no_grad():
        found = encoder.layers(clip, ["0", "1.keys", "last"])
        for frame in range(3):
            alone = encoder.layers(clip[:, frame : frame + 1], ["0", "1.keys", "last"])
            for name, maps in found.items():
                torch.testing.assert_close(maps[:, frame : frame + 1], alone[name], atol=1e-5, rtol=0)
        export_encoder(encoder, tmp_path / "encoder.safetensors")
        loaded = load_encoder(tmp_path)
        assert loaded.positions == "space" and torch.equal(loaded.features(clip), found["last"])
    with pytest.raises(ValueError, match="3 time steps has no place in a code of rows and columns"):
        encoder.tokens(clip)


def test_what_was_exported_before_positions_were_an_option_is_described_as_it_was():
    assert "positions" not in tiny().architecture and tiny().positions == "space_time"


@pytest.mark.parametrize("tubelet_frames", [1, 2])
def test_the_embedding_is_a_convolution_in_space_and_time(tubelet_frames):
    encoder = tiny(depth=0, tubelet_frames=tubelet_frames, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    clip = torch.rand(2, 4, 3, 8, 12)
    kernel = rearrange(
        encoder.embed.weight, "d (f y x c) -> d c f y x", f=tubelet_frames, y=4, x=4
    )  # torch's layout of a 3-D convolution
    colors = rearrange((clip - encoder.mean) / encoder.std, "b t c h w -> b c t h w")
    volume = torch.nn.functional.conv3d(colors, kernel, encoder.embed.bias, stride=kernel.shape[2:])
    expected = rearrange(volume, "b d t h w -> b (t h w) d") + position_embedding((4 // tubelet_frames, 2, 3), 24)
    torch.testing.assert_close(encoder.tokens(clip), encoder.norm(expected), atol=1e-5, rtol=0)


def test_keeping_all_tokens_gives_the_features():
    encoder, clip = tiny(), torch.rand(2, 4, 3, 8, 12)
    features = encoder.features(clip)
    assert features.shape == (2, 2, 24, 2, 3)
    everything = torch.arange(12).expand(2, -1)
    kept = rearrange(encoder.tokens(clip, everything), "b (t h w) d -> b t d h w", t=2, h=2)
    torch.testing.assert_close(kept, features, atol=1e-6, rtol=0)
    # The order of `keep` is the order of the result: attention knows places from positions alone.
    order = torch.stack([torch.randperm(12), torch.randperm(12)])
    shuffled = encoder.tokens(clip, order)
    for b in range(2):
        torch.testing.assert_close(shuffled[b], encoder.tokens(clip)[b, order[b]], atol=1e-5, rtol=0)


def test_only_kept_tokens_are_seen():
    encoder, clip = tiny(), torch.rand(2, 4, 3, 8, 12)
    keep = torch.tensor([[0, 7], [11, 3]])
    changed = torch.rand_like(clip)
    rows = torch.arange(2)[:, None]
    mixed = encoder.patches(changed)
    mixed[rows, keep] = encoder.patches(clip)[rows, keep]
    elsewhere = encoder.assemble(mixed, encoder.grid(clip))
    assert torch.equal(encoder.tokens(elsewhere, keep), encoder.tokens(clip, keep))
    # ... and each of the kept ones is.
    for b, token in ((0, 0), (0, 7), (1, 11), (1, 3)):
        touched = encoder.patches(clip)
        touched[b, token] += 0.5
        touched = encoder.assemble(touched, encoder.grid(clip))
        difference = (encoder.tokens(touched, keep) - encoder.tokens(clip, keep)).abs().amax(dim=(1, 2))
        assert difference[b] > 1e-3 and difference[1 - b] == 0


def test_assembling_undoes_cutting():
    encoder, clip = tiny(), torch.rand(2, 6, 3, 8, 12)
    assert torch.equal(encoder.assemble(encoder.patches(clip), (3, 2, 3)), clip)
    # Token 1 of step 0 is the patch to the right of the first, both frames of it, colours last.
    assert torch.equal(encoder.patches(clip)[0, 1].view(2, 4, 4, 3), clip[0, :2, :, :4, 4:8].permute(0, 2, 3, 1))


def test_an_image_is_a_clip_of_one_frame():
    encoder, image = tiny(), torch.rand(2, 1, 3, 8, 12)
    features = encoder.features(image)
    assert features.shape == (2, 1, 24, 2, 3)
    assert torch.equal(features, encoder.features(image.repeat(1, 2, 1, 1, 1)))


def test_positions_tell_steps_rows_and_columns_apart():
    """On a clip of one colour all tokens would be equal without them."""
    features = tiny().features(torch.full((1, 4, 3, 8, 8), 0.7))
    for axis in (1, 3, 4):
        assert features.std(dim=axis).mean() > 1e-3


def test_export_and_load(tmp_path):
    encoder = tiny(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)).eval()
    export_encoder(encoder, tmp_path / "encoder.safetensors")
    loaded = load_encoder(tmp_path)
    clip = torch.rand(1, 4, 3, 16, 8)
    with torch.no_grad():
        assert torch.equal(loaded.features(clip), encoder.features(clip))
    assert isinstance(loaded, VideoViT) and loaded.stride == loaded.multiple == 4 and loaded.tubelet_frames == 2


def test_the_predictor_does_not_depend_on_the_order_of_tokens():
    predictor = TokenPredictor(24, 5, width=12, depth=2, num_heads=2)
    torch.nn.init.normal_(predictor.mask_token)
    tokens, visible, hidden = torch.randn(1, 3, 24), torch.tensor([[5, 0, 2]]), torch.tensor([[1, 7, 3, 4]])
    found = predictor(tokens, visible=visible, hidden=hidden, grid=(2, 2, 2))
    turned = predictor(tokens[:, [2, 0, 1]], visible=visible[:, [2, 0, 1]], hidden=hidden.flip(1), grid=(2, 2, 2))
    torch.testing.assert_close(turned.flip(1), found, atol=1e-5, rtol=0)
    # A token at another place is another token.
    moved = predictor(tokens, visible=torch.tensor([[6, 0, 2]]), hidden=hidden, grid=(2, 2, 2))
    assert (moved - found).abs().max() > 1e-3


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="5 frames does not divide into tubelets of 2; use 4 or 6 frames"):
        tiny().features(torch.rand(1, 5, 3, 8, 8))
    with pytest.raises(ValueError, match=r"10 x 8 pixels .* patches of 4"):
        tiny().features(torch.rand(1, 2, 3, 10, 8))
    with pytest.raises(ValueError, match="tubelet_frames is 3, expected 1 or 2"):
        tiny(tubelet_frames=3)
    with pytest.raises(ValueError, match="width of 24 does not divide into 5 heads"):
        tiny(num_heads=5)
    with pytest.raises(ValueError, match="positions is 'time', expected 'space_time' or 'space'"):
        tiny(positions="time")
    with pytest.raises(ValueError, match="positions is 'time', expected 'space_time' or 'space'"):
        TokenPredictor(24, 5, width=12, num_heads=2, positions="time")
    with pytest.raises(ValueError, match='positions="space" is for single frames; set tubelet_frames=1'):
        tiny(positions="space")
    with pytest.raises(ValueError, match="width 26 for a code of rows and columns, expected a multiple of 4"):
        tiny(dim=26, tubelet_frames=1, positions="space").features(torch.rand(1, 1, 3, 8, 8))


class Operators(TorchDispatchMode):
    """Notes the operators that are run, with the shape of their first argument."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[int, ...]]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append((str(func), tuple(getattr(args[0], "shape", ()))))
        return func(*args, **(kwargs or {}))


def linear(counter: FlopCounterMode) -> int:
    """Operations of linear layers alone; from torch 2.15 on those of attention on a CPU are counted, too."""
    return sum(count for kernel, count in counter.get_flop_counts()["Global"].items() if "mm" in str(kernel))


@torch.no_grad()
def test_hidden_tokens_cost_nothing_and_attention_is_fused():
    net = VideoViT(dim=24, depth=2, num_heads=2, patch_px=8).eval()
    clip, keep = torch.rand(1, 4, 3, 32, 32), torch.arange(0, 32, 4)[None]  # 8 of 2 x 4 x 4 tokens
    with FlopCounterMode(display=False) as every:
        net.tokens(clip)
    with FlopCounterMode(display=False) as some, Operators() as operators:
        net.tokens(clip, keep)
    assert linear(every) == 4 * linear(some) > 0
    attention = [shape for name, shape in operators.seen if "scaled_dot_product" in name]
    assert attention == [(1, 2, 8, 12)] * 2
