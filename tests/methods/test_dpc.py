import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from allocations import Allocations
from torch import nn

from vidssl import Batch
from vidssl.methods import DPC
from vidssl.methods.video.dpc import ConvGRUCell
from vidssl.models import ConvNet

NUM_BLOCKS, NUM_PREDICTED, NUM_CELLS = 4, 2, 4


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


def method(**options) -> DPC:
    net = ConvNet(widths=(6, 6), strides=(2, 2), norm="group")
    options = {"dropout": 0.0, **options}
    return DPC(net, view=Whole(), num_blocks=NUM_BLOCKS, num_predicted=NUM_PREDICTED, dim=5, **options)


def batch(num_clips: int = 3) -> Batch:
    """Clips of 8 frames of noise, 8 px: two frames a block, 2 x 2 cells."""
    video = torch.randint(256, (num_clips, 1, 8, 3, 8, 8), dtype=torch.uint8)
    index = torch.arange(num_clips)
    return Batch(index=index, video=video, seed=index, source_id=index)


def rows(learner: DPC, clips: Batch) -> list[tuple[tuple[int, int, int], torch.Tensor, torch.Tensor]]:
    """(clip, step, cell), prediction and target of every predicted cell, block by block and cell by cell."""
    found = []
    for b, video in enumerate(clips.video[:, 0].float() / 255):
        blocks = []
        for n in range(NUM_BLOCKS):
            frames = [learner.encoder.features(video[None, None, 2 * n + t])[0, 0] for t in range(2)]
            blocks.append(learner.project((frames[0] + frames[1])[None] / 2)[0])  # (E, 2, 2)
        for cell in range(NUM_CELLS):
            place = (slice(None), cell // 2, cell % 2)
            state = torch.zeros(5)

            def update(state, features):
                def linear(layer, *parts):
                    return layer.weight[:, :, 0, 0] @ torch.cat(parts) + layer.bias

                gates = linear(learner.aggregate.gates, features, state).sigmoid()
                update, reset = gates[:5], gates[5:]
                candidate = linear(learner.aggregate.candidate, features, reset * state).tanh()
                return (1 - update) * state + update * candidate

            for n in range(NUM_BLOCKS - NUM_PREDICTED):
                state = update(state, blocks[n][place].relu())
            for step in range(NUM_PREDICTED):
                prediction = learner.predictor(state.view(1, 5, 1, 1)).flatten()
                found.append(((b, step, cell), prediction, blocks[NUM_BLOCKS - NUM_PREDICTED + step][place]))
                state = update(state, prediction.relu())
    return found


@pytest.mark.parametrize("within", [True, False])
def test_loss_equals_the_equations_written_out(within):
    learner, clips = method(within_video_negatives=within), batch()
    clips = replace(clips, source_id=torch.tensor([7, 8, 7]))  # the first and the last clip: one recording
    with torch.no_grad():
        found, cells = learner(clips, 0.0), rows(learner, clips)
        total = hits = chance = 0.0
        for place, prediction, target in cells:
            positive, negatives = float(prediction @ target), []
            for other, _, candidate in cells:
                one_clip = other[0] == place[0]
                one_recording = {other[0], place[0]} == {0, 2}
                if other != place and not one_recording and (within or not one_clip):
                    negatives.append(float(prediction @ candidate))
            total -= positive - math.log(sum(map(math.exp, [positive, *negatives])))
            hits += positive > max(negatives)
            chance += 1 / (1 + len(negatives))
    assert float(found["loss"]) == pytest.approx(total / len(cells), abs=1e-5)
    assert float(found["accuracy"]) == pytest.approx(hits / len(cells), abs=1e-5)
    assert float(found["chance"]) == pytest.approx(chance / len(cells), abs=1e-5)


def test_accuracies_among_groups_of_candidates_equal_loops():
    learner, clips = method(), batch(5)
    clips = replace(clips, source_id=torch.tensor([0, 1, 2, 3, 3]))
    with torch.no_grad():
        found, cells = learner(clips, 0.0), rows(learner, clips)
    groups = {
        "within_video": lambda a, b: a[0] == b[0],
        "other_steps": lambda a, b: a[0] == b[0] and a[2] == b[2],
        "other_videos": lambda a, b: a[1:] == b[1:] and {a[0], b[0]} != {3, 4},
    }
    for name, allowed in groups.items():
        hits = chance = 0.0
        for place, prediction, target in cells:
            scores = [float(prediction @ candidate) for other, _, candidate in cells if allowed(place, other)]
            hits += float(prediction @ target) >= max(scores) - 1e-6
            chance += 1 / len(scores)
        assert float(found[f"accuracy_{name}"]) == pytest.approx(hits / len(cells), abs=1e-5), name
        assert float(found[f"chance_{name}"]) == pytest.approx(chance / len(cells), abs=1e-5), name
    assert float(found["chance_within_video"]) == pytest.approx(1 / 8)
    assert float(found["chance_other_steps"]) == pytest.approx(1 / 2)


def test_the_first_loss_is_the_logarithm_of_the_number_of_candidates():
    learner, clips = method(), batch(4)
    nn.init.zeros_(learner.predictor[2].weight)
    nn.init.zeros_(learner.predictor[2].bias)
    with torch.no_grad():
        loss = learner(clips, 0.0)
    assert float(loss["loss"]) == pytest.approx(math.log(4 * NUM_PREDICTED * NUM_CELLS))
    assert float(loss["nce_over_chance"]) == pytest.approx(1.0)


def test_predictions_do_not_see_the_future():
    learner = method()
    video = torch.rand(2, 8, 3, 8, 8, requires_grad=True)
    learner.predict(learner.blocks(video)[:, :-NUM_PREDICTED]).square().sum().backward()
    seen = video.grad.abs().sum((0, 2, 3, 4)) > 0
    assert seen.tolist() == [True] * 4 + [False] * 4


def test_the_cell_starts_orthogonal_and_gates_as_a_gru():
    cell, oracle = ConvGRUCell(4), nn.GRUCell(4, 4)
    weight = cell.gates.weight.flatten(1)
    torch.testing.assert_close(weight @ weight.T, torch.eye(8), atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        # torch resets after the product with the state, this unit before: without that product they agree.
        cell.candidate.weight[:, 4:] = 0
        update, reset = weight.chunk(2)
        new = cell.candidate.weight.flatten(1)
        # torch's gates are (reset, update, new), and its update gate is the share of the old state.
        oracle.weight_ih.copy_(torch.cat([reset[:, :4], -update[:, :4], new[:, :4]]))
        oracle.weight_hh.copy_(torch.cat([reset[:, 4:], -update[:, 4:], new[:, 4:]]))
        oracle.bias_ih.zero_()
        oracle.bias_hh.zero_()
        features, state = torch.randn(3, 4), torch.randn(3, 4)
        found = cell(features[..., None, None], state[..., None, None])[..., 0, 0]
        torch.testing.assert_close(found, oracle(features, state), atol=1e-5, rtol=1e-5)


def contrast_of_looks(**options) -> dict[str, float]:
    """Predictions that know what each video looks like, and nothing of time or place."""
    learner, num_clips = method(**options), 32
    generator = torch.Generator().manual_seed(0)
    looks = 3 * F.normalize(torch.randn(num_clips, 16, generator=generator))
    looks = looks.repeat_interleave(NUM_PREDICTED * NUM_CELLS, dim=0)
    # Features of a cell: the look of its video, and a little of its own.
    features = looks + 0.1 * torch.randn(looks.shape, generator=generator)
    index = torch.arange(num_clips)
    clips = Batch(index=index, source_id=index)
    return {name: float(value) for name, value in learner.contrast(looks @ features.T, clips, num_cells=4).items()}


def test_knowing_the_look_of_a_video_is_no_knowledge_of_time():
    """The shortcut: with negatives of other videos only it solves the task, and within the video it is at chance."""
    easy = contrast_of_looks(within_video_negatives=False)
    assert easy["accuracy"] > 0.95
    hard = contrast_of_looks()
    assert hard["accuracy"] < 0.25
    for found in (easy, hard):
        assert found["accuracy_other_videos"] > 0.95
        assert found["accuracy_within_video"] == pytest.approx(found["chance_within_video"], abs=0.07)
        assert found["accuracy_other_steps"] == pytest.approx(found["chance_other_steps"], abs=0.1)


@pytest.mark.parametrize("within", [True, False])
def test_logits_are_copied_twice_at_a_time(within):
    """Without the candidates that do not count, and their softmax: no copy for what is logged, no mask of integers.

    A third one counts the candidates, before.
    """
    clips = batch(12)
    logits = torch.randn(12 * NUM_PREDICTED * NUM_CELLS, 12 * NUM_PREDICTED * NUM_CELLS, requires_grad=True)
    with Allocations() as made:
        method(within_video_negatives=within).contrast(logits, clips, num_cells=NUM_CELLS)
    as_large = [size for size in made.sizes_bytes if size >= logits.numel() * 4]
    assert as_large == [logits.numel() * 4] * 3  # the third is gone when the other two are made
    assert made.sizes_bytes.count(logits.numel()) <= 2  # masks of bools


def test_the_state_is_dropped_in_training_alone():
    cell = method(dropout=0.5).aggregate
    features, state = torch.randn(2, 20, 5, 2, 2).unbind()
    new = cell(features, state)
    whole = cell.eval()(features, state)
    assert 0.35 < float((new == 0).float().mean()) < 0.65  # of 400
    torch.testing.assert_close(new, (2 * whole).where(new != 0, 0))
    assert DPC(ConvNet(widths=(6,), strides=(2,)), view=Whole()).aggregate.dropout.p == 0.1


def test_the_predictor_starts_orthogonal():
    for layer in (0, 2):
        weight = method().predictor[layer].weight.flatten(1)
        torch.testing.assert_close(weight @ weight.T, torch.eye(5), atol=1e-5, rtol=1e-5)
        assert (method().predictor[layer].bias == 0).all()


def test_frames_are_jittered_each_by_itself():
    class Shade(nn.Module):
        """Brighten by a number drawn from the seed."""

        def forward(self, video, seed):
            return video * 0 + (seed % 1000)[:, None, None, None, None] / 1000

    learner = method(frame_view=Shade())
    seen: list[torch.Tensor] = []
    learner.encoder.features = lambda video: seen.append(video) or torch.zeros(len(video), 2, 6, 2, 2)
    learner(batch(2), 0.0)
    shades = seen[0][:, :, 0, 0, 0].flatten()  # 16 frames
    assert len(shades.unique()) == 16
