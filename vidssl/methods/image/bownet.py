"""BoWNet: predict, from a perturbed picture, which visual words of another network the picture is made of.

Gidaris, Bursuc, Komodakis, Perez and Cord 2020, "Learning representations by predicting bags of visual words",
arXiv:2002.12247.
"""

from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, random_clips
from ...method import Epoch, Method
from ...models import Encoder
from ...ops import draws
from ...ops.contrast import usage_entropy
from ...ops.ema import teacher_of
from ...ops.gather import own_rows
from ...ops.kmeans import kmeans, nearest

# An image, or a random frame of a video.
CLIPS = partial(random_clips, num_frames=1)


class BoWNet(Method):
    """Cluster the cells of a frozen network's feature maps into words, and predict each picture's bag of words.

    Rounds: after `epochs_per_round` passes over the data the student becomes the teacher, words are found anew in its
    maps, and the student starts again from its first weights.

    Args:
        encoder: The student's: RGB (B, T, 3, H, W) in [0, 1] -> pooled features (B, D).
        teacher: Another one of the same architecture, pretrained: by predicting rotations in the paper
            (`Rotation`). It is frozen.
        view: What the student sees: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1].
        teacher_view: What the teacher sees, nothing perturbed; the same types.
        num_words: K, size of the vocabulary.
        layer: Of the teacher, whose cells are words; one of `teacher.layer_names`.
        cells_per_sample: Drawn from each sample's map to find the words.
        binary: Whether a bag holds which words occur, or how often they do; either way it sums to 1.
        epochs_per_round: Passes over the data of a round.
        clips: Which frames; by default one.

    Differences from the paper: words are found in some cells of each map, not in all; no CutMix.
    """

    words: Tensor
    view: nn.Module
    teacher_view: nn.Module

    def __init__(
        self,
        encoder: Encoder,
        *,
        teacher: Encoder,
        view: nn.Module,
        teacher_view: nn.Module,
        num_words: int = 8192,
        layer: str = "last",
        cells_per_sample: int = 1,
        binary: bool = False,
        epochs_per_round: int = 200,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        teacher.check_layers([layer])
        self.encoder = encoder
        self.fresh = teacher_of(encoder)
        self.teacher = teacher_of(teacher)
        self.view = view
        self.teacher_view = teacher_view
        self.weight = nn.Parameter(torch.empty(num_words, encoder.dim))
        self.scale = nn.Parameter(torch.empty(()))
        self.layer = layer
        self.cells_per_sample = cells_per_sample
        self.binary = binary
        self.epochs_per_round = epochs_per_round
        self.clips = clips
        self.register_buffer("words", torch.zeros(num_words, teacher.layer_size(layer)[0]))
        self.reset_head()

    def reset_head(self) -> None:
        """Draw the weights of the head, and set its scale."""
        nn.init.normal_(self.weight)
        nn.init.constant_(self.scale, 10.0)  # ours; it is learned

    def before_epoch(self, epoch: Epoch) -> None:
        """Begin a round: words are found in the teacher's maps; from the second on the student was made the teacher."""
        if epoch.number % self.epochs_per_round:
            return
        if epoch.number > 0:
            # Before anything else: a run that is stopped while it extracts begins here again.
            cells = epoch.extract(partial(self.cells, network=self.encoder))
            self.teacher.load_state_dict(self.encoder.state_dict())
            self.encoder.load_state_dict(self.fresh.state_dict())
            self.reset_head()
            epoch.forget([*self.encoder.parameters(), self.weight, self.scale])
        else:
            cells = epoch.extract(partial(self.cells, network=self.teacher))
        points = own_rows(cells.flatten(0, 1)).float()
        self.words.copy_(kmeans(points, len(self.words), shared=True))

    def cells(self, batch: Batch, *, network: Encoder) -> Tensor:
        """Draw cells of each map: (B, cells_per_sample, D)."""
        assert batch.video is not None
        maps = network.layers(batch.video[:, 0].float() / 255, [self.layer])[self.layer]
        cells = rearrange(maps, "b t d h w -> b (t h w) d")
        which = draws.integers(draws.mix(batch.index, 0), cells.shape[1], self.cells_per_sample)
        return cells.gather(1, which[..., None].expand(-1, -1, cells.shape[2]))

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Cross-entropy of predicted and true bags."""
        assert batch.seed is not None and batch.video is not None
        video = rearrange(batch.video, "b 1 t c h w -> b t c h w")
        target = self.bags(self.teacher_view(video, draws.mix(batch.host_seed, 1), *batch.stretch))
        features = self.encoder(self.view(video, draws.mix(batch.host_seed, 0), *batch.stretch))
        with torch.autocast(features.device.type, enabled=False):
            logits = self.scale * features.float() @ F.normalize(self.weight, dim=1).T
        loss = -(target * logits.log_softmax(1)).sum(1).mean()
        least = -torch.special.xlogy(target, target).sum(1).mean()
        return {"loss": loss, "loss_over_least": loss.detach() - least, "word_entropy": usage_entropy(target)}

    @torch.no_grad()
    def bags(self, video: Tensor) -> Tensor:
        """How much of each clip is each word: (B, T, 3, H, W) -> float32 (B, K), rows sum to 1."""
        self.teacher.eval()
        maps = self.teacher.layers(video, [self.layer])[self.layer]
        word = nearest(rearrange(maps.float(), "b t d h w -> (b t h w) d"), self.words).view(len(video), -1)
        counts = torch.zeros(len(video), len(self.words), device=video.device)
        counts = counts.scatter_add(1, word, torch.ones_like(word, dtype=counts.dtype))
        return F.normalize(counts.clamp(max=1) if self.binary else counts, p=1, dim=1)

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Eight pictures as the teacher sees them, and under each its words: a colour for each word."""
        assert batch.seed is not None and batch.video is not None
        video = rearrange(batch.video, "b 1 t c h w -> b t c h w")[:8]
        stretch = tuple(aspect[:8] for aspect in batch.stretch)
        seen = self.teacher_view(video, draws.mix(batch.host_seed[:8], 1), *stretch)[:, :1]
        maps = self.teacher.layers(seen, [self.layer])[self.layer][:, 0]
        word = nearest(rearrange(maps.float(), "b d h w -> (b h w) d"), self.words)
        colors = draws.uniform(word, 3).view(len(seen), *maps.shape[2:], 3).movedim(3, 1)
        colors = F.interpolate(colors, size=seen.shape[3:])
        return {
            "words": torch.cat([rearrange(one, "b c h w -> c h (b w)") for one in (seen[:, 0], colors)], dim=1)
        }
