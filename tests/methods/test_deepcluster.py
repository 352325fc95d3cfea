import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import nn

from vidssl import Batch
from vidssl.method import Epoch
from vidssl.methods import DeepCluster
from vidssl.methods.image.deepcluster import whiten
from vidssl.models import ConvNet
from vidssl.ops.agreement import normalized_mutual_information
from vidssl.ops.kmeans import kmeans, nearest


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


def method(*, num_samples: int = 12, num_clusters: int = 3, color: str = "gray", **options) -> DeepCluster:
    encoder = ConvNet(widths=(4, 6), strides=(2, 2), color=color)
    sizes = {"num_samples": num_samples, "num_clusters": num_clusters, "num_components": 6}
    return DeepCluster(encoder, view=Whole(), **{**sizes, **options})


def batch(num_clips: int = 12, num_frames: int = 1) -> Batch:
    video = torch.randint(256, (num_clips, 1, num_frames, 3, 8, 8), dtype=torch.uint8)
    return Batch(index=torch.arange(num_clips), video=video, seed=torch.arange(num_clips))


def assign(clusterer: DeepCluster, features: torch.Tensor, *, number: int = 0) -> list[nn.Parameter]:
    """Cluster given features; return the parameters whose optimizer state was dropped."""
    forgotten: list[nn.Parameter] = []
    clusterer.before_epoch(Epoch(number=number, extract=lambda function: features, forget=forgotten.extend))
    return forgotten


def blobs(num: int, *, dim: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Three clouds in three directions: (num, dim) and their number (num,)."""
    label = torch.arange(num) % 3
    return 4 * torch.eye(dim)[label] + 0.1 * torch.randn(num, dim), label


def test_loss_is_the_mean_over_clusters_of_the_mean_in_each():
    clips = batch(num_frames=2)
    # Uneven clusters, one of four empty.
    label = [0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 1, 1]
    clusterer = method(num_clusters=4)
    clusterer.assignment.copy_(torch.tensor(label))
    clusterer.sizes.copy_(torch.tensor([7, 2, 3, 0]))
    clusterer.eval()
    nn.init.normal_(clusterer.classifier.weight)
    with torch.no_grad():
        losses = clusterer(clips, 0.0)
        terms = {cluster: [] for cluster in range(3)}
        for number in range(12):
            logits = clusterer.classifier(clusterer.encoder(clips.video[number].float() / 255))[0].tolist()
            terms[label[number]].append(math.log(sum(map(math.exp, logits))) - logits[label[number]])
    expected = sum(sum(values) / len(values) for values in terms.values()) / 3
    assert float(losses["loss"]) == pytest.approx(expected, abs=1e-5)
    shares = [7 / 12, 2 / 12, 3 / 12]
    assert float(losses["cluster_entropy"]) == pytest.approx(-sum(p * math.log(p) for p in shares) / math.log(4))
    assert float(losses["largest_cluster"]) == pytest.approx(7 / 12)


def test_labels_belong_to_samples_not_to_places_in_the_batch():
    clusterer, clips = method().eval().requires_grad_(False), batch()
    assign(clusterer, blobs(12)[0])
    order = torch.randperm(12)
    moved = Batch(index=clips.index[order], video=clips.video[order], seed=clips.seed[order])
    assert float(clusterer(moved, 0.0)["loss"]) == pytest.approx(float(clusterer(clips, 0.0)["loss"]), abs=1e-6)


def test_whitening_equals_principal_components_of_deviation_one():
    features = torch.randn(200, 5, dtype=torch.float64) @ torch.randn(5, 5, dtype=torch.float64) + 3
    white = whiten(features, 3)
    torch.testing.assert_close(white.T @ white / 200, torch.eye(3, dtype=torch.float64))
    # The space they span is that of the three largest singular vectors.
    left = torch.linalg.svd(features - features.mean(0), full_matrices=False).U[:, :3]
    torch.testing.assert_close(white @ white.T / 200, left @ left.T)


def test_clusters_are_found_numbered_counted_and_compared_with_those_before():
    clusterer = method(num_samples=60)
    features, label = blobs(60)
    assign(clusterer, features)
    assert normalized_mutual_information(clusterer.assignment, label) == pytest.approx(1.0)
    assert clusterer.sizes.tolist() == [20, 20, 20]
    assert float(clusterer.agreement) == 0.0  # there was nothing before
    torch.manual_seed(5)
    assign(clusterer, features * 7 + 2)
    assert float(clusterer.agreement) == pytest.approx(1.0)  # the same, whatever their numbers, scale and origin
    assign(clusterer, features[torch.randperm(60)])
    assert float(clusterer.agreement) < 0.3


def test_the_classifier_starts_anew_with_the_clusters():
    clusterer = method(num_samples=60, epochs_per_clustering=2)
    nn.init.constant_(clusterer.classifier.weight, 9.0)
    nn.init.constant_(clusterer.classifier.bias, 9.0)
    assert assign(clusterer, blobs(60)[0], number=1) == [], "between clusterings nothing changes"
    assert (clusterer.classifier.weight == 9).all()
    forgotten = assign(clusterer, blobs(60)[0], number=2)
    assert [id(one) for one in forgotten] == [id(one) for one in clusterer.classifier.parameters()]
    assert float(clusterer.classifier.weight.detach().std()) == pytest.approx(0.01, rel=0.5)
    assert float(clusterer.classifier.bias.detach().abs().max()) == 0.0


def scattered() -> torch.Tensor:
    """More blobs than clusters, of uneven sizes, in float64: an odd number of samples."""
    generator = torch.Generator().manual_seed(4)
    center = 3 * torch.randn(11, 6, generator=generator, dtype=torch.float64)
    label = torch.randint(11, (203,), generator=generator)
    return center[label] + torch.randn(203, 6, generator=generator, dtype=torch.float64)


def clustered() -> tuple[torch.Tensor, list[int]]:
    """Clusters of the same samples under one seed, and how many points k-means was given."""
    seen = []

    def watched(points, *args, **options):
        seen.append(len(points))
        return kmeans(points, *args, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("vidssl.methods.image.deepcluster.kmeans", watched)
        torch.manual_seed(3)
        clusterer = method(num_samples=203, num_clusters=7)
        torch.manual_seed(7)
        assign(clusterer, scattered())
    return clusterer.assignment, seen


def replica(number: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=2)
    assignment, seen = clustered()
    torch.save({"assignment": assignment, "seen": seen}, folder / f"{number}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_share_the_clustering_and_find_what_one_finds(tmp_path):
    context = mp.get_context("forkserver")  # a server process that has imported torch forks them
    context.set_forkserver_preload(["vidssl.testing"])
    processes = [context.Process(target=replica, args=(number, tmp_path)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    found = [torch.load(tmp_path / f"{number}.pt", weights_only=True) for number in range(2)]
    alone, seen = clustered()
    assert seen == [203] and [result["seen"] for result in found] == [[102], [101]]
    assert len(alone.unique()) == 7
    for result in found:
        assert torch.equal(result["assignment"], alone)


def test_the_classifier_has_no_momentum_and_everything_decays():
    """As the authors' two optimizers: two equal gradients move it by twice the first step, all else by 2.9 times."""
    clusterer = method()
    optimizer = torch.optim.SGD(clusterer.param_groups(), lr=0.1, momentum=0.9, weight_decay=0.5)
    start = {name: p.detach().clone() for name, p in clusterer.named_parameters()}
    for _ in range(2):
        for p in clusterer.parameters():
            p.grad = torch.ones_like(p) - 0.5 * p.detach()  # with the decay: ones
        optimizer.step()
    for name, p in clusterer.named_parameters():
        moved = 0.2 if name.startswith("classifier") else 0.29
        torch.testing.assert_close(start[name] - p, torch.full_like(p, moved), atol=1e-5, rtol=0)


def test_another_dataset_is_an_error():
    with pytest.raises(
        ValueError, match="the dataset has 11 samples but the method was built with num_samples=12"
    ):
        assign(method(), torch.randn(11, 6))


# What makes clusters trivial (Sec. 3.3 and 3.4), with the guard and without it.


def test_calling_everything_the_largest_cluster_does_not_pay():
    clusterer, clips = method(num_samples=12, num_clusters=2).requires_grad_(False), batch()
    clusterer.assignment.copy_((torch.arange(12) >= 11).long())  # 11 and 1
    clusterer.sizes.copy_(torch.tensor([11, 1]))
    nn.init.zeros_(clusterer.classifier.weight)

    def losses(share: float) -> tuple[float, float]:
        """With and without the weights, of an answer that is the same for every picture."""
        clusterer.classifier.bias.data.copy_(torch.tensor([share, 1 - share]).log())
        plain = -(11 * math.log(share) + math.log(1 - share)) / 12
        return float(clusterer(clips, 0.0)["loss"]), plain

    (even, plain_even), (biased, plain_biased) = losses(0.5), losses(11 / 12)
    assert even == pytest.approx(math.log(2), abs=1e-5)
    assert plain_biased < 0.5 * plain_even and biased > 1.5 * even


def test_without_whitening_the_strongest_feature_alone_makes_the_clusters():
    features, label = blobs(300)
    features[:, 5] = 50 * torch.randn(300)  # tells nothing
    clusterer = method(num_samples=300)
    found = clusterer.cluster(features)
    assert normalized_mutual_information(found, label) > 0.5
    points = F.normalize(features - features.mean(0), dim=1)
    assert normalized_mutual_information(nearest(points, kmeans(points, 3)), label) < 0.05


def test_clusters_are_not_made_of_colors():
    """Two tints of equal luminance, and fine or coarse patterns: with colour the tint makes the clusters."""
    tint = torch.tensor([[0.3, -0.153, 0.0], [0.0, 0.0, 0.0]])  # 0.299 R + 0.587 G + 0.114 B is the same
    color, coarse = torch.arange(200) % 2, torch.arange(200) // 2 % 2
    fine = torch.rand(200, 1, 16, 16)
    blocks = torch.rand(200, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    pattern = torch.where(coarse.view(-1, 1, 1, 1).bool(), blocks, fine)
    pictures = 0.4 + 0.2 * pattern + tint[color].view(-1, 3, 1, 1)

    def agreement(channels: str) -> list[float]:
        torch.manual_seed(0)
        clusterer = method(num_samples=200, num_clusters=2, color=channels, num_components=2)
        with torch.no_grad():
            found = clusterer.cluster(clusterer.encoder(pictures[:, None]))
        return [normalized_mutual_information(found, label) for label in (color, coarse)]

    of_color, _ = agreement("rgb")
    assert of_color > 0.9
    of_color, _ = agreement("gray")
    assert of_color < 0.05
