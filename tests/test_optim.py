import copy
import math
from functools import partial

import pytest
import torch
from allocations import Allocations
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


def test_a_warmup_may_start_above_zero():
    schedule = optim.warmup(optim.cosine(6.0, 1.0), share=0.25, start=2.0)
    assert [schedule(p) for p in (0.0, 0.125, 0.25, 0.625, 1.0)] == pytest.approx([2, 4, 6, 3.5, 1])


def test_a_stretched_schedule_ends_before_its_end():
    # V-JEPA: 40 epochs of warm-up, then a cosine that would end at epoch 375; training ends at epoch 300.
    schedule = optim.stretched(optim.warmup(optim.cosine(6.25e-4, 1e-6), share=40 / 375, start=2e-4), by=1.25)
    assert schedule(20 / 300) == pytest.approx((2e-4 + 6.25e-4) / 2)
    assert schedule(40 / 300) == pytest.approx(6.25e-4)
    assert schedule(1.0) == pytest.approx(1e-6 + 6.24e-4 * (1 + math.cos(math.pi * 260 / 335)) / 2)
    assert optim.stretched(optim.linear(0.0, 1.0), by=4)(1.0) == 0.25
    with pytest.raises(ValueError, match=r"by is 0.8, expected .* at least 1"):
        optim.stretched(optim.constant(1.0), by=0.8)


def test_rates_are_scaled_by_the_samples_of_all_processes(monkeypatch):
    assert optim.scaled_rate(1.5e-4, batch_size=64, per=256) == pytest.approx(1.5e-4 / 4)
    monkeypatch.setenv("WORLD_SIZE", "64")
    assert optim.scaled_rate(1.5e-4, batch_size=64, per=256) == pytest.approx(1.5e-4 / 4)  # torchrun sets both
    monkeypatch.setenv("RANK", "3")
    assert optim.scaled_rate(1.5e-4, batch_size=64, per=256) == pytest.approx(2.4e-3)  # MAE's, 4096 a step
    assert optim.scaled_rate(0.3, batch_size=64, per=512) == pytest.approx(2.4)


def lars_by_hand(weights, gradients, rates, *, momentum, weight_decay, trust, classic_momentum):
    """One tensor, number by number, as lars_optimizer.py of SimCLR or optimizers.py of BYOL; vectors not adapted."""
    is_matrix, shape = weights.ndim > 1, weights.shape
    values, moved = weights.flatten().tolist(), [0.0] * weights.numel()
    for gradient, rate in zip(gradients, rates, strict=True):
        update = [g + weight_decay * w for g, w in zip(gradient.flatten().tolist(), values, strict=True)]
        norms = math.hypot(*values), math.hypot(*update)
        ratio = trust * norms[0] / norms[1] if is_matrix and min(norms) > 0 else 1.0
        inside, outside = (rate, 1.0) if classic_momentum else (1.0, rate)
        moved = [momentum * m + inside * ratio * u for m, u in zip(moved, update, strict=True)]
        values = [w - outside * m for w, m in zip(values, moved, strict=True)]
    return torch.tensor(values, dtype=torch.float64).view(shape)


@pytest.mark.parametrize("classic_momentum", [True, False])
def test_lars_equals_the_official_code_while_the_rate_changes(classic_momentum):
    torch.manual_seed(0)
    schedule = optim.warmup(optim.cosine(2.0), share=0.1)
    rates = [schedule(step / 100) for step in range(100)]
    matrix, zeros, kernel, bias = (
        nn.Parameter(value)
        for value in (torch.randn(3, 5), torch.zeros(2, 2), torch.randn(2, 3, 3, 3), torch.randn(4))
    )
    still = nn.Parameter(torch.ones(2, 2))  # gets no gradient
    groups = [{"params": [matrix, zeros, still, kernel]}, {"params": [bias], "weight_decay": 0.0}]
    constants = {"momentum": 0.8, "trust": 0.02, "classic_momentum": classic_momentum}
    optimizer = optim.LARS(groups, lr=1.0, weight_decay=0.05, **constants)
    gradients = {parameter: torch.randn(100, *parameter.shape) for parameter in (matrix, zeros, kernel, bias)}
    expected = {
        parameter: lars_by_hand(parameter.detach(), gradient, rates, **constants, weight_decay=decay)
        for (parameter, gradient), decay in zip(gradients.items(), (0.05, 0.05, 0.05, 0.0), strict=True)
    }
    for step, rate in enumerate(rates):
        for group in optimizer.param_groups:
            group["lr"] = rate
        for parameter, gradient in gradients.items():
            parameter.grad = gradient[step].clone()
        optimizer.step()
    for parameter, gradient in gradients.items():
        torch.testing.assert_close(parameter.double(), expected[parameter], rtol=1e-6, atol=1e-6)
        assert torch.equal(parameter.grad, gradient[-1])  # it is the caller's
    assert torch.equal(still, torch.ones(2, 2)) and still not in optimizer.state


def test_lars_goes_on_from_a_state_that_kept_the_rate_apart():
    """At a constant rate both sums give the same steps; groups of then name no kind of sum."""
    weight = nn.Parameter(torch.tensor([[3.0, 4.0]]))
    optimizer = optim.LARS([weight], lr=0.1)
    weight.grad = torch.tensor([[1.0, -2.0]])
    optimizer.step()
    new = optimizer.state_dict()
    (group,) = new["param_groups"]
    groups = [{name: value for name, value in group.items() if name != "classic_momentum"}]
    velocity = new["state"][0]["displacement"] / 0.1
    old = {"state": {0: {"velocity": velocity}}, "param_groups": groups}
    other, outside = optim.LARS([weight], lr=7.0), optim.LARS([weight], lr=7.0, classic_momentum=False)
    other.load_state_dict(old)
    torch.testing.assert_close(other.state[weight], dict(optimizer.state[weight]))
    outside.load_state_dict(old)
    assert torch.equal(outside.state[weight]["velocity"], velocity)
    for each in (other, outside):
        each.step()


def test_lars_asks_for_the_memory_of_its_updates_alone():
    """Moving sums are made in the first step."""
    weight = nn.Parameter(torch.ones(64, 64))
    optimizer = optim.LARS([weight], lr=0.1)
    for expected in (2, 1, 1):
        weight.grad = torch.ones(64, 64)
        with Allocations() as asked:
            optimizer.step()
        assert asked.sizes_bytes.count(4 * 64 * 64) == expected


def test_lars_of_vectors_moves_them_in_proportion_to_their_norm():
    """As apex's LARC: 0.001 * 5 / 13 of a gradient of norm 13, where SGD would take all of it."""
    vector = nn.Parameter(torch.tensor([3.0, 4.0]))
    vector.grad = torch.tensor([5.0, 12.0])
    optim.LARS([vector], lr=2.0, vectors=True).step()
    step = 2 * 0.001 * 5 / 13
    assert vector.tolist() == pytest.approx([3 - 5 * step, 4 - 12 * step])


def test_plain_sgd_lets_all_parameters_decay():
    """Two steps without gradient; groups keep what else they say."""
    matrix, vector = (nn.Parameter(torch.ones(shape)) for shape in ((2, 2), (2,)))
    groups = [{"params": [matrix]}, {"params": [vector], "weight_decay": 0.0, "lr_scale": 2.0}]
    optimizer = optim.plain_sgd(groups, lr=0.1, momentum=0.9, weight_decay=0.5)
    for parameter in (matrix, vector):
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.step()
    once = 1 - 0.1 * 0.5
    assert torch.allclose(vector, torch.full((2,), once - 0.1 * (0.9 * 0.5 + 0.5 * once)))
    assert torch.equal(matrix[0], vector) and optimizer.param_groups[1]["lr_scale"] == 2.0
    assert groups[1]["weight_decay"] == 0.0


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
