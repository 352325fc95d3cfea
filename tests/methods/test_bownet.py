import math

import pytest
import torch
from torch import nn

from vidssl import Batch
from vidssl.method import Epoch
from vidssl.methods import BoWNet
from vidssl.models import ConvNet


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


def encoder() -> ConvNet:
    return ConvNet(widths=(4, 6), strides=(2, 2))


def method(**options) -> BoWNet:
    sizes = {"num_words": 3, "layer": "0", "cells_per_sample": 5, "epochs_per_round": 2}
    return BoWNet(encoder(), teacher=encoder(), view=Whole(), teacher_view=Whole(), **{**sizes, **options})


def batch(num_clips: int = 6) -> Batch:
    video = torch.randint(256, (num_clips, 1, 1, 3, 8, 8), dtype=torch.uint8)
    return Batch(index=torch.arange(num_clips), video=video, seed=torch.arange(num_clips))


def begin(bownet: BoWNet, clips: Batch, number: int) -> list[nn.Parameter]:
    """Begin an epoch on the samples of one batch; parameters whose optimizer state was dropped."""
    forgotten: list[nn.Parameter] = []

    def extract(function):
        bownet.eval()
        with torch.no_grad():
            return function(clips)

    bownet.before_epoch(Epoch(number=number, extract=extract, forget=forgotten.extend))
    return forgotten


@pytest.mark.parametrize("binary", [False, True])
def test_bags_hold_the_nearest_word_of_every_cell(binary):
    bownet, clips = method(binary=binary), batch(3)
    bownet.words.copy_(torch.rand(3, 4))
    video = clips.video[:, 0].float() / 255
    found = bownet.bags(video)
    maps = bownet.teacher.layers(video, ["0"])["0"][:, 0].detach()
    for number in range(3):
        counts = [0.0, 0.0, 0.0]
        for row in range(4):
            for column in range(4):
                cell = maps[number, :, row, column]
                distances = [float((cell - word).square().sum()) for word in bownet.words]
                counts[distances.index(min(distances))] += 1
        counts = [min(count, 1.0) for count in counts] if binary else counts
        assert found[number].tolist() == pytest.approx([count / sum(counts) for count in counts], abs=1e-6)


def test_loss_and_gradient_equal_the_equations_written_out():
    bownet, clips = method(), batch(3)
    bownet.words.copy_(torch.rand(3, 4))
    bownet.eval()
    target = bownet.bags(clips.video[:, 0].float() / 255)
    feature = bownet.encoder(clips.video[:, 0].float() / 255).detach().double()
    weight = bownet.weight.detach().double().requires_grad_()
    scale = bownet.scale.detach().double().requires_grad_()
    expected = 0.0
    for number in range(3):
        logits = [scale * (feature[number] @ weight[k]) / weight[k].norm() for k in range(3)]
        total = sum(logit.exp() for logit in logits)
        expected = expected - sum(target[number, k].double() * (logits[k].exp() / total).log() for k in range(3))
    gradients = torch.autograd.grad(expected / 3, (weight, scale))
    logged = bownet(clips, 0.0)
    assert logged["loss"].item() == pytest.approx(expected.item() / 3, abs=1e-5)
    found = torch.autograd.grad(logged["loss"], (bownet.weight, bownet.scale))
    for one, other in zip(found, gradients, strict=True):
        torch.testing.assert_close(one.double(), other, atol=1e-5, rtol=1e-4)
    entropy = -sum(p * math.log(p) for row in target.tolist() for p in row if p > 0) / 3
    assert logged["loss_over_least"].item() == pytest.approx(expected.item() / 3 - entropy, abs=1e-5)


def test_words_are_the_clusters_of_the_teachers_cells():
    """Pictures of three flat colours: each colour is a word, and each bag is one word."""
    bownet, clips = method(layer="1"), batch(6)
    flat = torch.tensor([[0, 40, 80], [200, 30, 10], [90, 220, 250]], dtype=torch.uint8)[torch.arange(6) % 3]
    clips = Batch(
        index=clips.index, video=flat.view(6, 1, 1, 3, 1, 1).expand(-1, -1, -1, -1, 32, 32), seed=clips.seed
    )
    bownet.teacher = ConvNet(widths=(4, 6), strides=(2, 2), padding_mode="reflect").eval()
    assert begin(bownet, clips, 0) == []
    bags = bownet.bags(clips.video[:, 0].float() / 255)
    assert bags.amax(1).tolist() == [1.0] * 6
    assert bags.argmax(1)[:3].unique().numel() == 3 and torch.equal(bags[:3], bags[3:])


def test_a_round_makes_the_student_the_teacher_and_begins_again():
    bownet, clips = method(), batch()
    begin(bownet, clips, 0)
    first = {name: value.clone() for name, value in bownet.encoder.state_dict().items()}
    with torch.no_grad():
        for parameter in [*bownet.encoder.parameters(), bownet.weight]:
            parameter.add_(torch.randn_like(parameter))
    trained = {name: value.clone() for name, value in bownet.encoder.state_dict().items()}
    words = bownet.words.clone()
    assert begin(bownet, clips, 1) == [] and torch.equal(bownet.words, words)  # inside of a round nothing changes
    forgotten = begin(bownet, clips, 2)
    wanted = [*bownet.encoder.parameters(), bownet.weight, bownet.scale]
    assert [id(one) for one in forgotten] == [id(one) for one in wanted]
    for name, value in trained.items():
        assert torch.equal(bownet.teacher.state_dict()[name], value)
        assert torch.equal(bownet.encoder.state_dict()[name], first[name])
    # The words are of the new teacher's cells.
    cells = bownet.cells(clips, network=bownet.teacher.eval()).flatten(0, 1)
    assert float(torch.cdist(bownet.words, cells).amin(0).mean()) < float(torch.cdist(words, cells).amin(0).mean())


def test_the_teacher_keeps_its_statistics_and_gets_no_gradient():
    bownet, clips = method(), batch()
    begin(bownet, clips, 0)
    before = {name: value.clone() for name, value in bownet.teacher.state_dict().items()}
    bownet.train()(clips, 0.0)["loss"].backward()
    assert all(torch.equal(value, before[name]) for name, value in bownet.teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in bownet.teacher.parameters())


def test_a_layer_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="has no layer 'layer3'"):
        method(layer="layer3")


def test_pictures_show_words_below_what_the_teacher_sees():
    bownet, clips = method(), batch(9)
    begin(bownet, clips, 0)
    assert bownet.pictures(clips)["words"].shape == (3, 16, 64)
