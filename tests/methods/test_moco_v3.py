import math

import pytest
import torch
from torch import nn

from vidssl import Batch
from vidssl.augment import RandomResizedCrop
from vidssl.methods import MoCoV3
from vidssl.models import ConvNet, ViT
from vidssl.models.initial import begin_as_moco_v3
from vidssl.ops import draws


def method(**options) -> MoCoV3:
    encoder = ConvNet(widths=(8, 16), strides=(2, 2))
    views = (RandomResizedCrop(16), RandomResizedCrop(16, scale=(0.5, 1.0)))
    return MoCoV3(encoder, **{"views": views, "hidden_dim": 12, "out_dim": 6, "temperature": 0.3, **options})


def batch(size: int = 5, source_id: list[int] | None = None) -> Batch:
    video = torch.randint(256, (size, 1, 1, 3, 24, 24), dtype=torch.uint8)
    source = None if source_id is None else torch.tensor(source_id)
    return Batch(index=torch.arange(size), video=video, seed=torch.arange(size), source_id=source)


def shake(module: nn.Module) -> None:
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1 * torch.randn_like(p))


def oracle(moco: MoCoV3, clips: Batch, source: list[int]) -> torch.Tensor:
    """Algorithm 1 with loops."""
    views = [view(clips.video[:, 0], draws.mix(clips.seed, n)) for n, view in enumerate(moco.views)]
    keys = [moco.teacher(view).detach().double() for view in views]
    total = torch.zeros((), dtype=torch.float64)
    for mine, other in ((0, 1), (1, 0)):
        queries = moco.predictor(moco.projector(moco.encoder(views[mine]))).double()
        for i, q in enumerate(queries):
            cosines = [(q @ k) / (q.norm() * k.norm()) for k in keys[other]]
            kept = [c for j, c in enumerate(cosines) if j == i or source[j] != source[i]]
            loss = -(cosines[i] / 0.3) + sum((c / 0.3).exp() for c in kept).log()
            total = total + 2 * 0.3 * loss / len(queries)
    return total


@pytest.mark.parametrize("source", [None, [7, 7, 3, 7, 3]])
def test_loss_and_gradient_equal_the_algorithm_written_out(source):
    moco, clips = method(), batch(source_id=source)
    shake(moco.teacher)  # a key encoder of its own, or swapping the two would go unseen
    parameters = [p for p in moco.parameters() if p.requires_grad]
    expected = oracle(moco, clips, source or list(range(5)))
    wanted = torch.autograd.grad(expected, parameters)
    loss = moco(clips, 0.0)["loss"]
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    for found, gradient in zip(torch.autograd.grad(loss, parameters), wanted, strict=True):
        torch.testing.assert_close(found, gradient, atol=1e-5, rtol=1e-3)


def test_without_momentum_and_predictor_it_is_info_nce_between_the_views():
    """Each way times 2 tau: views of the same kind are no negatives, and keys get no gradient."""
    moco, clips = method(momentum=0.0).eval(), batch()
    moco.predictor = nn.Identity()
    shake(moco.projector)
    moco.after_step(0.0)
    with torch.no_grad():
        loss = moco(clips, 0.0)["loss"]
        views = [view(clips.video[:, 0], draws.mix(clips.seed, n)) for n, view in enumerate(moco.views)]
        first, second = (nn.functional.normalize(moco.projector(moco.encoder(view)), dim=1) for view in views)
        cosines = first @ second.T / 0.3
        ways = [nn.functional.cross_entropy(logits, torch.arange(5)) for logits in (cosines, cosines.T)]
    assert loss.item() == pytest.approx(2 * 0.3 * float(sum(ways)), abs=1e-5)
    equal = torch.ones(6, 4)
    assert moco.contrast(equal, equal, None)[0].item() == pytest.approx(2 * 0.3 * math.log(6), abs=1e-5)


def test_heads_are_the_papers_for_vit_and_resnet():
    """Sec. 4: 3 layers for a ViT, 2 for a ResNet; both ends normalised, but the ResNet's predictor (builder.py)."""
    views = (RandomResizedCrop(16),) * 2
    encoder = ConvNet(widths=(8,), strides=(2,))
    resnet = {"num_projector_layers": 2, "normalize_predictions": False}
    for options, num_layers, last in (({}, 3, True), (resnet, 2, False)):
        moco = MoCoV3(encoder, views=views, **options)
        shapes = [tuple(p.shape) for p in moco.projector.parameters() if p.ndim == 2]
        assert shapes == [(4096, 8), *[(4096, 4096)] * (num_layers - 2), (256, 4096)]
        assert [tuple(p.shape) for p in moco.predictor.parameters() if p.ndim == 2] == [(4096, 256), (256, 4096)]
        assert isinstance(moco.predictor[-1], nn.BatchNorm1d) == last
        assert moco.projector[-1].weight is None


@pytest.mark.parametrize(("momentum", "progress"), [(0.0, 0.0), (0.9, 0.0), (0.9, 0.5), (0.9, 1.0)])
def test_the_key_encoder_follows_by_a_momentum_that_rises_to_1(momentum, progress):
    moco = method(momentum=momentum)
    student = [p for part in (moco.encoder, moco.projector) for p in part.parameters()]
    start = [p.clone() for p in moco.teacher.parameters()]
    shake(moco.encoder)
    shake(moco.projector)
    moco.after_step(progress)
    share = 1 - (1 - momentum) * (math.cos(math.pi * progress) + 1) / 2
    for now, old, new in zip(moco.teacher.parameters(), start, student, strict=True):
        torch.testing.assert_close(now, share * old + (1 - share) * new)


@pytest.fixture
def vit() -> ViT:
    encoder = ViT("vit_tiny_patch16_224", img_size=32)
    encoder.net.blocks = encoder.net.blocks[:1]
    return encoder


def test_a_vit_keeps_its_patches_and_positions_and_learns_the_rest(vit):
    begin_as_moco_v3(vit)
    views = (RandomResizedCrop(32),) * 2
    moco = MoCoV3(vit, views=views, hidden_dim=8, out_dim=4, momentum=0.5)
    before = {name: value.clone() for name, value in vit.state_dict().items()}
    optimizer = torch.optim.AdamW(moco.param_groups(), lr=0.01)
    moco(batch(), 0.0)["loss"].backward()
    optimizer.step()
    moco.after_step(0.0)
    kept = {name for name, value in vit.state_dict().items() if torch.equal(value, before[name])}
    assert kept == {"net.patch_embed.proj.weight", "net.patch_embed.proj.bias", "net.pos_embed"}
    begin_as_moco_v3(vit, freeze_patches=False)
    assert vit.net.patch_embed.proj.weight.requires_grad and not vit.net.pos_embed.requires_grad


def test_a_vit_begins_as_the_authors_code_draws_it(vit):
    """vits.py: bounds sqrt(6 / (3 * 16 * 16 + 192)), sqrt(6 / (192 + 192)) for queries, keys and values each."""
    begin_as_moco_v3(vit)
    net = vit.net
    for weight, bound in (
        (net.patch_embed.proj.weight, math.sqrt(6 / (3 * 16 * 16 + 192))),
        (net.blocks[0].attn.qkv.weight, math.sqrt(6 / (192 + 192))),
        (net.blocks[0].attn.proj.weight, math.sqrt(6 / (192 + 192))),
        (net.blocks[0].mlp.fc1.weight, math.sqrt(6 / (192 + 768))),
    ):
        assert float(weight.detach().abs().max()) == pytest.approx(bound, rel=1e-2)
        assert float(weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=2e-2)
    assert all(float(p.detach().abs().max()) == 0 for name, p in net.named_parameters() if name.endswith("bias"))
    assert 0 < float(net.cls_token.detach().abs().max()) < 1e-5
    positions = net.pos_embed[0]
    assert positions.shape == (1 + 4, 192) and float(positions[0].abs().max()) == 0
    # Row 1, column 0 of the grid of 2 x 2: sine and cosine of the lowest frequency are those of 1 for the row alone.
    code = positions[3]
    assert float(code[0]) == 0 and float(code[48]) == 1
    assert float(code[96]) == pytest.approx(math.sin(1)) and float(code[144]) == pytest.approx(math.cos(1))
