"""Models of the package `transformers`: tiny ones with random weights, saved, loaded, compared with themselves."""

import json
import math
import sys
from importlib.metadata import version

import pytest
import torch
import torch.nn.functional as F
from processes import Process

from vidssl.models import HuggingFaceEncoder, encoder_family, export_encoder, layer_of, load_encoder

transformers = pytest.importorskip("transformers")

SIZES = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
PATCH = {"image_size": 16, "patch_size": 4}
CLIPS = {
    "videomae": {**SIZES, **PATCH, "num_frames": 4, "tubelet_size": 2, "use_mean_pooling": False},
    "vjepa2": {
        **{name: value for name, value in SIZES.items() if name != "intermediate_size"},
        "crop_size": 16,
        "patch_size": 4,
        "frames_per_clip": 4,
        "tubelet_size": 2,
        "pred_hidden_size": 12,
        "pred_num_attention_heads": 2,
        "pred_num_hidden_layers": 1,
        "pred_num_mask_tokens": 2,
    },
    "timesformer": {**SIZES, **PATCH, "num_frames": 4},
}
FRAMES = {
    "vit": {**SIZES, **PATCH},
    "dinov2": {**SIZES, **PATCH},
    "dinov2_with_registers": {**SIZES, **PATCH, "num_register_tokens": 2},
    "dinov3_vit": {**SIZES, **PATCH, "num_register_tokens": 2},
}


def saved(model_type, folder, **options):
    """A model whose every parameter is random: positions and norms start at constants that would hide mistakes."""
    config = transformers.AutoConfig.for_model(model_type, **{**CLIPS, **FRAMES}[model_type], **options)
    model = transformers.AutoModel.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    colors = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    (folder / "preprocessor_config.json").write_text(json.dumps(colors))
    return model


def scaled(clip):
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (clip - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def own_output(model, clip):
    """What the model makes of a clip of its native size, and the hidden states before each block."""
    pixels = {"pixel_values_videos" if model.config.model_type == "vjepa2" else "pixel_values": scaled(clip)}
    if model.config.model_type == "vjepa2":
        pixels["skip_predictor"] = True
    return model(**pixels, output_hidden_states=True)


def laid_out(tokens, model_type, grid):
    """Tokens (B, n, D) as (B, t, D, h, w), by index arithmetic."""
    steps, rows, columns = grid
    maps = torch.empty(len(tokens), steps, tokens.shape[-1], rows, columns)
    for step in range(steps):
        for row in range(rows):
            for column in range(columns):
                number = (step * rows + row) * columns + column
                if model_type == "timesformer":  # class token first, then place by place
                    number = 1 + (row * columns + column) * steps + step
                maps[:, step, :, row, column] = tokens[:, number]
    return maps


@pytest.mark.parametrize("model_type", CLIPS)
@torch.no_grad()
def test_clips_at_the_native_size(model_type, tmp_path):
    model = saved(model_type, tmp_path)
    encoder = load_encoder(f"hf:{tmp_path}")
    assert isinstance(encoder, HuggingFaceEncoder) and encoder_family(f"hf:{tmp_path}") == "hf"
    assert (encoder.dim, encoder.stride, encoder.multiple) == (24, 4, 4) and not encoder.training
    clip = torch.rand(2, 4, 3, 16, 16)
    output = own_output(model, clip)
    grid = (4 if model_type == "timesformer" else 2, 4, 4)
    features = encoder.features(clip)
    close(features, laid_out(output.last_hidden_state, model_type, grid))
    if model_type != "timesformer":  # position arithmetic of ours, bit for bit that of the model
        assert torch.equal(features, laid_out(output.last_hidden_state, model_type, grid))
    found = encoder.layers(clip, ["last", "0", "2"])
    close(found["0"], laid_out(output.hidden_states[1], model_type, grid))
    close(layer_of(encoder, "0").features(clip), found["0"])
    if model_type == "timesformer":
        cls = encoder.layers(clip, ["1.cls", "last.cls"])
        close(cls["1.cls"][:, 0, :, 0, 0], output.hidden_states[2][:, 0])
        close(cls["last.cls"][:, 0, :, 0, 0], output.last_hidden_state[:, 0])
    else:
        assert not any(name.endswith(".cls") for name in encoder.layer_names)
    # Other sizes leave nothing behind.
    encoder.features(torch.rand(1, 2, 3, 8, 24))
    assert torch.equal(encoder.features(clip), features)


@pytest.mark.parametrize("model_type", CLIPS)
@torch.no_grad()
def test_a_frame_is_a_clip_that_stands_still(model_type, tmp_path):
    saved(model_type, tmp_path)
    encoder, frame = load_encoder(f"hf:{tmp_path}"), torch.rand(2, 1, 3, 16, 24)
    features = encoder.features(frame)
    assert features.shape == (2, 1, 24, 4, 6)
    tubelet = 1 if model_type == "timesformer" else 2
    assert torch.equal(features, encoder.features(frame.repeat(1, tubelet, 1, 1, 1)))


def cubic(distance, a=-0.75):
    distance = abs(distance)
    if distance <= 1:
        return (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    return a * (distance**3 - 5 * distance**2 + 8 * distance - 4) if distance < 2 else 0.0


def weights_of(old, new, kernel, reach):
    """Table (new, old) of how much each old cell gives to each new one; cells are intervals, ends are repeated."""
    table = torch.zeros(new, old)
    for cell in range(new):
        position = (cell + 0.5) * old / new - 0.5
        for tap in range(math.floor(position) - reach + 1, math.floor(position) + reach + 1):
            table[cell, min(max(tap, 0), old - 1)] += kernel(position - tap)
    return table


@torch.no_grad()
def test_videomae_at_another_size(tmp_path):
    """Positions of 2 x 4 x 4 tubelets, interpolated to 4 x 3 x 6 by the definition of both kernels."""
    model = saved("videomae", tmp_path)
    clip = torch.rand(1, 8, 3, 12, 24)
    sines = [
        [math.sin(n / 10_000 ** (2 * (k // 2) / 24)) if k % 2 == 0 else math.cos(n / 10_000 ** (2 * (k // 2) / 24))
         for k in range(24)]
        for n in range(32)
    ]  # fmt: skip
    native = torch.tensor(sines).reshape(2, 4, 4, 24)
    time = weights_of(2, 4, lambda distance: max(0.0, 1 - abs(distance)), 1)
    rows, columns = weights_of(4, 3, cubic, 2), weights_of(4, 6, cubic, 2)
    position = torch.einsum("tT, hH, wW, THWd -> thwd", time, rows, columns, native)
    tokens = torch.empty(1, 4 * 3 * 6, 24)
    projection = model.embeddings.patch_embeddings.projection
    pixels = scaled(clip)
    for step in range(4):
        for row in range(3):
            for column in range(6):
                piece = pixels[:, 2 * step : 2 * step + 2, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
                value = torch.einsum("btchw, dcthw -> bd", piece, projection.weight) + projection.bias
                tokens[:, (step * 3 + row) * 6 + column] = value + position[step, row, column]
    for block in model.encoder.layer:
        tokens = block(tokens)
        tokens = tokens[0] if isinstance(tokens, tuple) else tokens
    expected = laid_out(model.layernorm(tokens), "videomae", (4, 3, 6))
    close(load_encoder(f"hf:{tmp_path}").features(clip), expected)


@torch.no_grad()
def test_timesformer_at_another_size(tmp_path):
    """A TimeSformer made for that size, its positions and times those of the nearest cell of the small one."""
    model = saved("timesformer", tmp_path)
    large = transformers.TimesformerModel(
        transformers.TimesformerConfig(**{**CLIPS["timesformer"], "image_size": 24, "num_frames": 6})
    ).eval()
    state = model.state_dict()
    old = state["embeddings.position_embeddings"]
    cells = [1 + (row * 4 // 6) * 4 + column * 4 // 6 for row in range(6) for column in range(6)]
    state["embeddings.position_embeddings"] = old[:, [0, *cells]]
    state["embeddings.time_embeddings"] = state["embeddings.time_embeddings"][:, [t * 4 // 6 for t in range(6)]]
    large.load_state_dict(state)
    clip = torch.rand(1, 6, 3, 24, 24)
    expected = laid_out(own_output(large, clip).last_hidden_state, "timesformer", (6, 6, 6))
    encoder = load_encoder(f"hf:{tmp_path}")
    close(encoder.features(clip), expected)
    # Wide frames with as many patches as native ones need other positions all the same.
    wide = torch.rand(1, 4, 3, 8, 32)
    stretched = state | {
        "embeddings.position_embeddings": old,
        "embeddings.time_embeddings": state["embeddings.time_embeddings"][:, [0, 2, 3, 5]],
    }
    nearest = [1 + (row * 2) * 4 + column // 2 for row in range(2) for column in range(8)]
    stretched["embeddings.position_embeddings"] = old[:, [0, *nearest]]
    same_number = saved("timesformer", tmp_path / "unused")
    same_number.load_state_dict(stretched)
    same_number.config.image_size = 32  # the width, which its blocks lay tokens out by
    expected = laid_out(own_output(same_number, wide).last_hidden_state, "timesformer", (4, 2, 8))
    close(encoder.features(wide), expected)


def rotated(x, place):
    """V-JEPA 2's rotation of a part of the heads, number by number: pair k turns by place / 10000^(2 k / d)."""
    turned, dim = torch.empty_like(x), x.shape[-1]
    for k in range(dim):
        # As published, the angles of a pair are not equal: they are laid out twice in a row, not repeated in pairs.
        angle = place / 10_000 ** ((k % (dim // 2)) / (dim / 2))
        partner = -x[..., k + 1] if k % 2 == 0 else x[..., k - 1]
        turned[..., k] = x[..., k] * math.cos(angle) + partner * math.sin(angle)
    return turned


@pytest.mark.parametrize(("rows", "columns"), [(2, 6), (5, 2)])
@torch.no_grad()
def test_vjepa2_on_frames_that_are_not_square(rows, columns, tmp_path):
    model = saved("vjepa2", tmp_path)
    clip = torch.rand(1, 6, 3, 4 * rows, 4 * columns)
    places = [(t, y, x) for t in range(3) for y in range(rows) for x in range(columns)]
    tokens = model.encoder.embeddings(scaled(clip))
    for layer in model.encoder.layer:
        attention, normed = layer.attention, layer.norm1(tokens)
        mixed = torch.empty_like(tokens)
        for head in range(2):
            part = slice(12 * head, 12 * head + 12)
            query, key, value = (
                (normed @ linear.weight.T + linear.bias)[..., part]
                for linear in (attention.query, attention.key, attention.value)
            )
            turned = []
            for one in (query, key):
                one = one.clone()
                for number, place in enumerate(places):
                    for axis in range(3):  # a third of the head for each of step, row and column
                        third = slice(4 * axis, 4 * axis + 4)
                        one[:, number, third] = rotated(one[:, number, third], place[axis])
                turned.append(one)
            weights = (turned[0] @ turned[1].transpose(1, 2) / math.sqrt(12)).softmax(dim=-1)
            mixed[..., part] = weights @ value
        tokens = tokens + attention.proj(mixed)
        tokens = tokens + layer.mlp(layer.norm2(tokens))
    expected = laid_out(model.encoder.layernorm(tokens), "vjepa2", (3, rows, columns))
    close(load_encoder(f"hf:{tmp_path}").features(clip), expected)


@pytest.mark.parametrize("model_type", FRAMES)
@torch.no_grad()
def test_models_of_frames(model_type, tmp_path):
    model = saved(model_type, tmp_path)
    encoder, clip = load_encoder(f"hf:{tmp_path}"), torch.rand(2, 3, 3, 16, 16)
    output = model(pixel_values=scaled(clip).flatten(0, 1), output_hidden_states=True)
    prefix = 3 if "registers" in model_type or model_type == "dinov3_vit" else 1
    expected = output.last_hidden_state[:, prefix:].reshape(2, 3, 4, 4, 24).permute(0, 1, 4, 2, 3)
    features = encoder.features(clip)
    close(features, expected)
    found = encoder.layers(clip, ["1.cls", "last.cls", "1"])
    close(found["1.cls"].flatten(), output.hidden_states[2][:, 0].flatten())
    close(found["last.cls"].flatten(), output.last_hidden_state[:, 0].flatten())
    close(found["1"].permute(0, 1, 3, 4, 2).flatten(), output.hidden_states[2][:, prefix:].flatten())
    large = torch.rand(1, 1, 3, 32, 24)
    options = {"interpolate_pos_encoding": True} if model_type == "vit" else {}
    tokens = model(pixel_values=scaled(large)[0], **options).last_hidden_state
    close(encoder.features(large)[0, 0].flatten(1).T, tokens[0, prefix:])
    if model_type in ("vit", "dinov2"):  # a model made for that size, positions by bicubic interpolation
        table = model.embeddings.position_embeddings[:, 1:].reshape(1, 4, 4, 24).permute(0, 3, 1, 2)
        resized = F.interpolate(table, size=(8, 8), mode="bicubic").permute(0, 2, 3, 1).reshape(1, 64, 24)
        made = transformers.AutoModel.from_config(
            transformers.AutoConfig.for_model(model_type, **{**FRAMES[model_type], "image_size": 32})
        ).eval()
        state = model.state_dict()
        first = state["embeddings.position_embeddings"][:, :1]
        made.load_state_dict(state | {"embeddings.position_embeddings": torch.cat([first, resized], dim=1)})
        square = torch.rand(1, 1, 3, 32, 32)
        tokens = made(pixel_values=scaled(square)[0]).last_hidden_state
        close(encoder.features(square)[0, 0].flatten(1).T, tokens[0, 1:])


def test_heads_of_pretraining_are_left_out(tmp_path):
    config = transformers.VideoMAEConfig(
        **CLIPS["videomae"], decoder_hidden_size=12, decoder_num_attention_heads=2
    )
    model = transformers.VideoMAEForPreTraining(config)
    model.save_pretrained(tmp_path)
    encoder = load_encoder(f"hf:{tmp_path}")
    ours, theirs = encoder.net.state_dict(), model.videomae.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_preprocessor_tells_the_colors(tmp_path):
    saved("timesformer", tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_mean": [0.4, 0.5, 0.6], "image_std": [0.1, 0.2, 0.3]}'
    )
    encoder = load_encoder(f"hf:{tmp_path}")
    torch.testing.assert_close(encoder.mean.flatten(), torch.tensor([0.4, 0.5, 0.6]))
    torch.testing.assert_close(encoder.std.flatten(), torch.tensor([0.1, 0.2, 0.3]))
    nested = {"video_processor": {"image_mean": [0.1] * 3, "image_std": [0.9] * 3}}
    (tmp_path / "preprocessor_config.json").unlink()
    (tmp_path / "processor_config.json").write_text(json.dumps(nested))
    assert load_encoder(f"hf:{tmp_path}").mean[0].item() == pytest.approx(0.1)
    assert load_encoder(f"hf:{tmp_path}", mean=(0.3,) * 3).mean[0].item() == pytest.approx(0.3)
    (tmp_path / "processor_config.json").write_text('{"do_normalize": false}')
    assert load_encoder(f"hf:{tmp_path}").std.flatten().tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("model_type", "processor"),
    [
        ("videomae", "VideoMAEImageProcessor"),
        ("vjepa2", "VJEPA2VideoProcessor"),
        ("timesformer", "TimesformerVideoProcessor"),
        ("vit", "ViTImageProcessor"),
        ("dinov3_vit", "DINOv3ViTImageProcessor"),
    ],
)
@pytest.mark.skipif(version("transformers")[0] == "4", reason="its processors of transformers 4 say no defaults")
def test_without_a_preprocessor_colors_are_those_of_the_types_own(model_type, processor, tmp_path, caplog):
    saved(model_type, tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    caplog.set_level("INFO")
    encoder, own = load_encoder(f"hf:{tmp_path}"), getattr(transformers, processor)
    torch.testing.assert_close(encoder.mean.flatten(), torch.tensor(own.image_mean))
    torch.testing.assert_close(encoder.std.flatten(), torch.tensor(own.image_std))
    assert f"no preprocessor_config.json: mean ({own.image_mean[0]}, " in caplog.text
    caplog.clear()
    assert load_encoder(f"hf:{tmp_path}", mean=(0.3,) * 3, std=(0.2,) * 3).std[0].item() == pytest.approx(0.2)
    assert "no preprocessor_config.json" not in caplog.text


@pytest.mark.parametrize("model_type", ["dinov2", "dinov2_with_registers"])
def test_dinov2_without_a_preprocessor_is_refused(model_type, tmp_path):
    # The default of its processor's class is that of CLIP, which no published DINOv2 was trained with.
    saved(model_type, tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(
        ValueError, match=rf"says which mean and std this {model_type} was .* mean=\(0\.485,0\.456,0\.4"
    ):
        load_encoder(f"hf:{tmp_path}")
    given = load_encoder(f"hf:{tmp_path}", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert given.mean[0].item() == pytest.approx(0.485)


@torch.no_grad()
def test_dinov3_gives_the_same_features_in_train_mode(tmp_path):
    model = saved("dinov3_vit", tmp_path, pos_embed_rescale=2.0)
    encoder, clip = load_encoder(f"hf:{tmp_path}"), torch.rand(1, 1, 3, 16, 24)
    features = encoder.features(clip)
    assert torch.equal(encoder.train().features(clip), features)
    # The model itself shakes its coordinates.
    shaken = model.train()(pixel_values=scaled(clip)[0]).last_hidden_state[:, 3:]
    assert (shaken - features[0].flatten(2).transpose(1, 2)).abs().max() > 1e-3


@pytest.mark.parametrize("model_type", ["vit", "dinov2"])
@torch.no_grad()
def test_positions_of_as_many_patches_in_another_layout_are_resized(model_type, tmp_path):
    model = saved(model_type, tmp_path)
    encoder, clip = load_encoder(f"hf:{tmp_path}"), torch.rand(1, 1, 3, 8, 32)  # 2 x 8 patches, made for 4 x 4
    table = model.embeddings.position_embeddings[:, 1:].reshape(1, 4, 4, 24).permute(0, 3, 1, 2)
    resized = F.interpolate(table, size=(2, 8), mode="bicubic").flatten(2).transpose(1, 2)
    features = encoder.features(clip)
    patches = model.embeddings.patch_embeddings.projection(scaled(clip)[0]).flatten(2).transpose(1, 2)
    class_token = model.embeddings.cls_token + model.embeddings.position_embeddings[:, :1]
    found = {}
    handle = encoder.net.embeddings.register_forward_hook(lambda _, __, tokens: found.update(tokens=tokens))
    assert torch.equal(encoder.features(clip), features)
    handle.remove()
    close(found["tokens"], torch.cat([class_token, patches + resized], dim=1))


def test_random_weights_and_export(tmp_path):
    saved("videomae", tmp_path / "folder")
    (tmp_path / "folder" / "model.safetensors").rename(tmp_path / "elsewhere")  # random weights need none
    first, again, other = (load_encoder(f"random:hf:{tmp_path}/folder", seed=seed) for seed in (1, 1, 2))
    clip = torch.rand(1, 4, 3, 16, 16)
    assert torch.equal(first.features(clip), again.features(clip))
    assert (first.features(clip) - other.features(clip)).abs().max() > 1e-3
    export_encoder(first, tmp_path / "run" / "encoder.safetensors")
    loaded = load_encoder(tmp_path / "run")
    assert torch.equal(loaded.features(clip), first.features(clip))
    assert loaded.architecture == first.architecture
    with pytest.raises(ValueError, match=r"weights in .*folder cannot be read"):
        load_encoder(f"hf:{tmp_path}/folder")


def test_mistakes_are_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"MCG-NJU/videomae-base holds no config.json.*nothing is downloaded"):
        load_encoder("hf:MCG-NJU/videomae-base")
    saved("vjepa2", tmp_path)
    encoder = load_encoder(f"hf:{tmp_path}")
    with pytest.raises(
        ValueError, match=r"5 frames does not divide into tubelets of 2; use 4 frames, or a single one"
    ):
        encoder.features(torch.rand(1, 5, 3, 16, 16))
    with pytest.raises(ValueError, match=r"10 x 16 pixels .* patches of 4"):
        encoder.features(torch.rand(1, 2, 3, 10, 16))
    with pytest.raises(ValueError, match=r"brings its own weights"):
        load_encoder(f"hf:{tmp_path}", weights="x.pth")
    with pytest.raises(ValueError, match=r"type 'bert' are not handled; these are: videomae, vjepa2, timesformer"):
        HuggingFaceEncoder({"model_type": "bert"})
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install vidssl\[hf\]"):
        load_encoder(f"hf:{tmp_path}")


BROKEN = """
from vidssl.models import HuggingFaceEncoder
try:
    HuggingFaceEncoder({"model_type": "vit", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1})
except ImportError as error:
    print(error)
"""


def test_a_torchaudio_that_cannot_be_loaded_is_named(tmp_path):
    """As pip puts it beside torch 2.11.0; transformers imports it wherever it is installed (findings/)."""
    package = tmp_path / "torchaudio"
    package.mkdir()
    (package / "__init__.py").write_text("raise OSError('libtorchaudio.so')")
    (tmp_path / "torchaudio-2.11.1.dist-info").mkdir()
    (tmp_path / "torchaudio-2.11.1.dist-info" / "METADATA").write_text("Name: torchaudio\nVersion: 2.11.1\n")
    process = Process(f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n{BROKEN}", said=tmp_path / "said")
    assert process.wait(120) == 0
    said = process.said.read_text()
    # transformers 4 does not import it for models of pictures, and then nothing is wrong.
    imports_it = version("transformers").startswith("5")
    assert ("(libtorchaudio.so); torchaudio" in said and "pip uninstall torchaudio" in said) is imports_it
