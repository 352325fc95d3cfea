"""V-JEPA: predict the features of hidden parts of a clip instead of their pixels.

Bardes, Garrido, Ponce, Chen, Rabbat, LeCun, Assran and Ballas 2024, "Revisiting feature prediction for learning visual
representations from video", arXiv:2404.08471.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, random_clips
from ...method import Method
from ...models import VideoViT
from ...models.video_vit import TokenPredictor
from ...ops import draws
from ...ops.ema import linear_momentum, momentum_by_progress, move_teacher, teacher_of
from ...ops.masks import Split, block_split, take, tubes
from ...ops.monitors import collapse_monitors

CLIPS = partial(random_clips, num_frames=16, stride_frames=4)

# On 14 x 14 cells the union of 8 blocks of 15 % covers 63 +- 8 % of the frame, that of 2 blocks of 70 % 82 +- 8 %
# (Sec. 3.2). The shares leave a margin, so that few samples run short of cells of either kind.
MASKS = (
    partial(block_split, num_blocks=8, block_share=0.15, hidden_share=0.5, visible_share=0.24),
    partial(block_split, num_blocks=2, block_share=0.7, hidden_share=0.7, visible_share=0.06),
)


class VJEPA(Method):
    """Predict a teacher's features of hidden tubes from the visible ones; the teacher follows the student.

    Args:
        encoder: Becomes the student; `encoder` of the method is its teacher, which is exported. RGB (B, T, 3, H, W)
            in [0, 1] and the tokens to keep (B, V) -> (B, V, D).
        predictor: Visible tokens -> features of the hidden ones, (B, M, D).
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1].
        masks: Each (seeds (B,), rows=, columns=) -> visible and hidden cells of a frame; by default the paper's
            two, many small and few large blocks.
        momentum: Of the teacher by progress in [0, 1], or at the start: it then rises linearly and would reach 1 after
            1.25 times the training.
        clips: Which frames; by default 16, 4 apart.

    Differences from the paper: every sample hides and shows exactly as many tokens as any other (`block_split`)
    instead of as many as the batch allows, and draws the size of its own blocks. The predictor has a mask token for
    each of the masks only if it was built with as many (`num_mask_tokens`).
    """

    encoder: VideoViT
    view: nn.Module

    def __init__(
        self,
        encoder: VideoViT,
        *,
        predictor: TokenPredictor,
        view: nn.Module,
        masks: Sequence[Callable[..., Split]] = MASKS,
        momentum: float | Callable[[float], float] = 0.998,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.student = encoder
        self.encoder = teacher_of(encoder)
        self.predictor = predictor
        self.view = view
        self.masks = tuple(masks)
        self.momentum = momentum_by_progress(momentum, rise=linear_momentum)
        self.clips = clips

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Mean absolute error of the predicted features, mean over the masks (Eq. 1)."""
        assert batch.seed is not None
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)
        grid = steps, rows, columns = self.encoder.grid(video)
        targets = self.targets(video)
        errors, spreads = [], []
        for number, mask in enumerate(self.masks):
            cells = mask(draws.mix(batch.seed, number), rows=rows, columns=columns)
            visible, hidden = (tubes(kind, num_steps=steps, num_cells=rows * columns) for kind in cells)
            tokens = self.student.tokens(video, visible)
            split = {"visible": visible, "hidden": hidden, "grid": grid, "mask_number": number}
            predicted = self.predictor(tokens, **split).float()
            errors.append((predicted - take(targets, hidden)).abs().mean())
            spreads.append(predicted.std(1).mean())
        return {"loss": torch.stack(errors).mean(), "predictor_std": torch.stack(spreads).mean()}

    @torch.no_grad()
    def targets(self, video: Tensor) -> Tensor:
        """Features that the teacher gives the whole clip, each token normalised: (B, T, 3, H, W) -> (B, N, D)."""
        return F.layer_norm(self.encoder.tokens(video).float(), (self.encoder.dim,))

    def after_step(self, progress: float) -> None:
        """Move the teacher."""
        move_teacher(self.encoder, self.student, momentum=self.momentum(progress))

    def schedules(self) -> dict[str, Callable[[float], float]]:
        """Momentum of the teacher."""
        return {"momentum": self.momentum}

    def networks(self) -> dict[str, nn.Module]:
        """The teacher, which the paper evaluates, and the student."""
        return {"teacher": self.encoder, "student": self.student}

    def monitors(self, batch: Batch) -> dict[str, Tensor]:
        """Spread of the teacher's features over clips (`collapse_monitors`), and "token_std" over all tokens.

        A teacher that knows nothing but places keeps its "token_std" while "embedding_std" falls.
        """
        if len(batch) < 2:
            return {}
        assert batch.video is not None
        tokens = self.encoder.tokens(batch.video[:, 0].float() / 255).float()
        token_std = F.normalize(tokens, dim=2).flatten(0, 1).std(0).mean() * self.encoder.dim**0.5
        return {**collapse_monitors(tokens.mean(1)), "token_std": token_std}
