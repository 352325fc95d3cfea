"""Inner layers against the same blocks run by hand, and layers as encoders of their own."""

import pytest
import timm
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from vidssl.evaluate.propagation.propagate import propagate_labels
from vidssl.evaluate.propagation.protocols import CRW, DINO
from vidssl.evaluate.provenance import fingerprint
from vidssl.models import (
    ConvNet,
    ResNet,
    TimmConvNet,
    TorchvisionConvNet,
    TorchvisionViT,
    VideoViT,
    ViT,
    export_encoder,
    layer_of,
)
from vidssl.models.layers import drop_paths
from vidssl.ops.ema import teacher_of


def scaled(encoder, clip):
    return (clip.flatten(0, 1) - encoder.mean) / encoder.std


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def calls_of(module):
    calls = []
    module.register_forward_hook(lambda *_: calls.append(1))
    return calls


@torch.no_grad()
def test_resnet_layers():
    encoder = ResNet(18, stride=8, layer="layer3", width=8).eval()
    clip = torch.rand(2, 2, 3, 64, 96)
    calls = calls_of(encoder.conv1)
    found = encoder.layers(clip, ["layer3", "layer1", "last", "layer2"])
    assert list(found) == ["layer3", "layer1", "last", "layer2"] and len(calls) == 1
    maps = encoder.maxpool(F.relu(encoder.bn1(encoder.conv1(scaled(encoder, clip)))))
    for number, stride in ((1, 4), (2, 8), (3, 8)):
        maps = encoder.get_submodule(f"layer{number}")(maps)
        assert torch.equal(found[f"layer{number}"].flatten(0, 1), maps)
        assert encoder.layer_size(f"layer{number}") == (maps.shape[1], stride) == (8 * 2 ** (number - 1), stride)
        assert maps.shape[-1] == 96 // stride
    assert torch.equal(found["last"], found["layer3"])
    assert torch.equal(found["last"], encoder.features(clip))
    assert encoder.layer_names == ("layer1", "layer2", "layer3", "last")
    assert encoder.layer_size("last") == (encoder.dim, encoder.stride)


def randomize(module):
    """Biases that start at zero would hide that they are left out."""
    for parameter in module.parameters():
        if parameter.ndim == 1:
            parameter.add_(torch.randn_like(parameter) * 0.05)


def slow_heads(block, tokens, facet):
    """One facet of one block, head by head and row by row of the matrix."""
    attention, tokens = block.attn, block.norm1(tokens)
    if attention.qkv is None:
        layer = {"queries": attention.q_proj, "keys": attention.k_proj, "values": attention.v_proj}[facet]
        return tokens @ layer.weight.T + (0 if layer.bias is None else layer.bias)
    bias = attention.qkv.bias
    if bias is None and getattr(attention, "q_bias", None) is not None:
        bias = torch.cat((attention.q_bias, torch.zeros_like(attention.q_bias), attention.v_bias))
    packed = tokens @ attention.qkv.weight.T + (0 if bias is None else bias)
    packed = rearrange(packed, "n l (three heads d) -> three n l heads d", three=3, heads=attention.num_heads)
    return packed[("queries", "keys", "values").index(facet)].flatten(2)


@pytest.mark.parametrize(
    "name",
    ["test_vit", "eva02_tiny_patch14_224", "vit_small_patch16_dinov3_qkvb"],
)
@torch.no_grad()
def test_vit_blocks_facets_and_class_token(name):
    encoder = ViT(name).eval()
    randomize(encoder)
    patch, depth = encoder.stride, len(encoder.net.blocks)
    clip = torch.rand(1, 2, 3, 3 * patch, 4 * patch)
    middle, last = depth // 2, depth - 1
    facets = [f"{middle}.queries", f"{middle}.keys", f"{last}.values"]
    names = ["0", str(middle), str(last), "last", f"{middle}.cls", "last.cls", *facets]
    assert set(names) <= set(encoder.layer_names)
    assert len(encoder.layer_names) == 5 * depth + 2
    calls = calls_of(encoder.net.blocks[0])
    found = encoder.layers(clip, names)
    assert len(calls) == 1
    # timm's own network made for this size, its blocks called one after another.
    theirs = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True).eval()
    theirs.load_state_dict(encoder.net.state_dict())
    tokens, turned = theirs._pos_embed(theirs.patch_embed(scaled(encoder, clip))), {}
    if isinstance(tokens, tuple):
        tokens, turned = tokens[0], {"rope": tokens[1]}
    tokens = theirs.norm_pre(tokens)
    prefix = theirs.num_prefix_tokens

    def laid_out(tokens):
        return tokens[:, prefix:].reshape(1, 2, 3, 4, -1).permute(0, 1, 4, 2, 3)

    for number, block in enumerate(theirs.blocks):
        for facet in facets:
            if int(facet.split(".")[0]) == number:
                close(found[facet], laid_out(slow_heads(block, tokens, facet.split(".")[1])))
        tokens = block(tokens, **turned)
        if str(number) in found:
            close(found[str(number)], laid_out(tokens))
        if f"{number}.cls" in found:
            close(found[f"{number}.cls"], tokens[None, :, 0, :, None, None])
    tokens = theirs.fc_norm(theirs.norm(tokens))
    close(found["last"], laid_out(tokens))
    close(found["last.cls"][0, :, :, 0, 0], tokens[:, 0])
    assert torch.equal(found["last"], encoder.features(clip))
    close(found["last.cls"].mean(dim=(1, 3, 4)), tokens[:, 0].mean(0)[None])


def test_a_vit_without_class_token_has_no_such_layer():
    encoder = ViT("test_vit2")  # its one prefix token is a register
    assert not any(name.endswith(".cls") for name in encoder.layer_names)
    with pytest.raises(ValueError, match=r"this ViT has no layer 'last.cls'; its layers: 0, 0.queries, 0.keys"):
        encoder.layers(torch.rand(1, 1, 3, 32, 32), ["last", "last.cls"])


@torch.no_grad()
def test_torchvision_vit_layers():
    encoder = TorchvisionViT("vit_b_16").eval()
    randomize(encoder)
    clip = torch.rand(1, 1, 3, 224, 224)
    found = encoder.layers(clip, ["1", "2.queries", "2.keys", "2.values", "2.cls", "last", "last.cls"])
    theirs = encoder.net.encoder
    tokens = torch.cat((encoder.net.class_token, encoder.net._process_input(scaled(encoder, clip))), dim=1)
    tokens = theirs.layers[1](theirs.layers[0](tokens + theirs.pos_embedding))
    close(found["1"][0, 0].flatten(1).T, tokens[0, 1:])
    block = theirs.layers[2]
    weight, bias = block.self_attention.in_proj_weight, block.self_attention.in_proj_bias
    for number, facet in enumerate(("queries", "keys", "values")):
        rows = slice(768 * number, 768 * (number + 1))
        expected = block.ln_1(tokens)[0, 1:] @ weight[rows].T + bias[rows]
        close(found[f"2.{facet}"][0, 0].flatten(1).T, expected)
    tokens = block(tokens)
    close(found["2.cls"][0, 0, :, 0, 0], tokens[0, 0])
    tokens = theirs.ln(theirs.layers[3:](tokens))
    close(found["last"][0, 0].flatten(1).T, tokens[0, 1:])
    close(found["last.cls"][0, 0, :, 0, 0], tokens[0, 0])


@torch.no_grad()
def test_video_vit_layers():
    encoder = VideoViT(dim=24, depth=3, num_heads=2, patch_px=4, tubelet_frames=2).eval()
    randomize(encoder)
    clip = torch.rand(2, 4, 3, 8, 12)
    found = encoder.layers(clip, ["0", "1.keys", "1.values", "2", "last"])
    empty = VideoViT(dim=24, depth=0, num_heads=2, patch_px=4, tubelet_frames=2).eval()
    empty.load_state_dict(encoder.state_dict(), strict=False)
    empty.norm = nn.Identity()
    tokens = empty.tokens(clip)

    def laid_out(tokens):
        return tokens.reshape(2, 2, 2, 3, 24).permute(0, 1, 4, 2, 3)

    tokens = encoder.blocks[0](tokens)
    close(found["0"], laid_out(tokens))
    for facet in ("keys", "values"):
        close(found[f"1.{facet}"], laid_out(slow_heads(encoder.blocks[1], tokens, facet)))
    tokens = encoder.blocks[2](encoder.blocks[1](tokens))
    close(found["2"], laid_out(tokens))
    close(found["last"], laid_out(encoder.norm(tokens)))
    assert len(encoder.layer_names) == 13


@torch.no_grad()
def test_convnet_layers():
    encoder = ConvNet(widths=(4, 6, 8), strides=(1, 2, 2), color="gray", standardize=True).eval()
    clip = torch.rand(2, 2, 3, 16, 24)
    found = encoder.layers(clip, ["0", "1", "2", "last"])
    seen = {}
    for number in range(3):  # what each ReLU puts out
        hook = lambda *call, number=number: seen.update({number: call[2].clone()})  # noqa: E731
        encoder.net[3 * number + 2].register_forward_hook(hook)
    features = encoder.features(clip)
    for number, (width, stride) in enumerate([(4, 1), (6, 2), (8, 4)]):
        assert torch.equal(found[str(number)].flatten(0, 1), seen[number])
        assert encoder.layer_size(str(number)) == (width, stride)
        assert found[str(number)].shape[2:] == (width, 16 // stride, 24 // stride)
    assert torch.equal(found["last"], features) and encoder.layer_size("last") == (8, 4)


@torch.no_grad()
def test_timm_stages():
    encoder = TimmConvNet("test_convnext", stride=32).eval()
    clip = torch.rand(1, 2, 3, 64, 96)
    found = encoder.layers(clip, ["last", "0", "2"])
    theirs, maps = encoder.net, encoder.net.stem(scaled(encoder, clip))
    for number, stage in enumerate(theirs.stages):
        maps = stage(maps)
        if str(number) in found:
            close(found[str(number)][0], maps)
            assert encoder.layer_size(str(number)) == (maps.shape[1], 64 // maps.shape[2])
    close(found["last"][0], maps)
    assert torch.equal(found["last"], encoder.features(clip))


@torch.no_grad()
def test_torchvision_steps():
    encoder = TorchvisionConvNet("resnet18", stride=16).eval()
    clip = torch.rand(1, 2, 3, 64, 96)
    found = encoder.layers(clip, ["bn1", "layer1.1", "layer3.0", "last"])
    net = encoder.net
    maps = net.bn1(net.conv1(scaled(encoder, clip)))
    close(found["bn1"][0], maps)  # before the ReLU, which works in place
    maps = net.layer1(net.maxpool(F.relu(maps)))
    close(found["layer1.1"][0], maps)
    maps = net.layer3[0](net.layer2(maps))
    close(found["layer3.0"][0], maps)
    assert (encoder.layer_size("bn1"), encoder.layer_size("layer3.0")) == ((64, 2), (256, 16))
    assert torch.equal(found["last"], encoder.features(clip)) and encoder.layer_size("last") == (256, 16)


@pytest.mark.parametrize(
    ("encoder", "name", "dim", "stride"),
    [
        (ResNet(18, stride=16, width=8), "layer2", 16, 8),
        (ViT("test_vit"), "2.keys", 64, 16),
        (TimmConvNet("test_convnext"), "0", 24, 4),
    ],
    ids=["resnet", "vit", "timm_conv"],
)
@torch.no_grad()
def test_a_layer_is_an_encoder(encoder, name, dim, stride, tmp_path):
    encoder = encoder.eval()
    layer = layer_of(encoder, name)
    clip = torch.rand(2, 2, 3, 32, 64)
    assert torch.equal(layer.features(clip), encoder.layers(clip, [name])[name])
    assert layer.features(clip).shape == (2, 2, dim, 32 // stride, 64 // stride)
    assert (layer.dim, layer.stride, layer.multiple) == (dim, stride, encoder.multiple)
    assert layer.layer_names == ("last",) and not layer.training
    assert layer_of(encoder, "last") is encoder
    another = layer_of(encoder, next(other for other in encoder.layer_names if other not in (name, "last")))
    assert len({fingerprint(encoder), fingerprint(layer), fingerprint(another)}) == 3
    with pytest.raises(ValueError, match=f"this {type(encoder).__name__} has no layer 'layer9'"):
        layer_of(encoder, "layer9")
    with pytest.raises(ValueError, match="names no family"):
        export_encoder(layer, tmp_path / "encoder.safetensors")


@pytest.mark.parametrize("name", ["1.keys", "last"])
@torch.no_grad()
def test_the_colors_of_a_protocol_reach_the_network_behind_a_layer(name):
    """DINO's protocol divides red by 0.228 where ImageNet has 0.229: the network must see that."""
    encoder = ViT("test_vit").eval()
    seen = []
    encoder.net.patch_embed.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    frame = torch.randint(256, (3, 480, 832), dtype=torch.uint8)
    labels = propagate_labels(layer_of(encoder, name), [frame], lambda h, w: torch.zeros(1, h, w), protocol=DINO)
    next(iter(labels))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.228, 0.224, 0.225])
    close(seen[0][0], (frame / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    torch.testing.assert_close(encoder.std.flatten(), torch.tensor([0.229, 0.224, 0.225]), atol=0, rtol=0)
    gray = ResNet(18, color="gray", width=8).eval()
    list(
        propagate_labels(
            layer_of(gray, "layer2"), [frame[:, :32, :32]], lambda h, w: torch.zeros(1, h, w), protocol=CRW
        )
    )


@pytest.mark.parametrize("family", ["vit", "eva", "video_vit"])
def test_drop_path_rises_from_the_first_block_to_the_last(family):
    torch.manual_seed(0)
    build = {
        "vit": lambda: ViT("vit_tiny_patch16_224", img_size=32),
        "eva": lambda: ViT("eva02_tiny_patch14_224", img_size=28),
        "video_vit": lambda: VideoViT(dim=12, depth=4, num_heads=2, patch_px=14, tubelet_frames=1),
    }
    encoder = build[family]().train()
    keys, teacher = encoder.state_dict().keys(), teacher_of(encoder)
    num_blocks = drop_paths(encoder, rate=0.6)
    blocks = encoder.blocks if family == "video_vit" else encoder.net.blocks
    assert num_blocks == len(blocks) and encoder.state_dict().keys() == keys
    shares = [(block.drop_path1.drop_prob, block.drop_path2.drop_prob) for block in blocks]
    assert shares == [(pytest.approx(0.6 * n / (num_blocks - 1)),) * 2 for n in range(num_blocks)]

    clip = torch.rand(64, 1, 3, encoder.multiple, encoder.multiple)

    def features(seed: int, network=encoder) -> torch.Tensor:
        torch.manual_seed(seed)
        return network(clip).detach()

    assert torch.equal(features(1), features(1)) and not torch.equal(features(1), features(2))
    assert torch.equal(features(1, teacher), features(2, teacher))
    assert torch.equal(features(1, encoder.eval()), features(2, teacher.eval()))
    # A sample loses a whole branch or none of it; what is kept is scaled up.
    last = blocks[-1].train()
    branch, kept = torch.ones(4000, 1, 1), last.drop_path2(torch.ones(4000, 1, 1))
    assert kept.unique().tolist() == [0.0, pytest.approx(1 / 0.4)]
    assert float((kept == 0).double().mean()) == pytest.approx(0.6, abs=0.03) and branch.mean() == 1


@pytest.mark.parametrize(
    ("build", "rate"), [(lambda: ResNet(18, width=4), 0.1), (lambda: VideoViT(dim=12, depth=1, num_heads=2), 1.0)]
)
def test_drop_path_needs_blocks_and_a_share(build, rate):
    with pytest.raises(
        ValueError, match=r"drop path of rate .* in \d+ transformer blocks of .*; expected a rate in"
    ):
        drop_paths(build(), rate=rate)
