"""Views are planned on the CPU and made on the device: launches, waits, merged maps, and batches cut in two."""

from functools import partial

import numpy as np
import pytest
import torch

from vidssl.augment import (
    ColorJitter,
    GaussianBlur,
    GaussianNoise,
    MultiScaleCrop,
    Normalize,
    Pipeline,
    RandomErasing,
    RandomGray,
    RandomInvert,
    RandomReverse,
    RandomTemporalCrop,
    Solarize,
    recipes,
)
from vidssl.augment import plan as planning
from vidssl.evidence.benchmark.augmenting import count_launches, simclr_view
from vidssl.ops import draws

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

EVERYTHING = Pipeline(
    RandomTemporalCrop(1),
    RandomReverse(),
    MultiScaleCrop(24, flip=0.5),
    RandomInvert(probability=0.3),
    ColorJitter(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, probability=0.8),
    RandomGray(probability=0.3),
    GaussianBlur(kernel_px=5),
    Solarize(),
    RandomErasing(),
    GaussianNoise(std=0.05, probability=0.5),
    Normalize(MEAN, STD),
)

# Of the recipes, those whose operators differ.
VIEWS = {
    "simclr": recipes.simclr(24),
    "moco_v1": recipes.moco_v1(24),
    "byol_1": recipes.byol(24, view=1),
    "videomae": recipes.videomae(24),
    "everything": EVERYTHING,
}


def video(num_clips: int, num_frames: int = 1, device: str = "cpu") -> torch.Tensor:
    return torch.randint(256, (num_clips, num_frames, 3, 30, 40), dtype=torch.uint8).to(device)


@pytest.mark.parametrize("name", VIEWS)
def test_launches_are_few_and_nothing_waits_whatever_the_batch(name):
    # Tensors on the device "meta" have no values: to read one is an error.
    launches = {}
    view = VIEWS[name]
    for num_clips in (2, 8):
        for num_frames in (1, 8):
            for number in range(2):
                seed = draws.mix(torch.arange(num_clips), number)
                call = partial(view, video(num_clips, num_frames, "meta"), seed)
                launches[num_clips, num_frames, number], syncs = count_launches(call, device="meta")
                assert syncs == 0
    # What the clips draw says what is launched, not how many frames they have.
    assert all(count == launches[clips, 1, number] for (clips, _, number), count in launches.items())
    # Of many clips some draw each thing that can be drawn: more clips launch no more.
    many = [count_launches(partial(view, video(n, 1, "meta"), torch.arange(n)), device="meta") for n in (150, 300)]
    assert many[0] == many[1] and many[0][1] == 0
    assert max(launches.values()) <= many[0][0] <= (300 if name == "everything" else 200)


def test_the_count_sees_launches_and_what_waits():
    ones = torch.ones(4, device="meta")
    count = partial(count_launches, device="meta")
    assert count(lambda: ones.mul(2).add_(1).view(2, 2)) == (2, 0)
    assert count(lambda: torch.ones(4).mul(2)) == (0, 0)
    assert count(lambda: torch.ones(4).to("meta")) == (1, 0)
    for read in (torch.Tensor.item, torch.Tensor.cpu, torch.Tensor.tolist, torch.nonzero, lambda x: x[x > 0]):
        with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
            count(lambda read=read: read(ones[:1]))
    # The same, where there are values.
    values = torch.ones(4)
    count = partial(count_launches, device="cpu")
    waiting = (
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        torch.nonzero,
        torch.unique,
        lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0),
        lambda x: x.index_put((x > 0,), torch.zeros(())),
    )
    assert [count(partial(read, values))[1] for read in waiting] == [1] * 7


@pytest.mark.parametrize("name", VIEWS)
def test_a_batch_cut_in_two_gives_the_same_bits(name):
    clips, seed = video(7, 2), draws.mix(torch.arange(7), 3)
    together = VIEWS[name](clips, seed)
    apart = torch.cat([VIEWS[name](clips[part], seed[part]) for part in (slice(0, 2), slice(2, 7))])
    assert torch.equal(together, apart)


@pytest.mark.parametrize("name", VIEWS)
def test_a_batch_done_in_parts_gives_the_same_bits(name, monkeypatch):
    clips, seed = video(7, 2), draws.mix(torch.arange(7), 3)
    whole = VIEWS[name](clips, seed)
    sizes = []
    monkeypatch.setattr(
        planning, "run", lambda part, *rest, run=planning.run: (sizes.append(len(part)), run(part, *rest))[1]
    )
    monkeypatch.setattr(planning, "PIXEL_BYTES_AT_ONCE", 3 * 4 * clips[0].numel() + 1)
    assert torch.equal(VIEWS[name](clips, seed), whole) and sizes == [3, 3, 1]
    # A GPU does all at once: fewer launches.
    VIEWS[name](clips.to("meta"), seed)
    assert sizes == [3, 3, 1, 7]


def test_a_view_keeps_32_bits_under_autocast():
    clips, seed = video(5, 2), torch.arange(5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = simclr_view()(clips, seed)
    assert torch.equal(low, simclr_view()(clips, seed))


def test_operators_planned_together_give_what_they_give_one_by_one():
    clips, seed = video(200), torch.arange(200)
    view = clips
    for number, operator in enumerate(EVERYTHING.operators):
        view = operator(view, draws.mix(seed, number))
    # Values of up to 3 after normalisation; hue amplifies what was rounded otherwise before it in dark colours.
    together = EVERYTHING(clips, seed)
    assert float((together - view).abs().mean()) < 1e-6
    # A value that lies on the threshold of solarization falls on either side.
    assert float(((together - view).abs() > 1e-4).float().mean()) < 1e-4


def test_colour_maps_become_one_where_nothing_is_cut():
    def changes(*operators) -> int:
        seed, steps = torch.arange(6), []
        for operator in operators:
            steps += operator.steps(seed, (1, 8, 8))
        return len(planning.merge(steps, 6))

    class Factor(ColorJitter):
        def draw(self, seed):
            return torch.tensor([self.factors]).repeat(len(seed), 1), torch.arange(4).repeat(len(seed), 1)

    def jitter(*factors: float) -> Factor:
        made = Factor(brightness=1, contrast=1, saturation=1)
        made.factors = (*factors, 0.0)
        return made

    gray, normalize = RandomGray(probability=1), Normalize(MEAN, STD)
    assert changes(jitter(0.5, 0.7, 0.9), gray, normalize) == 1
    assert changes(jitter(0.5, 0.7, 1.5), normalize) == 1  # the limits are scaled as well
    assert changes(jitter(1.5, 1.0, 1.0), RandomInvert(probability=1), normalize) == 1
    assert changes(jitter(1.0, 1.0, 1.5), gray) == 2
    assert changes(jitter(1.5, 1.2, 1.5), gray, normalize) == 4
    # A blur in between takes what waits before it along.
    assert changes(jitter(0.5, 0.7, 0.9), GaussianBlur(kernel_px=3, probability=1), gray, normalize) == 2


@pytest.mark.parametrize("factors", [(0.5, 0.7, 1.5), (1.6, 0.4, 0.3), (1.5, 1.9, 1.4), (0.2, 1.9, 0.1)])
def test_merged_maps_are_cut_where_each_step_is_cut(factors):
    """Brightness, contrast, saturation, inversion, grey, normalisation, written out step by step."""
    clips = torch.rand(1, 2, 3, 6, 6)
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    x = (factors[0] * clips).clamp(0, 1)
    mean = (x * weights).sum(2, keepdim=True).mean((3, 4), keepdim=True)
    x = (factors[1] * x + (1 - factors[1]) * mean).clamp(0, 1)
    x = (factors[2] * x + (1 - factors[2]) * (x * weights).sum(2, keepdim=True)).clamp(0, 1)
    x = (1 - x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]

    maps = np.tile(np.eye(3, 7), (3, 1, 1, 1))
    luminance = np.tile([0.299, 0.587, 0.114], (3, 1))
    for number, factor in enumerate(factors):
        maps[number, :, :, :3] *= factor
    maps[1, :, :, 3:6] = (1 - factors[1]) * luminance
    maps[2, :, :, :3] += (1 - factors[2]) * luminance
    rows = torch.zeros(1, dtype=torch.int64)
    steps = [planning.ColorMap(rows, numbers, clamp=True) for numbers in maps]
    steps += RandomInvert(probability=1).steps(rows, (2, 6, 6)) + Normalize(MEAN, STD).steps(rows, (2, 6, 6))
    torch.testing.assert_close(planning.run(clips, planning.merge(steps, 1)), x, atol=3e-6, rtol=0)


def test_parameters_survive_the_journey_in_one_piece():
    tensors = [
        torch.arange(3),
        torch.rand(5, 3),
        torch.tensor([[-(2**62)]]),
        torch.arange(7, dtype=torch.int32),
        torch.rand(1),
    ]
    table = planning.pack(tensors)
    assert table.dtype == torch.uint8 and len(table) == 24 + 64 + 8 + 32 + 8
    for found, tensor in zip(planning.unpack(table, tensors), tensors, strict=True):
        assert found.dtype == tensor.dtype and torch.equal(found, tensor)
    # One copy to the device, however many parameters.
    copies, _ = count_launches(lambda: planning.send(tensors, torch.device("meta")), device="meta")
    assert copies == 1


def test_what_was_given_is_not_written_into():
    clips, seed = torch.rand(6, 1, 3, 24, 24), torch.arange(6)
    before = clips.clone()
    Pipeline(Solarize(probability=0.5), RandomGray(probability=0.5), GaussianNoise(std=0.1))(clips, seed)
    assert torch.equal(clips, before)
