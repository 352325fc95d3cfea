import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vidssl import Batch
from vidssl.methods import ContextEncoder
from vidssl.methods.image.context_encoder import frozen
from vidssl.models import ConvNet
from vidssl.models.inpainting import ChannelwiseLinear, InpaintingDecoder, PictureCritic
from vidssl.ops.holes import random_blocks, shrink

SIZE = 16


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


def method(**options) -> ContextEncoder:
    encoder = ConvNet(widths=(6, 8), strides=(2, 2))
    decoder = InpaintingDecoder(encoder.dim, num_cells=(SIZE // 4) ** 2, widths=(6,))
    options = {"overlap_px": 1, "holes": random_blocks, "adversarial_weight": 0.2, **options}
    return ContextEncoder(encoder, decoder=decoder, critic=PictureCritic(widths=(6, 8)), view=Whole(), **options)


def batch(num_clips: int = 3, num_frames: int = 2) -> Batch:
    video = torch.randint(256, (num_clips, 1, num_frames, 3, SIZE, SIZE), dtype=torch.uint8)
    return Batch(index=torch.arange(num_clips), video=video, seed=torch.arange(num_clips))


def test_losses_equal_the_equations_written_out():
    filler, clips = method(overlap_weight=7.0).eval(), batch()
    video = clips.video[:, 0].float() / 255
    hole = random_blocks(clips.seed, SIZE, SIZE)
    inner = shrink(hole, 1)
    with torch.no_grad():
        losses = filler(clips, 0.0)
        shown = video.clone()
        for b, row, column in inner.nonzero().tolist():
            shown[b, :, :, row, column] = 0.5  # the mean of this encoder
        drawn = filler.decoder(filler.encoder.features(shown))
        completed, terms = 2 * video - 1, []
        for b in range(3):
            total = 0.0
            for row, column in hole[b].nonzero().tolist():
                error = drawn[b, :, :, row, column] - (2 * video[b, :, :, row, column] - 1)
                total += (1.0 if inner[b, row, column] else 7.0) * float((error**2).mean())
                completed[b, :, :, row, column] = drawn[b, :, :, row, column]
            terms.append(total / int(hole[b].sum()))
        of_true = filler.critic(2 * video - 1).sigmoid().flatten().tolist()
        of_completed = filler.critic(completed).sigmoid().flatten().tolist()
    reconstruction = sum(terms) / 3
    adversarial = -sum(math.log(p) for p in of_completed) / 6
    critic = -sum(math.log(p) for p in of_true) / 6 - sum(math.log(1 - p) for p in of_completed) / 6
    assert float(losses["reconstruction"]) == pytest.approx(reconstruction, abs=1e-5)
    assert float(losses["adversarial"]) == pytest.approx(adversarial, abs=1e-5)
    assert float(losses["critic"]) == pytest.approx(critic, abs=1e-5)
    expected = 0.8 * reconstruction + 0.2 * adversarial + critic
    assert float(losses["loss"]) == pytest.approx(expected, abs=1e-5)


def two_optimizers_step(filler: ContextEncoder, clips: Batch, generator, discriminator) -> None:
    """As the paper's code would, were both updates computed before either is made."""
    video, hole, inner = filler.pictures_with_holes(clips)
    true = 2 * video - 1
    predicted = filler.predict(video, inner)
    completed = torch.where(hole[:, None, None], predicted, true)
    of_true, of_completed = filler.critic(true), filler.critic(completed.detach())
    on_critic = F.binary_cross_entropy_with_logits(of_true, torch.ones_like(of_true))
    on_critic = on_critic + F.binary_cross_entropy_with_logits(of_completed, torch.zeros_like(of_completed))
    critic = dict(filler.critic.named_parameters())
    for_critic = torch.autograd.grad(on_critic, list(critic.values()))
    fooled = filler.critic(completed)
    adversarial = F.binary_cross_entropy_with_logits(fooled, torch.ones_like(fooled))
    reconstruction = filler.reconstruction(predicted, true, hole, inner)
    both = [*filler.encoder.parameters(), *filler.decoder.parameters()]
    weight = filler.adversarial_weight
    for_generator = torch.autograd.grad((1 - weight) * reconstruction + weight * adversarial, both)
    for parameter, gradient in zip([*both, *critic.values()], [*for_generator, *for_critic], strict=True):
        parameter.grad = gradient
    generator.step()
    discriminator.step()


def test_one_backward_pass_equals_two_optimizers():
    joined = method()
    apart = copy.deepcopy(joined)
    clips = batch()
    # The critic's batch norm has its own statistics of each call, so training mode is compared, too.
    groups = [{**group, "lr": 1e-3 * group.get("lr_scale", 1.0)} for group in joined.param_groups()]
    optimizer = torch.optim.Adam(groups)
    generator = torch.optim.Adam([*apart.encoder.parameters(), *apart.decoder.parameters()], lr=1e-3)
    discriminator = torch.optim.Adam(apart.critic.parameters(), lr=1e-4)
    for _ in range(3):
        optimizer.zero_grad()
        joined(clips, 0.0)["loss"].backward()
        optimizer.step()
        two_optimizers_step(apart, clips, generator, discriminator)
        for (name, one), other in zip(joined.named_parameters(), apart.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, atol=1e-7, rtol=1e-4, msg=name)
    for (name, one), other in zip(joined.named_parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4, msg=name)


def test_each_player_gets_the_gradient_of_its_own_term_alone():
    filler, clips = method(), batch()
    losses = filler(clips, 0.0)
    players = {"generator": [*filler.encoder.parameters(), *filler.decoder.parameters()]}
    players["critic"] = list(filler.critic.parameters())

    def size(term: str, player: str) -> float:
        gradients = torch.autograd.grad(losses[term], players[player], retain_graph=True, allow_unused=True)
        return sum(float(gradient.abs().sum()) for gradient in gradients if gradient is not None)

    assert size("critic", "critic") > 0 and size("critic", "generator") == 0
    assert size("adversarial", "generator") > 0 and size("adversarial", "critic") == 0
    assert size("reconstruction", "generator") > 0 and size("reconstruction", "critic") == 0


def test_a_frozen_call_equals_a_call_and_leaves_no_trace():
    critic = PictureCritic(widths=(6, 8)).train()
    before = copy.deepcopy(critic.state_dict())
    video = torch.rand(4, 1, 3, SIZE, SIZE)
    expected = copy.deepcopy(critic)(video)
    assert torch.equal(frozen(critic, video), expected)
    assert all(torch.equal(value, before[name]) for name, value in critic.state_dict().items())


def test_the_encoder_does_not_see_what_it_must_draw():
    filler = method().eval()
    video, hole, inner = filler.pictures_with_holes(batch())
    other = torch.where(inner[:, None, None], torch.rand_like(video), video)
    assert torch.equal(filler.predict(video, inner), filler.predict(other, inner))
    # Without the hole it would: the test can tell.
    nothing = torch.zeros_like(inner)
    assert not torch.equal(filler.predict(video, nothing), filler.predict(other, nothing))
    assert (hole & ~inner).any(), "no overlap"


def test_only_the_hole_counts_and_its_known_band_counts_more():
    filler = method(overlap_px=2, overlap_weight=10.0)
    hole = torch.zeros(1, SIZE, SIZE, dtype=torch.bool)
    hole[0, 4:12, 4:12] = True  # 64 pixels, of which 4 x 4 remain inside
    inner = shrink(hole, 2)
    true = torch.zeros(1, 1, 3, SIZE, SIZE)

    def loss(*, outside: float, band: float, inside: float) -> float:
        value = torch.where(inner, inside, torch.where(hole, band, outside))
        return float(filler.reconstruction(true + value[:, None, None], true, hole, inner))

    assert loss(outside=5.0, band=0.0, inside=0.0) == 0.0
    assert loss(outside=0.0, band=0.0, inside=2.0) == pytest.approx(4 * 16 / 64)
    assert loss(outside=0.0, band=2.0, inside=0.0) == pytest.approx(10 * 4 * 48 / 64)


def test_the_channelwise_layer_equals_its_sum_written_out():
    layer = ChannelwiseLinear(3, 4).requires_grad_(False)
    layer.bias.data.normal_()
    nn.init.dirac_(layer.mix.weight)
    nn.init.zeros_(layer.mix.bias)
    cells = torch.randn(2, 3, 2, 2)
    out = layer(cells)
    for b in range(2):
        for d in range(3):
            for m in range(4):
                total = sum(float(layer.weight[d, m, n] * cells[b, d, n // 2, n % 2]) for n in range(4))
                assert float(out[b, d, m // 2, m % 2]) == pytest.approx(total + float(layer.bias[d, m]), abs=1e-5)
