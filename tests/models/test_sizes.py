"""Frames of a size that a network of a library does not take: one line that names both."""

import pytest
import torch
from torch import nn

from vidssl.models import TimmConvNet, TorchvisionConvNet, load_encoder
from vidssl.models.sizes import named_sizes


@torch.no_grad()
def test_assertions_of_timm_name_the_network_and_the_size():
    encoder = TimmConvNet("halonet26t").eval()
    with pytest.raises(ValueError) as caught:
        encoder.features(torch.zeros(1, 1, 3, 96, 160))
    assert str(caught.value) == (
        "timm's halonet26t does not take frames of 96 x 160 pixels (height x width); give them another size. It says: "
        "nothing, an assertion failed"
    )
    assert encoder.features(torch.zeros(1, 1, 3, 128, 128)).shape[-2:] == (8, 8)


@torch.no_grad()
def test_errors_about_shapes_name_the_network_and_the_size():
    message = r"torchvision's alexnet does not take frames of 8 x 6 pixels .* It says: .*size"
    with pytest.raises(ValueError, match=message):
        TorchvisionConvNet("alexnet").eval().features(torch.zeros(1, 1, 3, 8, 6))
    with pytest.raises(ValueError, match="net does not take clips of 2 frames of 8 x 6 pixels"):
        with named_sizes("net", torch.zeros(1, 2, 3, 8, 6)):
            torch.zeros(2, 3) @ torch.zeros(2, 3)


@torch.no_grad()
def test_hub_networks_are_named_too(tmp_path):
    (tmp_path / "hubconf.py").write_text(
        "import torch\n\n\nclass Net(torch.nn.Conv2d):\n    def forward(self, x):\n"
        "        assert x.shape[-1] % 64 == 0, 'width!'\n        return super().forward(x)\n\n\n"
        "def net(pretrained=False):\n    return Net(3, 4, 8, stride=8)\n"
    )
    encoder = load_encoder(f"hub:{tmp_path}:net")
    with pytest.raises(ValueError, match=r"net of .* does not take frames of 64 x 96 pixels .* It says: width!"):
        encoder.features(torch.zeros(1, 1, 3, 64, 96))


def test_what_is_no_matter_of_size_stays_what_it_is():
    clip = torch.zeros(1, 1, 3, 8, 8)
    with pytest.raises(RuntimeError, match="expected scalar type"), named_sizes("net", clip):
        raise RuntimeError("expected scalar type Half but found Float")
    with pytest.raises(torch.OutOfMemoryError), named_sizes("net", clip):
        raise torch.OutOfMemoryError("out of memory: a block of size 3")
    with pytest.raises(ValueError, match="net does not take"), named_sizes("net", clip):
        nn.Linear(3, 2)(torch.zeros(2, 4))
