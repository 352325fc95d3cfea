"""Every method holds to the contract: one line each."""

from functools import partial

import pytest

from vidssl import methods, worlds
from vidssl.augment import RandomResizedCrop
from vidssl.models import ConvNet
from vidssl.models.heads import FrameHead
from vidssl.testing import check_method

TINY = {"widths": (8, 16), "strides": (2, 2)}


def encoder(**options) -> ConvNet:
    return ConvNet(**{**TINY, **options})


def colorization() -> methods.VideoColorization:
    net = encoder(color="gray", strides=(2, 2))
    return methods.VideoColorization(net, view=RandomResizedCrop(16), head=FrameHead(net.dim, 8), num_colors=4)


def rotation() -> methods.Rotation:
    return methods.Rotation(encoder(), view=RandomResizedCrop(16))


def rotation_and_colorization() -> methods.Sum:
    turned, colored = rotation(), colorization()
    colored.encoder = turned.encoder
    return methods.Sum({"turn": (turned, 1.0), "color": (colored, 0.5)})


VIDEOS = worlds.sprites(8, seed=0, num_frames=20, size_px=24, sprite_px=(8, 12), speed_px=(1, 3)).video

METHODS = {
    "Rotation": partial(check_method, rotation, clips=VIDEOS),
    "VideoColorization": partial(check_method, colorization, clips=VIDEOS),
    "Sum": partial(check_method, rotation_and_colorization, clips=VIDEOS),
}


@pytest.mark.parametrize("name", METHODS)
def test_contract(name):
    METHODS[name]()


@pytest.mark.parametrize("name", METHODS)
def test_an_image_is_a_clip_of_one_frame(name):
    """What takes single frames takes images."""
    if getattr(getattr(methods, name), "__module__", "").split(".")[2] != "image":
        pytest.skip("learns from several frames")
    check = METHODS[name]
    images = VIDEOS[:, :1]
    check_method(*check.args, **{**check.keywords, "clips": images, "replicas": False})


def test_every_method_has_a_line():
    assert set(METHODS) == set(methods.__all__)
