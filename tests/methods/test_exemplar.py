import colorsys
import math

import numpy as np
import pytest
import torch
from torch import nn

from vidssl import Batch
from vidssl.augment import PowerHSV, PrincipalContrast
from vidssl.methods import Exemplar
from vidssl.methods.image.exemplar import rich_place
from vidssl.models import ConvNet
from vidssl.ops import draws


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


def method(**options) -> Exemplar:
    encoder = ConvNet(widths=(4, 6), strides=(2, 2), norm="group")
    return Exemplar(encoder, view=Whole(), **{"num_samples": 9, "patch_px": 8, **options})


def batch(index: list[int]) -> Batch:
    video = torch.randint(256, (len(index), 1, 1, 3, 20, 24), dtype=torch.uint8)
    return Batch(index=torch.tensor(index), video=video, seed=100 + torch.arange(len(index)))


def test_loss_and_gradient_are_those_of_naming_the_samples():
    exemplar, clips = method(), batch([4, 0, 4])
    seen = []
    exemplar.encoder.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    loss = exemplar(clips, 0.0)["loss"]
    loss.backward()
    weight, bias = exemplar.classifier.weight.detach().double(), exemplar.classifier.bias.detach().double()
    expected, gradient = 0.0, torch.zeros_like(weight)
    for feature, own in zip(seen[0].double(), [4, 0, 4], strict=True):
        logits = [float(weight[k] @ feature + bias[k]) for k in range(9)]
        total = sum(map(math.exp, logits))
        expected += (math.log(total) - logits[own]) / 3
        for k in range(9):
            gradient[k] += (math.exp(logits[k]) / total - (k == own)) * feature / 3
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    torch.testing.assert_close(exemplar.classifier.weight.grad.double(), gradient, atol=1e-5, rtol=1e-5)


def test_a_patch_is_sampled_where_the_draw_says():
    """Of a ramp, bilinear sampling gives the ramp: each pixel is its own place."""
    exemplar = method(max_degrees=20.0)
    ramp = torch.stack([torch.arange(24).expand(20, 24), torch.arange(20)[:, None].expand(20, 24)]).float()
    video = torch.cat([ramp, ramp[:1]])[None, None].expand(5, 2, -1, -1, -1)
    seed, middle = torch.arange(5), torch.tensor([0.5, 0.5]).expand(5, 2)
    patches = exemplar.patches(video, middle, seed)
    assert patches.shape == (5, 2, 3, 8, 8)
    for number in range(5):
        x, y, size, turn = (2 * draws.uniform(seed, 4)[number] - 1).tolist()
        scale = math.exp((math.log(0.7) + math.log(1.4)) / 2 + size * math.log(1.4 / 0.7) / 2)
        angle = math.radians(20) * turn
        assert 0.7 <= scale <= 1.4
        for row, column in ((0, 0), (3, 6), (7, 7)):
            u, v = scale * (column + 0.5 - 4), scale * (row + 0.5 - 4)
            across = 12 + 1.6 * x + u * math.cos(angle) - v * math.sin(angle) - 0.5
            down = 10 + 1.6 * y + u * math.sin(angle) + v * math.cos(angle) - 0.5
            for frame in range(2):
                assert patches[number, frame, 0, row, column].item() == pytest.approx(across, abs=1e-3)
                assert patches[number, frame, 1, row, column].item() == pytest.approx(down, abs=1e-3)


def test_places_are_drawn_by_their_gradients():
    """A frame with one spot: every window holds it; one without any: places are spread evenly."""
    frame = torch.zeros(500, 3, 20, 30, dtype=torch.uint8)
    frame[:, :, 5, 20] = 255
    draw = (torch.arange(500) + 0.5) / 500
    x, y = (rich_place(frame, draw, size_px=6) * torch.tensor([30, 20])).unbind(1)
    assert float((x - 20.5).abs().max()) <= 4 and float((y - 5.5).abs().max()) <= 4
    assert x.unique().numel() > 4
    x, y = (rich_place(torch.zeros_like(frame), draw, size_px=6) * torch.tensor([30, 20])).unbind(1)
    assert x.mean().item() == pytest.approx(15, abs=0.5) and y.mean().item() == pytest.approx(10, abs=0.5)
    assert float(x.min()) >= 3 and float(x.max()) <= 27


def test_a_sample_is_cut_at_its_own_place_and_changed_by_its_seed():
    exemplar, clips = method(max_shift=0.0, scale=(1.0, 1.0), max_degrees=0.0), batch([3, 3])
    seen = []
    exemplar.encoder.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    same = Batch(index=clips.index, video=clips.video[:1].expand(2, -1, -1, -1, -1, -1), seed=clips.seed)
    exemplar(same, 0.0)
    torch.testing.assert_close(seen[0][0], seen[0][1])
    exemplar.max_shift = 0.2
    exemplar(same, 0.0)
    assert float((seen[1][0] - seen[1][1]).abs().max()) > 0.01


def test_contrast_along_principal_axes():
    """Projections on each axis, around the mean colour, grow by one factor of the clip."""
    clips = 0.45 + 0.1 * torch.rand(6, 2, 3, 5, 7)
    changed = PrincipalContrast(2.0)(clips, torch.arange(6))
    factors = 2 ** (2 * draws.uniform(torch.arange(6), 3) - 1)
    axes = [[1, 1, 1], [1, 0, -1], [-1, 2, -1]]
    for number in range(6):
        for axis, factor in zip(axes, factors[number].tolist(), strict=True):
            unit = torch.tensor(axis) / math.sqrt(np.square(axis).sum())
            for frame in range(2):
                before, after = (
                    torch.einsum("chw, c -> hw", one[number, frame], unit) for one in (clips, changed)
                )
                torch.testing.assert_close(
                    after - after.mean(), factor * (before - before.mean()), atol=1e-5, rtol=0
                )
                assert after.mean().item() == pytest.approx(before.mean().item(), abs=1e-5)


def test_powers_of_saturation_and_value_are_those_of_the_definition():
    clips, seed = torch.rand(4, 1, 3, 2, 3), torch.arange(4)
    changed = PowerHSV()(clips, seed)
    powers = (4 ** (2 * draws.uniform(seed, 2, stream=0) - 1)).tolist()
    factors = (0.7 + 0.7 * draws.uniform(seed, 2, stream=1)).tolist()
    offsets = (0.1 * (2 * draws.uniform(seed, 2, stream=2) - 1)).tolist()
    turns = (0.1 * (2 * draws.uniform(seed, stream=3) - 1)).tolist()
    for n in range(4):
        for row in range(2):
            for column in range(3):
                hue, *others = colorsys.rgb_to_hsv(*clips[n, 0, :, row, column].tolist())
                others = [
                    min(max(factor * value**power + offset, 0), 1)
                    for value, power, factor, offset in zip(others, powers[n], factors[n], offsets[n], strict=True)
                ]
                expected = colorsys.hsv_to_rgb((hue + turns[n]) % 1, *others)
                assert changed[n, 0, :, row, column].tolist() == pytest.approx(expected, abs=1e-4)


def test_pictures_show_four_changes_of_eight_samples():
    assert method().pictures(batch([*range(9)]))["patches"].shape == (3, 4 * 8, 8 * 8)
