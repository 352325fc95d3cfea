from pathlib import Path

import torch
import torch.distributed as dist
from processes import context
from torch import Tensor

from vidssl.methods.audiovisual import xdc
from vidssl.ops.correlation import covariance, cross_correlation
from vidssl.ops.gather import gather, gather_rows, own_rows, rank, sum_over_ranks, world_size
from vidssl.ops.kmeans import kmeans
from vidssl.ops.sinkhorn import sinkhorn


def given(number: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and weights of a rank, and rows of which ranks hold different numbers."""
    generator = torch.Generator().manual_seed(number)
    rows, weights = torch.randn(3, 4, generator=generator), torch.randn(3, 6, generator=generator)
    return rows, weights, torch.randn(2 + 3 * number, 2, generator=generator)


def rank_loss(rows: Tensor, joined: Tensor, weights: Tensor) -> Tensor:
    """A loss that compares a rank's rows (3, 4) with all rows (6, 4): not linear, other weights on each rank."""
    return ((rows @ joined.T).log_softmax(1) * weights).sum()


def clustered(points: Tensor, *, shared: bool) -> dict[str, Tensor]:
    """Centres of points, some of which lie apart; from drawn starts, and from one that leaves clusters empty."""
    torch.manual_seed(5)
    options = {"num_iterations": 4, "shared": shared}
    start = torch.cat([torch.zeros(3, 4), torch.eye(4)]).double()
    return {
        "drawn": kmeans(points, 12, **options),
        "repaired": kmeans(points, 7, start=start, **options),
        "spherical": kmeans(points, 12, spherical=True, **options),
    }


def scattered(number: int) -> Tensor:
    """Points of a rank, of which ranks hold different numbers, (n, 4)."""
    generator = torch.Generator().manual_seed(10 + number)
    return torch.randn(60 + 20 * number, 4, generator=generator, dtype=torch.float64) + 3 * number


def named(points: Tensor) -> dict[str, Tensor]:
    """Clusters that XDC names, and how many of the points this process looked at."""
    sizes, nearest = [], xdc.nearest

    def counted(points: Tensor, centers: Tensor) -> Tensor:
        sizes.append(len(points))
        return nearest(points, centers)

    torch.manual_seed(7)
    xdc.nearest = counted
    clusters = xdc.cluster(points, 6)
    xdc.nearest = nearest
    return {"clusters": clusters, "sizes": torch.tensor(sizes)}


def correlated(number: int) -> dict[str, Tensor]:
    """Losses made of covariance and correlation of a rank's rows with the others', and their gradients."""
    found = {}
    for name, function in (("covariance", lambda x, y: covariance(x)), ("correlation", cross_correlation)):
        first, second = (part.clone().requires_grad_() for part in paired(number))
        loss = (function(first, second) * torch.arange(16.0).view(4, 4)).square().sum()
        loss.backward()
        found |= {name: loss.detach(), f"{name}_gradient": first.grad}
    return found


def paired(number: int) -> tuple[Tensor, Tensor]:
    """Two views of a rank's samples, (3, 4) each, around another mean on each rank."""
    generator = torch.Generator().manual_seed(20 + number)
    first, second = torch.randn(2, 3, 4, generator=generator).double() + number
    return first, second


def replica(number: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=2)
    rows, weights, uneven = given(number)
    rows.requires_grad_()
    joined = gather(rows)
    loss = rank_loss(rows, joined, weights)
    loss.backward()
    result = {"joined": joined.detach(), "loss": loss.detach(), "gradient": rows.grad}
    result |= {"uneven": gather_rows(uneven), "place": torch.tensor([rank(), world_size()])}
    result |= {"total": sum_over_ranks(rows.detach()), "assigned": sinkhorn(rows.detach())}
    result |= correlated(number)
    result |= clustered(scattered(number), shared=True)
    result |= {"own": own_rows(torch.arange(5)), **named(torch.cat([scattered(0), scattered(1)]))}
    for empty in range(2):
        torch.manual_seed(5)
        result[f"without {empty}"] = kmeans(scattered(0)[: 60 * (number != empty)], 5, shared=True)
    torch.save(result, folder / f"{number}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_equal_autograd_of_the_joined_computation(tmp_path):
    processes = [context.Process(target=replica, args=(number, tmp_path)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    found = [torch.load(tmp_path / f"{number}.pt", weights_only=True) for number in range(2)]
    rows = [given(number)[0].requires_grad_() for number in range(2)]
    joined = torch.cat(rows)
    losses = [rank_loss(rows[number], joined, given(number)[1]) for number in range(2)]
    torch.stack(losses).sum().backward()
    covariances, correlations = in_one_process()
    for number in range(2):
        assert torch.equal(found[number]["joined"], joined.detach())
        for name, (loss, gradient) in (("covariance", covariances), ("correlation", correlations)):
            torch.testing.assert_close(found[number][name].double(), loss, rtol=1e-5, atol=0)
            # The mean of both losses has half the gradient of their sum, which each rank holds.
            mine = gradient[3 * number : 3 * number + 3]
            torch.testing.assert_close(found[number][f"{name}_gradient"].double() / 2, mine, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found[number]["loss"], losses[number].detach())
        torch.testing.assert_close(found[number]["gradient"], rows[number].grad, atol=1e-5, rtol=1e-5)
        assert torch.equal(found[number]["uneven"], torch.cat([given(0)[2], given(1)[2]]))
        assert found[number]["place"].tolist() == [number, 2]
        torch.testing.assert_close(found[number]["total"], (rows[0] + rows[1]).detach())
        assigned = sinkhorn(joined.detach())[3 * number : 3 * number + 3]
        torch.testing.assert_close(found[number]["assigned"], assigned)
        for name, centers in clustered(torch.cat([scattered(0), scattered(1)]), shared=False).items():
            torch.testing.assert_close(found[number][name], centers, atol=1e-12, rtol=0)
        assert torch.equal(found[number]["own"], torch.arange(5).split([3, 2])[number])
        alone = named(torch.cat([scattered(0), scattered(1)]))
        assert torch.equal(found[number]["clusters"], alone["clusters"]) and len(alone["clusters"].unique()) == 6
        assert found[number]["sizes"].tolist() == [70] and alone["sizes"].tolist() == [140]
        torch.manual_seed(5)
        centers = kmeans(scattered(0), 5)
        for empty in range(2):  # a process without points takes part
            torch.testing.assert_close(found[number][f"without {empty}"], centers, atol=1e-12, rtol=0)


def in_one_process() -> list[tuple[Tensor, Tensor]]:
    """Losses of covariance and correlation by NumPy's definitions, on the joined rows, and gradients of the first."""
    found = []
    for name in ("covariance", "correlation"):
        first, second = (torch.cat(parts) for parts in zip(paired(0), paired(1), strict=True))
        first.requires_grad_()
        if name == "covariance":
            matrix = torch.cov(first.T)
        else:
            a, b = first - first.mean(0), second - second.mean(0)
            scale = (a.square().mean(0) + 1e-5).sqrt()[:, None] * (b.square().mean(0) + 1e-5).sqrt()
            matrix = torch.einsum("ni, nj -> ij", a, b) / 6 / scale
        loss = (matrix * torch.arange(16.0).view(4, 4)).square().sum()
        found.append((loss.detach(), *torch.autograd.grad(loss, first)))
    return found


def test_one_process_gathers_nothing():
    rows = torch.randn(3, 4, requires_grad=True)
    assert gather(rows) is rows and gather_rows(rows) is rows and sum_over_ranks(rows) is rows
    assert (rank(), world_size()) == (0, 1)
