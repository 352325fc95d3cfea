"""OBoW: predict bags of visual words of a slow copy of the network, words that come from a queue of its features.

Gidaris, Bursuc, Puy, Komodakis, Cord and Perez 2021, "OBoW: online bag-of-visual-words generation for self-supervised
learning", arXiv:2012.11552.
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
from ...models import Encoder
from ...ops import draws
from ...ops.ema import cosine_momentum, move_teacher, teacher_of
from ...ops.gather import gather, sum_over_ranks, world_size
from ...ops.precision import in_single_precision

# An image, or a random frame of a video.
CLIPS = partial(random_clips, num_frames=1)


class OBoW(Method):
    """The teacher says which words a whole picture holds; the student predicts them from crops and small patches.

    Each picture gives one feature of each level to that level's vocabulary, which forgets its oldest. The head that
    predicts is made from the words by a network, so it knows them however new they are. "perplexity" is the number of
    words that bags of the batch use evenly, at most K: 1 is a collapse.

    Args:
        encoder: The student's: RGB (B, T, 3, H, W) in [0, 1] of any size -> pooled features (B, D).
        teacher_view: Whole pictures: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1]; their maps
            have at least 5 x 5 cells.
        large_view: Crops for the student; the same types.
        small_view: Small patches of a picture.
        num_large: Crops of each clip.
        num_small: Patches of each clip.
        layers: Levels, of `encoder.layer_names`.
        num_words: K of each level; at least the clips of a step in all processes.
        inverse_delta: 1 / delta, over the mean distance to the nearest word; 15 for ResNet-50, 10 for ResNet-18.
        kappa: Factor of the logits: 8 for ResNet-50, 5 for ResNet-18.
        momentum: Of the teacher at the start; it rises to 1 along a cosine.
        clips: Which frames; by default one.

    Differences from the paper: small patches are windows at random places, not five of nine of a grid.
    """

    large_view: nn.Module
    small_view: nn.Module
    teacher_view: nn.Module

    def __init__(
        self,
        encoder: Encoder,
        *,
        teacher_view: nn.Module,
        large_view: nn.Module,
        small_view: nn.Module,
        num_large: int = 2,
        num_small: int = 5,
        layers: Sequence[str] = ("layer3", "layer4"),
        num_words: int = 8192,
        inverse_delta: float = 15.0,
        kappa: float = 8.0,
        momentum: float = 0.99,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        encoder.check_layers(layers)
        self.encoder = encoder
        self.teacher = teacher_of(encoder)
        self.teacher_view = teacher_view
        self.large_view = large_view
        self.small_view = small_view
        self.num_large = num_large
        self.num_small = num_small
        self.layers = tuple(layers)
        dims = [encoder.layer_size(name)[0] for name in layers]
        self.vocabularies = nn.ModuleList(Vocabulary(num_words, dim, inverse_delta=inverse_delta) for dim in dims)
        self.heads = nn.ModuleList(word_head(dim, encoder.dim) for dim in dims)
        self.kappa = kappa
        self.momentum = momentum
        self.clips = clips

    def schedules(self) -> dict[str, Callable[[float], float]]:
        """The teacher's momentum."""
        return {"momentum": partial(cosine_momentum, self.momentum)}

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Divergence of predicted from true bags, mean over levels and crops, summed over the two sizes of crops."""
        assert batch.seed is not None
        video = rearrange(batch.video, "b 1 t c h w -> b t c h w")

        def views(view: nn.Module, first: int, count: int) -> Tensor:
            seeds = [draws.mix(batch.host_seed, first + number) for number in range(count)]
            return torch.cat([view(video, seed, *batch.stretch) for seed in seeds])

        crops = [views(self.large_view, 1, self.num_large)]
        crops += [views(self.small_view, 1 + self.num_large, self.num_small)] if self.num_small else []
        features = [self.encoder(crop) for crop in crops]
        # The student predicts with the words of before, of which this makes copies; the teacher's own come after.
        weights = [
            in_single_precision(head, F.normalize(vocabulary.get_buffer("words"), dim=1))
            for head, vocabulary in zip(self.heads, self.vocabularies, strict=True)
        ]
        bags = self.bags(views(self.teacher_view, 0, 1), batch.seed)
        losses = [
            self.divergence(feature, weight, bag)
            for feature in features
            for weight, bag in zip(weights, bags, strict=True)
        ]
        named = {f"perplexity_{name}": perplexity(bag) for name, bag in zip(self.layers, bags, strict=True)}
        return {"loss": torch.stack(losses).sum() / len(self.layers), **named}

    @torch.no_grad()
    def bags(self, video: Tensor, seed: Tensor) -> list[Tensor]:
        """Bags of each level, (B, K); in training, words and scales move on as well."""
        maps = self.teacher.layers(video, self.layers)
        found = []
        for level, words in zip(maps.values(), self.vocabularies, strict=True):
            # The border sees the padding of the convolutions.
            found.append(words(rearrange(level, "b t d h w -> b d t h w")[..., 1:-1, 1:-1].float(), seed))
        return found

    def divergence(self, features: Tensor, weight: Tensor, bag: Tensor) -> Tensor:
        """Kullback-Leibler divergence of predictions: (V B, D), (K, D), (B, K) -> their mean."""
        with torch.autocast(features.device.type, enabled=False):
            logits = self.kappa * features.float() @ F.normalize(weight.float(), dim=1).T
        target = bag.repeat(len(features) // len(bag), 1)
        return F.kl_div(logits.log_softmax(1), target, reduction="batchmean")

    def after_step(self, progress: float) -> None:
        """Move the teacher; batch norm keeps statistics of its own."""
        move_teacher(self.teacher, self.encoder, momentum=cosine_momentum(self.momentum, progress))


class Vocabulary(nn.Module):
    """Words of one level, a queue, and how far features are from the nearest of them.

    Args:
        num_words: K.
        dim: Width of a word.
        inverse_delta: As of `OBoW`.
    """

    words: Tensor
    distance: Tensor
    pointer: Tensor

    def __init__(self, num_words: int, dim: int, *, inverse_delta: float) -> None:
        super().__init__()
        self.inverse_delta = inverse_delta
        # As the authors' code begins: what follows a ReLU is not negative.
        self.register_buffer("words", draws.normal(torch.arange(num_words), dim).clamp(min=0))
        self.register_buffer("distance", torch.tensor(0.5))
        self.register_buffer("pointer", torch.tensor(0))

    def forward(self, maps: Tensor, seed: Tensor) -> Tensor:
        """Assign every cell to words, softly, and take of each word the largest share.

        Args:
            maps: The teacher's, float32 (B, dim, T, h, w).
            seed: Of the samples, int64 (B,): draws which cells become words.

        Returns:
            Bags (B, K), rows sum to 1.
        """
        with torch.autocast(maps.device.type, enabled=False):
            cells = rearrange(maps, "b d t h w -> (b t h w) d")
            product = cells @ self.words.T
        squared = cells.square().sum(1, keepdim=True) - 2 * product + self.words.square().sum(1)
        if self.training:
            mean = sum_over_ranks(squared.amin(1).mean()) / world_size()
            self.distance.lerp_(mean, 0.01)  # the authors' code
            self.push(maps, seed)
        shares = (-self.inverse_delta / self.distance * squared).softmax(1)
        bag = shares.unflatten(0, (len(maps), -1)).amax(1)
        return F.normalize(bag, p=1, dim=1)

    def push(self, maps: Tensor, seed: Tensor) -> None:
        """Replace the oldest words by one feature of each sample of all processes, a mean of 3 x 3 cells.

        Raises:
            ValueError: There are more samples than words.
        """
        means = rearrange(F.avg_pool3d(maps, (1, 3, 3), stride=1), "b d t h w -> b (t h w) d")
        which = draws.integers(seed, means.shape[1], 1, stream=1)
        new = gather(means.gather(1, which[..., None].expand(-1, -1, means.shape[2]))[:, 0].contiguous())
        if len(new) > len(self.words):
            raise ValueError(
                f"a step makes {len(new)} words but the vocabulary holds {len(self.words)}; raise num_words or lower "
                "the batch size"
            )
        rows = (self.pointer + torch.arange(len(new), device=new.device)) % len(self.words)
        self.words[rows] = new
        self.pointer.copy_((self.pointer + len(new)) % len(self.words))


def word_head(dim: int, out_dim: int) -> nn.Sequential:
    """The network that makes weights of words, as the authors' BoWPredictor: unit vectors (K, dim) -> (K, out_dim)."""
    return nn.Sequential(
        nn.Linear(dim, 2 * out_dim, bias=False),
        nn.BatchNorm1d(2 * out_dim),
        nn.ReLU(),
        nn.Linear(2 * out_dim, out_dim),
    )


def perplexity(bags: Tensor) -> Tensor:
    """How many words the bags of a batch use, if they used them evenly: (B, K), rows sum to 1 -> scalar in [1, K]."""
    mean = bags.mean(0)
    return (-torch.special.xlogy(mean, mean).sum()).exp()
