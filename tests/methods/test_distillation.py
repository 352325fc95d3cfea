import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vidssl import Batch
from vidssl.augment import RandomResizedCrop
from vidssl.methods import Distillation
from vidssl.methods.image.distillation import on_grid, relation_difference
from vidssl.models import ConvNet, VideoViT, export_encoder, load_encoder


def method(**options) -> Distillation:
    encoder = ConvNet(widths=(8, 16), strides=(2, 2))
    teacher = ConvNet(widths=(8, 12), strides=(2, 1)).eval()
    return Distillation(encoder, **{"teacher": teacher, "view": RandomResizedCrop(16), **options})


def batch(size: int = 5, num_frames: int = 1) -> Batch:
    video = torch.randint(256, (size, 1, num_frames, 3, 24, 24), dtype=torch.uint8)
    return Batch(index=torch.arange(size), video=video, seed=torch.arange(size))


def oracle(distillation: Distillation, clips: Batch, difference: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Both terms with loops over clips, cells and pairs, in double precision."""
    view = distillation.view(clips.video[:, 0], clips.seed)
    student = distillation.encoder.features(view)[:, 0]  # (B, D, 4, 4)
    teacher = distillation.teacher.features(view)[:, 0].detach()  # (B, E, 8, 8)
    layer = distillation.head[0]
    terms = []
    for n in range(len(clips)):
        for y in range(4):
            for x in range(4):
                found = (layer.weight[:, :, 0, 0] @ student[n, :, y, x] + layer.bias).double()
                wanted = teacher[n, :, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean((1, 2)).double()
                if difference == "cosine":
                    terms.append(1 - (found @ wanted) / (found.norm() * wanted.norm()))
                else:
                    terms.append(sum((a - b) ** 2 for a, b in zip(found, wanted, strict=True)) / 12 / 2)
    relations = []
    for points in (student.mean((2, 3)).double(), teacher.mean((2, 3)).double()):
        pairs = [(points[i] - points[j]).norm() for i in range(len(points)) for j in range(i)]
        relations.append([pair / (sum(pairs) / len(pairs)) for pair in pairs])
    huber = [d**2 / 2 if (d := abs(a - b)) < 1 else d - 0.5 for a, b in zip(*relations, strict=True)]
    return sum(terms) / len(terms), sum(huber) / len(huber)


@pytest.mark.parametrize("difference", ["cosine", "l2"])
def test_loss_and_gradient_equal_the_equations_written_out(difference):
    distillation, clips = method(difference=difference, feature_weight=0.7, relation_weight=3.0), batch()
    features, relations = oracle(distillation, clips, difference)
    expected = 0.7 * features + 3 * relations
    parameters = [p for p in distillation.parameters() if p.requires_grad]
    wanted = torch.autograd.grad(expected, parameters)
    losses = distillation(clips, 0.0)
    assert losses["loss"].item() == pytest.approx(expected.item(), abs=1e-5)
    assert losses["feature_difference"].item() == pytest.approx(features.item(), abs=1e-5)
    assert losses["relation_difference"].item() == pytest.approx(relations.item(), abs=1e-5)
    for found, gradient in zip(torch.autograd.grad(losses["loss"], parameters), wanted, strict=True):
        torch.testing.assert_close(found, gradient, atol=1e-5, rtol=1e-3)


def test_relations_know_neither_scale_nor_place_nor_turn():
    points = torch.randn(6, 4)
    turn = torch.linalg.qr(torch.randn(4, 4)).Q
    assert relation_difference(points, 7 * points @ turn + 3).item() == pytest.approx(0, abs=1e-6)
    # Three points on a line against three equally far apart: distances 3/4, 3/4, 3/2 against 1, 1, 1.
    line, triangle = torch.tensor([[0.0], [1.0], [2.0]]), torch.eye(3)
    assert relation_difference(line, triangle).item() == pytest.approx((2 * 0.25**2 + 0.5**2) / 2 / 3, abs=1e-6)
    equal = torch.ones(3, 2, requires_grad=True)
    relation_difference(equal, triangle).backward()
    assert torch.isfinite(equal.grad).all()


def test_a_student_that_is_its_teacher_costs_nothing():
    net = ConvNet(widths=(8, 16), strides=(2, 2)).eval()
    same = ConvNet(widths=(8, 16), strides=(2, 2))
    same.load_state_dict(net.state_dict())
    for difference in ("cosine", "l2"):
        distillation = method(teacher=net, difference=difference).eval()
        distillation.encoder = same.eval()
        with torch.no_grad():
            distillation.head[0].weight.copy_(torch.eye(16)[:, :, None, None])
            distillation.head[0].bias.zero_()
            assert float(distillation(batch(), 0.0)["loss"]) == pytest.approx(0, abs=1e-5)


def test_the_teacher_stays_as_it_is_in_training():
    """Neither weights nor statistics of its batch norm move, and what it says depends on no other sample."""
    distillation = method().train()
    before = {name: value.clone() for name, value in distillation.teacher.state_dict().items()}
    distillation(batch(), 0.0)["loss"].backward()
    assert not distillation.teacher.training and distillation.encoder.training
    assert all(torch.equal(value, before[name]) for name, value in distillation.teacher.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in distillation.teacher.parameters())
    assert not distillation.eval().encoder.training


def test_cells_of_any_grid_are_averaged_into_the_students():
    cells = torch.arange(2 * 4 * 6.0).view(1, 2, 1, 4, 6)
    found = on_grid(cells, torch.zeros(1, 1, 9, 2, 3))
    expected = F.avg_pool3d(cells[:, :, 0][:, None], (2, 2, 2))[:, 0]
    torch.testing.assert_close(found[:, :, 0], expected)
    # A coarser teacher says the same of all cells within its own.
    coarse = torch.tensor([[1.0, 2.0]]).view(1, 1, 1, 1, 2)
    assert on_grid(coarse, torch.zeros(1, 2, 9, 2, 4)).flatten().tolist() == [1.0, 1.0, 2.0, 2.0] * 4


def test_any_exported_encoder_teaches_any_other(tmp_path):
    """A transformer over time and space, loaded by its spec, into a network of single frames."""
    teacher = VideoViT(dim=24, depth=1, num_heads=2, patch_px=4, tubelet_frames=2)
    export_encoder(teacher, tmp_path / "teacher.safetensors")
    loaded = load_encoder(tmp_path / "teacher.safetensors")
    distillation = method(teacher=loaded)
    losses = distillation(batch(num_frames=4), 0.0)
    losses["loss"].backward()
    assert losses["loss"].detach().isfinite() and losses["feature_difference"] > 0.1
    assert isinstance(distillation.head[0], nn.Conv2d) and distillation.head[0].out_channels == 24
