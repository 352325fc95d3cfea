import pytest
import torch
from torch import nn

from vidssl import Batch
from vidssl.methods import Autoencoder, DenoisingAutoencoder
from vidssl.methods.image.denoising_autoencoder import gaussian_noise, masking_noise
from vidssl.models import ConvNet
from vidssl.models.pictures.decoder import Bottleneck, PictureDecoder

SIZE = 16


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


def batch(num_clips: int = 3, num_frames: int = 2) -> Batch:
    video = torch.randint(256, (num_clips, 1, num_frames, 3, SIZE, SIZE), dtype=torch.uint8)
    return Batch(index=torch.arange(num_clips), video=video, seed=torch.arange(num_clips))


def squeezed(code_dim: int = 5) -> Autoencoder:
    encoder = ConvNet(widths=(6, 8), strides=(2, 2))
    bottleneck = Bottleneck(encoder.dim, cells=(4, 4), code_dim=code_dim)
    return Autoencoder(
        encoder, decoder=nn.Sequential(bottleneck, PictureDecoder(encoder.dim, widths=(6,))), view=Whole()
    )


def denoiser(**options) -> DenoisingAutoencoder:
    encoder = ConvNet(widths=(6, 8), strides=(2, 2))
    return DenoisingAutoencoder(encoder, decoder=PictureDecoder(encoder.dim, widths=(6,)), view=Whole(), **options)


@pytest.mark.parametrize("build", [squeezed, denoiser])
def test_loss_and_gradient_are_those_of_the_squared_error_written_out(build):
    method, clips = build().eval(), batch()
    truth = clips.video[:, 0].double() / 255
    drawn = []
    method.decoder.register_forward_hook(lambda module, inputs, output: drawn.append(output))
    method(clips, 0.0)["loss"].backward(inputs=list(method.parameters()))
    kept = drawn[0].detach().double()
    drawn[0].retain_grad()
    losses = method(clips, 0.0)
    drawn[1].retain_grad()
    losses["loss"].backward()
    total = variance = 0.0
    for b in range(3):
        for t in range(2):
            for c in range(3):
                plane = truth[b, t, c]
                total += sum(
                    float(kept[b, t, c, y, x] - plane[y, x]) ** 2 for y in range(SIZE) for x in range(SIZE)
                )
                variance += float(((plane - plane.mean()) ** 2).mean())
    count = 3 * 2 * 3 * SIZE * SIZE
    assert float(losses["loss"].detach()) == pytest.approx(total / count, rel=1e-5)
    assert float(losses["share_of_variance"]) == pytest.approx(total / count / (variance / 18), rel=1e-5)
    torch.testing.assert_close(drawn[1].grad.double(), 2 * (kept - truth) / count, atol=1e-9, rtol=1e-5)


def test_the_encoder_sees_the_corrupted_picture_and_the_loss_the_clean_one():
    method, clips = denoiser().eval(), batch()
    video = clips.video[:, 0].float() / 255
    lost = masking_noise(torch.ones_like(video), clips.seed, value=0.0) == 0
    with torch.no_grad():
        other = torch.where(lost, torch.rand_like(video), video)
        assert torch.equal(method.draw(video, clips.seed), method.draw(other, clips.seed))
        # Without noise it would see it: the test can tell.
        features = method.encoder.features
        assert not torch.equal(features(video), features(other))
        drawn = method.decoder(features(torch.where(lost, 0.5, video)))
        assert float(method(clips, 0.0)["loss"]) == pytest.approx(float((drawn - video).square().mean()), rel=1e-5)


def test_masking_noise_takes_whole_pixels_of_each_frame_at_the_rate_asked_for():
    video, seed = torch.rand(4, 2, 3, 50, 50), torch.arange(4)
    noisy = masking_noise(video, seed, share=0.3, value=0.25)
    lost = (noisy == 0.25).all(2)
    assert torch.equal(noisy, torch.where(lost[:, :, None], 0.25, video))
    assert float(lost.float().mean()) == pytest.approx(0.3, abs=0.01)  # three deviations of 20000 pixels
    agree = (lost[:, 0] == lost[:, 1]).float().mean()
    assert float(agree) == pytest.approx(0.3**2 + 0.7**2, abs=0.02), "frames lose pixels of their own"
    assert torch.equal(noisy[2:], masking_noise(video[2:], seed[2:], share=0.3, value=0.25))


def test_gaussian_noise_has_the_deviation_asked_for_and_is_not_cut():
    video, seed = torch.full((2, 1, 3, 60, 60), 0.9), torch.arange(2)
    noise = gaussian_noise(video, seed, std=0.2) - video
    assert float(noise.std()) == pytest.approx(0.2, abs=0.004) and float(noise.mean()) == pytest.approx(
        0, abs=0.004
    )
    assert float((video + noise).max()) > 1


def test_the_bottleneck_lets_no_more_through_than_its_code():
    """Drawings are a function of `code_dim` numbers: the Jacobian of cells by cells has that rank."""
    bottleneck = Bottleneck(3, cells=(2, 4), code_dim=5).double()
    jacobian = torch.autograd.functional.jacobian(bottleneck, torch.randn(1, 1, 3, 2, 4).double()).view(24, 24)
    assert int(torch.linalg.matrix_rank(jacobian)) == 5


def test_pictures_show_what_is_seen_what_is_drawn_and_the_truth():
    method, clips = denoiser().eval(), batch()
    with torch.no_grad():
        picture = method.pictures(clips)["drawn"]
        video = clips.video[:1, 0].float() / 255
        drawn = method.draw(video, clips.seed[:1])[0, 0].clamp(0, 1)
    shown = masking_noise(video, clips.seed[:1])[0, 0]
    for part, expected in enumerate((shown, drawn, video[0, 0])):
        torch.testing.assert_close(picture[:, :, part * (SIZE + 4) :][:, :, :SIZE], expected)
