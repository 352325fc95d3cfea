import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from processes import context

from vidssl import Batch
from vidssl.augment import RandomResizedCrop
from vidssl.methods import InstDisc
from vidssl.models import ConvNet
from vidssl.ops import draws

NUM_SAMPLES, DIM, TEMPERATURE = 9, 6, 0.3


def method(**options) -> InstDisc:
    encoder = ConvNet(widths=(8, 16), strides=(2, 2))
    sizes = {"num_samples": NUM_SAMPLES, "out_dim": DIM, "num_negatives": 4, "temperature": TEMPERATURE}
    return InstDisc(encoder, view=RandomResizedCrop(16), **{**sizes, **options})


def batch(index: list[int], source_id: list[int] | None = None) -> Batch:
    video = torch.randint(256, (len(index), 1, 1, 3, 24, 24), dtype=torch.uint8)
    seed = 100 + torch.arange(len(index))
    sources = None if source_id is None else torch.tensor(source_id)
    return Batch(index=torch.tensor(index), video=video, seed=seed, source_id=sources)


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape), dim=-1)


def noise_oracle(embedding, bank, index, drawn, normalizer):
    """Eq. 2, 6 and 7 with loops; `normalizer` None is Eq. 8 over this batch."""
    n, k = len(bank), drawn.shape[1]
    rows = [[int(index[i]), *drawn[i].tolist()] for i in range(len(index))]
    scores = [[(embedding[i] * bank[j]).sum() / TEMPERATURE for j in rows[i]] for i in range(len(index))]
    if normalizer is None:
        values = [math.exp(one.item()) for line in scores for one in line]
        normalizer = n * sum(values) / len(values)
    total = 0.0
    for line in scores:
        for place, score in enumerate(line):
            probability = score.exp() / normalizer
            posterior = probability / (probability + k / n)
            total = total - (posterior.log() if place == 0 else (1 - posterior).log())
    return total / len(index), normalizer


@pytest.mark.parametrize("normalizer", [None, 40.0])
def test_noise_contrast_and_its_gradient_equal_the_equations_written_out(normalizer):
    instdisc, clips = method().eval(), batch([3, 0, 8])
    if normalizer is not None:
        instdisc.normalizer.fill_(normalizer)
    embedding = unit(3, DIM).double().requires_grad_()
    drawn = draws.integers(clips.seed, NUM_SAMPLES, 4)
    expected, used = noise_oracle(embedding, instdisc.bank.double(), clips.index, drawn, normalizer)
    (gradient,) = torch.autograd.grad(expected, embedding)
    single = embedding.detach().float().requires_grad_()
    logits, exclude, _ = instdisc.score(single, clips)
    loss, logged = instdisc.noise_contrast(logits, exclude)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert logged["normalizer"].item() == pytest.approx(used, rel=1e-5)
    torch.testing.assert_close(torch.autograd.grad(loss, single)[0].double(), gradient, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_negatives", [None, 4])
def test_softmax_and_its_gradient_equal_the_equation_written_out(num_negatives):
    """Over all rows (Eq. 2), or over the own row and the drawn ones."""
    instdisc, clips = method(num_negatives=num_negatives, estimator="softmax").eval(), batch([3, 0, 8])
    embedding = unit(3, DIM).requires_grad_()
    drawn = draws.integers(clips.seed, NUM_SAMPLES, 4)
    total = 0.0
    for i, own in enumerate([3, 0, 8]):
        rows = range(NUM_SAMPLES) if num_negatives is None else [own, *drawn[i].tolist()]
        exponentials = [((embedding[i] * instdisc.bank[j]).sum() / TEMPERATURE).exp() for j in rows]
        total = total - (((embedding[i] * instdisc.bank[own]).sum() / TEMPERATURE).exp() / sum(exponentials)).log()
    (expected,) = torch.autograd.grad(total / 3, embedding, retain_graph=True)
    instdisc.encoder.forward = lambda video: embedding
    instdisc.projector = torch.nn.Identity()
    loss = instdisc(clips, 0.0)["loss"]
    assert loss.item() == pytest.approx(total.item() / 3, abs=1e-5)
    # What it is given is brought to length 1: the gradient is that across the embedding.
    across = expected - (expected * embedding).sum(1, keepdim=True) * embedding
    torch.testing.assert_close(torch.autograd.grad(loss, embedding)[0], across, atol=1e-5, rtol=1e-5)


def test_equal_embeddings_score_chance():
    instdisc, clips = method(num_negatives=None, estimator="softmax").eval(), batch([3, 0, 8])
    instdisc.bank.copy_(unit(1, DIM).expand(NUM_SAMPLES, -1))
    assert instdisc(clips, 0.0)["loss"].item() == pytest.approx(math.log(NUM_SAMPLES), abs=1e-5)


def test_the_normalizer_is_that_of_the_first_batch():
    instdisc = method()
    assert float(instdisc.normalizer) == 0
    first = instdisc(batch([1, 2, 3]), 0.0)["normalizer"]
    assert float(instdisc.normalizer) == float(first) > 0
    second = instdisc(batch([4, 5, 6]), 0.0)["normalizer"]
    assert float(second) == float(first)


def test_rows_move_to_the_embeddings_of_their_samples():
    instdisc = method(bank_momentum=0.25)
    before, embedding = instdisc.bank.clone(), unit(3, DIM)
    instdisc.update(embedding, batch([7, 2, 7], [70, 20, 70]))
    for row in range(NUM_SAMPLES):
        expected = before[row]
        if row in (2, 7):  # of the two of sample 7 the last counts
            moved = 0.25 * before[row] + 0.75 * embedding[{2: 1, 7: 2}[row]]
            expected = moved / moved.norm()
        torch.testing.assert_close(instdisc.bank[row], expected)
    assert instdisc.bank_source_id.tolist() == [-1, -1, 20, -1, -1, -1, -1, 70, -1]


def test_the_bank_takes_embeddings_after_the_loss():
    """The loss is that of the rows before the step, and its backward pass does not see them change."""
    for options in ({}, {"estimator": "softmax"}, {"estimator": "softmax", "num_negatives": None}):
        instdisc, clips = method(**options), batch([7, 2, 4])
        before = instdisc.bank.clone()
        loss = instdisc(clips, 0.0)["loss"]
        assert (instdisc.bank != before).any(1).nonzero().flatten().tolist() == [2, 4, 7]
        loss.backward()
        instdisc.bank.copy_(before)
        again = instdisc(clips, 0.0)["loss"]
        assert loss.item() == pytest.approx(again.item(), abs=1e-6)
        after = instdisc.bank.clone()
        instdisc.eval()(clips, 0.0)
        assert torch.equal(instdisc.bank, after)


def test_samples_of_one_source_are_no_negatives():
    """Nine equal rows, of which two others are of the first sample's source."""
    instdisc = method(num_negatives=None, estimator="softmax").eval()
    instdisc.bank.copy_(unit(1, DIM).expand(NUM_SAMPLES, -1))
    instdisc.bank_source_id.copy_(torch.tensor([5, 5, 5, 1, -1, -1, -1, -1, -1]))
    loss = instdisc(batch([1, 3], [5, 1]), 0.0)["loss"]
    assert loss.item() == pytest.approx((math.log(7) + math.log(9)) / 2, abs=1e-5)
    noisy = method()
    noisy.normalizer.fill_(20.0)
    logits = torch.randn(1, 5)
    exclude = torch.tensor([[False, True, False, True, False]])
    probability = logits[0].exp() / 20
    posterior = probability / (probability + 4 / NUM_SAMPLES)
    expected = -posterior[0].log() - (1 - posterior[2]).log() - (1 - posterior[4]).log()
    assert noisy.noise_contrast(logits, exclude)[0].item() == pytest.approx(expected.item(), abs=1e-5)


def test_noise_needs_a_number():
    with pytest.raises(ValueError, match=r'"nce" needs num_negatives, the rows drawn as noise; got None'):
        method(num_negatives=None)


INDEX, SOURCE = [5, 1, 8, 0], [50, 10, 80, 10]


def step(rows: slice) -> dict[str, torch.Tensor]:
    """A step of given embeddings: loss, normalizer and bank."""
    torch.manual_seed(0)
    instdisc, clips, embedding = method(), batch(INDEX, SOURCE), unit(4, DIM)
    part = Batch(index=clips.index[rows], seed=clips.seed[rows], source_id=clips.source_id[rows])
    logits, exclude, _ = instdisc.score(embedding[rows], part)
    loss, logged = instdisc.noise_contrast(logits, exclude)
    instdisc.update(embedding[rows], part)
    return {"loss": loss, "normalizer": logged["normalizer"], "bank": instdisc.bank, "id": instdisc.bank_source_id}


def replica(number: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=2)
    torch.save(step(slice(2 * number, 2 * number + 2)), folder / f"{number}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_are_as_one_with_the_joined_batch(tmp_path):
    replicas = [context.Process(target=replica, args=(number, tmp_path)) for number in range(2)]
    for process in replicas:
        process.start()
    for process in replicas:
        process.join(60)
    first, second = (torch.load(tmp_path / f"{number}.pt", weights_only=True) for number in range(2))
    whole = step(slice(0, 4))
    assert (first["loss"] + second["loss"]).item() / 2 == pytest.approx(whole["loss"].item(), abs=1e-5)
    for one in (first, second):
        for name in ("normalizer", "bank", "id"):
            torch.testing.assert_close(one[name], whole[name], atol=1e-6, rtol=1e-5)
