import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from processes import context
from torch import nn

from vidssl import Batch
from vidssl.methods import OBoW
from vidssl.methods.image.obow import Vocabulary, perplexity
from vidssl.models import ConvNet
from vidssl.ops import draws


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


def method(**options) -> OBoW:
    encoder = ConvNet(widths=(4, 6), strides=(2, 1))
    views = {"teacher_view": Whole(), "large_view": Whole(), "small_view": Whole()}
    sizes = {"layers": ("0", "1"), "num_words": 7, "num_large": 2, "num_small": 1, "kappa": 3.0}
    return OBoW(encoder, **views, **{**sizes, **options})


def batch(num_clips: int = 3) -> Batch:
    video = torch.randint(256, (num_clips, 1, 1, 3, 12, 12), dtype=torch.uint8)
    return Batch(index=torch.arange(num_clips), video=video, seed=torch.arange(num_clips))


def bag_oracle(maps: torch.Tensor, words: torch.Tensor, distance: float) -> list[list[float]]:
    """Eq. 3 to 5 with loops: (B, d, h, w), (K, d) -> bags."""
    bags = []
    for picture in maps.double():
        largest = [0.0] * len(words)
        for cell in picture.flatten(1).T:
            squared = [float((cell - word).square().sum()) for word in words.double()]
            scores = [math.exp(-15.0 / distance * (one - min(squared))) for one in squared]
            for number, score in enumerate(scores):
                largest[number] = max(largest[number], score / sum(scores))
        bags.append([value / sum(largest) for value in largest])
    return bags


def test_bags_equal_the_equations_written_out():
    vocabulary = Vocabulary(7, 4, inverse_delta=15.0).eval()
    maps = torch.rand(3, 4, 5, 5)
    found = vocabulary(maps[:, :, None], torch.arange(3))
    for row, expected in zip(found.tolist(), bag_oracle(maps, vocabulary.words, 0.5), strict=True):
        assert row == pytest.approx(expected, abs=1e-5)


def test_the_scale_follows_the_mean_distance_to_the_nearest_word():
    vocabulary = Vocabulary(7, 4, inverse_delta=15.0).train()
    words, maps = vocabulary.words.clone(), torch.rand(3, 4, 5, 5)
    nearest = torch.cdist(maps.flatten(2).mT.flatten(0, 1), words).square().amin(1).mean().item()
    found = vocabulary(maps[:, :, None], torch.arange(3))
    distance = 0.99 * 0.5 + 0.01 * nearest
    assert vocabulary.distance.item() == pytest.approx(distance, abs=1e-6)
    # The bags are those of the words before, by the new scale.
    for row, expected in zip(found.tolist(), bag_oracle(maps, words, distance), strict=True):
        assert row == pytest.approx(expected, abs=1e-5)


def test_the_queue_takes_a_local_mean_of_each_picture_and_wraps_around():
    vocabulary = Vocabulary(7, 4, inverse_delta=15.0).train()
    before = vocabulary.words.clone()
    maps = torch.rand(2, 3, 4, 5, 6)  # two steps of three pictures
    for step in range(2):
        vocabulary.push(maps[step][:, :, None], 10 * step + torch.arange(3))
    assert int(vocabulary.pointer) == 6
    vocabulary.push(maps[0][:, :, None], torch.arange(3))
    assert int(vocabulary.pointer) == 2
    for step, rows in ((0, (6, 0, 1)), (1, (3, 4, 5))):
        place = draws.integers(10 * step + torch.arange(3), 3 * 4, 1, stream=1)[:, 0].tolist()
        for number, row in enumerate(rows):
            y, x = divmod(place[number], 4)
            expected = maps[step, number, :, y : y + 3, x : x + 3].mean(dim=(1, 2))
            torch.testing.assert_close(vocabulary.words[row], expected)
    torch.testing.assert_close(before[2], vocabulary.words[2] * 0 + before[2])
    with pytest.raises(ValueError, match="a step makes 9 words but the vocabulary holds 7"):
        vocabulary.push(torch.rand(9, 4, 1, 3, 3), torch.arange(9))


def test_loss_and_gradient_equal_the_equations_written_out():
    obow, features = method(), torch.randn(4, 6, requires_grad=True)
    weight, bag = torch.randn(7, 6, requires_grad=True), torch.rand(2, 7).softmax(1)
    total = 0.0
    for number in range(4):  # two crops of two clips: clip 0, clip 1, clip 0, clip 1
        target = bag[number % 2]
        logits = [3.0 * (features[number] @ weight[k]) / weight[k].norm() for k in range(7)]
        scale = sum(logit.exp() for logit in logits)
        total = total + sum(target[k] * (target[k].log() - (logits[k].exp() / scale).log()) for k in range(7))
    expected = torch.autograd.grad(total / 4, (features, weight), retain_graph=True)
    loss = obow.divergence(features, weight, bag)
    assert loss.item() == pytest.approx(total.item() / 4, abs=1e-5)
    found = torch.autograd.grad(loss, (features, weight))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_forward_sums_two_sizes_of_crops_and_averages_levels():
    obow, clips = method().eval(), batch()
    with torch.no_grad():
        video = clips.video[:, 0].float() / 255
        feature = obow.encoder(video)
        maps = obow.teacher.layers(video, ["0", "1"])
        expected = 0.0
        for name, vocabulary, head in zip(("0", "1"), obow.vocabularies, obow.heads, strict=True):
            inner = maps[name][:, 0, :, 1:-1, 1:-1]
            bag = torch.tensor(bag_oracle(inner, vocabulary.words, 0.5)).float()
            weight = F.normalize(head(F.normalize(vocabulary.words, dim=1)), dim=1)
            logits = 3.0 * feature @ weight.T
            expected += float(F.kl_div(logits.log_softmax(1), bag, reduction="batchmean"))
        found = obow(clips, 0.0)
    # Views change nothing here: crops of either size have the same divergence.
    assert found["loss"].item() == pytest.approx(2 * expected / 2, abs=1e-4)


def test_the_border_of_the_maps_says_nothing():
    obow, clips = method().eval(), batch()
    levels = {name: torch.rand(3, 1, dim, 6, 6) for name, dim in (("0", 4), ("1", 6))}
    obow.teacher.layers = lambda video, names: levels
    before = [bag.clone() for bag in obow.bags(clips.video[:, 0], clips.seed)]
    for maps in levels.values():
        maps[..., 0, :], maps[..., -1, :], maps[..., 0], maps[..., -1] = 9.0, 9.0, 9.0, 9.0
    for one, other in zip(before, obow.bags(clips.video[:, 0], clips.seed), strict=True):
        assert torch.equal(one, other)


def test_the_student_predicts_with_the_words_of_before():
    """The loss of a step does not know the words that the step brings, and its backward pass does not see them come."""
    obow, clips = method(momentum=0.5).train(), batch()
    seen = []
    obow.heads[0].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    before = obow.vocabularies[0].words.clone()
    obow(clips, 0.0)["loss"].backward()
    torch.testing.assert_close(seen[0], F.normalize(before, dim=1))
    assert not torch.equal(obow.vocabularies[0].words, before)
    assert all(parameter.grad is None for parameter in obow.teacher.parameters())


def test_the_teacher_follows_by_the_momentum():
    obow = method(momentum=0.9)
    start = [parameter.clone() for parameter in obow.teacher.parameters()]
    with torch.no_grad():
        for parameter in obow.encoder.parameters():
            parameter.add_(1.0)
    obow.after_step(0.5)
    momentum = 1 - 0.1 * 0.5
    for now, old in zip(obow.teacher.parameters(), start, strict=True):
        torch.testing.assert_close(now, old + (1 - momentum))
    assert obow.schedules()["momentum"](0.5) == pytest.approx(momentum)


def test_perplexity_is_the_number_of_words_in_use():
    assert perplexity(torch.eye(4)).item() == pytest.approx(4)
    assert perplexity(torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]])).item() == pytest.approx(2)


def step(rows: slice) -> dict[str, torch.Tensor]:
    """What a step leaves of given maps."""
    torch.manual_seed(0)
    vocabulary, maps = Vocabulary(7, 4, inverse_delta=15.0).train(), torch.rand(4, 4, 1, 5, 5)
    bag = vocabulary(maps[rows], torch.arange(4)[rows])
    return {"bag": bag, **vocabulary.state_dict()}


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
    torch.testing.assert_close(torch.cat([first["bag"], second["bag"]]), whole["bag"], atol=1e-5, rtol=1e-4)
    for one in (first, second):
        for name in ("words", "distance", "pointer"):
            torch.testing.assert_close(one[name], whole[name], atol=1e-6, rtol=1e-5)
