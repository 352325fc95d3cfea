"""Contrastive losses, with the samples that are no negatives of each other left out."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .gather import gather, rank


def info_nce(
    logits: Tensor, positive: Tensor, *, exclude: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy of naming the positive among all candidates (van den Oord et al. 2018, Eq. 4).

    Args:
        logits: Similarity over temperature of each query and candidate, (N, M).
        positive: Column of each query's positive, int64 (N,).
        exclude: Candidates that are no negatives (the query itself, other clips of its source), bool (N, M); the
            positive always stays.

    Returns:
        Mean loss, float32, and scalars to log: "accuracy", and "nce_over_chance", the loss over the logarithm of
        the mean number of candidates: 1 is chance.
    """
    logits = logits.float()
    num_candidates = torch.tensor(float(logits.shape[1]), device=logits.device)
    if exclude is not None:
        exclude = exclude.scatter(1, positive[:, None], False)
        logits = logits.masked_fill(exclude, -torch.inf)
        # Numbers of a mask are copied to the type they are added up in: to the small one.
        num_candidates = num_candidates - exclude.sum(1, dtype=torch.float32).mean()
    loss = F.cross_entropy(logits, positive)
    accuracy = (logits.argmax(1) == positive).float().mean()
    return loss, {"accuracy": accuracy, "nce_over_chance": loss.detach() / num_candidates.log()}


def same_source(source_id: Tensor | None, other_id: Tensor | None) -> Tensor | None:
    """Which pairs were cut from one recording: int64 (N,), (M,) -> bool (N, M); None where sources are unknown."""
    if source_id is None or other_id is None:
        return None
    return source_id[:, None] == other_id[None, :]


def map_nce(
    sources: Tensor, maps: Tensor, *, tanh_clip: float, exclude: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy of naming each cell of the own map among all cells of other clips (AMDIM, Bachman et al. 2019).

    Scores are dot products over sqrt(D), bent into [-tanh_clip, tanh_clip]; other cells of the own map are no negatives
    (arXiv:1906.00910, and the authors' costs.py). Maps of all processes are candidates.

    Args:
        sources: A vector of each clip, (B, D).
        maps: Of the same clips, (B, D, ...) with any number of dimensions of cells.
        tanh_clip: Largest score.
        exclude: Clips of all processes that are no negatives, bool (B, M); the own one never is.

    Returns:
        Mean loss, float32; mean square of the scores before they are bent, which the authors keep small; and how often
        the own cell has the highest score.
    """
    keys = gather(maps.flatten(2).contiguous())  # (M, D, L)
    with torch.autocast(maps.device.type, enabled=False):
        scores = torch.einsum("bd, mdl -> bml", sources.float(), keys.float()) / sources.shape[1] ** 0.5
    size = scores.square().mean()
    scores = tanh_clip * (scores / tanh_clip).tanh()
    own = rank() * len(sources) + torch.arange(len(sources), device=sources.device)
    positive = scores.gather(1, own.view(-1, 1, 1).expand(-1, 1, scores.shape[2]))  # (B, 1, L)
    left_out = torch.arange(len(keys), device=own.device) == own[:, None]
    left_out = left_out if exclude is None else left_out | exclude
    negative = scores.masked_fill(left_out[..., None], -torch.inf).flatten(1)
    total = negative.logsumexp(1).view(-1, 1, 1)
    accuracy = (positive > negative.amax(1).view(-1, 1, 1)).float().mean()
    return (torch.logaddexp(positive, total) - positive).mean(), size, accuracy


def usage_entropy(probabilities: Tensor) -> Tensor:
    """How evenly clusters or prototypes are used: (N, K), rows sum to 1 -> scalar in [0, 1]; 0 is one for all."""
    mean = probabilities.float().mean(0)
    return -torch.special.xlogy(mean, mean).sum() / math.log(len(mean))


def cosine_logits(queries: Tensor, candidates: Tensor, *, temperature: float) -> Tensor:
    """Cosine similarity over temperature, float32 under autocast as well: (N, D), (M, D) -> (N, M)."""
    with torch.autocast(queries.device.type, enabled=False):
        return F.normalize(queries.float(), dim=1) @ F.normalize(candidates.float(), dim=1).T / temperature
