"""Boxes and points of the demo corpus, whose truth is known to a fraction of a pixel."""

import dataclasses
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_tracks import Pixels, write_otb, write_tapvid

from vidssl.data.published.points import tapvid_sequences
from vidssl.data.published.tracks import otb_sequences
from vidssl.evaluate.metrics.tapvid import queries, tapvid_figures
from vidssl.evaluate.propagation.boxes import box_benchmark, score_boxes, summarise_boxes
from vidssl.evaluate.propagation.protocols import CRW
from vidssl.evaluate.propagation.runner import Carrier, evaluate_sequences
from vidssl.evaluate.propagation.tapvid import tapvid_benchmark

SCRIPT = Path(__file__).resolve().parents[3] / "datasets/prepare_moving_shapes.py"
PROTOCOL = dataclasses.replace(CRW, frame_size=(96, 160), num_recent_frames=5)  # fewer frames, for the time


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = importlib.util.spec_from_file_location("moving_shapes_for_tracks", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script  # where dataclasses look up the module they are defined in
    spec.loader.exec_module(script)
    out = tmp_path_factory.mktemp("demo") / "corpus"
    script.write_corpus(
        out,
        num_train_videos=1,
        num_val_videos=1,
        num_train_frames=2,
        num_val_frames=20,
        width_px=160,
        height_px=96,
    )
    del sys.modules[spec.name]
    return out


def measured(benchmark, out):
    """Figures with raw pixels as features, and of what stays where it was."""
    carriers = {"pixels": Carrier(Pixels(), PROTOCOL), "identity": Carrier(None, None)}
    return [
        evaluate_sequences(benchmark, carrier, out=out / name, model_name=name, root=".", overlays=False).figures
        for name, carrier in carriers.items()
    ]


@pytest.mark.parametrize(("tracker", "gain"), [("masks", 0.05), ("correlation", 0.01)])
def test_boxes_of_the_demo_corpus(corpus, tmp_path, tracker, gain):
    sequences = otb_sequences(write_otb(tmp_path / "otb", corpus))
    assert len(sequences) == 2 and {len(sequence) for sequence in sequences} == {20}
    perfect = [score_boxes(sequence, sequence.boxes, task="otb") for sequence in sequences]
    assert summarise_boxes(perfect, task="otb")[0]["success_score"] == pytest.approx(20 / 21)
    pixels, identity = measured(box_benchmark(sequences, task="otb", tracker=tracker), tmp_path)
    assert pixels["success_score"] > identity["success_score"] + gain


def test_points_of_the_demo_corpus(corpus, tmp_path):
    sequences = tapvid_sequences(write_tapvid(tmp_path / "tapvid", corpus))
    for sequence in sequences:
        asked = queries(sequence.occluded, mode="first")
        truth = sequence.points[asked.track] * 256, sequence.occluded[asked.track]
        perfect = tapvid_figures(
            query_frames=asked.frame, occluded=truth[1], points=truth[0],
            predicted_occluded=truth[1], predicted_points=truth[0], mode="first",
        )  # fmt: skip
        assert set(perfect.values()) == {1.0}
        # A point that is visible lies in the frame.
        assert ((sequence.points > 0) & (sequence.points < 1))[~sequence.occluded].all()
    pixels, identity = measured(tapvid_benchmark(sequences, mode="first"), tmp_path)
    assert pixels["average_pts_within_thresh"] > identity["average_pts_within_thresh"] + 0.05
    assert np.isfinite(list(pixels.values())).all()
