import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from allocations import Allocations
from torch import nn

from vidssl import Batch
from vidssl.augment import ColorJitter, Pipeline, RandomGray, RandomResizedCrop
from vidssl.data.clips import random_clips
from vidssl.evidence import worlds
from vidssl.methods import SimCLR
from vidssl.methods.image.simclr import projection_head
from vidssl.models import ConvNet


def method(**options) -> SimCLR:
    encoder = ConvNet(widths=(8, 16), strides=(2, 2))
    return SimCLR(encoder, **{"view": RandomResizedCrop(16), "temperature": 0.3, **options})


def batch(video: torch.Tensor, source_id: torch.Tensor | None = None) -> Batch:
    return Batch(
        index=torch.arange(len(video)), video=video[:, None], seed=torch.arange(len(video)), source_id=source_id
    )


def oracle(first: torch.Tensor, second: torch.Tensor, source: list[int], temperature: float) -> float:
    """Eq. 1 with loops: the mean over both views of all clips."""
    vectors = [vector / vector.norm() for vector in [*first.double(), *second.double()]]
    source, num_clips = [*source, *source], len(first)
    losses = []
    for i in range(2 * num_clips):
        positive = (i + num_clips) % (2 * num_clips)
        total = 0.0
        for k in range(2 * num_clips):
            if k == positive or source[k] != source[i]:
                total += math.exp(float(vectors[i] @ vectors[k]) / temperature)
        losses.append(-float(vectors[i] @ vectors[positive]) / temperature + math.log(total))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("source", [[0, 1, 2, 3, 4], [7, 7, 3, 7, 3]])
def test_nt_xent_equals_the_equation_written_out(source):
    first, second = torch.randn(5, 6), torch.randn(5, 6)
    loss, _ = method().nt_xent(first, second, torch.tensor(source))
    assert loss.item() == pytest.approx(oracle(first, second, source, 0.3), abs=1e-5)


def test_without_sources_only_the_anchor_itself_is_left_out():
    first, second = torch.randn(5, 6), torch.randn(5, 6)
    loss, _ = method().nt_xent(first, second, None)
    assert loss.item() == pytest.approx(oracle(first, second, [0, 1, 2, 3, 4], 0.3), abs=1e-5)


def test_equal_embeddings_score_chance():
    equal = torch.ones(6, 4)
    loss, logged = method().nt_xent(equal, equal, torch.arange(6))
    assert loss.item() == pytest.approx(math.log(2 * 6 - 1), abs=1e-5)
    assert logged["nce_over_chance"].item() == pytest.approx(1, abs=1e-5)


def test_clips_of_one_source_are_no_negatives():
    """Of six clips, two are of one source: their anchors have two candidates less."""
    equal = torch.ones(6, 4)
    loss, _ = method().nt_xent(equal, equal, torch.tensor([0, 1, 2, 3, 4, 4]))
    assert loss.item() == pytest.approx((4 * math.log(11) + 2 * math.log(9)) / 6, abs=1e-5)


def test_nothing_larger_than_the_logits_is_made():
    """No mask of 64-bit numbers: twice the logits, which are those of all processes."""
    first, second = torch.randn(2, 20, 8, requires_grad=True).unbind()
    simclr = method()
    with Allocations() as made:
        loss, _ = simclr.nt_xent(first, second, torch.arange(20) // 2)
        loss.backward()
    assert max(made.sizes_bytes) == 40 * 40 * 4


def test_forward_is_the_loss_of_two_different_views_of_each_clip():
    simclr = method().eval()
    video = torch.randint(256, (5, 1, 3, 24, 24), dtype=torch.uint8)
    seen = []
    simclr.encoder.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with torch.no_grad():
        loss = simclr(batch(video, torch.tensor([4, 4, 1, 2, 3])), 0.0)["loss"]
        first, second = seen[0].chunk(2)
        embedded = [simclr.projector(simclr.encoder(view)) for view in (first, second)]
    assert float((first - second).flatten(1).abs().amax(1).min()) > 0.1
    assert loss.item() == pytest.approx(oracle(*embedded, [4, 4, 1, 2, 3], 0.3), abs=1e-5)


def test_the_logits_are_float32_under_autocast():
    first, second = torch.randn(8, 16), torch.randn(8, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low, _ = method(temperature=0.07).nt_xent(first, second, None)
    assert low.item() == pytest.approx(oracle(first, second, list(range(8)), 0.07), abs=1e-5)


def test_the_head_ends_in_a_batch_norm_that_scales_and_does_not_shift():
    """The authors' model_util.py: no biases but that of the hidden batch norm."""
    head = projection_head(6, out_dim=4)
    trained = {name: tuple(p.shape) for name, p in head.named_parameters() if p.requires_grad}
    assert trained == {"0.weight": (6, 6), "1.weight": (6,), "1.bias": (6,), "3.weight": (4, 6), "4.weight": (4,)}
    with torch.no_grad():
        head[4].weight.copy_(torch.tensor([1.0, 2.0, 3.0, 0.5]))
    embedded = head(torch.randn(200, 6) + 3)
    torch.testing.assert_close(embedded.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(embedded.std(0, unbiased=False), head[4].weight, atol=1e-3, rtol=0)
    assert [type(layer) for layer in method().projector] == [type(layer) for layer in head]


class MeanColor(nn.Module):
    """Nothing but the mean colour of a clip, relative to the mean of all: all that a histogram shortcut needs."""

    dim = 3

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        return clip.mean(dim=(1, 3, 4)) - 0.5


def test_color_distortion_closes_the_histogram_shortcut():
    """Without it the mean colour finds the other crop among 511 candidates; with it the mean colour is lost."""
    images, _ = worlds.letters(256, seed=0)
    crop = RandomResizedCrop(32, scale=(0.5, 1.0))
    distorted = Pipeline(
        crop,
        ColorJitter(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, probability=0.8),
        RandomGray(probability=0.2),
    )

    def accuracy(view: nn.Module) -> float:
        histogram = SimCLR(MeanColor(), view=view, projector=nn.Identity())
        return histogram(batch(images), 0.0)["accuracy"].item()

    assert accuracy(crop) > 0.3
    assert accuracy(distorted) < 0.03


def test_both_views_get_a_gradient_as_anchors_and_as_candidates():
    """No embedding is a constant target: the gradient is that of the loss written as one matrix."""
    first, second = torch.randn(4, 6, requires_grad=True), torch.randn(4, 6, requires_grad=True)
    found = torch.autograd.grad(method().nt_xent(first, second, None)[0], (first, second))
    unit = F.normalize(torch.cat([first, second]), dim=1)
    similarity = (unit @ unit.T / 0.3).masked_fill(torch.eye(8).bool(), -torch.inf)
    loss = F.cross_entropy(similarity, torch.tensor([4, 5, 6, 7, 0, 1, 2, 3]))
    expected = torch.autograd.grad(loss, (first, second))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_clips_of_several_frames_are_pooled():
    simclr = method(clips=partial(random_clips, num_frames=3)).eval()
    still = torch.randint(256, (4, 1, 3, 24, 24), dtype=torch.uint8)
    with torch.no_grad():
        one = simclr(batch(still), 0.0)["loss"]
        three = simclr(batch(still.expand(-1, 3, -1, -1, -1)), 0.0)["loss"]
    assert one.item() == pytest.approx(three.item(), abs=1e-5)
