import copy
import math
from functools import partial

import pytest
import torch
from torch import nn

from vidssl import optim
from vidssl.method import Method


def test_schedules_have_their_closed_forms():
    assert optim.constant(3.0)(0.7) == 3.0
    assert optim.linear(1.0, 5.0)(0.25) == 2.0
    assert optim.cosine(0.996, 1.0)(0.5) == pytest.approx(0.998)
    assert optim.cosine(1.0)(1 / 3) == pytest.approx(0.75)
    stepped = optim.steps(1.0, factor=0.1, at=(0.5, 0.8))
    assert [stepped(p) for p in (0.0, 0.49, 0.5, 0.79, 0.8)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_warmup_rises_linearly_then_runs_the_whole_schedule():
    schedule = optim.warmup(optim.cosine(2.0), share=0.1)
    assert [schedule(p) for p in (0.0, 0.05, 0.1, 0.55, 1.0)] == pytest.approx([0, 1, 2, 1, 0])
    with pytest.raises(ValueError, match="share is 1"):
        optim.warmup(optim.constant(1.0), share=1)


def test_lars_takes_the_step_of_the_paper():
    matrix, bias = nn.Parameter(torch.tensor([[3.0, 4.0]])), nn.Parameter(torch.tensor([3.0]))
    optimizer = optim.LARS([matrix, bias], lr=0.1, momentum=0.9, weight_decay=0.5, trust=0.01)
    velocity, expected, expected_bias = [0.0, 0.0], [3.0, 4.0], 3.0
    bias_velocity = 0.0
    for _ in range(3):
        matrix.grad, bias.grad = torch.tensor([[1.0, -2.0]]), torch.tensor([2.0])
        optimizer.step()
        update = [g + 0.5 * w for g, w in zip((1.0, -2.0), expected, strict=True)]
        scale = 0.01 * math.hypot(*expected) / math.hypot(*update)
        velocity = [0.9 * v + scale * u for v, u in zip(velocity, update, strict=True)]
        expected = [w - 0.1 * v for w, v in zip(expected, velocity, strict=True)]
        bias_velocity = 0.9 * bias_velocity + 2.0 + 0.5 * expected_bias
        expected_bias -= 0.1 * bias_velocity
    assert matrix.tolist()[0] == pytest.approx(expected, rel=1e-6)
    assert bias.item() == pytest.approx(expected_bias, rel=1e-6)


def test_lars_moves_a_zero_matrix_like_sgd():
    weight = nn.Parameter(torch.zeros(1, 2))
    weight.grad = torch.tensor([[1.0, 2.0]])
    optim.LARS([weight], lr=0.1).step()
    assert weight.tolist()[0] == pytest.approx([-0.1, -0.2])


def test_default_groups_spare_vectors_from_decay_and_hold_each_parameter_once():
    class Small(Method):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
            self.encoder[2].bias.requires_grad_(False)

    method = Small()
    decayed, spared = method.param_groups()
    assert [tuple(p.shape) for p in decayed["params"]] == [(4, 3, 3, 3), (2, 4)]
    assert [tuple(p.shape) for p in spared["params"]] == [(4,), (4,), (4,)]
    assert spared["weight_decay"] == 0.0 and "weight_decay" not in decayed


OPTIMIZERS = [
    partial(torch.optim.AdamW, lr=0.1, weight_decay=0.05),
    partial(torch.optim.Adam, lr=0.1),
]


def steps(optimizer, parameters, first: int, last: int) -> None:
    for number in range(first, last):
        for size, parameter in enumerate(parameters):
            parameter.grad = torch.full_like(parameter, math.sin(number + size)) + 0.1 * parameter
        optimizer.step()


@pytest.mark.parametrize("build", OPTIMIZERS)
def test_a_fused_optimizer_takes_the_same_steps_and_can_be_continued(build):
    def parameters():
        return [nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4)), nn.Parameter(torch.ones(5))]

    plain, fused, continued = parameters(), parameters(), parameters()
    steps(build(plain, foreach=False), plain, 0, 6)
    first = optim.fuse(build(fused))
    assert first.param_groups[0]["fused"] is True
    steps(first, fused, 0, 3)
    second = optim.fuse(build(continued))
    with torch.no_grad():
        for mine, theirs in zip(continued, fused, strict=True):
            mine.copy_(theirs)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    steps(first, fused, 3, 6)
    steps(second, continued, 3, 6)
    for one, other, again in zip(plain, fused, continued, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
        assert torch.equal(other, again)


@pytest.mark.parametrize("build", [*OPTIMIZERS, partial(torch.optim.SGD, lr=0.1, momentum=0.9)])
def test_parameters_drawn_anew_start_without_moments(build):
    """As DeepCluster's head does after every clustering (Epoch.forget)."""
    kept, drawn, fresh = (nn.Parameter(torch.linspace(-1, 1, 6)) for _ in range(3))
    both, alone = optim.fuse(build([kept, drawn])), optim.fuse(build([fresh]))
    steps(both, [kept, drawn], 0, 2)
    with torch.no_grad():
        drawn.copy_(fresh)
    both.state.pop(drawn)
    for parameter in (kept, drawn, fresh):
        parameter.grad = torch.ones(6)
    both.step()
    alone.step()
    torch.testing.assert_close(drawn, fresh, rtol=0, atol=0)


def test_what_a_recipe_says_of_the_optimizer_stays():
    parameter = [nn.Parameter(torch.zeros(2))]
    assert optim.fuse(torch.optim.AdamW(parameter, fused=False)).param_groups[0]["fused"] is False
    assert optim.fuse(torch.optim.AdamW(parameter, foreach=True)).param_groups[0]["fused"] is None
    assert "fused" not in optim.fuse(optim.LARS(parameter, lr=0.1)).param_groups[0]
