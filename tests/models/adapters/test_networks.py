"""Adapters against the networks they wrap."""

import pytest
import timm
import torch
import torchvision

from vidssl.models import TimmConvNet, TorchvisionConvNet, TorchvisionViT


def scaled(encoder, clip):
    return (clip.flatten(0, 1) - encoder.mean) / encoder.std


@torch.no_grad()
def test_timm_stage_of_stride_16():
    encoder = TimmConvNet("convnext_atto").eval()
    theirs = timm.create_model("convnext_atto", pretrained=False, features_only=True, out_indices=(2,)).eval()
    # features_only renames stages.0 to stages_0; the order of the tensors is the same.
    state = [v for k, v in encoder.net.state_dict().items() if not k.startswith(("head", "norm_pre", "stages.3"))]
    theirs.load_state_dict(dict(zip(theirs.state_dict(), state, strict=True)))
    clip = torch.rand(1, 2, 3, 64, 96)
    features = encoder.features(clip)
    assert (encoder.dim, encoder.stride, encoder.multiple) == (160, 16, 1)
    torch.testing.assert_close(features[0], theirs(scaled(encoder, clip))[0], atol=1e-5, rtol=0)
    assert features.shape == (1, 2, 160, 4, 6)


@torch.no_grad()
def test_torchvision_is_cut_before_stride_32():
    encoder = TorchvisionConvNet("mobilenet_v3_small").eval()
    theirs = torchvision.models.mobilenet_v3_small(weights=None).eval()
    encoder.net.load_state_dict({k: v for k, v in theirs.state_dict().items() if k in encoder.net.state_dict()})
    clip = torch.rand(2, 1, 3, 64, 96)
    expected = theirs.features[:9](scaled(encoder, clip))  # the tenth step halves again
    assert theirs.features[9](expected).shape[-2:] == (2, 3)
    torch.testing.assert_close(encoder.features(clip)[:, 0], expected, atol=1e-5, rtol=0)
    assert (encoder.dim, encoder.stride) == (48, 16)
    assert not any(name.startswith(encoder.unused_keys) for name in encoder.net.state_dict())
    assert {name for name in theirs.state_dict() if not name.startswith(encoder.unused_keys)} == set(
        encoder.net.state_dict()
    )


@torch.no_grad()
def test_torchvision_cut_keeps_batch_norm_as_built():
    encoder = TorchvisionConvNet("resnext50_32x4d", stride=8)
    assert encoder.training
    assert (encoder.net.bn1.running_var == 1).all()
    assert (encoder.dim, encoder.stride) == (512, 8)


@torch.no_grad()
def test_torchvision_vit_tokens():
    encoder = TorchvisionViT("vit_b_16").eval()
    theirs = encoder.net  # its own code at its own size, against the adapter's for any size
    clip = torch.rand(1, 1, 3, 224, 224)
    frames = scaled(encoder, clip)
    tokens = torch.cat((theirs.class_token, theirs._process_input(frames)), dim=1)
    expected = theirs.encoder(tokens)[0, 1:]
    torch.testing.assert_close(encoder.features(clip)[0, 0].flatten(1).T, expected, atol=1e-5, rtol=0)
    assert encoder.features(torch.rand(1, 1, 3, 32, 64)).shape == (1, 1, 768, 2, 4)
    with pytest.raises(ValueError, match="patches of 16"):
        encoder.features(torch.rand(1, 1, 3, 40, 64))


@pytest.mark.parametrize("name", ["swin_t", "maxvit_t", "googlenet"])
def test_other_torchvision_networks_are_refused(name):
    with pytest.raises(ValueError, match=f"torchvision's {name} is not handled"):
        TorchvisionConvNet(name)


def test_timm_networks_of_one_size_are_refused():
    with pytest.raises(ValueError, match="one fixed image size"):
        TimmConvNet("swin_tiny_patch4_window7_224")
    with pytest.raises(ValueError, match="no stage of stride 2 or less; its strides: 4, 8, 16, 32"):
        TimmConvNet("convnext_atto", stride=2)
