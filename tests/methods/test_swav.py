import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from processes import context

from vidssl import Batch
from vidssl.augment import RandomResizedCrop
from vidssl.methods import SwAV
from vidssl.models import ConvNet
from vidssl.ops import draws


def method(**options) -> SwAV:
    encoder = ConvNet(widths=(8, 16), strides=(2, 2))
    views = {"view": RandomResizedCrop(16), "local_view": RandomResizedCrop(8), "num_local_views": 3}
    sizes = {"num_prototypes": 7, "hidden_dim": 12, "out_dim": 6}
    return SwAV(encoder, **{**views, **sizes, **options})


def batch(size: int = 5) -> Batch:
    video = torch.randint(256, (size, 1, 1, 3, 24, 24), dtype=torch.uint8)
    return Batch(index=torch.arange(size), video=video, seed=torch.arange(size))


def as_the_listing(scores: torch.Tensor) -> torch.Tensor:
    """Algorithm 1 of the paper, `sinkhorn`: (N, K) -> (N, K)."""
    shares = (scores.double() / 0.05).exp().T
    shares = shares / shares.sum()
    num_prototypes, num_samples = shares.shape
    for _ in range(3):
        shares = shares / shares.sum(1, keepdim=True) / num_prototypes
        shares = shares / shares.sum(0, keepdim=True) / num_samples
    return (shares * num_samples).T


def oracle(swav: SwAV, clips: Batch, queue: torch.Tensor | None = None) -> torch.Tensor:
    """Eq. 1 and 2 with loops over codes, crops and clips."""
    video, seed, size = clips.video[:, 0], clips.seed, len(clips)
    large = torch.cat([swav.view(video, draws.mix(seed, n)) for n in range(2)])
    small = [swav.local_view(video, draws.mix(seed, 2 + n)) for n in range(swav.num_local_views)]
    features = [swav.encoder(large)] + ([swav.encoder(torch.cat(small))] if small else [])
    embedded = swav.projector(torch.cat(features))  # batch norm of the projector sees all crops together
    embedded = embedded / embedded.norm(dim=1, keepdim=True)
    scores = (embedded @ swav.prototypes.weight.T).split(size)
    total, num_pairs = torch.zeros(()), 0
    for t in range(2):
        together = scores[t].detach()
        if queue is not None:
            together = torch.cat([queue[:, t] @ swav.prototypes.weight.detach().T, together])
        code = as_the_listing(together)[-size:]
        for v in range(len(scores)):
            if v == t:
                continue
            num_pairs += 1
            for n in range(size):
                p = (scores[v][n].double() / 0.1).exp()
                total = total - (code[n] * (p / p.sum()).log()).sum() / size
    return total / num_pairs


@pytest.mark.parametrize("num_local_views", [0, 3])
def test_loss_and_gradient_equal_the_equations_written_out(num_local_views):
    swav, clips = method(num_local_views=num_local_views), batch()
    parameters = list(swav.parameters())
    expected = oracle(swav, clips)
    wanted = torch.autograd.grad(expected, parameters)
    loss = swav(clips, 0.0)["loss"]
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    for found, gradient in zip(torch.autograd.grad(loss, parameters), wanted, strict=True):
        torch.testing.assert_close(found, gradient, atol=1e-5, rtol=1e-3)


def test_codes_are_found_together_with_the_queue_once_its_time_has_come():
    swav, clips = method(num_queued=8, queue_after=0.5).eval(), batch()
    with torch.no_grad():
        without, with_queue = swav(clips, 0.49)["loss"], swav(clips, 0.5)["loss"]
        assert without.item() == pytest.approx(oracle(swav, clips).item(), abs=1e-5)
        assert with_queue.item() == pytest.approx(oracle(swav, clips, swav.queue).item(), abs=1e-5)
    assert abs(float(with_queue - without)) > 1e-4


def test_the_queue_takes_the_newest_and_gives_up_the_oldest():
    swav = method(num_queued=5)
    start = swav.queue.clone()
    first, second = F.normalize(torch.randn(2, 2, 3, 6), dim=-1)
    swav.push(first)
    torch.testing.assert_close(swav.queue, torch.cat([first.transpose(0, 1), start[3:]]))
    swav.push(second)
    torch.testing.assert_close(
        swav.queue, torch.cat([second[:, 2:], first[:, 1:], second[:, :2]], 1).transpose(0, 1)
    )
    assert int(swav.pointer) == 1
    with pytest.raises(ValueError, match="a step has 6 clips but the queue holds 5; raise num_queued"):
        swav.push(torch.zeros(2, 6, 6))


def test_the_queue_is_filled_after_it_was_used_and_in_training_alone():
    swav, clips = method(num_queued=8), batch()
    before = swav.queue.clone()
    swav.eval()(clips, 0.0)
    assert torch.equal(swav.queue, before)
    loss = swav.train()(clips, 0.0)["loss"]
    assert not torch.equal(swav.queue[:5], before[:5]) and torch.equal(swav.queue[5:], before[5:])
    torch.testing.assert_close(swav.queue.norm(dim=2), torch.ones(8, 2))
    assert loss.item() == pytest.approx(oracle(swav, clips, before).item(), abs=1e-5)


def test_equal_prototypes_cost_the_logarithm_of_their_number():
    swav = method()
    with torch.no_grad():
        swav.prototypes.weight.copy_(swav.prototypes.weight[:1].expand(7, -1))
    losses = swav(batch(), 0.0)
    assert losses["loss"].item() == pytest.approx(math.log(7), abs=1e-5)
    assert losses["cluster_entropy"].item() == pytest.approx(1, abs=1e-5)


def test_prototypes_have_length_1_and_stay_while_they_are_frozen():
    swav = method(frozen_steps=2)
    torch.testing.assert_close(swav.prototypes.weight.norm(dim=1), torch.ones(7))
    optimizer = torch.optim.Adam(swav.parameters(), lr=0.1)
    start = swav.prototypes.weight.detach().clone()
    for step in range(3):
        optimizer.zero_grad()
        swav(batch(), 0.0)["loss"].backward()
        swav.before_step(step, 0.0)
        optimizer.step()
        if step == 2:
            assert float((swav.prototypes.weight.detach().norm(dim=1) - 1).abs().max()) > 0.01
        swav.after_step(0.0)
        torch.testing.assert_close(swav.prototypes.weight.norm(dim=1), torch.ones(7))
        assert torch.allclose(swav.prototypes.weight, start, atol=1e-6) == (step < 2)
        # No moment of Adam took in what was cancelled.
        assert (swav.prototypes.weight in optimizer.state) == (step == 2)


def replica(number: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=2)
    swav, scores, embeddings = given()
    mine = slice(4 * number, 4 * number + 4)
    found = {"codes": swav.codes(scores[:, mine], 1.0)}
    swav.push(embeddings[:, mine])
    torch.save({**found, "queue": swav.queue}, folder / f"{number}.pt")
    dist.barrier()
    dist.destroy_process_group()


def given() -> tuple[SwAV, torch.Tensor, torch.Tensor]:
    """A method with a queue, and scores and embeddings of two crops of eight clips."""
    torch.manual_seed(3)
    swav = method(num_queued=9)
    embeddings = F.normalize(torch.randn(2, 8, 6), dim=2)
    return swav, embeddings @ swav.prototypes.weight.detach().T, embeddings


def test_two_processes_share_prototypes_and_queue_as_one_does(tmp_path):
    """Also where their parts of the queue are not equally long: 5 and 4."""
    processes = [context.Process(target=replica, args=(number, tmp_path)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    swav, scores, embeddings = given()
    codes = swav.codes(scores, 1.0)
    swav.push(embeddings)
    for number in range(2):
        found = torch.load(tmp_path / f"{number}.pt", weights_only=True)
        torch.testing.assert_close(found["codes"], codes[:, 4 * number : 4 * number + 4], atol=1e-5, rtol=0)
        torch.testing.assert_close(found["queue"], swav.queue)


def test_pictures_show_the_clips_nearest_to_prototypes():
    swav, clips = method().eval(), batch(6)
    with torch.no_grad():
        picture = swav.pictures(clips)["prototypes"]
        scores = swav.score(swav.encoder(clips.video[:, 0].float() / 255))[1]
    assert picture.shape == (3, 4 * 24, 4 * 24 + 3 * 4)
    frame, prototype = divmod(int(scores.argmax()), 7)
    torch.testing.assert_close(picture[:, :24, :24], clips.video[frame, 0, 0].float() / 255)
    second = int(scores[:, prototype].topk(2).indices[1])
    torch.testing.assert_close(picture[:, :24, 28:52], clips.video[second, 0, 0].float() / 255)
