import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vidssl import Batch
from vidssl.augment import RandomResizedCrop
from vidssl.methods import MoCo
from vidssl.methods.image.moco import normalize_in_groups
from vidssl.models import ConvNet
from vidssl.ops import draws

SIZES = {"out_dim": 6, "num_keys": 10, "num_groups": 1, "temperature": 0.3}


def method(**options) -> MoCo:
    encoder = ConvNet(widths=(8, 16), strides=(2, 2))
    return MoCo(encoder, view=RandomResizedCrop(16), **{**SIZES, **options})


def batch(size: int = 4, source_id: list[int] | None = None, seed: int = 0) -> Batch:
    video = torch.randint(256, (size, 1, 1, 3, 24, 24), dtype=torch.uint8)
    sources = None if source_id is None else torch.tensor(source_id)
    return Batch(index=torch.arange(size), video=video, seed=seed + torch.arange(size), source_id=sources)


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape), dim=-1)


def oracle(query, key, queue, source, queue_source, temperature) -> float:
    """Eq. 1 with loops."""
    losses = []
    for i in range(len(query)):
        q = query[i].double() / query[i].double().norm()
        positive = math.exp((q @ key[i].double()).item() / temperature)
        total = positive
        for j in range(len(queue)):
            if queue_source[j] != source[i]:
                total += math.exp((q @ queue[j].double()).item() / temperature)
        losses.append(-math.log(positive / total))
    return sum(losses) / len(losses)


def test_loss_equals_the_equation_written_out():
    moco, query, key = method(), torch.randn(3, 6), unit(3, 6)
    moco.queue_source_id.copy_(torch.tensor([-1, -1, 4, 5, 5, 6, 7, 7, 7, 8]))
    loss, _ = moco.contrast(query, key, torch.tensor([5, 9, 7]))
    expected = oracle(query, key, moco.queue, [5, 9, 7], moco.queue_source_id.tolist(), 0.3)
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_both_ways_are_averaged_and_both_keys_queued():
    moco, clips = method(symmetric=True), batch()
    first, second = (moco.view(clips.video[:, 0], draws.mix(clips.seed, number)) for number in range(2))
    losses, keys = [], []
    for mine, other in ((first, second), (second, first)):
        with torch.no_grad():
            keys.append(F.normalize(moco.teacher(other), dim=1))
        query = moco.projector(moco.encoder(mine))
        losses.append(oracle(query, keys[-1], moco.queue, [0] * 4, [-1] * 10, 0.3))
    assert moco(clips, 0.0)["loss"].item() == pytest.approx(sum(losses) / 2, abs=1e-5)
    torch.testing.assert_close(moco.queue[:8], torch.cat(keys), atol=1e-5, rtol=0)
    assert moco.pointer == 8


def test_equal_embeddings_score_chance():
    moco, equal = method(), torch.ones(3, 6) / math.sqrt(6)
    moco.queue.copy_(equal[:1].expand(10, -1))
    loss, logged = moco.contrast(equal, equal, torch.arange(3))
    assert loss.item() == pytest.approx(math.log(10 + 1), abs=1e-5)
    assert logged["nce_over_chance"].item() == pytest.approx(1, abs=1e-5)


def test_keys_of_one_source_in_the_queue_are_no_negatives():
    moco, equal = method(), torch.ones(2, 6) / math.sqrt(6)
    moco.queue.copy_(equal[:1].expand(10, -1))
    moco.push(equal, torch.tensor([3, 3]))
    loss, _ = moco.contrast(equal, equal, torch.tensor([3, 4]))
    assert loss.item() == pytest.approx((math.log(9) + math.log(11)) / 2, abs=1e-5)


def test_noise_of_the_first_queue_is_a_negative_of_every_source():
    moco = method()
    assert moco.queue_source_id.tolist() == [-1] * 10
    torch.testing.assert_close(moco.queue.norm(dim=1), torch.ones(10))


def test_the_queue_replaces_its_oldest_keys_and_wraps_around():
    moco = method()
    first = moco.queue.clone()
    pushed = unit(12, 6)
    for step in range(3):
        moco.push(pushed[4 * step : 4 * step + 4], torch.arange(4 * step, 4 * step + 4))
        assert int(moco.pointer) == (4, 8, 2)[step]
        if step == 1:
            torch.testing.assert_close(moco.queue[8:], first[8:])  # what is not yet replaced
    torch.testing.assert_close(moco.queue, torch.cat([pushed[10:], pushed[2:10]]))
    assert moco.queue_source_id.tolist() == [10, 11, 2, 3, 4, 5, 6, 7, 8, 9]


def test_a_step_with_more_keys_than_the_queue_holds_is_refused():
    with pytest.raises(ValueError, match="a step makes 12 keys but the queue holds 10"):
        method().push(unit(12, 6), None)


def test_keys_enter_the_queue_after_the_logits():
    """The loss is that of the queue before the step; afterwards the queue holds the keys the teacher made."""
    moco, clips = method(), batch(4, [5, 6, 7, 8])
    before = moco.queue.clone()
    outputs = {}
    moco.projector.register_forward_hook(lambda module, inputs, output: outputs.update(query=output.detach()))
    moco.teacher.register_forward_hook(lambda module, inputs, output: outputs.update(key=output))
    loss = moco(clips, 0.0)["loss"]
    loss.backward()  # also tells that the queue the logits were made of has not changed
    new, source = moco.queue[:4], [5, 6, 7, 8]
    assert loss.item() == pytest.approx(oracle(outputs["query"], new, before, source, [-1] * 10, 0.3), abs=1e-5)
    # One group: the teacher saw the clips in another order, the queue has them in the batch's.
    key, distance = F.normalize(outputs["key"], dim=1), torch.cdist
    assert distance(key, new).argmin(1).sort().values.tolist() == [0, 1, 2, 3]
    assert float(distance(key, new).amin(1).max()) < 1e-5
    assert moco.queue_source_id.tolist() == [5, 6, 7, 8, *[-1] * 6]


def test_keys_come_back_in_the_order_of_the_batch():
    """Without batch statistics groups and order change nothing: each query meets the key of its own clip."""
    clips = batch(8)
    moco = method().eval()
    with torch.no_grad():
        views = [moco.view(clips.video[:, 0], draws.mix(clips.seed, number)) for number in range(2)]
        query, key = moco.projector(moco.encoder(views[0])), F.normalize(moco.teacher(views[1]), dim=1)
        expected = oracle(query, key, moco.queue, [0] * 8, [-1] * 10, 0.3)
        one = moco(clips, 0.0)["loss"]
        normalize_in_groups(moco, 4)
        four = moco(clips, 0.0)["loss"]
    assert one.item() == pytest.approx(expected, abs=1e-5)
    assert four.item() == pytest.approx(expected, abs=1e-5)
    assert int(moco.pointer) == 0  # evaluation leaves the queue alone


def test_query_and_key_do_not_share_their_batch_statistics():
    """P4: no group that normalises keys is one that normalises queries, or the statistics name the positive."""
    moco = method(num_groups=4)
    moco.view = Mark()
    seen: dict[str, list[set[int]]] = {"query": [], "key": []}
    moco.encoder.register_forward_pre_hook(lambda module, inputs: seen["query"].extend(marks(inputs[0], 4)))
    moco.teacher.register_forward_pre_hook(lambda module, inputs: seen["key"].extend(marks(inputs[0], 4)))
    for step in range(5):
        moco.push = lambda key, source_id: None
        moco(batch(16, seed=100 * step), 0.0)
    assert all(len(groups) == 20 and all(len(group) == 4 for group in groups) for groups in seen.values())
    for step in range(5):
        mine = slice(4 * step, 4 * step + 4)
        assert set().union(*seen["key"][mine]) == set().union(*seen["query"][mine])
        assert not [group for group in seen["key"][mine] if group in seen["query"][mine]]
    # Two random groups of 4 of 16 share one clip on average.
    shared = [
        len(a & b)
        for step in range(5)
        for a, b in zip(seen["query"][4 * step : 4 * step + 4], seen["key"][4 * step : 4 * step + 4], strict=True)
    ]
    assert sum(shared) / len(shared) == pytest.approx(1, abs=0.6)


class Mark(nn.Module):
    """A clip of noise whose first pixel is the clip's position in the batch."""

    def forward(self, video, seed):
        view = torch.rand(len(video), 1, 3, 8, 8)
        view[:, 0, 0, 0, 0] = torch.arange(len(video))
        return view


def marks(clips: torch.Tensor, num_groups: int) -> list[set[int]]:
    """Positions of the clips in each group that batch norm sees of a batch."""
    return [set(group[:, 0, 0, 0, 0].int().tolist()) for group in clips.chunk(num_groups)]


@pytest.mark.parametrize("num_frames", [1, 3])
def test_one_pass_in_groups_is_one_pass_for_each_group(num_frames):
    """Outputs, gradients and stored statistics, at one call of the network."""
    encoder = ConvNet(widths=(8, 16), strides=(2, 2))
    network = nn.Sequential(encoder, nn.Linear(16, 6), nn.BatchNorm1d(6))
    looped, grouped = network, copy.deepcopy(network)
    normalize_in_groups(grouped, 4)
    assert list(grouped.state_dict()) == list(looped.state_dict())
    clips, weights = torch.rand(12, num_frames, 3, 16, 16), torch.randn(12, 6)
    calls = []
    grouped[0].register_forward_pre_hook(lambda module, inputs: calls.append(len(inputs[0])))
    for _ in range(2):
        expected = torch.cat([looped(part) for part in clips.chunk(4)])
        found = grouped(clips)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert calls == [12, 12]
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    for mine, other in zip(grouped.parameters(), looped.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-4, rtol=1e-4)
    for name, value in looped.state_dict().items():
        torch.testing.assert_close(grouped.state_dict()[name], value, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found, network(clips), atol=0.1)
    torch.testing.assert_close(
        grouped.eval()(clips[:1]), looped.load_state_dict(grouped.state_dict()) and looped.eval()(clips[:1])
    )


def test_the_first_queue_is_the_same_however_a_process_is_seeded():
    queues = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        queues.append(MoCo(ConvNet(widths=(8,), strides=(2,)), view=nn.Identity(), out_dim=32, num_keys=500).queue)
        assert not torch.equal(torch.get_rng_state(), before)  # weights are drawn from the seed
    assert torch.equal(*queues)
    # Directions at random: cosines of deviation 1 / sqrt(32), none near 1.
    cosines = (queues[0] @ queues[0].T)[~torch.eye(500, dtype=torch.bool)]
    assert float(cosines.std()) == pytest.approx(32**-0.5, rel=0.05) and float(cosines.max()) < 0.9


def test_only_queries_get_a_gradient():
    moco, clips = method(), batch()
    moco(clips, 0.0)["loss"].backward()
    assert all(float(p.grad.abs().max()) > 0 for p in [*moco.encoder.parameters(), moco.projector[0].weight])
    assert not any(p.requires_grad or p.grad is not None for p in moco.teacher.parameters())
    assert not moco.queue.requires_grad


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_the_teacher_follows_by_the_momentum(momentum):
    moco = method(momentum=momentum)
    student = [p for part in (moco.encoder, moco.projector) for p in part.parameters()]
    start = [p.clone() for p in moco.teacher.parameters()]
    with torch.no_grad():
        for p in student:
            p.add_(torch.randn_like(p))
    moco.after_step(0.5)
    for now, old, new in zip(moco.teacher.parameters(), start, student, strict=True):
        torch.testing.assert_close(now, momentum * old + (1 - momentum) * new)


def test_the_teacher_keeps_its_own_batch_statistics():
    moco = method(momentum=0.0)
    moco(batch(), 0.0)
    mine, own = moco.encoder.net[1].running_mean, moco.teacher[0].net[1].running_mean
    before = own.clone()
    assert float(before.abs().max()) > 1e-3 and not torch.allclose(mine, own)
    moco.after_step(0.5)
    torch.testing.assert_close(own, before, atol=0, rtol=0)
