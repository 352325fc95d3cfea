import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vidssl import Batch
from vidssl.method import Epoch
from vidssl.methods import VideoColorization
from vidssl.models import ResNet
from vidssl.models.heads import FrameHead, VolumeHead


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


def method(**options) -> VideoColorization:
    encoder = ResNet(18, stride=8, layer="layer3", color="gray", width=8)
    made = VideoColorization(encoder, view=Whole(), head=options.pop("head", FrameHead(encoder.dim, 6)), **options)
    # The mean colour of a cell of noise is nearly grey: centres close to grey give it different classes.
    made.centers.copy_(torch.randn(len(made.centers), 2) * 3)
    return made


def batch(num_clips: int = 2, num_frames: int = 4, size: int = 32, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    video = torch.randint(256, (num_clips, 1, num_frames, 3, size, size), dtype=torch.uint8, generator=generator)
    return Batch(index=torch.arange(num_clips), video=video, seed=torch.arange(num_clips))


def test_copy_equals_the_equations_written_out():
    pointer = method(num_colors=5, temperature=0.7)
    embeddings, classes = torch.randn(2, 3, 6, 2, 3), torch.randint(5, (2, 3, 2, 3))
    copied, _ = pointer.copy(embeddings, classes)
    for b in range(2):
        for y in range(2):
            for x in range(3):
                query, weights, colors = embeddings[b, -1, :, y, x], [], []
                for t in range(2):
                    for v in range(2):
                        for u in range(3):
                            weights.append(math.exp(float(query @ embeddings[b, t, :, v, u]) / 0.7))
                            colors.append(int(classes[b, t, v, u]))
                expected = [sum(w for w, c in zip(weights, colors, strict=True) if c == k) for k in range(5)]
                expected = torch.tensor(expected) / sum(weights)
                torch.testing.assert_close(copied[b, :, y, x], expected, atol=1e-5, rtol=1e-5)


def test_loss_equals_the_mean_log_probability_of_the_true_colors():
    pointer, clip = method().eval(), batch()
    with torch.no_grad():
        losses = pointer(clip, 0.0)
        video = clip.video[:, 0].float() / 255
        classes = pointer.quantize(pointer.colors(video))
        copied, _ = pointer.copy(pointer.head(pointer.encoder.features(video)), classes)
    picked = [float(copied[b, classes[b, -1, y, x], y, x]) for b in range(2) for y in range(4) for x in range(4)]
    assert float(losses["loss"]) == pytest.approx(
        -sum(math.log(max(p, 1e-8)) for p in picked) / len(picked), rel=1e-5
    )


def test_uniform_pointers_give_the_entropy_of_the_reference_colors():
    pointer = method(num_colors=4)
    nn.init.zeros_(pointer.head[0].weight)
    nn.init.zeros_(pointer.head[0].bias)
    clip = batch()
    losses = {name: value.detach() for name, value in pointer(clip, 0.0).items()}
    classes = pointer.quantize(pointer.colors(clip.video[:, 0].float() / 255))
    share = F.one_hot(classes[:, :-1].flatten(1), 4).float().mean(1)  # (B, K)
    expected = -share.log().gather(1, classes[:, -1].flatten(1)).mean()
    assert float(losses["loss"]) == pytest.approx(float(expected), rel=1e-5)


def test_colors_are_lab_means_of_cells():
    pointer = method()
    video = torch.zeros(1, 1, 3, 16, 16)
    video[..., 0, :8, :8] = 1.0  # a red cell: ab = (80.1, 67.2)
    video[..., 2, 8:, 8:] = 1.0  # a blue one: (79.2, -107.9)
    colors = pointer.colors(video)[0, 0]
    assert colors[:, 0, 0].tolist() == pytest.approx([80.1, 67.2], abs=0.1)
    assert colors[:, 1, 1].tolist() == pytest.approx([79.2, -107.9], abs=0.1)
    assert colors[:, 0, 1].tolist() == pytest.approx([0, 0], abs=0.1)


def test_the_encoder_never_sees_color():
    pointer, clip = method().eval(), batch()
    grey = clip.video[:, 0].float() / 255
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    luminance = (grey * weights).sum(2, keepdim=True).expand_as(grey)
    with torch.no_grad():
        torch.testing.assert_close(
            pointer.encoder.features(grey), pointer.encoder.features(luminance), atol=1e-5, rtol=1e-4
        )


def test_every_parameter_gets_a_gradient():
    for head in (FrameHead(32, 6), VolumeHead(32, 6, hidden_dim=8)):
        pointer = method(head=head)
        pointer(batch(), 0.0)["loss"].backward()
        for name, parameter in pointer.named_parameters():
            # A bias before batch norm would get none; there is none.
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_centers_are_fitted_once_to_the_colors_of_the_corpus():
    pointer = method(num_colors=2)
    red, blue = torch.tensor([80.1, 67.2]), torch.tensor([79.2, -107.9])
    asked = []

    def extract(function, num_samples=None):
        asked.append(num_samples)
        video = torch.zeros(1, 1, 4, 3, 16, 16, dtype=torch.uint8)
        video[..., 0, :, :8] = 255
        video[..., 2, :, 8:] = 255
        return function(Batch(index=torch.zeros(1, dtype=torch.int64), video=video))

    pointer.before_epoch(Epoch(number=0, extract=extract, forget=lambda parameters: None))
    fitted = pointer.centers[pointer.centers[:, 1].argsort(descending=True)]
    torch.testing.assert_close(fitted, torch.stack([red, blue]), atol=0.1, rtol=0)
    pointer.before_epoch(Epoch(number=1, extract=extract, forget=lambda parameters: None))
    assert len(asked) == 1


def test_accuracy_where_color_changed_ignores_the_other_cells():
    pointer, clip = method(num_colors=3).eval(), batch(1, 2, 16)
    with torch.no_grad():
        losses = pointer(clip, 0.0)
        classes = pointer.quantize(pointer.colors(clip.video[:, 0].float() / 255))
        video = clip.video[:, 0].float() / 255
        copied, _ = pointer.copy(pointer.head(pointer.encoder.features(video)), classes)
    changed = hit = 0
    for y in range(2):
        for x in range(2):
            if classes[0, 1, y, x] != classes[0, 0, y, x]:
                changed += 1
                hit += int(copied[0, :, y, x].argmax() == classes[0, 1, y, x])
    assert float(losses["share_where_color_changed"]) == changed / 4
    assert float(losses["accuracy_where_color_changed"]) == pytest.approx(hit / max(changed, 1))


def test_training_on_one_batch_learns_to_copy():
    # Every clip shows one still picture: the same cell of a reference holds the answer.
    clip = batch(2, 1)
    clip = Batch(index=clip.index, video=clip.video.expand(-1, -1, 4, -1, -1, -1).contiguous(), seed=clip.seed)
    pointer = method(num_colors=6)
    optimizer = torch.optim.Adam(pointer.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = pointer(clip, 0.0)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.3 and losses[-1] < 0.25 * losses[0]


def test_volume_head_mixes_frames_and_knows_places():
    head = VolumeHead(4, 3, hidden_dim=8).eval()
    features = torch.randn(1, 4, 4, 5, 5)
    changed = features.clone()
    changed[:, 0] += 1
    with torch.no_grad():
        assert not torch.equal(head(features)[:, 1], head(changed)[:, 1])
        constant = head(torch.ones(1, 4, 4, 9, 9))
    # Interior cells see equal features; only the coordinates tell them apart.
    assert not torch.allclose(constant[0, 0, :, 4, 4], constant[0, 0, :, 4, 3], atol=1e-6)


def test_the_picture_shows_four_frames_in_a_row():
    picture = method().eval().pictures(batch(2, 4, 32))["colorization"]
    assert picture.shape == (3, 32, 4 * 32 + 3 * 4)
    target = batch(2, 4, 32).video[0, 0, -1].float() / 255
    torch.testing.assert_close(picture[:, :, -32:], target)
