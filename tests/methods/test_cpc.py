import math

import pytest
import torch
from torch import nn

from vidssl import Batch
from vidssl.methods import CPC
from vidssl.methods.image.cpc import Predictor
from vidssl.models import ConvNet, ResNet, export_encoder, load_encoder


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


def method(**options) -> CPC:
    encoder = ConvNet(widths=(4, 5), strides=(2, 2), norm="group")
    sizes = {"patch_px": 8, "stride_px": 4, "rows_ahead": (2, 3), "context_dim": 6, "hidden_dim": 4}
    return CPC(encoder, view=Whole(), **{**sizes, **options})


def batch(num_clips: int = 2, source_id: list[int] | None = None) -> Batch:
    video = torch.randint(256, (num_clips, 1, 1, 3, 20, 20), dtype=torch.uint8)
    sources = None if source_id is None else torch.tensor(source_id)
    return Batch(index=torch.arange(num_clips), video=video, seed=torch.arange(num_clips), source_id=sources)


def test_patches_overlap_by_half_and_lie_where_they_were_cut():
    cpc, clips = method(), batch(2)
    maps = cpc.encode(clips)
    assert maps.shape == (2, 5, 4, 4)
    for row in range(4):
        for column in range(4):
            patch = clips.video[:, 0, :, :, 4 * row : 4 * row + 8, 4 * column : 4 * column + 8].float() / 255
            torch.testing.assert_close(maps[:, :, row, column], cpc.encoder(patch), atol=1e-5, rtol=1e-5)


def test_256_pixels_are_7_by_7_patches():
    cpc = CPC(ConvNet(widths=(4,), strides=(4,)), view=Whole(), context_dim=4, hidden_dim=4)
    video = torch.zeros(1, 1, 1, 3, 256, 256, dtype=torch.uint8)
    clips = Batch(index=torch.arange(1), video=video, seed=torch.arange(1))
    assert cpc.encode(clips).shape == (1, 4, 7, 7)


@pytest.mark.parametrize("source", [None, [7, 7, 3]])
@pytest.mark.parametrize("rows_ahead", [2, 3])
def test_loss_and_gradient_equal_the_equation_written_out(source, rows_ahead):
    """The positive of (clip, row, column) is (clip, row + rows ahead, column); candidates are all patches."""
    cpc, clips = method(scale=0.7), batch(3, source)
    targets = torch.randn(3, 5, 4, 2, requires_grad=True)
    predicted = torch.randn(3, 5, 4 - rows_ahead, 2, requires_grad=True)
    total, count = 0.0, 0
    for clip in range(3):
        for row in range(4 - rows_ahead):
            for column in range(2):
                query = 0.7 * predicted[clip, :, row, column]
                own = (query @ targets[clip, :, row + rows_ahead, column]).exp()
                others = 0.0
                for other in range(3):
                    if source is None or other == clip or source[other] != source[clip]:
                        for i in range(4):
                            for j in range(2):
                                others = others + (query @ targets[other, :, i, j]).exp()
                total, count = total - (own / others).log(), count + 1
    expected = torch.autograd.grad(total / count, (predicted, targets), retain_graph=True)
    found = cpc.contrast(predicted, targets, clips, rows_ahead=rows_ahead)
    assert found["loss"].item() == pytest.approx(total.item() / count, abs=1e-5)
    gradients = torch.autograd.grad(found["loss"], (predicted, targets))
    torch.testing.assert_close(gradients, expected, atol=1e-5, rtol=1e-5)


def test_a_prediction_sees_its_row_and_those_above_alone():
    torch.manual_seed(0)
    predictor = Predictor(5, rows_ahead=(1, 2), target_dim=3, dim=6, hidden_dim=4)
    maps = torch.randn(1, 5, 6, 4, requires_grad=True)
    _, predicted = predictor(maps)
    for rows_ahead, one in predicted.items():
        assert one.shape == (1, 3, 6 - rows_ahead, 4)
        for row in range(6 - rows_ahead):
            (gradient,) = torch.autograd.grad(one[:, :, row].square().sum(), maps, retain_graph=True)
            seen = gradient.abs().amax(dim=(0, 1, 3)) > 0
            assert seen.tolist() == [number <= row for number in range(6)]


def test_without_a_target_width_the_features_themselves_are_predicted():
    maps = torch.randn(2, 5, 4, 4)
    targets, _ = Predictor(5, rows_ahead=(2,), target_dim=None, dim=6, hidden_dim=4)(maps)
    assert targets is maps


def test_four_directions_are_four_turns_of_the_grid():
    """The loss of each direction is that of one network on features turned by so much; predictors are told apart."""
    cpc, clips = method(num_directions=4, rows_ahead=(2,)), batch(2)
    maps = cpc.encode(clips)
    losses = []
    for turns, predictor in enumerate(cpc.predictors):
        turned = maps
        for _ in range(turns):
            turned = turned.transpose(2, 3).flip(2)  # a quarter turn
        targets, predicted = predictor(turned)
        losses.append(cpc.contrast(predicted[2], targets, clips, rows_ahead=2)["loss"])
    assert len({round(loss.item(), 4) for loss in losses}) == 4
    assert cpc(clips, 0.0)["loss"].item() == pytest.approx(sum(losses).item() / 4, abs=1e-5)


def test_equal_features_score_chance():
    cpc, clips = method(), batch(3)
    equal = torch.ones(3, 5, 4, 4)
    found = cpc.contrast(equal[:, :, 2:], equal, clips, rows_ahead=2)
    assert found["loss"].item() == pytest.approx(math.log(3 * 16), abs=1e-5)


def test_every_patch_has_a_draw_of_its_own():
    class Shift(nn.Module):
        def forward(self, video, seed):
            assert seed.unique().numel() == len(video) == 2 * 16
            return video

    assert method(patch_view=Shift()).encode(batch(2)).shape == (2, 5, 4, 4)


def test_a_network_with_layer_norm_keeps_patches_apart(tmp_path):
    """What a patch is encoded to does not depend on the patches beside it, and the export knows the norm."""
    torch.manual_seed(0)
    encoder = ResNet(18, width=8, norm="group").train()
    assert not [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    patches = torch.rand(3, 1, 3, 32, 32)
    torch.testing.assert_close(encoder(patches)[:1], encoder(patches[:1]), atol=1e-5, rtol=1e-4)
    export_encoder(encoder, tmp_path / "encoder.safetensors")
    loaded = load_encoder(str(tmp_path / "encoder.safetensors"))
    torch.testing.assert_close(loaded(patches), encoder.eval()(patches))
    assert "norm" not in ResNet(18, width=8).architecture
    with pytest.raises(ValueError, match="norm is 'layer', expected 'batch' or 'group'"):
        ResNet(18, norm="layer")
