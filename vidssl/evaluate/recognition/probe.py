"""Minimal recognition probes of frozen features: nearest neighbours and a linear classifier."""

import torch.nn.functional as F
from torch import Tensor

from .linear import minimise_cross_entropy


def knn_accuracy(
    train: Tensor, train_label: Tensor, test: Tensor, test_label: Tensor, *, k: int = 20, temperature: float = 0.07
) -> float:
    """Share of test samples whose class wins the vote of the k nearest training samples.

    Cosine similarity, votes weighted by exp(similarity / temperature) (Wu et al. 2018, arXiv:1805.01978, Sec. 3.4).

    Args:
        train: Features, (N, D).
        train_label: int64 (N,), from 0.
        test: Features, (M, D).
        test_label: int64 (M,).
        k: Neighbours.
        temperature: Of the votes.
    """
    similarity = F.normalize(test.float(), dim=1) @ F.normalize(train.float(), dim=1).T
    nearest, index = similarity.topk(min(k, len(train)), dim=1)
    votes = F.one_hot(train_label)[index] * (nearest / temperature).exp()[..., None]
    return (votes.sum(1).argmax(1) == test_label).float().mean().item()


def linear_accuracy(
    train: Tensor, train_label: Tensor, test: Tensor, test_label: Tensor, *, weight_decay: float = 1e-3
) -> float:
    """Share of test samples that a linear classifier of the training features gets right.

    Features are standardised by the training set; multinomial logistic regression with an L2 penalty, solved by
    L-BFGS in float64 until it stands still: no learning rate, no draw.

    Args:
        train: Features, (N, D).
        train_label: int64 (N,), from 0.
        test: Features, (M, D).
        test_label: int64 (M,).
        weight_decay: lambda of lambda/2 |W|^2, beside the mean cross-entropy; the bias is free.
    """
    mean, std = train.double().mean(0), train.double().std(0)
    # A feature that never changes tells nothing; without the floor its rounding errors would be blown up.
    std = std.clamp(min=1e-6)
    train, test = (train.double() - mean) / std, (test.double() - mean) / std
    num_classes = int(train_label.max()) + 1
    weight, bias = minimise_cross_entropy(train, train_label, num_classes=num_classes, penalty=weight_decay)
    return ((test @ weight + bias).argmax(1) == test_label).double().mean().item()
