"""vidssl extract; vidssl evaluate knn, linear, lowshot, retrieval, cluster: what frozen features know of classes."""

import math
from typing import Annotated, Literal

import tyro

from ...evaluate.recognition.tasks import (
    cluster_task,
    knn_task,
    linear_task,
    lowshot_task,
    retrieval_task,
    sound_retrieval_task,
)
from ._options import DataOptions, EvaluationOptions, FeatureOptions
from ._recognize import measure_and_print

Data = Annotated[DataOptions, tyro.conf.arg(name="")]
Model = Annotated[FeatureOptions, tyro.conf.arg(name="")]
Evaluation = Annotated[EvaluationOptions, tyro.conf.arg(name="")]


def knn(
    data: Data,
    model: Model,
    evaluation: Evaluation,
    *,
    neighbours: tuple[int, ...] = (1, 5, 10, 20, 100, 200),
    temperatures: tuple[float, ...] = (0.04, 0.07, 0.1, 0.2, math.inf),
    command: str | None = None,
) -> None:
    """Classify test samples by their nearest training samples, with frozen features; print accuracies.

    Neighbours and temperature are chosen by leave-one-out on the training samples; the figures of the conventional
    setting (20 neighbours, temperature 0.07) are printed beside them. Random weights, raw pixels and chance are
    measured, too. Running the same command again takes over what is done.

    Args:
        data: What is measured on.
        model: What is measured.
        evaluation: Where results go.
        neighbours: Numbers of neighbours to try.
        temperatures: Of the votes, to try; inf lets all neighbours vote alike.
        command: Command line that started this, for the record.
    """
    measure_and_print(
        knn_task(neighbours=neighbours, temperatures=temperatures), data, model, evaluation, command=command
    )


def linear(
    data: Data,
    model: Model,
    evaluation: Evaluation,
    *,
    solver: Literal["grid", "exact"] = "grid",
    steps: int = 12_500,
    step_samples: int = 128,
    command: str | None = None,
) -> None:
    """Train a linear classifier on frozen features; print its accuracies on the test samples.

    `grid` trains one classifier for every layer and learning rate at once (DINOv2's protocol), reports all, and
    chooses one on a tenth of the training recordings. `exact` solves logistic regression of each layer to the
    optimum and chooses the penalty likewise. Random weights, raw pixels and chance are measured, too. Running the
    same command again takes over what is done.

    Args:
        data: What is measured on.
        model: What is measured.
        evaluation: Where results go.
        solver: grid or exact.
        steps: Of the grid's SGD.
        step_samples: Views of samples in a step of the grid.
        command: Command line that started this, for the record.
    """
    measure_and_print(
        linear_task(solver=solver, steps=steps, step_samples=step_samples),
        data,
        model,
        evaluation,
        command=command,
    )


def lowshot(
    data: Data,
    model: Model,
    evaluation: Evaluation,
    *,
    classifier: Literal["linear", "knn"] = "linear",
    fractions: tuple[float, ...] = (0.01, 0.1),
    shots: tuple[int, ...] = (1, 2, 4, 8, 16),
    num_draws: int = 5,
    command: str | None = None,
) -> None:
    """Classify with few labelled recordings: shares of the training set, and k of each class, mean over draws.

    Random weights, raw pixels and chance are measured, too. Running the same command again takes over what is done.

    Args:
        data: What is measured on.
        model: What is measured.
        evaluation: Where results go.
        classifier: linear (logistic regression) or knn.
        fractions: Of the training recordings of each class, in (0, 1].
        shots: Training recordings of each class.
        num_draws: Mean and deviation are over this many draws.
        command: Command line that started this, for the record.
    """
    measure_and_print(
        lowshot_task(classifier=classifier, fractions=fractions, shots=shots, num_draws=num_draws),
        data,
        model,
        evaluation,
        command=command,
    )


def cluster(
    data: Data,
    model: Model,
    evaluation: Evaluation,
    *,
    samples: Literal["test", "train", "all"] = "all",
    num_clusters: int | None = None,
    num_restarts: int = 10,
    command: str | None = None,
) -> None:
    """Cluster frozen features by k-means and compare the clusters with the classes: NMI, ARI, purity.

    Random weights, raw pixels and chance are measured, too. Running the same command again takes over what is done.

    Args:
        data: What is measured on.
        model: What is measured.
        evaluation: Where results go.
        samples: Which are clustered; no label is learned from, so it may be all.
        num_clusters: None is the number of classes.
        num_restarts: Draws of initial centres; that of the lowest inertia counts.
        command: Command line that started this, for the record.
    """
    measure_and_print(
        cluster_task(samples=samples, num_clusters=num_clusters, num_restarts=num_restarts),
        data,
        model,
        evaluation,
        command=command,
    )


def retrieval(
    data: Data,
    model: Model,
    evaluation: Evaluation,
    *,
    audio_model: str | None = None,
    alignment: Literal["ridge", "none"] = "ridge",
    alignment_penalty: float = 0.1,
    ranks: tuple[int, ...] = (1, 5, 10, 20),
    command: str | None = None,
) -> None:
    """Find training samples of the class of each test sample among its nearest neighbours; print the recall.

    With --audio-model, find the sound of each test video among those of all test videos, and back. Draws test samples
    and what was found for them (retrieval.png, audio-video-retrieval.png). Random weights, raw pixels and chance are
    measured, too. Running the same command again takes over what is done.

    Args:
        data: What is measured on.
        model: What is measured.
        evaluation: Where results go.
        audio_model: Encoder of sound: a run of an audio-visual method, or its audio_encoder.safetensors.
        alignment: How features of pictures come to the space of those of sound: ridge maps them linearly, fitted to
            the training samples; none takes them as they are (encoders of one space).
        alignment_penalty: Of that map, relative to the variance of the features.
        ranks: Neighbours looked at.
        command: Command line that started this, for the record.
    """
    if audio_model is None:
        measure_and_print(retrieval_task(ranks), data, model, evaluation, command=command)
        return
    task = sound_retrieval_task(ranks, penalty=alignment_penalty if alignment == "ridge" else None)
    measure_and_print(task, data, model, evaluation, audio_model=audio_model, command=command)
