import dataclasses
import re

import pytest
import torch

from vidssl import Batch
from vidssl.batch import FIELDS


def batch(**changed) -> Batch:
    values = {
        "index": torch.arange(2),
        "video": torch.zeros(2, 1, 4, 3, 8, 8, dtype=torch.uint8),
        "time": torch.zeros(2, 1, 4, dtype=torch.float64),
        "audio": torch.zeros(2, 1, 100),
    }
    return Batch(**{**values, **changed})


def test_a_float_video_is_refused():
    with pytest.raises(ValueError, match=re.escape("Batch.video is torch.float32 of shape (2, 1, 4, 3, 8, 8)")):
        batch(video=torch.zeros(2, 1, 4, 3, 8, 8))


def test_a_video_without_the_clip_axis_is_refused():
    with pytest.raises(ValueError, match=re.escape("expected torch.uint8 with 6 dimensions")):
        batch(video=torch.zeros(2, 4, 3, 8, 8, dtype=torch.uint8))


def test_tensors_of_different_length_are_refused():
    with pytest.raises(ValueError, match=re.escape("Batch.audio holds 3 samples, Batch.index 2")):
        batch(audio=torch.zeros(3, 1, 100))


def test_to_keeps_values_and_what_is_absent():
    moved = batch(label=torch.tensor([5, -1])).to("cpu")
    assert moved.label.tolist() == [5, -1] and moved.seed is None and len(moved) == 2


def test_parts_put_together_are_the_batch():
    whole = batch(index=torch.arange(5), video=None, time=None, audio=torch.rand(5, 1, 7))
    assert [part.index.tolist() for part in whole.split(2)] == [[0, 1, 2], [3, 4]]
    assert torch.equal(torch.cat([part.audio for part in whole.split(3)]), whole.audio)
    assert [len(part) for part in whole.split(9)] == [1] * 5
    assert whole.split(1)[0].video is None


def test_the_seeds_stay_on_the_cpu_as_well():
    """Views are drawn there; tensors on the device "meta" have no values that could be copied back."""
    seeds = torch.tensor([7, 9])
    moved = batch(seed=seeds).to("meta")
    assert moved.seed.device.type == "meta" and torch.equal(moved.host_seed, seeds)
    assert torch.equal(moved.to("meta").host_seed, seeds)
    assert torch.equal(batch(seed=seeds).host_seed, seeds)
    part = moved.split(2)[1]
    assert part.seed.device.type == "meta" and part.host_seed.tolist() == [9]
    clips = torch.zeros(2, 1, 1, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, 1, 1, dtype=torch.float64)
    assert torch.equal(moved.with_clips(*clips).host_seed, seeds)
    # Of other samples the seeds are others.
    kept = dataclasses.replace(batch(seed=seeds).to("cpu"), seed=seeds.flip(0))
    assert torch.equal(kept.host_seed, seeds.flip(0))


def test_what_views_are_told_of_stretched_frames_stays_on_the_cpu_as_well():
    aspect = torch.tensor([0.75, 1.5])
    whole = batch(aspect=aspect)
    moved = whole.to("meta")
    assert moved.aspect.device.type == "meta" and torch.equal(moved.stretch[0], aspect)
    assert torch.equal(moved.to("meta").stretch[0], aspect) and torch.equal(whole.stretch[0], aspect)
    assert moved.split(2)[1].stretch[0].tolist() == [1.5]
    clips = torch.zeros(2, 1, 1, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, 1, 1, dtype=torch.float64)
    assert torch.equal(moved.with_clips(*clips).stretch[0], aspect)
    assert batch().stretch == batch(seed=torch.arange(2)).to("meta").stretch == ()


def test_it_prints_shapes_not_values():
    assert repr(batch()) == "Batch(index=(2,), video=(2, 1, 4, 3, 8, 8), time=(2, 1, 4), audio=(2, 1, 100))"


def carried(**changed) -> Batch:
    """Five samples with every field."""
    values = {
        "index": torch.arange(5),
        "video": torch.zeros(5, 1, 1, 3, 2, 2, dtype=torch.uint8),
        "time": torch.zeros(5, 1, 1, dtype=torch.float64),
        "audio": torch.zeros(5, 1, 4),
        "label": torch.tensor([0, -1, -1, 1, -1]),
        "seed": torch.arange(5),
        "source_id": torch.arange(5),
        "text": torch.arange(5 * 3 * 4).view(5, 3, 4),
        "text_time": torch.arange(5 * 3 * 2).view(5, 3, 2).double(),
        "points": torch.arange(5 * 7 * 3).view(5, 7, 3).float(),
        "part": torch.arange(5 * 7).view(5, 7),
        "aspect": torch.tensor([1.0, 0.5, 1.5, 2.0, 0.25]),
    }
    return Batch(**{**values, **changed})


def test_every_field_is_named_once():
    assert list(FIELDS) == [field.name for field in dataclasses.fields(Batch)] == list(carried().tensors())


@pytest.mark.parametrize(
    ("field", "wrong", "message"),
    [
        (
            "text",
            torch.zeros(5, 3, 4),
            "Batch.text is torch.float32 of shape (5, 3, 4), expected torch.int64 with 3",
        ),
        ("text", torch.zeros(5, 4, dtype=torch.int64), "expected torch.int64 with 3 dimensions (B S L)"),
        ("text_time", torch.zeros(5, 3, 2), "expected torch.float64 with 3 dimensions (B S 2)"),
        ("text_time", torch.zeros(5, 3, 1, dtype=torch.float64), "of shape (5, 3, 1), expected torch.float64"),
        ("text_time", torch.zeros(5, 4, 2, dtype=torch.float64), "Batch.text_time has 4 rows for each sample"),
        ("points", torch.zeros(5, 7, 2), "of shape (5, 7, 2), expected torch.float32 with 3 dimensions (B N 3)"),
        ("points", torch.zeros(5, 7, 3, dtype=torch.float64), "Batch.points is torch.float64"),
        ("part", torch.zeros(5, 7, dtype=torch.int32), "Batch.part is torch.int32 of shape (5, 7), expected"),
        ("part", torch.zeros(5, 6, dtype=torch.int64), "Batch.part has 6 rows for each sample, Batch.points 7"),
        ("points", torch.zeros(4, 7, 3), "Batch.points holds 4 samples, Batch.index 5"),
        ("aspect", torch.ones(5, dtype=torch.float64), "Batch.aspect is torch.float64 of shape (5,), expected"),
    ],
)
def test_text_and_points_of_another_type_or_shape_are_refused(field, wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        carried(**{field: wrong})


def test_all_fields_but_the_index_may_be_absent():
    for name in FIELDS:
        if name != "index":
            assert name not in carried(**{name: None}).tensors()
    assert list(Batch(torch.arange(5)).tensors()) == ["index"]


def test_parts_and_copies_carry_text_and_points():
    whole = carried()
    parts = whole.split(2)
    for name, value in whole.tensors().items():
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), value), name
        assert getattr(whole.to("meta"), name).device.type == "meta", name
