import dataclasses
import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from tiny_features import chance_band, clouds, perfect
from torch import nn

from vidssl.evaluate.recognition import linear
from vidssl.evaluate.recognition.heads import HeadGrid, evaluate_linear_grid
from vidssl.evaluate.recognition.linear import LEARNING_RATES, evaluate_linear, minimise_cross_entropy
from vidssl.evaluate.recognition.outcome import Samples, hold_out

TEST = {"seed": 1, "first_source": 10_000}
FEW = {"learning_rates": (1e-2, 0.1), "steps": 60, "batch_size": 64}


@pytest.mark.parametrize("penalty", [1e-1, 1e-3])
def test_the_solution_is_that_of_scikit_learn(penalty):
    samples = clouds(200, distance=0.7)
    features = samples.values[:, 0].double()
    features = (features - features.mean(0)) / features.std(0, correction=0)
    oracle = LogisticRegression(C=1 / (penalty * 200), tol=1e-10, max_iter=10_000).fit(features, samples.label)
    weight, bias = minimise_cross_entropy(
        features, samples.label, num_classes=5, penalty=penalty, max_iterations=2000, tolerance=1e-12
    )
    assert np.abs(oracle.coef_.T - weight.numpy()).max() < 1e-5
    # Adding one number to all biases changes nothing.
    assert np.abs(oracle.intercept_ - oracle.intercept_.mean() - (bias - bias.mean()).numpy()).max() < 1e-5
    found = (features @ weight + bias).softmax(1)
    assert np.abs(oracle.predict_proba(features) - found.numpy()).max() < 1e-5
    assert weight.abs().max() > 0.1


def test_features_are_standardised_over_samples_and_views():
    values = torch.tensor([[[9.0, 5.0, 7.0], [2.0, 4.0, 8.0]], [[1.0, 0.1, 0.0], [3.0, 0.1, 0.0]]])
    scale = linear._Scale.of(values, torch.tensor([1]))  # the first sample has no say
    assert scale(values)[1].tolist() == [[-1, 0, 0], [1, 0, 0]]


def test_features_are_standardised_block_by_block(monkeypatch):
    values = torch.randn(20, 2, 3) * 5 + 7
    whole = linear._Scale.of(values, torch.arange(20))
    monkeypatch.setattr(linear, "_BLOCK", 18)  # three samples at once
    blocks = linear._Scale.of(values, torch.arange(20))
    assert torch.allclose(whole.mean, values.double().mean((0, 1)), rtol=1e-12)
    assert torch.allclose(whole.std, values.double().flatten(0, 1).std(0, correction=0), rtol=1e-12)
    assert torch.allclose(blocks.mean, whole.mean, rtol=1e-12) and torch.allclose(
        blocks.std, whole.std, rtol=1e-12
    )


def test_all_of_it_is_that_of_scikit_learn():
    train, test = clouds(200, distance=0.7, num_views=2), clouds(150, distance=0.7, num_views=3, **TEST)
    outcome = evaluate_linear(train, test, penalties=[3e-3])
    assert outcome.chosen["largest_gradient"] < 1e-6
    rows = train.values.flatten(0, 1).double()
    mean, std = rows.mean(0), rows.std(0, correction=0)
    oracle = LogisticRegression(C=1 / (3e-3 * 400), tol=1e-10, max_iter=10_000)
    oracle.fit((rows - mean) / std, train.label.repeat_interleave(2))
    views = [oracle.predict_proba((test.values[:, view].double() - mean) / std) for view in range(3)]
    expected = np.mean(views, axis=0).argmax(1)
    assert np.array_equal(outcome.predicted.numpy(), expected)
    assert outcome.figures["top1"] == (expected == test.label.numpy()).mean()


def test_perfect_features_score_one_and_random_ones_chance():
    assert evaluate_linear(perfect(100), perfect(50, first_source=200)).figures["top1"] == 1
    noise = evaluate_linear(clouds(600, distance=0), clouds(1000, distance=0, **TEST))
    assert noise.figures["top1"] == pytest.approx(1 / 5, abs=chance_band(5, 1000))


def test_the_penalty_is_chosen_on_held_out_recordings():
    # More features than samples: a weak penalty learns the noise by heart.
    train, test = clouds(120, dim=300, distance=0.15), clouds(200, dim=300, distance=0.15, **TEST)
    outcome = evaluate_linear(train, test)
    penalties = [float(name.split("=")[1]) for name in outcome.parts]
    entropies = [part["held_out_cross_entropy"] for part in outcome.parts.values()]
    assert penalties == sorted(penalties, reverse=True) and len(penalties) == 11
    assert min(entropies) < entropies[-1] - 0.1  # the weakest is not the best
    best = max(outcome.parts.values(), key=lambda part: (part["held_out_top1"], -part["held_out_cross_entropy"]))
    assert outcome.parts[f"penalty={outcome.chosen['penalty']:.2g}"] == best
    assert outcome.chosen["num_held_out"] == 12
    # Whatever the test labels are, the choice stays.
    other = evaluate_linear(train, dataclasses.replace(test, label=test.label.roll(1)))
    assert other.chosen == outcome.chosen


def test_a_recording_is_never_on_both_sides():
    # Ten samples of a recording are copies: were they on both sides, a weak penalty would look perfect.
    train = clouds(40, dim=60, distance=0)
    copies = torch.arange(40).repeat_interleave(10)
    train = Samples(train.values[copies], train.label[copies], train.source[copies])
    outcome = evaluate_linear(train, clouds(50, dim=60, distance=0, **TEST))
    assert outcome.chosen["held_out_top1"] < 0.8


def test_units_and_order_do_not_matter():
    train, test = clouds(150, distance=0.7), clouds(100, distance=0.7, **TEST)
    # float64, so that the change of units itself is exact enough.
    train, test = (dataclasses.replace(one, values=one.values.double()) for one in (train, test))
    outcome = evaluate_linear(train, test, penalties=[1e-2])
    scale, shift = torch.logspace(-8, 3, 8).double(), 5 * torch.randn(8).double()
    moved = [dataclasses.replace(one, values=one.values * scale + shift * scale) for one in (train, test)]
    order = torch.randperm(150)
    other = evaluate_linear(moved[0].take(order), moved[1], penalties=[1e-2])
    assert torch.equal(other.predicted, outcome.predicted) and other.figures == outcome.figures


def test_degenerate_data():
    train, test = perfect(20), perfect(10, first_source=50)
    with pytest.raises(ValueError, match="all 9 training samples are of class 0"):
        evaluate_linear(clouds(9, num_classes=1), clouds(5))
    with pytest.raises(ValueError, match="width 5 in one set and 8 in the other"):
        evaluate_linear(train, clouds(5))
    with pytest.raises(ValueError, match="expected numbers above 0"):
        evaluate_linear(train, test, penalties=[0.0])
    # A class without training samples is wrong, and those with are found; numbers may have gaps.
    label = torch.tensor([0, 1, 2, 3, 9])
    outcome = evaluate_linear(
        dataclasses.replace(train, label=torch.tensor([0, 1, 2, 7, 4])[train.label]),
        Samples(torch.eye(5)[:, None], label, torch.arange(50, 55)),
    )
    assert outcome.predicted.tolist() == [0, 1, 2, 7, 4] and outcome.figures["top1"] == 3 / 5
    # Features that are all alike: the most frequent class.
    label = torch.tensor([1, 1, 1, 0, 2, 1])
    flat = Samples(torch.full((6, 1, 3), 0.1), label, torch.arange(6))
    assert evaluate_linear(flat, flat).predicted.tolist() == [1] * 6
    # One recording per class: nothing to choose on, so the middle penalty.
    few = evaluate_linear(perfect(5), test, penalties=[1e-3, 1.0, 1e-2])
    assert few.chosen["penalty"] == 1e-2 and math.isnan(few.chosen["held_out_top1"])
    assert few.figures["top1"] == 1


def test_every_head_is_what_it_would_be_alone():
    train, test = clouds(150, distance=0.7), clouds(100, distance=0.7, **TEST)
    wide = (clouds(150, dim=12, distance=0.7), clouds(100, dim=12, distance=0.7, **TEST))
    together = evaluate_linear_grid({"a": train, "b": wide[0]}, {"a": test, "b": wide[1]}, **FEW)
    for layer, rate in (("a", 1e-2), ("a", 0.1), ("b", 0.1)):
        samples = (train, test) if layer == "a" else wide
        alone = evaluate_linear_grid(
            {layer: samples[0]}, {layer: samples[1]}, **(FEW | {"learning_rates": (rate,)})
        )
        name = f"{layer} lr={rate:g}"
        assert alone.parts[name] == together.parts[name]
    values = [part["top1"] for part in together.parts.values()]
    assert len(set(values)) > 1 and together.figures["top1"] > 0.4


def test_a_head_is_trained_as_torch_would():
    """A linear layer under torch's own SGD and cosine schedule, beside a head of the grid."""
    rates = [0.02, 0.5, 3.0]
    grid = HeadGrid(8, 5, learning_rates=rates, generator=torch.Generator().manual_seed(0))
    samples = clouds(320, distance=0.7)
    layer = nn.Linear(8, 5)
    with torch.no_grad():
        layer.weight.copy_(grid.weight.unflatten(1, (3, 5))[:, 1].T)
        layer.bias.zero_()
    assert layer.weight.std().item() == pytest.approx(0.01, rel=0.3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=rates[1], momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    for step in range(20):
        features, target = samples.values[step::20, 0], samples.label[step::20]
        grid.step(features, target, decay=(1 + math.cos(math.pi * step / 20)) / 2)
        optimizer.zero_grad()
        nn.functional.cross_entropy(layer(features), target).backward()
        optimizer.step()
        schedule.step()
    heads = grid.logits(samples.values[:, 0])
    assert heads.shape == (320, 3, 5)
    expected = layer(samples.values[:, 0])
    assert (heads[:, 1] - expected).abs().max() < 1e-4 * expected.abs().max()
    assert (heads[:, 0] - expected).abs().max() > 0.1 * expected.abs().max()


def test_the_head_is_chosen_on_held_out_recordings():
    noise = clouds(150, distance=0), clouds(100, distance=0, **TEST)
    good = clouds(150, distance=2), clouds(100, distance=2, **TEST)
    train, test = {"noise": noise[0], "good": good[0]}, {"noise": noise[1], "good": good[1]}
    outcome = evaluate_linear_grid(train, test, **FEW)
    assert outcome.chosen["layer"] == "good" and outcome.figures["top1"] > 0.9
    for name, part in outcome.parts.items():
        if name.startswith("noise"):
            assert part["top1"] == pytest.approx(1 / 5, abs=chance_band(5, 100))
    chosen = outcome.parts[f"good lr={outcome.chosen['learning_rate']:g}"]
    assert chosen["held_out_top1"] == max(part["held_out_top1"] for part in outcome.parts.values())
    assert (outcome.chosen["num_train"], outcome.chosen["num_held_out"]) == (135, 15)
    other = evaluate_linear_grid(
        train, {name: dataclasses.replace(one, label=one.label.roll(1)) for name, one in test.items()}, **FEW
    )
    assert other.chosen == outcome.chosen


def test_held_out_samples_are_never_trained_on():
    train, test = clouds(150, distance=0.7), clouds(100, distance=0.7, **TEST)
    _, held = hold_out(train.label, train.source)
    moved = train.values.clone()
    moved[held] += 100
    other = evaluate_linear_grid({"a": dataclasses.replace(train, values=moved)}, {"a": test}, **FEW)
    expected = evaluate_linear_grid({"a": train}, {"a": test}, **FEW)
    for name, part in expected.parts.items():
        assert part["top1"] == other.parts[name]["top1"]
        assert part["held_out_top1"] > other.parts[name]["held_out_top1"]


def test_every_view_is_learnt_from():
    # The class shows in the second view of the training samples alone.
    train, test = clouds(150, num_views=2), clouds(100, **TEST)
    train = dataclasses.replace(train, values=torch.stack([0 * train.values[:, 0], 3 * train.values[:, 1]], dim=1))
    assert evaluate_linear_grid({"a": train}, {"a": test}, **FEW).figures["top1"] > 0.5


def test_the_grid_refuses_what_does_not_fit():
    train, test = clouds(50), clouds(50, **TEST)
    with pytest.raises(ValueError, match=r"layers \['a'\], test features of \['b'\]"):
        evaluate_linear_grid({"a": train}, {"b": test})
    with pytest.raises(ValueError, match="layers a and b hold different training samples"):
        evaluate_linear_grid({"a": train, "b": clouds(49)}, {"a": test, "b": test})
    with pytest.raises(ValueError, match="a single recording"):
        evaluate_linear_grid({"a": perfect(5)}, {"a": perfect(5)})
    assert len(LEARNING_RATES) == 13
