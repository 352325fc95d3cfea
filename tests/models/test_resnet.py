"""ResNet against torchvision's, with the same weights."""

import copy

import pytest
import torch
import torchvision
from torch import nn

from vidssl.models import ResNet


def torchvision_pair(depth, **options):
    """Our ResNet and torchvision's in eval mode, with equal weights and batch-norm statistics that matter."""
    theirs = torchvision.models.get_model(f"resnet{depth}", weights=None).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    ours = ResNet(depth, **options).eval()
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not missing
    assert all(name.startswith(ours.unused_keys) for name in unexpected)
    return ours, theirs.to(memory_format=torch.channels_last)  # the same layout: sums in the same order


def torchvision_maps(net, frames, last):
    maps = net.maxpool(net.relu(net.bn1(net.conv1(frames))))
    for name in ("layer1", "layer2", "layer3", "layer4"):
        maps = getattr(net, name)(maps)
        if name == last:
            return maps


def normalised(frames):
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    return (frames - mean) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


@pytest.mark.parametrize(("depth", "layer", "stride", "dim"), [(18, "layer3", 16, 256), (50, "layer4", 32, 2048)])
@torch.no_grad()
def test_equals_torchvision(depth, layer, stride, dim):
    ours, theirs = torchvision_pair(depth, layer=layer, stride=stride)
    clip = torch.rand(2, 3, 3, 61, 70)
    expected = torchvision_maps(theirs, normalised(clip.flatten(0, 1)), layer)
    features = ours.features(clip)
    assert features.shape[2] == ours.dim == dim
    assert ours.stride == stride
    torch.testing.assert_close(features.flatten(0, 1), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours(clip), features.mean(dim=(1, 3, 4)))


@torch.no_grad()
def test_the_stem_for_small_pictures_neither_strides_nor_pools():
    theirs = torchvision.models.resnet18(weights=None)
    theirs.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
    theirs.maxpool = nn.Identity()
    theirs = theirs.eval().to(memory_format=torch.channels_last)
    ours = ResNet(18, stem="cifar", stride=8, layer="layer4").eval()
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not missing and set(unexpected) == {"fc.weight", "fc.bias"}
    clip = torch.rand(2, 1, 3, 32, 29)
    features = ours.features(clip)
    assert features.shape == (2, 1, 512, 4, 4) and ours.stride == 8
    expected = torchvision_maps(theirs, normalised(clip[:, 0]), "layer4")
    torch.testing.assert_close(features[:, 0], expected, atol=1e-5, rtol=0)
    assert ours.architecture["stem"] == "cifar" and "stem" not in ResNet(18).architecture
    with pytest.raises(ValueError, match=r"stride 16 cannot be had at layer4; strides: 1, 2, 4, 8"):
        ResNet(18, stem="cifar", stride=16, layer="layer4")
    with pytest.raises(ValueError, match=r"stem is 'small', expected 'imagenet' or 'cifar'"):
        ResNet(18, stem="small")


@pytest.mark.parametrize("depth", [18, 50])
def test_blocks_start_as_identities_where_torchvisions_do(depth):
    def zeros(network: nn.Module) -> set[str]:
        return {name for name, value in network.named_parameters() if "weight" in name and not value.any()}

    theirs = torchvision.models.get_model(f"resnet{depth}", weights=None, zero_init_residual=True)
    ours = ResNet(depth, stride=32, layer="layer4", width=64, zero_init_residual=True)
    assert zeros(ours) == zeros(theirs) and len(zeros(ours)) == (8 if depth == 18 else 16)
    plain = ResNet(depth, stride=32, layer="layer4")
    assert not zeros(plain) and ours.architecture == plain.architecture


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
@torch.no_grad()
def test_stride_8_and_padding_equal_torchvision_modified(padding_mode):
    ours, theirs = torchvision_pair(18, layer="layer4", stride=8, padding_mode=padding_mode)
    for layer in (theirs.layer3, theirs.layer4):
        for module in layer.modules():
            if isinstance(module, nn.Conv2d):
                module.stride = (1, 1)
    for module in theirs.modules():
        if isinstance(module, nn.Conv2d) and sum(module.padding) > 0:
            module.padding_mode = padding_mode
    clip = torch.rand(1, 2, 3, 64, 75)
    features = ours.features(clip)
    assert features.shape[-2:] == (8, 10)  # ceil(64 / 8), ceil(75 / 8)
    expected = torchvision_maps(theirs, normalised(clip[0]), "layer4")
    torch.testing.assert_close(features[0], expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_gray_sees_luminance_alone():
    encoder = ResNet(color="gray", layer="layer1", stride=4).eval()
    assert encoder.conv1.weight.shape == (64, 1, 7, 7)
    assert (encoder.mean.item(), encoder.std.item()) == (0.5, 0.5)
    clip = torch.rand(1, 1, 3, 32, 32)
    luminance = 0.299 * clip[:, :, 0] + 0.587 * clip[:, :, 1] + 0.114 * clip[:, :, 2]
    gray = luminance[:, :, None].expand_as(clip)
    torch.testing.assert_close(encoder.features(clip), encoder.features(gray), atol=1e-5, rtol=0)
    seen = []
    encoder.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    encoder.features(clip)
    torch.testing.assert_close(seen[0][:, 0], luminance[0] * 2 - 1)  # in [-1, 1]


def test_every_parameter_gets_a_gradient():
    encoder = ResNet(18, width=8)
    assert encoder.dim == 32
    encoder(torch.rand(2, 1, 3, 32, 32)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in encoder.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 19}, "no depth 19; depths: 18, 34"),
        ({"layer": "layer5"}, "no layer 'layer5'"),
        ({"stride": 16, "layer": "layer2"}, "stride 16 cannot be had at layer2; strides: 4, 8"),
        ({"stride": 12}, "stride 12 cannot"),
        ({"color": "lab"}, "color is 'lab'"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**options)


@pytest.mark.parametrize("width", [4, 8, 16])
def test_gradients_are_those_of_double_precision(width):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # where oneDNN wrote beyond its memory for narrow networks
    try:
        net = ResNet(18, stride=8, layer="layer3", width=width).eval()
        clip = torch.rand(4, 3, 3, 32, 32)
        double = copy.deepcopy(net).double()
        net(clip).square().sum().backward()
        double(clip.double()).square().sum().backward()
    finally:
        torch.set_num_threads(threads)
    for ours, exact in zip(net.parameters(), double.parameters(), strict=True):
        torch.testing.assert_close(ours.grad.double(), exact.grad, atol=1e-4 * exact.grad.abs().max(), rtol=0)
