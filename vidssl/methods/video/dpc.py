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
        within_video_negatives: Whether cells of the own video are negatives; without them, looks are enough.
        clips: One clip of a multiple of `num_blocks` frames.

    Differences from the paper: the encoder sees single frames, and a block is the mean of its frames, instead of
    a network with 3-D convolutions; a linear map of the encoder's output is predicted, where the paper takes the
    output before its last ReLU; batch norm keeps running statistics; other clips of a source are no negatives.
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
        self.aggregate = ConvGRUCell(dim)
        self.predictor = nn.Sequential(nn.Conv2d(dim, dim, 1), nn.ReLU(), nn.Conv2d(dim, dim, 1))
        self.within_video_negatives = within_video_negatives
        self.clips = clips

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Cross-entropy of each predicted cell's true features among all candidates (Eq. 5)."""
        assert batch.video is not None and batch.seed is not None
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)
        blocks = self.blocks(self._view_frames(video, batch.host_seed))  # (B, N, E, h, w)
        predicted = self.predict(blocks[:, : -self.num_predicted])  # (B, S, E, h, w)
        future = blocks[:, -self.num_predicted :]
        queries = rearrange(predicted, "b s e h w -> (b s h w) e")
        keys = gather(rearrange(future, "b s e h w -> (b s h w) e"))
        return self.contrast(queries @ keys.T, batch, num_cells=future.shape[-2] * future.shape[-1])

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
        positive = torch.arange(len(logits), device=logits.device) + rank() * len(logits)
        candidate = torch.arange(logits.shape[1], device=logits.device)
        true = positive[:, None] == candidate
        own = positive[:, None] // per_clip == candidate // per_clip
        others = ~own
        if batch.source_id is not None:
            source = batch.source_id.repeat_interleave(per_clip)
            others = others & (source[:, None] != gather(batch.source_id).repeat_interleave(per_clip))
        candidates = own | others if self.within_video_negatives else true | others
        loss, logged = info_nce(logits, positive, exclude=~candidates)
        logged["chance"] = _chance(candidates)
        same_cell = positive[:, None] % num_cells == candidate % num_cells
        same_step_and_cell = positive[:, None] % per_clip == candidate % per_clip
        groups = {
            "within_video": own,
            "other_steps": own & same_cell,
            "other_videos": true | others & same_step_and_cell,
        }
        for name, group in groups.items():
            best = logits.masked_fill(~group, -torch.inf).argmax(1)
            logged[f"accuracy_{name}"] = (best == positive).float().mean()
            logged[f"chance_{name}"] = _chance(group)
        return {"loss": loss, **logged}

    def _view_frames(self, video: Tensor, seed: Tensor) -> Tensor:
        """Apply `frame_view` to every frame under a seed of its own."""
        if self.frame_view is None:
            return video
        num_frames = video.shape[1]
        seeds = torch.stack([mix(seed, number) for number in range(num_frames)], dim=1)
        frames = self.frame_view(rearrange(video, "b t c h w -> (b t) 1 c h w"), seeds.flatten())
        return rearrange(frames, "(b t) 1 c h w -> b t c h w", t=num_frames)


def _chance(candidates: Tensor) -> Tensor:
    """Accuracy of guessing: bool (n, m) -> scalar."""
    return (1 / candidates.sum(1)).mean()


class ConvGRUCell(nn.Module):
    """A gated recurrent unit on every cell of a map: 1x1 convolutions, orthogonal weights (Sec. 3.2).

    Args:
        dim: Width E of input and state.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(2 * dim, 2 * dim, 1)
        self.candidate = nn.Conv2d(2 * dim, dim, 1)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.orthogonal_(parameter)
            else:
                nn.init.zeros_(parameter)

    def forward(self, features: Tensor, state: Tensor) -> Tensor:
        """Return the next state: (B, E, h, w), (B, E, h, w) -> (B, E, h, w)."""
        update, reset = self.gates(torch.cat([features, state], dim=1)).sigmoid().chunk(2, dim=1)
        candidate = self.candidate(torch.cat([features, reset * state], dim=1)).tanh()
        return (1 - update) * state + update * candidate
