import math

import pytest
import torch
from kornia.color import rgb_to_lab
from torch import nn

from vidssl import Batch
from vidssl.methods import SplitBrain
from vidssl.models import export_encoder, load_encoder
from vidssl.models.pictures.split import RGB_AND_HHA, SplitResNet
from vidssl.ops.pixels.bins import color_bins, lightness_bins

SIZE = 16
CLASSES = (lightness_bins(), color_bins())


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


def method(*, bins=CLASSES, **options) -> SplitBrain:
    return SplitBrain(SplitResNet(18, stride=4, layer="layer1", width=8, **options), view=Whole(), bins=bins)


def batch(num_clips: int = 3, num_frames: int = 2, *, num_channels: int = 3) -> Batch:
    video = torch.randint(256, (num_clips, 1, num_frames, num_channels, SIZE, SIZE), dtype=torch.uint8)
    return Batch(index=torch.arange(num_clips), video=video, seed=torch.arange(num_clips))


def gradients(loss: torch.Tensor, brain: SplitBrain) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(loss, list(brain.parameters()))


def test_loss_and_gradient_of_classes_equal_the_two_cross_entropies_written_out():
    brain, clips = method().eval(), batch()
    frames = clips.video[:, 0].flatten(0, 1).float() / 255
    lab = rgb_to_lab(frames)
    first, second = brain.encoder.first, brain.encoder.second
    of_light = brain.classifier[0](first.features(lab[:, None, :1]))[:, 0]  # tells the colour
    of_color = brain.classifier[1](second.features(lab[:, None, 1:]))[:, 0]  # tells the lightness
    assert of_light.shape == (6, 313, 4, 4) and of_color.shape == (6, 100, 4, 4)
    on_color, on_light = [], []
    for n in range(6):
        for y in range(4):
            for x in range(4):
                light, color = lab[n, 0, 4 * y, 4 * x], lab[n, 1:, 4 * y, 4 * x]
                on_light.append(-of_color[n, :, y, x].log_softmax(0)[min(int(light), 99)])
                square = (color - CLASSES[1]).square().sum(1)
                nearest = square.argsort()[:5]
                weight = (-square[nearest] / 50).exp()
                on_color.append(-(weight / weight.sum() * of_light[n, :, y, x].log_softmax(0)[nearest]).sum())
    expected = torch.stack(on_color).mean() + torch.stack(on_light).mean()
    losses = brain(clips, 0.0)
    torch.testing.assert_close(losses["loss"], expected, atol=1e-5, rtol=1e-5)
    for one, other in zip(gradients(losses["loss"], brain), gradients(expected, brain), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("parts", [((0,), (1, 2)), RGB_AND_HHA, ((0, 3), (1, 2, 4, 5))])
def test_loss_of_regression_equals_the_squared_distances_of_any_split(parts):
    num_channels = sum(map(len, parts))
    brain = method(bins=(None, None), parts=parts).eval()
    clips = batch(num_channels=num_channels)
    frames = clips.video[:, 0].flatten(0, 1).float() / 255
    if num_channels == 3:
        channels = (rgb_to_lab(frames) - torch.tensor([50.0, 0, 0])[:, None, None]) / torch.tensor([25.0, 30, 30])[
            :, None, None
        ]
    else:
        channels = (frames - 0.5) / 0.25
    told = brain.predict(brain.encoder.features(clips.video[:, 0].float() / 255))
    total = 0.0
    for part, output in zip(parts, told, strict=True):
        target = channels[:, list(part), ::4, ::4]
        total = total + ((output - target) ** 2).sum() / (2 * 6 * 4 * 4)
    losses = brain(clips, 0.0)
    torch.testing.assert_close(losses["loss"], total, atol=1e-5, rtol=1e-5)
    for one, other in zip(gradients(losses["loss"], brain), gradients(total, brain), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)
    read = brain.read(1, told[1])
    truth = brain.target(brain.encoder.channels(clips.video[:, 0].float() / 255), 1, told[1])
    torch.testing.assert_close(losses["error_of_part_1"], (read - truth).square().mean().sqrt().detach())


@pytest.mark.parametrize(("bins", "parts"), [(CLASSES, ((0,), (1, 2))), ((None, None), RGB_AND_HHA)])
def test_no_half_sees_what_it_must_tell(bins, parts):
    brain = method(bins=bins, parts=parts).train()
    channels = brain.encoder.channels(torch.rand(2, 1, sum(map(len, parts)), SIZE, SIZE)).requires_grad_()
    features = torch.cat(brain.encoder.of_halves(channels), dim=2)
    for part, output in enumerate(brain.predict(features)):
        gradient = torch.autograd.grad(output.square().sum(), channels, retain_graph=True)[0]
        assert gradient[:, :, list(parts[part])].abs().max() == 0, "it sees what it tells"
        assert gradient[:, :, list(parts[1 - part])].abs().max() > 0, "it sees nothing"


def test_features_are_those_of_both_halves():
    brain = method().eval()
    video = torch.rand(2, 1, 3, SIZE, SIZE)
    first, second = brain.encoder.of_halves(brain.encoder.channels(video))
    assert torch.equal(brain.encoder.features(video), torch.cat([first, second], dim=2))
    assert brain.encoder.dim == first.shape[2] + second.shape[2] == 16


def test_uniform_logits_score_the_logarithms_of_both_numbers_of_classes():
    brain = method()
    for head in brain.classifier:
        nn.init.zeros_(head[0].weight)
        nn.init.zeros_(head[0].bias)
    expected = math.log(313) + math.log(100)
    assert float(brain(batch(), 0.0)["loss"].detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("parts", [((0,), (1, 2)), RGB_AND_HHA])
def test_an_exported_encoder_is_loaded_again(parts, tmp_path):
    encoder = SplitResNet(18, parts=parts, stride=4, layer="layer1", width=8).eval()
    export_encoder(encoder, tmp_path / "encoder.safetensors")
    video = torch.rand(1, 1, sum(map(len, parts)), SIZE, SIZE)
    with torch.no_grad():
        assert torch.equal(load_encoder(tmp_path / "encoder.safetensors")(video), encoder(video))


def test_three_parts_are_refused():
    with pytest.raises(ValueError, match="expected two groups of channels"):
        SplitResNet(18, parts=((0,), (1,), (2,)))


def test_pictures_show_lab_alone():
    assert method().pictures(batch())["predicted"].shape == (3, SIZE, 3 * SIZE + 8)
    assert method(bins=(None, None), parts=RGB_AND_HHA).pictures(batch(num_channels=6)) == {}
