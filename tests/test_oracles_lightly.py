"""Losses and targets against lightly's and timm's on random tensors, to 1e-6."""

import importlib

import pytest
import torch
from einops import rearrange
from torch import nn

from vidssl import Batch
from vidssl.methods import DINO, MAE, MoCo, SimCLR
from vidssl.methods.image.byol import distance
from vidssl.methods.image.dino import DINOHead
from vidssl.models import ConvNet, VideoViT
from vidssl.models.video_vit import TokenPredictor, space_embedding
from vidssl.ops.sinkhorn import sinkhorn

TOLERANCE = {"atol": 1e-6, "rtol": 1e-6}


def lightly(name: str):
    """A module of lightly, which takes a second to import."""
    return importlib.import_module(f"lightly.{name}")


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


class Given(nn.Module):
    """A network that puts out what it was given, one tensor a call."""

    def __init__(self, *outputs: torch.Tensor) -> None:
        super().__init__()
        self.outputs = list(outputs)

    def forward(self, clips):
        return self.outputs.pop(0)


def encoder() -> ConvNet:
    return ConvNet(widths=(8, 16), strides=(2, 2))


def images(num: int) -> Batch:
    video = torch.randint(256, (num, 1, 1, 3, 16, 16), dtype=torch.uint8)
    return Batch(index=torch.arange(num), video=video, seed=torch.arange(num))


def assert_equal_losses(found: torch.Tensor, expected: torch.Tensor, *inputs: torch.Tensor) -> None:
    """Equal values, and equal gradients of what they were made of."""
    torch.testing.assert_close(found, expected, **TOLERANCE)
    for mine, theirs in zip(
        torch.autograd.grad(found, inputs), torch.autograd.grad(expected, inputs), strict=True
    ):
        assert float(mine.abs().max()) > 1e-4
        torch.testing.assert_close(mine, theirs, **TOLERANCE)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_simclr(temperature):
    first, second = torch.randn(2, 32, 16).requires_grad_().unbind()
    expected = lightly("loss").NTXentLoss(temperature=temperature)(first, second)
    found, _ = SimCLR(encoder(), view=Whole(), temperature=temperature).nt_xent(first, second, None)
    assert_equal_losses(found, expected, first, second)


def test_moco():
    """lightly's memory bank is the queue."""
    query, key = torch.randn(32, 16, requires_grad=True), torch.nn.functional.normalize(torch.randn(32, 16), dim=1)
    theirs = lightly("loss").NTXentLoss(temperature=0.2, memory_bank_size=(100, 16))
    moco = MoCo(encoder(), view=Whole(), out_dim=16, num_keys=100)
    theirs(query, key)  # makes its bank
    moco.queue.copy_(
        theirs.memory_bank.bank.T if theirs.memory_bank.bank.shape[0] == 16 else theirs.memory_bank.bank
    )
    found, _ = moco.contrast(query, key, None)
    assert_equal_losses(found, theirs(query, key), query)


def test_byol():
    """Negative cosine similarity c; ours is 2 + 2 c."""
    prediction, target = torch.randn(32, 16, requires_grad=True), torch.randn(32, 16)
    expected = 2 + 2 * lightly("loss").NegativeCosineSimilarity()(prediction, target)
    assert_equal_losses(distance(prediction, target).mean(), expected, prediction)


def test_dino_and_its_center():
    teacher = [torch.rand(2, 8, 20) * 2 - 1 for _ in range(3)]
    student = [(torch.rand(6, 8, 20) * 2 - 1).requires_grad_() for _ in range(3)]
    theirs = lightly("loss").DINOLoss(output_dim=20, teacher_temp=0.04, warmup_teacher_temp_epochs=1)
    head = DINOHead(16, num_prototypes=20, hidden_dim=8, bottleneck_dim=4)
    views = {"global_views": (Whole(), Whole()), "local_view": Whole(), "num_local_views": 4}
    dino = DINO(encoder(), **views, head=head)
    dino.teacher = Given(*(scores.flatten(0, 1) for scores in teacher))
    dino.student = Given(*(part.flatten(0, 1) for scores in student for part in (scores[:2], scores[2:])))
    for step in range(3):
        expected = theirs(list(teacher[step]), list(student[step]))
        assert_equal_losses(dino(images(8), 0.0)["loss"], expected, student[step])
        torch.testing.assert_close(dino.center, theirs.center.flatten(), **TOLERANCE)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")  # theirs is the one that torch deprecates
def test_dino_head():
    theirs = lightly("models.modules.heads").DINOProjectionHead(16, 12, 6, 20, norm_last_layer=False)
    head = DINOHead(16, num_prototypes=20, hidden_dim=12, bottleneck_dim=6, norm_last_layer=False)
    layers = [layer for layer in theirs.layers if isinstance(layer, nn.Linear)]
    mine = [layer for layer in head.mlp if isinstance(layer, nn.Linear)]
    for layer, other in zip(mine, layers, strict=True):
        layer.load_state_dict(other.state_dict())
    with torch.no_grad():
        theirs.last_layer.weight_g.uniform_(0.5, 2)
        head.prototypes.copy_(theirs.last_layer.weight_v)
        head.lengths.copy_(theirs.last_layer.weight_g)
    features = torch.randn(8, 16, requires_grad=True)
    weights = torch.randn(8, 20)
    assert_equal_losses((head(features) * weights).mean(), (theirs(features) * weights).mean(), features)


def test_mae_targets():
    """Patches of ImageNet-normalised pixels, standardised, and the loss of a prediction on the hidden ones."""
    utils = lightly("models.utils")
    net = VideoViT(dim=24, depth=1, num_heads=2, patch_px=4, tubelet_frames=1, positions="space")
    mae = MAE(net, decoder=TokenPredictor(24, net.patch_values, width=12, depth=1, num_heads=2), view=Whole())
    batch = images(6)
    normalized = (batch.video[:, 0, 0].float() / 255 - net.mean) / net.std
    patches = utils.patchify(normalized, 4)
    torch.testing.assert_close(
        net.normalized_patches(batch.video[:, 0].float() / 255).flatten(2), patches, **TOLERANCE
    )
    expected = utils.normalize_mean_var(patches)
    torch.testing.assert_close(mae.targets(batch.video[:, 0].float() / 255), expected, atol=2e-6, rtol=1e-6)
    predicted = torch.randn(6, 12, 48, requires_grad=True)
    mae.predict = lambda video, visible, hidden: predicted
    _, hidden = mae.split(batch.seed, (1, 4, 4))
    wanted = utils.get_at_index(expected, hidden)
    assert_equal_losses(mae(batch, 0.0)["loss"], nn.functional.mse_loss(predicted, wanted), predicted)


def test_mae_positions():
    theirs = lightly("models.utils").get_2d_sine_cosine_positional_embedding(64, 14, cls_token=False)
    torch.testing.assert_close(space_embedding((1, 14, 14), 64), torch.from_numpy(theirs).float(), **TOLERANCE)


def test_mae_positions_of_timm():
    """On a grid that is no square; timm goes column by column, and orders sines of column and row, then cosines."""
    from timm.layers import build_sincos2d_pos_embed

    theirs = build_sincos2d_pos_embed([3, 5], dim=64, reverse_coord=True)
    theirs = rearrange(theirs, "(x y) (wave place k) -> (y x) (place wave k)", x=5, wave=2, place=2)
    torch.testing.assert_close(space_embedding((1, 3, 5), 64), theirs, **TOLERANCE)


@pytest.mark.parametrize("num_iterations", [1, 3])
def test_sinkhorn_of_swav(num_iterations):
    scores = torch.rand(64, 10) * 2 - 1
    expected = lightly("loss.swav_loss").sinkhorn(scores, iterations=num_iterations, epsilon=0.05)
    torch.testing.assert_close(sinkhorn(scores, num_iterations=num_iterations), expected, **TOLERANCE)
