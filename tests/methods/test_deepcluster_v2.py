from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from processes import context

from vidssl import Batch
from vidssl.augment import RandomResizedCrop
from vidssl.method import Epoch
from vidssl.methods import DeepClusterV2
from vidssl.models import ConvNet
from vidssl.ops import draws
from vidssl.ops.agreement import normalized_mutual_information


def method(*, num_samples: int = 12, **options) -> DeepClusterV2:
    encoder = ConvNet(widths=(8, 16), strides=(2, 2))
    views = {"view": RandomResizedCrop(16), "local_view": RandomResizedCrop(8), "num_local_views": 3}
    sizes = {"num_clusters": 3, "num_heads": 3, "hidden_dim": 12, "out_dim": 6}
    return DeepClusterV2(encoder, num_samples=num_samples, **{**views, **sizes, **options})


def batch(index: list[int]) -> Batch:
    video = torch.randint(256, (len(index), 1, 1, 3, 24, 24), dtype=torch.uint8)
    return Batch(index=torch.tensor(index), video=video, seed=torch.tensor(index))


def cluster(clusterer: DeepClusterV2, *, number: int = 1, embeddings: torch.Tensor | None = None) -> None:
    clusterer.before_epoch(
        Epoch(number=number, extract=lambda function: embeddings, forget=lambda parameters: None)
    )


def blobs(num: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three bundles of directions: unit vectors (num, 6) and their number (num,)."""
    label = torch.arange(num) % 3
    return F.normalize(4 * torch.eye(6)[label] + 0.2 * torch.randn(num, 6), dim=1), label


def test_loss_and_gradient_equal_the_authors_code_written_out():
    """main_deepclusterv2.py: for each head, cross-entropy of every crop with the cluster of its clip."""
    clusterer, clips = method(), batch([4, 0, 7, 11, 2])
    clusterer.prototypes.copy_(F.normalize(torch.randn(3, 3, 6), dim=2))
    clusterer.assignment.copy_(torch.randint(3, (3, 12)))
    video, seed = clips.video[:, 0], clips.seed
    large = torch.cat([clusterer.view(video, draws.mix(seed, n)) for n in range(2)])
    small = torch.cat([clusterer.local_view(video, draws.mix(seed, 2 + n)) for n in range(3)])
    embedded = clusterer.projector(torch.cat([clusterer.encoder(large), clusterer.encoder(small)]))
    total = torch.zeros((), dtype=torch.float64)
    for head in range(3):
        for v in range(5):
            for n, index in enumerate([4, 0, 7, 11, 2]):
                unit = embedded[5 * v + n].double() / embedded[5 * v + n].double().norm()
                scores = clusterer.prototypes[head].double() @ unit / 0.1
                total = total - scores.log_softmax(0)[clusterer.assignment[head, index]] / 3 / 25
    parameters = list(clusterer.parameters())
    wanted = torch.autograd.grad(total, parameters)
    loss = clusterer(clips, 0.0)["loss"]
    assert loss.item() == pytest.approx(total.item(), abs=1e-5)
    for found, gradient in zip(torch.autograd.grad(loss, parameters), wanted, strict=True):
        torch.testing.assert_close(found, gradient, atol=1e-5, rtol=1e-3)


def test_the_bank_remembers_the_two_large_crops_of_each_clip():
    clusterer, clips = method(), batch([4, 0, 7])
    seen = []
    clusterer.projector.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    clusterer.eval()(clips, 0.0)
    assert not clusterer.bank.any()
    clusterer.train()(clips, 0.0)
    embeddings = F.normalize(seen[-1], dim=1).split(3)
    torch.testing.assert_close(clusterer.bank[[4, 0, 7]], torch.stack(embeddings[:2], dim=1))
    assert not clusterer.bank[[1, 2, 3, 5, 6, 8, 9, 10, 11]].any()


def test_heads_are_clustered_from_one_crop_and_the_other_in_turn():
    clusterer = method(num_samples=60)
    (first, first_label), (second, _) = blobs(60), blobs(60)
    order = torch.randperm(60)
    clusterer.bank.copy_(torch.stack([first, second[order]], dim=1))
    cluster(clusterer)
    for head, label in ((0, first_label), (1, first_label[order]), (2, first_label)):
        assert normalized_mutual_information(clusterer.assignment[head], label) == pytest.approx(1.0)
        torch.testing.assert_close(clusterer.prototypes[head].norm(dim=1), torch.ones(3))
        points = clusterer.bank[:, head % 2]
        for number in range(3):  # a centroid is the direction of the mean of its cluster
            mean = points[clusterer.assignment[head] == number].mean(0)
            torch.testing.assert_close(clusterer.prototypes[head, number], mean / mean.norm(), atol=1e-5, rtol=0)
    assert clusterer.sizes.tolist() == [20, 20, 20] and float(clusterer.agreement) == 0.0
    cluster(clusterer)
    assert float(clusterer.agreement) == pytest.approx(1.0)


def test_the_first_clusters_are_of_clips_as_they_are_and_later_ones_of_the_bank():
    clusterer = method(num_samples=60)
    embeddings, label = blobs(60)
    cluster(clusterer, number=0, embeddings=embeddings)
    assert torch.equal(clusterer.bank[:, 0], embeddings) and torch.equal(clusterer.bank[:, 1], embeddings)
    assert normalized_mutual_information(clusterer.assignment[1], label) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="the dataset has 7 samples but the method was built with num_samples=60"):
        cluster(clusterer, number=0, embeddings=embeddings[:7])
    with pytest.raises(ValueError, match="2 points cannot be put into 3 clusters"):
        cluster(method(num_samples=2), number=1)


def remembered() -> DeepClusterV2:
    """Clustered from a bank of 203 samples, then one step's embeddings put in by the processes together."""
    torch.manual_seed(3)
    clusterer = method(num_samples=203, num_clusters=7)
    clusterer.bank.copy_(F.normalize(torch.randn(203, 2, 6), dim=2))
    cluster(clusterer)
    return clusterer


def replica(number: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=2)
    clusterer = remembered()
    mine = slice(2 * number, 2 * number + 2)
    clusterer.remember(torch.tensor([9, 3, 202, 0])[mine], given()[:, mine])
    torch.save(clusterer.state_dict(), folder / f"{number}.pt")
    dist.barrier()
    dist.destroy_process_group()


def given() -> torch.Tensor:
    return torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(5))


def test_two_processes_cluster_and_remember_as_one_does(tmp_path):
    processes = [context.Process(target=replica, args=(number, tmp_path)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    alone = remembered()
    alone.remember(torch.tensor([9, 3, 202, 0]), given())
    for number in range(2):
        found = torch.load(tmp_path / f"{number}.pt", weights_only=True)
        assert torch.equal(found["assignment"], alone.assignment)
        for name in ("bank", "prototypes"):
            torch.testing.assert_close(found[name], getattr(alone, name), atol=1e-5, rtol=0)
