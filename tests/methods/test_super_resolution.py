import copy

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from vidssl import Batch
from vidssl.methods import SuperResolution
from vidssl.models import ConvNet, export_encoder, load_encoder
from vidssl.models.pictures.super_resolution import PixelShuffler, SRResNet, SuperResolutionCritic, bicubic_down
from vidssl.ops.pixels.quality import psnr, ssim

SIZE = 16


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


def method(**options) -> SuperResolution:
    encoder = SRResNet(width=6, num_blocks=2)
    return SuperResolution(encoder, enlarge=PixelShuffler(6, scale=2), view=Whole(), scale=2, **options)


def critic() -> SuperResolutionCritic:
    return SuperResolutionCritic(cells=(4, 4), widths=(4, 6), hidden_dim=5)


def batch(num_clips: int = 3, num_frames: int = 2) -> Batch:
    video = torch.randint(256, (num_clips, 1, num_frames, 3, SIZE, SIZE), dtype=torch.uint8)
    return Batch(index=torch.arange(num_clips), video=video, seed=torch.arange(num_clips))


def test_pixel_loss_and_gradient_equal_the_squared_error_written_out():
    enlarger, clips = method().eval(), batch()
    video = clips.video[:, 0].float() / 255
    small = F.interpolate(video.flatten(0, 1), (8, 8), mode="bicubic", antialias=True).clamp(0, 1)
    trunk = enlarger.encoder
    first = maps = trunk.first(small)
    for block in trunk.blocks:
        maps = maps + block(maps)
    drawn = enlarger.enlarge.net(first + trunk.last(maps)).double()
    expected = (drawn - (2 * video.flatten(0, 1) - 1)).square().sum() / (6 * 3 * SIZE * SIZE)
    losses = enlarger(clips, 0.0)
    torch.testing.assert_close(losses["loss"].double(), expected, atol=1e-6, rtol=1e-5)
    parameters = list(enlarger.parameters())
    for one, other in zip(
        torch.autograd.grad(losses["loss"], parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-3)
    pair = (drawn.float().detach() + 1) / 2, video.flatten(0, 1)
    torch.testing.assert_close(losses["psnr"], psnr(*pair, border_px=2).mean())
    torch.testing.assert_close(losses["ssim"], ssim(*pair, border_px=2).mean())


def test_losses_of_both_players_equal_the_equations_written_out():
    content = ConvNet(widths=(5,), strides=(2,))
    enlarger = method(critic=critic(), content=content, content_scale=0.5, adversarial_weight=0.2).eval()
    clips = batch()
    with torch.no_grad():
        losses = enlarger(clips, 0.0)
        video = clips.video[:, 0].float() / 255
        drawn = enlarger.draw(bicubic_down(video, scale=2))
        of_true, of_drawn = (enlarger.critic(one).sigmoid() for one in (2 * video - 1, drawn))
        found, wanted = (content.features(one) for one in ((drawn + 1) / 2, video))
        expected = {
            "content": 0.25 * (found - wanted).square().mean(),
            "adversarial": -of_drawn.log().mean(),
            "critic": -of_true.log().mean() - (1 - of_drawn).log().mean(),
        }
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, atol=1e-5, rtol=1e-5)
    total = expected["content"] + 0.2 * expected["adversarial"] + expected["critic"]
    torch.testing.assert_close(losses["loss"], total, atol=1e-5, rtol=1e-5)


def test_one_backward_pass_equals_two_optimizers():
    joined = method(critic=critic(), adversarial_weight=0.3)
    apart, clips = copy.deepcopy(joined), batch()
    video = clips.video[:, 0].float() / 255
    joined(clips, 0.0)["loss"].backward()
    drawn, true = apart.draw(bicubic_down(video, scale=2)), 2 * video - 1
    on_critic = F.softplus(-apart.critic(true)).mean() + F.softplus(apart.critic(drawn.detach())).mean()
    players = [*apart.encoder.parameters(), *apart.enlarge.parameters()]
    of_critic = torch.autograd.grad(on_critic, list(apart.critic.parameters()))
    on_drawn = F.mse_loss(drawn, true) + 0.3 * F.softplus(-apart.critic(drawn)).mean()
    of_players = torch.autograd.grad(on_drawn, players)
    found = [*joined.encoder.parameters(), *joined.enlarge.parameters(), *joined.critic.parameters()]
    for parameter, gradient in zip(found, [*of_players, *of_critic], strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-6, rtol=1e-4)
    grouped = [id(parameter) for group in joined.param_groups() for parameter in group["params"]]
    assert sorted(grouped) == sorted(map(id, joined.parameters()))


def test_the_content_network_is_never_trained_and_keeps_its_statistics():
    enlarger = method(content=ConvNet(widths=(5,), strides=(2,))).train()
    before = copy.deepcopy(enlarger.content.state_dict())
    enlarger(batch(), 0.0)["loss"].backward()
    assert all(torch.equal(value, before[name]) for name, value in enlarger.content.state_dict().items())
    assert all(parameter.grad is None for parameter in enlarger.content.parameters())
    assert not enlarger.content.training and enlarger.encoder.training
    assert all(parameter.grad.abs().sum() > 0 for parameter in enlarger.enlarge.net[-2].parameters())


def test_small_pictures_are_made_as_pillow_makes_them():
    video = (torch.rand(1, 1, 3, 32, 32) * 255).round()
    picture = Image.fromarray(video[0, 0].byte().permute(1, 2, 0).numpy())
    expected = torch.frombuffer(
        bytearray(picture.resize((8, 8), Image.Resampling.BICUBIC).tobytes()), dtype=torch.uint8
    )
    expected = expected.view(8, 8, 3).permute(2, 0, 1)
    found = bicubic_down(video / 255, scale=4)[0, 0] * 255
    assert (found - expected).abs().max() < 1.01  # Pillow rounds to bytes twice


def test_channels_become_pixels_row_by_row():
    shuffler = PixelShuffler(2, scale=2)
    assert shuffler(torch.rand(1, 2, 2, 5, 7)).shape == (1, 2, 3, 10, 14)
    assert shuffler(torch.rand(1, 1, 2, 5, 7)).abs().max() <= 1
    assert PixelShuffler(2, scale=4)(torch.rand(1, 1, 2, 5, 7)).shape == (1, 1, 3, 20, 28)
    with pytest.raises(ValueError, match="scale is 3, expected a power of two"):
        PixelShuffler(2, scale=3)


def test_an_exported_trunk_is_loaded_again(tmp_path):
    encoder = SRResNet(width=6, num_blocks=2).eval()
    export_encoder(encoder, tmp_path / "encoder.safetensors")
    video = torch.rand(1, 1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(load_encoder(tmp_path / "encoder.safetensors").features(video), encoder.features(video))


def test_pictures_show_bicubic_drawn_and_true():
    enlarger, clips = method().eval(), batch()
    with torch.no_grad():
        picture = enlarger.pictures(clips)["enlarged"]
        video = clips.video[:1, 0, :1].float() / 255
        drawn = (enlarger.draw(bicubic_down(video, scale=2))[0, 0] + 1) / 2
    torch.testing.assert_close(picture[:, :, SIZE + 4 :][:, :, :SIZE], drawn)
    torch.testing.assert_close(picture[:, :, 2 * SIZE + 8 :], video[0, 0])


def test_without_a_critic_training_on_one_batch_draws_it_better():
    enlarger, clips = method(), batch()
    optimizer = torch.optim.Adam(enlarger.parameters(), lr=5e-3)
    figures = []
    for _ in range(40):
        losses = enlarger(clips, 0.0)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        figures.append({name: float(value.detach()) for name, value in losses.items()})
    assert figures[-1]["loss"] < 0.9 * figures[0]["loss"]
    assert figures[-1]["psnr"] > figures[0]["psnr"] + 0.4
