import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vidssl import Batch
from vidssl.methods import BiGAN
from vidssl.models import ConvNet
from vidssl.models.pictures.bigan import CodeGenerator, JointCritic
from vidssl.ops import draws

SIZE = 16


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


def method() -> BiGAN:
    generator = CodeGenerator(5, cells=(4, 4), dim=6, widths=(6,))
    critic = JointCritic(5, cells=(4, 4), widths=(4, 6), hidden_dim=7)
    encoder = ConvNet(widths=(6, 8), strides=(2, 2))
    return BiGAN(encoder, generator=generator, critic=critic, view=Whole(), code_dim=5)


def batch(num_clips: int = 3, num_frames: int = 2) -> Batch:
    video = torch.randint(256, (num_clips, 1, num_frames, 3, SIZE, SIZE), dtype=torch.uint8)
    return Batch(index=torch.arange(num_clips), video=video, seed=torch.arange(num_clips))


def pairs(game: BiGAN, clips: Batch):
    """Pictures with their codes, and codes with what is drawn from them, written out frame by frame."""
    video = clips.video[:, 0].float() / 255
    pooled = game.encoder.features(video).mean((3, 4))
    found = torch.tanh(game.code_head(pooled) / 2)
    codes = 2 * draws.uniform(clips.seed, video.shape[1], 5, stream=30) - 1
    return (2 * video - 1, found), (game.generator(codes), codes)


def test_losses_equal_the_equations_written_out():
    game, clips = method().eval(), batch()
    with torch.no_grad():
        losses = game(clips, 0.0)
        real, fake = pairs(game, clips)
        of_real, of_fake = (game.critic(*pair).sigmoid().flatten().tolist() for pair in (real, fake))
    critic = -sum(math.log(p) for p in of_real) / 6 - sum(math.log(1 - p) for p in of_fake) / 6
    generator = -sum(math.log(1 - p) for p in of_real) / 6 - sum(math.log(p) for p in of_fake) / 6
    assert float(losses["critic"]) == pytest.approx(critic, abs=1e-5)
    assert float(losses["generator"]) == pytest.approx(generator, abs=1e-5)
    assert float(losses["loss"]) == pytest.approx(critic + generator, abs=1e-5)


def test_one_backward_pass_equals_three_optimizers():
    """In training mode, in which every call of the critic has statistics of its own."""
    joined, clips = method(), batch()
    apart = copy.deepcopy(joined)
    joined(clips, 0.0)["loss"].backward()
    real, fake = pairs(apart, clips)
    on_critic = F.softplus(-apart.critic(real[0], real[1].detach())).mean()
    on_critic = on_critic + F.softplus(apart.critic(fake[0].detach(), fake[1])).mean()
    of_critic = torch.autograd.grad(on_critic, list(apart.critic.parameters()))
    encoder = [*apart.encoder.parameters(), *apart.code_head.parameters()]
    of_encoder = torch.autograd.grad(F.softplus(apart.critic(*real)).mean(), encoder)
    of_generator = torch.autograd.grad(F.softplus(-apart.critic(*fake)).mean(), list(apart.generator.parameters()))
    found = [*joined.encoder.parameters(), *joined.code_head.parameters(), *joined.generator.parameters()]
    found += joined.critic.parameters()
    for parameter, gradient in zip(found, [*of_encoder, *of_generator, *of_critic], strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-6, rtol=1e-4)
    # The critic's statistics moved by its own two calls alone.
    assert all(
        module.num_batches_tracked == 2 for module in joined.critic.modules() if hasattr(module, "momentum")
    )


def test_a_critic_that_knows_nothing_leaves_the_logarithm_of_two_four_times():
    game = method()
    nn.init.zeros_(game.critic.judge[-1].weight)
    nn.init.zeros_(game.critic.judge[-1].bias)
    losses = {name: float(value.detach()) for name, value in game(batch(), 0.0).items()}
    assert losses["loss"] == pytest.approx(4 * math.log(2), rel=1e-6)
    assert losses["probability_of_true"] == losses["probability_of_drawn"] == 0.5


def test_codes_are_uniform_and_a_function_of_the_sample_alone():
    game, drawn = method(), []
    game.generator.register_forward_pre_hook(lambda module, inputs: drawn.append(inputs[0]))
    game(batch(200), 0.0)
    codes = drawn[0]
    assert codes.shape == (200, 2, 5) and codes.min() >= -1 and codes.max() < 1
    assert float(codes.mean()) == pytest.approx(0, abs=0.04) and float(codes.var()) == pytest.approx(
        1 / 3, abs=0.02
    )
    game(batch(3), 0.0)
    assert torch.equal(drawn[1], codes[:3])
    found = game.encode(torch.rand(2, 1, 3, SIZE, SIZE) * 5)
    assert found.abs().max() < 1


def test_the_critic_sees_both_parts_of_a_pair():
    critic = JointCritic(5, cells=(4, 4), widths=(4, 6), hidden_dim=7).eval()
    picture, code = torch.rand(1, 1, 3, SIZE, SIZE, requires_grad=True), torch.rand(1, 1, 5, requires_grad=True)
    gradients = torch.autograd.grad(critic(picture, code).sum(), (picture, code))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_pictures_show_the_truth_what_is_regained_and_what_is_drawn():
    game, clips = method().eval(), batch()
    with torch.no_grad():
        picture = game.pictures(clips)["regained"]
        real, fake = pairs(game, clips)
        expected = [(one[0, 0] + 1) / 2 for one in (real[0], game.generator(real[1]), fake[0])]
    for part, one in enumerate(expected):
        torch.testing.assert_close(picture[:, :, part * (SIZE + 4) :][:, :, :SIZE], one)
