import pytest
import torch
from torch import nn

from vidssl import Batch
from vidssl.methods import MAE
from vidssl.models import VideoViT
from vidssl.models.video_vit import TokenPredictor
from vidssl.ops.masks import random_split


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


def method(**options) -> MAE:
    encoder = VideoViT(dim=24, depth=1, num_heads=2, patch_px=4, tubelet_frames=1, positions="space")
    decoder = TokenPredictor(
        encoder.dim, encoder.patch_values, width=12, depth=1, num_heads=2, positions="space", mask_token_std=0.02
    )
    return MAE(encoder, decoder=decoder, view=Whole(), **options)


def batch(num_images: int = 3) -> Batch:
    video = torch.randint(256, (num_images, 1, 1, 3, 16, 16), dtype=torch.uint8)
    return Batch(index=torch.arange(num_images), video=video, seed=torch.arange(num_images))


def test_loss_equals_the_definition_written_out():
    """Channel by channel with ImageNet's statistics, then patch by patch over all values, as the authors' code."""
    imagenet = [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]
    mae, images = method(), batch()
    with torch.no_grad():
        loss = mae(images, 0.0)["loss"]
        video = images.video[:, 0].float() / 255
        visible, hidden = mae.split(images.seed, (1, 4, 4))
        predicted = mae.predict(video, visible, hidden)
    assert visible.shape == (3, 4) and hidden.shape == (3, 12)
    errors = []
    for b in range(3):
        for number, token in enumerate(hidden[b].tolist()):
            row, column = token // 4 * 4, token % 4 * 4
            pixels = [
                (video[b, 0, c, row + y, column + x].item() - mean) / std
                for y in range(4)
                for x in range(4)
                for c, (mean, std) in enumerate(imagenet)
            ]
            mean = sum(pixels) / 48
            variance = sum((value - mean) ** 2 for value in pixels) / 47  # unbiased
            wanted = [(value - mean) / (variance + 1e-6) ** 0.5 for value in pixels]
            errors += [(p - w) ** 2 for p, w in zip(predicted[b, number].tolist(), wanted, strict=True)]
    assert loss.item() == pytest.approx(sum(errors) / len(errors), abs=1e-5)


def test_targets_of_visible_patches_play_no_part(monkeypatch):
    mae, images = method(), batch()
    visible, hidden = mae.split(images.seed, (1, 4, 4))
    true_targets = mae.targets

    def disturb(tokens):
        def targets(video):
            disturbed = true_targets(video)
            disturbed[torch.arange(3)[:, None], tokens] += 10
            return disturbed

        return targets

    loss = mae(images, 0.0)["loss"]
    monkeypatch.setattr(mae, "targets", disturb(visible))
    assert mae(images, 0.0)["loss"] == loss
    monkeypatch.setattr(mae, "targets", disturb(hidden))
    assert mae(images, 0.0)["loss"] > loss + 50


def test_hidden_pixels_do_not_reach_the_prediction():
    mae, images = method(), batch()
    visible, hidden = mae.split(images.seed, (1, 4, 4))
    video = (images.video[:, 0].float() / 255).requires_grad_()
    mae.predict(video, visible, hidden).square().sum().backward()
    reached = mae.encoder.patches(video.grad).abs().sum(dim=(2, 3)) > 0
    for b in range(3):
        assert sorted(visible[b].tolist()) == reached[b].nonzero().flatten().tolist()


def test_predicting_nothing_scores_one_and_a_flat_patch_is_no_trouble():
    mae = method()
    textured = mae.targets(torch.rand(2, 1, 3, 16, 16))
    # The variance is unbiased, over 48 values: their mean square is 47/48, less what the floor of 1e-6 takes.
    torch.testing.assert_close(textured.square().mean(2), torch.full((2, 16), 47 / 48), atol=1e-4, rtol=0)
    # Flat in the colours that the encoder sees: grey is not, once its channels are normalised.
    flat = mae.encoder.mean.expand(3, 16, 16)[None, None]
    assert mae.targets(flat).abs().max() < 1e-3 < mae.targets(torch.full((1, 1, 3, 16, 16), 0.3)).abs().max()


def test_the_mask_token_starts_as_in_the_authors_code():
    decoder = TokenPredictor(24, 48, width=4096, depth=0, num_heads=2, mask_token_std=0.02)
    assert decoder.mask_token.std().item() == pytest.approx(0.02, rel=0.05)
    assert abs(decoder.mask_token.mean().item()) < 0.002
    assert not TokenPredictor(24, 48, width=12, depth=0, num_heads=2).mask_token.any()


def test_several_frames_take_positions_that_tell_time():
    clips = Batch(
        index=torch.arange(2), video=torch.zeros(2, 1, 4, 3, 16, 16, dtype=torch.uint8), seed=torch.arange(2)
    )
    with pytest.raises(
        ValueError, match=r"4 time steps has no place .* single frames, or .*positions=.space_time."
    ):
        method()(clips, 0.0)


def neighbor_error(mask_ratio: float) -> float:
    """Error of painting hidden patches with the mean of their visible neighbours, over that of the image's mean."""
    colors = nn.functional.interpolate(torch.rand(100, 3, 5, 5), (16, 16), mode="bicubic")
    _, hidden = random_split(torch.arange(100), 256, hidden_share=mask_ratio)
    seen = torch.ones(100, 256).scatter(1, hidden, 0.0).view(100, 1, 16, 16)
    around = nn.functional.avg_pool2d(seen, 3, 1, 1)
    near = nn.functional.avg_pool2d(colors * seen, 3, 1, 1) / around.clamp(min=1e-6)
    mean = (colors * seen).sum((2, 3), keepdim=True) / seen.sum((2, 3), keepdim=True)
    near = torch.where(around > 0, near, mean)
    errors = [((fill - colors).square() * (1 - seen)).sum().item() for fill in (near, mean)]
    return errors[0] / errors[1]


def test_few_hidden_patches_are_filled_in_from_their_neighbors():
    """Why three quarters are hidden: below a half, interpolation does the task."""
    assert neighbor_error(0.3) < 0.2 < 0.5 < neighbor_error(0.9)


def test_pictures_show_true_pixels_where_the_encoder_looks():
    mae, images = method().eval(), batch()
    with torch.no_grad():
        picture = mae.pictures(images)["painted"]
        assert picture.shape == (3, 16, 3 * 16 + 2 * 4)
        visible, hidden = mae.split(images.seed[:1], (1, 4, 4))
        masked, painted, truth = picture[:, :, :16], picture[:, :, 20:36], picture[:, :, 40:]
        masked, painted, truth = (
            mae.encoder.patches(part[None, None])[0].flatten(1) for part in (masked, painted, truth)
        )
    assert torch.equal(truth, mae.encoder.patches(images.video[:1, 0].float() / 255)[0].flatten(1))
    assert torch.equal(masked[visible[0]], truth[visible[0]]) and (masked[hidden[0]] == 0.5).all()
    assert torch.equal(painted[visible[0]], truth[visible[0]])
    # Painted patches have the true mean plus contrast times the prediction, in normalised colours.
    with torch.no_grad():
        video = images.video[:1, 0].float() / 255
        predicted = mae.predict(video, visible, hidden)[0]
    channel_mean, channel_std = mae.encoder.mean.flatten().repeat(16), mae.encoder.std.flatten().repeat(16)
    colors = (truth[hidden[0]] - channel_mean) / channel_std
    mean, std = colors.mean(1, keepdim=True), (colors.var(1, keepdim=True) + 1e-6).sqrt()
    expected = ((predicted * std + mean) * channel_std + channel_mean).clamp(0, 1)
    torch.testing.assert_close(painted[hidden[0]], expected, atol=1e-5, rtol=0)
    assert 0.05 < ((expected > 0) & (expected < 1)).float().mean()  # not all cut off


def test_plain_pixels_are_regressed_as_they_are():
    mae, images = method(normalize=False).eval(), batch(1)
    video = images.video[:, 0].float() / 255
    assert torch.equal(mae.targets(video), mae.encoder.patches(video).flatten(2))
    with torch.no_grad():
        visible, hidden = mae.split(images.seed, (1, 4, 4))
        painted = mae.pictures(images)["painted"][:, :, 20:36]
        painted = mae.encoder.patches(painted[None, None])[0].flatten(1)[hidden[0]]
        torch.testing.assert_close(painted, mae.predict(video, visible, hidden)[0].clamp(0, 1))
