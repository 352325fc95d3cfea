import math

import pytest
import torch
from kornia.color import lab_to_rgb, rgb_to_lab
from torch import nn

from vidssl import Batch
from vidssl.method import Epoch
from vidssl.methods import ImageColorization
from vidssl.methods.image.colorization import grey_of, lab_of
from vidssl.models import ConvNet
from vidssl.models.pictures.decoder import Upsampler

SIZE = 16


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


def method(**options) -> ImageColorization:
    encoder = ConvNet(widths=(6, 8), strides=(2, 4))
    made = ImageColorization(encoder, enlarge=Upsampler(encoder.dim, widths=(5,)), view=Whole(), **options)
    made.weights.copy_(torch.rand(313) + 0.5)
    return made


def batch(num_clips: int = 3, num_frames: int = 2) -> Batch:
    video = torch.randint(256, (num_clips, 1, num_frames, 3, SIZE, SIZE), dtype=torch.uint8)
    return Batch(index=torch.arange(num_clips), video=video, seed=torch.arange(num_clips))


def true_colors(clips: Batch) -> torch.Tensor:
    """Of every fourth pixel, (B T, 2, 4, 4)."""
    return rgb_to_lab(clips.video[:, 0].flatten(0, 1).float() / 255)[:, 1:, ::4, ::4]


def test_loss_and_gradient_of_classes_equal_the_equations_written_out():
    painter, clips = method().eval(), batch()
    logits = painter.predict(lab_of(clips.video[:, 0].float() / 255))
    color, bins = true_colors(clips), painter.bins
    terms = []
    for n in range(6):
        for y in range(4):
            for x in range(4):
                square = (color[n, :, y, x] - bins).square().sum(1)
                nearest = square.argsort()[:5]
                weight = (-square[nearest] / 50).exp()
                log = logits[n, :, y, x].softmax(0).log()
                cross = -(weight / weight.sum() * log[nearest]).sum()
                terms.append(painter.weights[nearest[0]] * cross)
    expected = torch.stack(terms).mean()
    losses = painter(clips, 0.0)
    torch.testing.assert_close(losses["loss"], expected, atol=1e-5, rtol=1e-5)
    parameters = list(painter.parameters())
    for one, other in zip(
        torch.autograd.grad(losses["loss"], parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_loss_and_gradient_of_regression_equal_half_the_squared_distance():
    painter, clips = method(classify=False).eval(), batch()
    output = painter.predict(lab_of(clips.video[:, 0].float() / 255))
    color = true_colors(clips) / 100
    terms = [
        ((output[n, :, y, x] - color[n, :, y, x]) ** 2).sum() / 2
        for n in range(6)
        for y in range(4)
        for x in range(4)
    ]
    expected = torch.stack(terms).mean()
    losses = painter(clips, 0.0)
    torch.testing.assert_close(losses["loss"], expected, atol=1e-6, rtol=1e-5)
    gradient = torch.autograd.grad(losses["loss"], painter.classifier[0].weight)[0]
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, painter.classifier[0].weight)[0])
    error = ((100 * output - true_colors(clips)) ** 2).sum(1).mean().sqrt()
    torch.testing.assert_close(losses["color_error"], error.detach())


def test_uniform_logits_score_the_mean_weight_times_the_logarithm_of_313():
    painter, clips = method(), batch()
    nn.init.zeros_(painter.classifier[0].weight)
    nn.init.zeros_(painter.classifier[0].bias)
    nearest = torch.cdist(true_colors(clips).movedim(1, -1).reshape(-1, 2), painter.bins).argmin(1)
    expected = float(painter.weights[nearest].mean()) * math.log(313)
    assert float(painter(clips, 0.0)["loss"].detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("classify", [True, False])
def test_the_encoder_never_sees_colour(classify):
    """Not even one of three channels: another hue of the same lightness gives the same features."""
    painter = method(classify=classify).eval()
    lab = lab_of(torch.rand(2, 1, 3, SIZE, SIZE))
    other = torch.cat([lab[:, :, :1], lab[:, :, 1:].flip(2) * 0.5], dim=2)
    with torch.no_grad():
        assert torch.equal(painter.predict(lab), painter.predict(other))


def test_grey_pictures_have_the_lightness_of_coloured_ones_and_no_colour():
    video = torch.rand(2, 1, 3, SIZE, SIZE)
    video[0, 0, :, 0] *= 0.02  # dark ones, below the knee of both curves
    lab = lab_of(video)
    grey = grey_of(lab)
    expected = lab_to_rgb(torch.cat([lab[:, 0, :1], torch.zeros_like(lab[:, 0, 1:])], dim=1))
    torch.testing.assert_close(grey[:, 0], expected, atol=1e-3, rtol=0)  # kornia's matrices are rounded
    assert torch.equal(grey[:, :, 0], grey[:, :, 1]) and torch.equal(grey[:, :, 0], grey[:, :, 2])
    torch.testing.assert_close(lab_of(grey)[:, :, 0], lab[:, :, 0], atol=0.05, rtol=0)


def test_pictures_without_colour_count_nothing():
    painter, clips = method(), batch(num_frames=1)
    clips.video[1] = clips.video[1, :, :, :1]  # grey
    painter.eval()
    whole = float(painter(clips, 0.0)["loss"].detach())
    others = [float(painter(batch_of(clips, n), 0.0)["loss"].detach()) for n in (0, 2)]
    assert whole == pytest.approx(sum(others) / 3, rel=1e-5)
    assert float(painter(batch_of(clips, 1), 0.0)["loss"].detach()) == 0


def batch_of(clips: Batch, number: int) -> Batch:
    return Batch(index=torch.arange(1), video=clips.video[number : number + 1], seed=torch.arange(1))


def test_weights_are_those_of_the_colours_of_the_corpus_measured_once():
    painter, asked = method(), []
    red = rgb_to_lab(torch.tensor([1.0, 0.0, 0.0])[None, :, None, None])[0, 1:, 0, 0]

    def extract(function, num_samples=None):
        asked.append(num_samples)
        video = torch.zeros(4, 1, 1, 3, SIZE, SIZE, dtype=torch.uint8)
        video[:1, :, :, 0] = 255  # a quarter is red, the others black
        return function(Batch(index=torch.arange(4), video=video))

    painter.before_epoch(Epoch(number=0, extract=extract, forget=lambda parameters: None))
    painter.before_epoch(Epoch(number=1, extract=extract, forget=lambda parameters: None))
    assert len(asked) == 1
    at_red, at_grey = (int((color - painter.bins).square().sum(1).argmin()) for color in (red, torch.zeros(2)))
    square = (torch.zeros(2) - painter.bins).square().sum(1).sort().values[:5]
    grey = 0.75 * float((-square / 50).exp()[0] / (-square / 50).exp().sum())
    square = (red - painter.bins).square().sum(1).sort().values[:5]
    share = 0.25 * float((-square / 50).exp()[0] / (-square / 50).exp().sum())
    ratio = float(painter.weights[at_red] / painter.weights[at_grey])
    assert ratio == pytest.approx((0.5 * grey + 0.5 / 313) / (0.5 * share + 0.5 / 313), rel=1e-3)


def test_pictures_keep_the_lightness_and_take_the_colours_told():
    painter = method()
    nn.init.zeros_(painter.classifier[0].weight)
    nn.init.zeros_(painter.classifier[0].bias)
    at = int((torch.tensor([20.0, 10.0]) - painter.bins).abs().sum(1).argmin())
    painter.classifier[0].bias.data[at] = 50.0
    clips = batch()
    clips.video[:] = 128
    picture = painter.pictures(clips)["colored"]
    assert picture.shape == (3, SIZE, 3 * SIZE + 8)
    colored = picture[:, :, SIZE + 4 :][:, :, :SIZE]
    lab = rgb_to_lab(colored[None])[0]
    torch.testing.assert_close(lab[0], torch.full_like(lab[0], 53.585), atol=0.1, rtol=0)
    torch.testing.assert_close(lab[1:].mean((1, 2)), torch.tensor([20.0, 10.0]), atol=0.2, rtol=0)
