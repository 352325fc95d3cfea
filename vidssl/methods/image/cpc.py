"""Contrastive Predictive Coding: predict the features of patches from those of the rows of patches above them.

Van den Oord, Li and Vinyals 2018, "Representation learning with contrastive predictive coding", arXiv:1807.03748;
version 2: Henaff et al. 2019, "Data-efficient image recognition with contrastive predictive coding", arXiv:1905.09272.
"""

from collections.abc import Sequence
from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, random_clips
from ...method import Method
from ...models import Encoder
from ...ops import draws
from ...ops.contrast import info_nce, same_source
from ...ops.gather import gather, rank

# An image, or a random frame of a video.
CLIPS = partial(random_clips, num_frames=1)


class CPC(Method):
    """Cut a clip into overlapping patches, encode each by itself, and tell the patches below from all others.

    A row of patches is predicted from the rows above by a masked network, some rows ahead, since neighbours overlap.
    The candidates are all patches of all clips, those of the own clip included. An encoder with batch norm would
    give the answer away: patches must be kept apart (norm="group").

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] -> pooled features (B, D); it sees patches.
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1].
        patch_view: Applied to every patch by itself: (float clips (P, T, 3, h, w), seeds (P,)) -> the same shape.
            Version 2; colours that change from patch to patch cannot be used to recognise a clip.
        patch_px: Height and width of a patch.
        stride_px: From a patch to the next: half a patch, of which 256 pixels give 7 x 7.
        rows_ahead: How many rows below the last one seen predictions are for, each by a matrix W_k of its own.
        num_directions: 1 predicts downwards; 4 upwards and to both sides as well (version 2), by networks of their own.
        target_dim: Width of a linear map of the features that is predicted (64 in version 2); None predicts the
            features themselves (version 1).
        context_dim: Width of the context.
        hidden_dim: Of the network that makes it.
        scale: Of the predictions; 0.1 in version 2.
        clips: Which frames; by default one.

    Differences from the paper: other clips of a source (batch.source_id) are no negatives; the loss is the mean over
    rows ahead and directions, not their sum.
    """

    view: nn.Module

    def __init__(
        self,
        encoder: Encoder,
        *,
        view: nn.Module,
        patch_view: nn.Module | None = None,
        patch_px: int = 64,
        stride_px: int = 32,
        rows_ahead: Sequence[int] = (2, 3, 4, 5),
        num_directions: int = 1,
        target_dim: int | None = None,
        context_dim: int = 1024,
        hidden_dim: int = 256,
        scale: float = 1.0,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.view = view
        self.patch_view = patch_view
        self.patch_px = patch_px
        self.stride_px = stride_px
        self.predictors = nn.ModuleList(
            Predictor(
                encoder.dim, rows_ahead=rows_ahead, target_dim=target_dim, dim=context_dim, hidden_dim=hidden_dim
            )
            for _ in range(num_directions)
        )
        self.scale = scale
        self.clips = clips

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Cross-entropy of each predicted patch among all (Eq. 4), mean over patches, rows ahead and directions."""
        maps = self.encode(batch)
        found = []
        for turns, predictor in enumerate(self.predictors):
            targets, predicted = predictor(torch.rot90(maps, turns, dims=(2, 3)))
            found += [self.contrast(one, targets, batch, rows_ahead=rows) for rows, one in predicted.items()]
        return {name: torch.stack([one[name] for one in found]).mean() for name in found[0]}

    def encode(self, batch: Batch) -> Tensor:
        """Features of all patches, each encoded by itself: (B, D, rows, columns)."""
        assert batch.seed is not None
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)
        grid = video.unfold(3, self.patch_px, self.stride_px).unfold(4, self.patch_px, self.stride_px)
        rows, columns = grid.shape[3:5]
        patches = rearrange(grid, "b t c i j h w -> (b i j) t c h w")
        if self.patch_view is not None:
            seeds = [draws.mix(batch.host_seed, 1 + number) for number in range(rows * columns)]
            patches = self.patch_view(patches, torch.stack(seeds, dim=1).flatten())
        return rearrange(self.encoder(patches), "(b i j) d -> b d i j", i=rows, j=columns)

    def contrast(self, predicted: Tensor, targets: Tensor, batch: Batch, *, rows_ahead: int) -> dict[str, Tensor]:
        """Loss and accuracy: predictions (B, E, rows - rows_ahead, columns), targets (B, E, rows, columns)."""
        num_clips, _, rows, columns = targets.shape
        queries = rearrange(predicted, "b e i j -> (b i j) e")
        keys = gather(rearrange(targets, "b e i j -> (b i j) e"))
        with torch.autocast(keys.device.type, enabled=False):
            logits = self.scale * queries.float() @ keys.float().T
        clip = torch.arange(num_clips, device=keys.device)
        place = torch.arange(rows * columns, device=keys.device)
        own = clip + rank() * num_clips
        positive = (own[:, None] * rows * columns + place[rows_ahead * columns :]).flatten()
        exclude = None
        if batch.source_id is not None:
            of_clips = same_source(batch.source_id, gather(batch.source_id))
            assert of_clips is not None
            of_clips = of_clips.scatter(1, own[:, None], False)
            per_clip = len(queries) // num_clips
            exclude = of_clips.repeat_interleave(per_clip, 0).repeat_interleave(rows * columns, 1)
        loss, logged = info_nce(logits, positive, exclude=exclude)
        return {"loss": loss, **logged}


class Predictor(nn.Module):
    """Context of each patch from the rows above it, and from the context predictions of rows below: the pseudo-code of
    version 2.

    Args:
        feature_dim: D.
        rows_ahead: As of `CPC`.
        target_dim: E; None is D, the features themselves.
        dim: Width of the context.
        hidden_dim: Between the convolutions.
    """

    def __init__(
        self, feature_dim: int, *, rows_ahead: Sequence[int], target_dim: int | None, dim: int, hidden_dim: int
    ) -> None:
        super().__init__()
        self.target = nn.Identity() if target_dim is None else nn.Conv2d(feature_dim, target_dim, 1)
        self.enter = nn.Conv2d(feature_dim, dim, 1)
        self.blocks = nn.ModuleList(MaskedBlock(dim, hidden_dim) for _ in range(5))
        out_dim = target_dim or feature_dim
        self.heads = nn.ModuleDict({str(rows): nn.Conv2d(dim, out_dim, 1) for rows in rows_ahead})

    def forward(self, maps: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """(B, D, rows, columns) -> targets (B, E, rows, columns); rows ahead -> (B, E, rows - rows ahead, columns)."""
        context = self.enter(maps)
        for block in self.blocks:
            context = context + block(context)
        context = context.relu()
        predicted = {int(rows): head(context[:, :, : -int(rows)]) for rows, head in self.heads.items()}
        return self.target(maps), predicted


class MaskedBlock(nn.Sequential):
    """Three columns of this row and of the one above, of no row below: (B, dim, h, w) -> the same shape."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__(
            nn.Conv2d(dim, hidden_dim, 1),
            nn.ReLU(),
            nn.Conv2d(hidden_dim, hidden_dim, (1, 3), padding=(0, 1)),
            nn.ZeroPad2d((0, 0, 1, 0)),
            nn.Conv2d(hidden_dim, hidden_dim, (2, 1)),
            nn.ReLU(),
            nn.Conv2d(hidden_dim, dim, 1),
        )
