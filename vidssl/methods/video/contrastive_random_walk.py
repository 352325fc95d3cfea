"""Contrastive random walk: walk over the patches of a video, there and back in time, and arrive where you started.

Jabri, Owens and Efros 2020, "Space-time correspondence as a contrastive random walk", arXiv:2006.14613.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, random_clips
from ...method import Method
from ...models import Encoder
from ...ops.draws import mix, uniform

# Four frames at about 8 frames per second.
CLIPS = partial(random_clips, num_frames=4, stride_frames=4)


def cut_patches(
    video: Tensor,
    seed: Tensor,
    *,
    size_px: int,
    stride_px: int,
    scale: tuple[float, float] = (0.7, 0.9),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Tensor:
    """Cut every frame into a grid of patches, and take a random window of each, scaled to the patch's size.

    The windows of a patch differ from frame to frame: neither its outline nor its phase gives it away.

    Args:
        video: Clips, float (B, T, 3, H, W).
        seed: Of the windows, int64 (B,).
        size_px: Side of a patch.
        stride_px: From one patch to the next.
        scale: Range of a window's area, as a share of the patch's; drawn as augment.RandomResizedCrop draws.
        ratio: Range of a window's width over height.

    Returns:
        Patches row by row, (B, T, N, 3, size_px, size_px), bilinear.
    """
    num_frames, _, height, width = video.shape[1:]
    tops = torch.arange(0, height - size_px + 1, stride_px, device=video.device)
    lefts = torch.arange(0, width - size_px + 1, stride_px, device=video.device)
    top, left = torch.cartesian_prod(tops, lefts).unbind(1)  # (N,)
    area, aspect, y, x = uniform(seed, 4, num_frames, len(top)).unbind(1)  # (B, T, N)
    side = size_px * (scale[0] + area * (scale[1] - scale[0])).sqrt()
    stretch = (math.log(ratio[0]) / 2 + aspect * math.log(ratio[1] / ratio[0]) / 2).exp()
    window_height, window_width = (side / stretch).clamp(max=size_px), (side * stretch).clamp(max=size_px)
    top, left = top + y * (size_px - window_height), left + x * (size_px - window_width)
    # Centres of the sampled pixels, as shares of the window, then in pixels of the frame, then in [-1, 1].
    share = (torch.arange(size_px, device=video.device) + 0.5) / size_px
    rows = (top[..., None] + share * window_height[..., None]) * 2 / height - 1  # (B, T, N, size)
    columns = (left[..., None] + share * window_width[..., None]) * 2 / width - 1
    grid = torch.stack(torch.broadcast_tensors(columns[..., None, :], rows[..., :, None]), dim=-1)
    patches = F.grid_sample(
        rearrange(video, "b t c h w -> (b t) c h w"),
        rearrange(grid, "b t n y x two -> (b t) (n y) x two").to(video.dtype),
        padding_mode="border",
        align_corners=False,
    )
    return rearrange(patches, "(b t) c (n y) x -> b t n c y x", t=num_frames, y=size_px)


# 49 patches of a frame of 256 x 256 pixels.
PATCHES = partial(cut_patches, size_px=64, stride_px=32)


class ContrastiveRandomWalk(Method):
    """Make the walk over the nodes of a clip, forward and back in time, return to the node where it began.

    Nodes are the patches of every frame. A step goes to a node of the next frame with a probability that grows with
    the similarity of the features; the palindrome of frames is the only supervision.

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] -> features (B, T, D, h, w); it sees every patch as a clip of its
            own, and a node is the mean over its cells.
        view: (uint8 clips (B, 1, 3, H, W), seeds (B,)) -> float clips in [0, 1]. Every frame is a clip of its own
            to it: the windows of a clip differ, so that what does not move does not stay in place either. It
            must not mirror.
        patches: (clips, seeds) -> (B, T, N, 3, p, p); by default 64 pixels at a stride of 32 (Sec. 3). None makes
            the encoder see whole frames, and its cells the nodes: cheaper, but its padding tells where a cell lies.
        margin_cells: Of whole frames, so many rows and columns of cells on each side are no nodes: those whose
            receptive field reaches into the padding.
        head: Features (..., D) -> node embeddings; by default one linear layer to 128.
        edge_dropout: Probability of a step's edge to be cut, delta (Sec. 2.3); 0.1 in the authors' code.
        temperature: tau of a step's softmax; 0.05 in the authors' code.
        clips: Which frames, at least 3; by default 4 frames, 4 frames apart.

    Raises:
        ValueError: In `forward`: the clips have fewer than 3 frames.

    Differences from the paper: palindromes go two frames or more ahead, as in the authors' code (the paper sums
    from one); the edges of the way back are cut on their own (the authors' code cuts those of the way there as
    well, nearly twice as many).
    """

    view: nn.Module
    head: nn.Module

    def __init__(
        self,
        encoder: Encoder,
        *,
        view: nn.Module,
        patches: Callable[[Tensor, Tensor], Tensor] | None = PATCHES,
        margin_cells: int = 0,
        head: nn.Module | None = None,
        edge_dropout: float = 0.1,
        temperature: float = 0.05,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.view = view
        self.patches = patches
        self.margin_cells = margin_cells
        self.head = head or nn.Linear(encoder.dim, 128)
        self.edge_dropout = edge_dropout
        self.temperature = temperature
        self.clips = clips

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Cross-entropy of arriving where the walk began, mean over palindromes, clips and nodes (Sec. 2.2).

        Logs, of the longest palindrome, the share of nodes to which the walk returns more likely than to others.
        """
        assert batch.video is not None and batch.seed is not None
        num_frames = batch.video.shape[2]
        if num_frames < 3:
            raise ValueError(f"the clips have {num_frames} frames, a walk needs 3 or more; sample longer clips")
        seeds = torch.stack([mix(batch.host_seed, 2, number) for number in range(num_frames)], dim=1)
        stretch = [aspect.repeat_interleave(num_frames) for aspect in batch.stretch]
        frames = self.view(rearrange(batch.video, "b 1 t c h w -> (b t) 1 c h w"), seeds.flatten(), *stretch)
        video = rearrange(frames, "(b t) 1 c h w -> b t c h w", t=num_frames)
        nodes = self.nodes(video, mix(batch.seed, 0))
        # All of the walk is computed in single precision: errors of its steps multiply.
        with torch.autocast(nodes.device.type, enabled=False):
            there, back = self.transitions(nodes, mix(batch.seed, 1))
            onward, homeward, losses = there[:, 0], back[:, 0], []
            for step in range(1, there.shape[1]):
                onward, homeward = onward @ there[:, step], back[:, step] @ homeward
                walk = onward @ homeward  # (B, N, N): from the first frame to the first frame
                # A probability can be exactly zero where edges are cut.
                losses.append(-walk.diagonal(dim1=1, dim2=2).clamp(min=1e-20).log().mean())
        loss = torch.stack(losses).mean()
        home = torch.arange(walk.shape[1], device=walk.device)
        return {
            "loss": loss,
            "accuracy": (walk.argmax(2) == home).float().mean(),
            "nce_over_chance": loss.detach() / math.log(len(home)),
        }

    def nodes(self, video: Tensor, seed: Tensor) -> Tensor:
        """Embed the nodes of each frame: clips (B, T, 3, H, W), seeds (B,) -> float32 unit vectors (B, T, N, E)."""
        if self.patches is None:
            maps = self.encoder.features(video)
            rows, columns = (slice(self.margin_cells, side - self.margin_cells) for side in maps.shape[3:])
            features = rearrange(maps[..., rows, columns], "b t d h w -> b t (h w) d")
        else:
            patches = self.patches(video, seed)
            pooled = self.encoder(rearrange(patches, "b t n c h w -> (b t n) 1 c h w"))
            features = pooled.unflatten(0, patches.shape[:3])
        return F.normalize(self.head(features).float(), dim=-1)

    def transitions(self, nodes: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of each step (Sec. 2.1), with edges cut at random: (B, T, N, E) -> two of (B, T-1, N, N).

        The first goes from frame t to t + 1, the second from t + 1 to t; their edges are cut independently.
        """
        similarity = torch.einsum("b t n e, b t m e -> b t n m", nodes[:, :-1], nodes[:, 1:])
        cut = uniform(seed, 2, *similarity.shape[1:]) < self.edge_dropout
        # Not minus infinity: a node whose edges are all cut goes anywhere, it is not NaN.
        there, back = (
            (logits / self.temperature).masked_fill(cut[:, way], torch.finfo(torch.float32).min).softmax(-1)
            for way, logits in enumerate((similarity, similarity.mT))
        )
        return there, back
