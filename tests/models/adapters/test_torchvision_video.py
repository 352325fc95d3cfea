"""torchvision's video networks against torchvision, and through load_encoder."""

import pytest
import torch
import torchvision

from vidssl.models import TorchvisionVideoNet, load_encoder


def scaled(encoder, clip):
    mean = torch.tensor([0.43216, 0.394666, 0.37645]).view(3, 1, 1)
    std = torch.tensor([0.22803, 0.22145, 0.216989]).view(3, 1, 1)
    return ((clip - mean) / std).transpose(1, 2)


def running_statistics_of_real_data(model):
    """Batch norm as drawn is the identity, which would hide that it is used."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)


@pytest.mark.parametrize(("name", "dim", "frames_per_step"), [("r3d_18", 512, 8), ("mc3_18", 512, 1)])
@torch.no_grad()
def test_weights_of_torchvision_give_its_features(name, dim, frames_per_step, tmp_path):
    theirs = torchvision.models.get_model(name, weights=None).eval()
    running_statistics_of_real_data(theirs)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    encoder = load_encoder(f"torchvision:{name}", weights=tmp_path / "weights.pth")
    assert isinstance(encoder, TorchvisionVideoNet)
    assert (encoder.dim, encoder.stride, encoder.frames_per_step) == (dim, 16, frames_per_step)
    clip = torch.rand(1, 9, 3, 16, 32)
    maps = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(theirs.stem(scaled(encoder, clip))))))
    features = encoder.features(clip)
    assert torch.equal(features, maps.transpose(1, 2))
    assert features.shape == (1, -(-9 // frames_per_step), dim, 1, 2)
    # torchvision pools the same maps over space and time.
    classes = torch.nn.functional.linear(encoder(clip), theirs.fc.weight, theirs.fc.bias)
    torch.testing.assert_close(classes, theirs(scaled(encoder, clip)), atol=1e-5, rtol=0)
    still = encoder.features(clip[:, :1])
    assert torch.equal(still, encoder.features(clip[:, :1].repeat(1, frames_per_step, 1, 1, 1)))
    assert still.shape == (1, 1, dim, 1, 2)
    if name == "r3d_18":
        found = encoder.layers(clip, ["last", "stem", "layer2.1"])
        stem = theirs.stem(scaled(encoder, clip))
        assert torch.equal(found["stem"], stem.transpose(1, 2))
        assert torch.equal(found["layer2.1"], theirs.layer2(theirs.layer1(stem)).transpose(1, 2))
        assert torch.equal(found["last"], features)
        assert encoder.layer_size("layer2.1") == (128, 4) and encoder.layer_size("last") == (512, 16)


@torch.no_grad()
def test_s3d_is_cut_before_stride_32():
    encoder = load_encoder("random:torchvision:s3d")
    assert (encoder.dim, encoder.stride, encoder.frames_per_step) == (832, 16, 4)
    theirs = torchvision.models.video.s3d(weights=None).eval()
    theirs.load_state_dict(encoder.net.state_dict(), strict=False)
    clip = torch.rand(1, 8, 3, 64, 64)
    expected = theirs.features[:13](scaled(encoder, clip))
    assert torch.equal(encoder.features(clip), expected.transpose(1, 2))
    assert expected.shape == (1, 832, 2, 4, 4) and theirs.features[13](expected).shape[-2:] == (2, 2)


@pytest.mark.parametrize("name", ["mvit_v2_s", "swin3d_t"])
def test_transformers_are_refused(name):
    with pytest.raises(ValueError, match=f"torchvision's {name} is not handled: its positions and windows"):
        load_encoder(f"random:{name}")
