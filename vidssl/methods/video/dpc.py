"""Dense Predictive Coding: predict the features of the blocks of frames to come, cell by cell.

Han, Xie and Zisserman 2019, "Video representation learning by dense predictive coding", arXiv:1909.04656.
"""

from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, random_clips
from ...method import Method
from ...models import Encoder
from ...ops.contrast import info_nce
from ...ops.draws import mix
from ...ops.gather import gather, rank

# Eight blocks of five frames, every fifth frame of the video (Sec. 4.1; every third on UCF101).
CLIPS = partial(random_clips, num_frames=40, stride_frames=5)


class DPC(Method):
    """Predict the last blocks of a clip from the first ones, and tell each cell's true future from all others.

    Block features go through a recurrent network; its state predicts the next block, and the prediction is its next
    input. The candidates of a predicted cell are the cells of all predicted steps of all clips: other places and times
    of its own video, which need an idea of what moves where, and other videos, for which the look of the video
    is enough. So accuracies are logged apart, each beside its chance level.

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] -> (B, T, D, h, w).
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1], all frames alike.
        frame_view: Applied to every frame by itself: (float frames (B, 1, 3, H, W), seeds (B,)) -> the same
            shape. Colours that change from frame to frame cannot be used to recognise a video.
        num_blocks: Blocks that the frames of a clip are divided into, of equal length.
        num_predicted: How many of them are predicted.
        dim: Width E of block features and of the recurrent state.
        dropout: Of the recurrent state after every step; 0.1 in the authors' code.
        within_video_negatives: Whether cells of the own video are negatives; without them, looks are enough.
        clips: One clip of a multiple of `num_blocks` frames.

    Differences from the paper: the encoder sees single frames, and a block is the mean of its frames, instead of
    a network with 3-D convolutions; a linear map of the encoder's output is predicted, where the paper takes the
    output before its last ReLU; batch norm keeps running statistics; other clips of a source are no negatives, and
    candidates come from all processes (the authors' code: of one GPU each); one convolution makes both gates, so that
    they are drawn orthogonal to each other, too.
    """

    view: nn.Module

    def __init__(
        self,
        encoder: Encoder,
        *,
        view: nn.Module,
        frame_view: nn.Module | None = None,
        num_blocks: int = 8,
        num_predicted: int = 3,
        dim: int = 256,
        dropout: float = 0.1,
        within_video_negatives: bool = True,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.view = view
        self.frame_view = frame_view
        self.num_blocks = num_blocks
        self.num_predicted = num_predicted
        self.project = nn.Conv2d(encoder.dim, dim, 1)
        self.aggregate = ConvGRUCell(dim, dropout=dropout)
        self.predictor = nn.Sequential(nn.Conv2d(dim, dim, 1), nn.ReLU(), nn.Conv2d(dim, dim, 1))
        _make_orthogonal(self.predictor)
        self.within_video_negatives = within_video_negatives
        self.clips = clips

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Cross-entropy of each predicted cell's true features among all candidates (Eq. 5)."""
        assert batch.video is not None and batch.seed is not None
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)
        blocks = self.blocks(self._view_frames(video, batch.host_seed))  # (B, N, E, h, w)
        predicted = self.predict(blocks[:, : -self.num_predicted])  # (B, S, E, h, w)
        future = blocks[:, -self.num_predicted :]
        queries = rearrange(predicted, "b s e h w -> (b s h w) e").float()
        keys = gather(rearrange(future, "b s e h w -> (b s h w) e").float())
        with torch.autocast(keys.device.type, enabled=False):
            logits = queries @ keys.T
        return self.contrast(logits, batch, num_cells=future.shape[-2] * future.shape[-1])

    def blocks(self, video: Tensor) -> Tensor:
        """Features of each block, the mean of its frames': (B, T, 3, H, W) -> (B, num_blocks, E, h, w)."""
        blocks = rearrange(video, "b (n t) c h w -> (b n) t c h w", n=self.num_blocks)
        features = self.project(self.encoder.features(blocks).mean(1))
        return rearrange(features, "(b n) e h w -> b n e h w", n=self.num_blocks)

    def predict(self, past: Tensor) -> Tensor:
        """Predict block after block (Eq. 3): (B, N - S, E, h, w) -> (B, S, E, h, w)."""
        state = torch.zeros_like(past[:, 0])
        for block in past.unbind(1):
            state = self.aggregate(block.relu(), state)
        predicted = [self.predictor(state)]
        while len(predicted) < self.num_predicted:
            state = self.aggregate(predicted[-1].relu(), state)
            predicted.append(self.predictor(state))
        return torch.stack(predicted, dim=1)

    def contrast(self, logits: Tensor, batch: Batch, *, num_cells: int) -> dict[str, Tensor]:
        """Loss and accuracies among all candidates, those of the own video, and those of other videos.

        Args:
            logits: (n, m): n = B S cells queries of this process, m candidates of all; ordered by clip, step, cell.
            batch: This process's samples, for their sources.
            num_cells: Cells of a feature map, h w.
        """
        per_clip = self.num_predicted * num_cells
        by_clip = logits.view(len(logits) // per_clip, per_clip, -1, per_clip)  # (B, S cells, clips, S cells)
        own = torch.arange(len(by_clip), device=logits.device) + rank() * len(by_clip)  # among the clips of all
        is_own = own[:, None] == torch.arange(by_clip.shape[2], device=logits.device)  # (B, clips)
        is_other = ~is_own
        if batch.source_id is not None:
            is_other = is_other & (batch.source_id[:, None] != gather(batch.source_id))
        is_negative = is_own | is_other if self.within_video_negatives else is_other
        # What holds for two clips holds for all of their cells.
        exclude = (~is_negative)[:, None, :, None].expand(by_clip.shape).reshape(logits.shape)
        positive = (own[:, None] * per_clip + torch.arange(per_clip, device=logits.device)).flatten()
        loss, logged = info_nce(logits, positive, exclude=exclude)
        num_candidates = is_other.sum(1) * per_clip + (per_clip if self.within_video_negatives else 1)
        logged["chance"] = (1 / num_candidates).mean()
        return {"loss": loss, **logged, **self.accuracies(by_clip.detach(), own, is_other)}

    def accuracies(self, logits: Tensor, own: Tensor, is_other: Tensor) -> dict[str, Tensor]:
        """Accuracies among parts of the candidates, each a few of them, and their chance levels.

        Args:
            logits: (B, S cells, clips, S cells): of each query's clip, step and cell with each candidate's.
            own: Number of each query's clip among those of the candidates, int64 (B,).
            is_other: Which clips are other videos, bool (B, clips).
        """
        per_clip = logits.shape[1]
        place, step = (torch.arange(size, device=own.device) for size in (per_clip, self.num_predicted))
        within = logits[torch.arange(len(own), device=own.device), :, own]  # (B, S cells, S cells)
        steps = within.unflatten(2, (len(step), -1)).unflatten(1, (len(step), -1)).diagonal(dim1=2, dim2=4)
        videos = logits.diagonal(dim1=1, dim2=3)  # (B, clips, S cells): the same step and cell of every clip
        is_candidate = is_other.index_put((torch.arange(len(own), device=own.device), own), is_other.new_ones(()))
        videos = videos.masked_fill(~is_candidate[..., None], -torch.inf)
        return {
            "accuracy_within_video": (within.argmax(2) == place).float().mean(),
            "chance_within_video": logits.new_full((), 1 / per_clip),
            "accuracy_other_steps": (steps.argmax(2) == step[:, None]).float().mean(),
            "chance_other_steps": logits.new_full((), 1 / len(step)),
            "accuracy_other_videos": (videos.argmax(1) == own[:, None]).float().mean(),
            "chance_other_videos": (1 / is_candidate.sum(1)).mean(),
        }

    def _view_frames(self, video: Tensor, seed: Tensor) -> Tensor:
        """Apply `frame_view` to every frame under a seed of its own."""
        if self.frame_view is None:
            return video
        num_frames = video.shape[1]
        seeds = torch.stack([mix(seed, number) for number in range(num_frames)], dim=1)
        frames = self.frame_view(rearrange(video, "b t c h w -> (b t) 1 c h w"), seeds.flatten())
        return rearrange(frames, "(b t) 1 c h w -> b t c h w", t=num_frames)


def _make_orthogonal(network: nn.Module) -> None:
    """Draw weights orthogonal, with biases of zero, as the authors' code does."""
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.orthogonal_(parameter)
        else:
            nn.init.zeros_(parameter)


class ConvGRUCell(nn.Module):
    """A gated recurrent unit on every cell of a map: 1x1 convolutions, orthogonal weights (Sec. 3.2).

    Args:
        dim: Width E of input and state.
        dropout: Share of the new state that is set to zero, in training.
    """

    def __init__(self, dim: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.gates = nn.Conv2d(2 * dim, 2 * dim, 1)
        self.candidate = nn.Conv2d(2 * dim, dim, 1)
        self.dropout = nn.Dropout(dropout)
        _make_orthogonal(self)

    def forward(self, features: Tensor, state: Tensor) -> Tensor:
        """Return the next state: (B, E, h, w), (B, E, h, w) -> (B, E, h, w)."""
        update, reset = self.gates(torch.cat([features, state], dim=1)).sigmoid().chunk(2, dim=1)
        candidate = self.candidate(torch.cat([features, reset * state], dim=1)).tanh()
        return self.dropout((1 - update) * state + update * candidate)
