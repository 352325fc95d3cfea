import math
import shutil
from functools import partial

import pytest
import torch
from torch import nn

from vidssl import Batch, Run, fit, optim
from vidssl.augment import GaussianNoise, Pipeline, RandomInvert, RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.evidence import worlds
from vidssl.methods import DINO
from vidssl.methods.image.dino import DINOHead
from vidssl.models import ConvNet
from vidssl.ops import draws


def method(**options) -> DINO:
    encoder = ConvNet(widths=(8, 16), strides=(2, 2))
    head = DINOHead(encoder.dim, num_prototypes=7, hidden_dim=12, bottleneck_dim=6)
    views = {
        "global_views": (RandomResizedCrop(16), RandomResizedCrop(16, flip=0)),
        "local_view": RandomResizedCrop(8),
    }
    return DINO(encoder, **{**views, "num_local_views": 3, "head": head, **options})


def batch(video: torch.Tensor | None = None) -> Batch:
    video = torch.randint(256, (5, 1, 3, 24, 24), dtype=torch.uint8) if video is None else video
    return Batch(index=torch.arange(len(video)), video=video[:, None], seed=torch.arange(len(video)))


def shake(module: nn.Module, size: float) -> None:
    with torch.no_grad():
        for p in module.parameters():
            p.add_(size * torch.randn_like(p))


@pytest.mark.parametrize("num_local_views", [0, 3])
def test_loss_equals_the_equation_written_out(num_local_views):
    """Eq. 3: every pair of a large teacher crop and another student crop, mean over pairs and clips."""
    dino, clips = method(num_local_views=num_local_views).eval(), batch()
    shake(dino.teacher, 0.1)
    dino.center.copy_(0.1 * torch.randn(7))
    with torch.no_grad():
        loss = dino(clips, 0.0)["loss"]
        video, seed = clips.video[:, 0], clips.seed
        crops = [view(video, draws.mix(seed, n)) for n, view in enumerate(dino.global_views)]
        crops += [dino.local_view(video, draws.mix(seed, 2 + n)) for n in range(num_local_views)]
        total, num_pairs = 0.0, 0
        for t in range(2):
            for v in range(len(crops)):
                if v == t:
                    continue
                num_pairs += 1
                for clip in range(5):
                    scores = dino.teacher(crops[t])[clip].double()
                    p = [math.exp(float(s - c) / 0.04) for s, c in zip(scores, dino.center, strict=True)]
                    q = [math.exp(float(s) / 0.1) for s in dino.student(crops[v])[clip].double()]
                    total -= sum(a / sum(p) * math.log(b / sum(q)) for a, b in zip(p, q, strict=True)) / 5
    assert num_pairs == 2 + 2 * num_local_views
    assert loss.item() == pytest.approx(total / num_pairs, abs=1e-5)


def test_equal_scores_cost_the_logarithm_of_the_number_of_prototypes():
    dino = method()
    for network in (dino.student, dino.teacher):
        with torch.no_grad():
            network[1].prototypes.copy_(network[1].prototypes[:1].expand(7, -1))
    logged = dino(batch(), 0.0)
    assert logged["loss"].item() == pytest.approx(math.log(7), abs=1e-5)
    assert logged["teacher_entropy"].item() == pytest.approx(1, abs=1e-5)
    assert logged["cluster_entropy"].item() == pytest.approx(1, abs=1e-5)


def test_the_teacher_sees_large_crops_alone_and_the_student_all():
    dino, sizes = method(), {"teacher": [], "student": []}
    for name in sizes:
        network = getattr(dino, name)
        network.register_forward_pre_hook(lambda _, inputs, name=name: sizes[name].append(inputs[0].shape))
    dino(batch(), 0.0)
    assert sizes["teacher"] == [(10, 1, 3, 16, 16)]
    assert sizes["student"] == [(10, 1, 3, 16, 16), (15, 1, 3, 8, 8)]


def test_the_center_is_a_moving_mean_of_the_scores():
    """Eq. 4, and it takes effect from the next step on."""
    dino, clips = method(center_momentum=0.8), batch()
    scores = []
    dino.teacher.register_forward_hook(lambda module, inputs, output: scores.append(output))
    expected = torch.zeros(7)
    for _ in range(3):
        dino(clips, 0.0)
        expected = 0.8 * expected + 0.2 * scores[-1].mean(0)
        torch.testing.assert_close(dino.center, expected)
    dino.eval()(clips, 0.0)
    torch.testing.assert_close(dino.center, expected)


@pytest.mark.parametrize("norm_last_layer", [True, False])
def test_a_frozen_last_layer_is_unknown_to_the_optimizer_until_it_thaws(norm_last_layer):
    """Its first step is one of Adam's first: the learning rate, whatever the gradient; it was several times that."""
    options = {"num_prototypes": 7, "hidden_dim": 12, "bottleneck_dim": 6, "norm_last_layer": norm_last_layer}
    dino = method(frozen_steps=20, head=DINOHead(16, **options))
    head = dino.student[1]
    assert len(head.last_layer()) == (1 if norm_last_layer else 2)
    start = [parameter.detach().clone() for parameter in head.last_layer()]
    optimizer = torch.optim.Adam(dino.param_groups(), lr=0.01)
    for step in range(21):
        moved = head.mlp[0].weight.detach().clone()
        dino(batch(), 0.0)["loss"].backward()
        # As DistributedDataParallel demands of every parameter.
        assert all(float(parameter.grad.abs().max()) > 0 for parameter in head.last_layer())
        dino.before_step(step, step / 100)
        optimizer.step()
        optimizer.zero_grad()
        assert not torch.equal(head.mlp[0].weight, moved)
        for parameter, first in zip(head.last_layer(), start, strict=True):
            if step < 20:
                assert torch.equal(parameter, first) and parameter not in optimizer.state
            else:
                assert optimizer.state[parameter]["step"] == 1
                assert float((parameter.detach() - first).abs().max()) == pytest.approx(0.01, rel=1e-3)


def training(frozen_steps: int) -> Run:
    torch.manual_seed(0)
    made = method(frozen_steps=frozen_steps)
    images, _ = worlds.letters(8, seed=0)
    return Run(
        method=made,
        dataset=ArrayDataset(images, clips=made.clips),
        optimizer=partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.1),
        learning_rate=optim.constant(1e-3),
        steps=4,
        batch_size=4,
    )


def test_fit_freezes_for_the_steps_asked_for_and_goes_on_where_it_stood(tmp_path):
    """Three steps of four; weight decay moves nothing either. It stops before the last, the first that moves."""
    whole, stopped, moved = tmp_path / "whole", tmp_path / "stopped", []
    run = training(3)
    prototypes, after_step = run.method.student[1].prototypes, run.method.after_step
    start = prototypes.detach().clone()

    def followed(progress):
        moved.append(not torch.equal(prototypes, start))
        after_step(progress)

    run.method.after_step = followed
    trained = fit(run, out=whole, save_every=1, picture_every=100)
    assert moved == [False, False, False, True]
    shutil.copytree(whole / "checkpoints" / "step_00000003", stopped / "checkpoints" / "step_00000003")
    resumed = fit(training(3), out=stopped, save_every=1, picture_every=100)
    for name, value in trained.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_lengths_of_prototypes_are_fixed_or_learned_as_torchs_weight_norm_has_them():
    features = torch.randn(5, 16)
    free = DINOHead(16, num_prototypes=7, hidden_dim=12, bottleneck_dim=6, norm_last_layer=False)
    linear = nn.Linear(6, 7, bias=False)
    with torch.no_grad():
        linear.weight.copy_(free.prototypes)
        free.lengths.copy_(torch.rand(7, 1) + 0.5)
    linear = nn.utils.parametrizations.weight_norm(linear)
    direction = linear.parametrizations.weight.original1
    length = linear.parametrizations.weight.original0
    with torch.no_grad():
        length.copy_(free.lengths)
    scores, expected = free(features), linear(nn.functional.normalize(free.mlp(features), dim=1))
    torch.testing.assert_close(scores, expected, atol=1e-6, rtol=1e-6)
    weights = torch.randn(5, 7)
    (scores * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(free.prototypes.grad, direction.grad, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(free.lengths.grad, length.grad, atol=1e-5, rtol=1e-5)
    fixed = DINOHead(16, num_prototypes=7, hidden_dim=12, bottleneck_dim=6)
    assert [name for name, _ in fixed.named_parameters() if "mlp" not in name] == ["prototypes"]
    # Drawn as nn.Linear draws its weights.
    assert 0.9 / math.sqrt(6) < float(fixed.prototypes.detach().abs().max()) <= 1 / math.sqrt(6)


def test_only_the_student_gets_a_gradient_and_the_teacher_is_kept():
    dino = method()
    dino(batch(), 0.0)["loss"].backward()
    assert not any(p.requires_grad or p.grad is not None for p in dino.teacher.parameters())
    assert float(dino.student[0].net[0].weight.grad.abs().max()) > 0
    assert dino.encoder is dino.teacher[0]


@pytest.mark.parametrize(("momentum", "progress"), [(0.0, 0.0), (0.9, 0.5), (1.0, 0.3), (0.2, 1.0)])
def test_the_teacher_follows_by_a_momentum_that_rises_to_1(momentum, progress):
    dino = method(momentum=momentum)
    start = [p.clone() for p in dino.teacher.parameters()]
    shake(dino.student, 1.0)
    dino.after_step(progress)
    share = 1 - (1 - momentum) * (math.cos(math.pi * progress) + 1) / 2
    for now, old, new in zip(dino.teacher.parameters(), start, dino.student.parameters(), strict=True):
        torch.testing.assert_close(now, share * old + (1 - share) * new)


def test_the_teacher_keeps_its_own_batch_statistics():
    dino = method(momentum=0.0)
    dino(batch(), 0.0)
    own = dino.teacher[0].net[1].running_mean
    before = own.clone()
    assert float(before.abs().max()) > 1e-3 and not torch.allclose(dino.student[0].net[1].running_mean, own)
    dino.after_step(0.0)
    torch.testing.assert_close(own, before, atol=0, rtol=0)


def test_the_scores_are_cosines_and_stay_float32_under_autocast():
    head, features = DINOHead(16, num_prototypes=7, hidden_dim=12, bottleneck_dim=6), torch.randn(5, 16)
    with torch.no_grad():
        scores = head(features)
        for row, vector in zip(scores, head.mlp(features), strict=True):
            for score, prototype in zip(row, head.prototypes, strict=True):
                cosine = float(vector @ prototype) / float(vector.norm() * prototype.norm())
                assert float(score) == pytest.approx(cosine, abs=1e-5)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert head(features).dtype == torch.float32


def train(teacher_temperature: float = 0.02, **options) -> dict[str, float]:
    """Sixty steps on letters: what the method logged last."""
    encoder = ConvNet(widths=(8, 16), strides=(2, 2), color="gray", standardize=True)
    head = DINOHead(encoder.dim, num_prototypes=16, hidden_dim=32, bottleneck_dim=16, batch_norm=True)
    view = Pipeline(RandomResizedCrop(16, scale=(0.5, 1), flip=0), RandomInvert(), GaussianNoise(std=0.05))
    dino = DINO(
        encoder,
        global_views=(view, view),
        local_view=view,
        num_local_views=0,
        head=head,
        momentum=0.97,
        teacher_temperature=lambda progress: teacher_temperature,
        **options,
    )
    images, _ = worlds.letters(64, seed=0)
    optimizer = torch.optim.AdamW(dino.student.parameters(), lr=5e-3)
    logged: dict[str, torch.Tensor] = {}
    for step in range(60):
        clips = Batch(index=torch.arange(64), video=images[:, None], seed=torch.arange(64) + 64 * step)
        logged = dino(clips, step / 60)
        logged["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        dino.after_step(step / 60)
    return {name: value.item() for name, value in logged.items()}


def test_centering_and_sharpening_hold_off_a_collapse_each():
    healthy = train()
    uncentered = train(center_momentum=1.0)  # the centre stays at 0
    blunt = train(teacher_temperature=1.0)
    # Each clip has few prototypes, all clips together have many.
    assert healthy["cluster_entropy"] > 0.7 and healthy["teacher_entropy"] < 0.5
    assert uncentered["cluster_entropy"] < 0.05 and uncentered["loss"] < 0.1  # one prototype for all
    assert blunt["teacher_entropy"] > 0.99 and blunt["loss"] == pytest.approx(math.log(16), abs=0.05)
