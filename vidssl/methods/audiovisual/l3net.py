"""L3-Net: look, listen and learn whether a frame and a second of sound come from one video.

Arandjelovic and Zisserman 2017, "Look, listen and learn", arXiv:1705.08168.
"""

from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...augment.sound import RandomLoudness, audible
from ...batch import Batch
from ...data.clips import ClipSampler, clip_with_sound
from ...method import Method
from ...models import AudioEncoder, Encoder
from ...models.audio import waveform_of
from ...ops import draws
from ...ops.gather import gather
from ...ops.precision import in_single_precision

# A frame and the second of sound that starts with it (Sec. 2).
CLIPS = partial(clip_with_sound, num_frames=1, audio_seconds=1.0)

IGNORED = -1  # class of pairs that do not count


class L3Net(Method):
    """Tell sound that belongs to a frame from sound of another video.

    Every sample with sound is looked at twice: with its own sound, and with the sound of the next sample of the batch
    (joined over processes), unless both were cut from one recording. On the ring of samples a recording is left as
    often as it is entered, so frames and sounds of every recording are as frequent in one class as in the other:
    neither alone tells the answer. Silent samples are left out of both.

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] -> features (B, T', D, h, w).
        audio_encoder: Waveform (B, S) -> features (B, D, m, t).
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1].
        sound_view: (waveforms (B, S), seeds (B,)) -> waveforms; by default a drawn loudness, so that a loud sound
            tells nothing of the frame.
        hidden_dim: Width of the fusion layer (128, Sec. 2.1).
        clips: Which frames; by default one, with a second of sound after it.

    Differences from the paper: the frame is the first of its second, not any of it; the loudness is drawn whole, the
    paper changes it by at most 10 per cent; the encoders are any two, with a max pool over all cells as in Sec. 2.1.
    """

    view: nn.Module
    sound_view: nn.Module

    def __init__(
        self,
        encoder: Encoder,
        *,
        audio_encoder: AudioEncoder,
        view: nn.Module,
        sound_view: nn.Module | None = None,
        hidden_dim: int = 128,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.audio_encoder = audio_encoder
        self.view = view
        self.sound_view = sound_view or RandomLoudness()
        self.fusion = nn.Sequential(
            nn.Linear(encoder.dim + audio_encoder.dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, 2)
        )
        self.clips = clips

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Cross-entropy of the two classes, 1 is "corresponds", mean over all pairs of the joined batch (Sec. 2)."""
        assert batch.seed is not None and batch.source_id is not None
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)
        waveform = waveform_of(batch)
        heard = gather(audible(waveform))  # (N,)
        frame = gather(self.encoder.features(video).amax(dim=(1, 3, 4)))  # (N, D)
        sound = self.audio_encoder.features(self.sound_view(waveform, draws.mix(batch.seed, 1)))
        sound = gather(sound.amax(dim=(2, 3)))
        next_one, is_kept = ring(heard, gather(batch.source_id))
        # Pairs that do not count are computed and ignored: to leave them out, the host would wait for the device.
        pairs = torch.cat([torch.cat([frame, sound], dim=1), torch.cat([frame, sound[next_one]], dim=1)])
        corresponds = torch.arange(2, device=pairs.device).flip(0).repeat_interleave(len(frame))
        target = corresponds.where(is_kept.repeat(2), IGNORED)
        logits = in_single_precision(self.fusion, pairs)
        num_kept = is_kept.sum()
        # A sum, for a batch of a single recording has no pair at all.
        num_pairs = (2 * num_kept).clamp(min=1)
        return {
            "loss": F.cross_entropy(logits, target, ignore_index=IGNORED, reduction="sum") / num_pairs,
            "accuracy": (logits.argmax(1) == target).float().sum() / num_pairs,
            "share_in_pairs": num_kept / len(heard),
        }


def ring(heard: Tensor, source_id: Tensor) -> tuple[Tensor, Tensor]:
    """Put the samples with sound on a ring, in their order.

    Args:
        heard: Which samples have sound, bool (N,).
        source_id: Recording of each sample, int64 (N,).

    Returns:
        Number of the sample that comes next on the ring, int64 (N,), and which samples have sound and a next one of
        another recording, bool (N,); what comes next of a sample without sound is any.
    """
    order = (~heard).long().argsort(stable=True)  # those with sound first
    place = order.argsort()
    after = place + 1
    next_one = order[after.where(after < heard.sum(), 0)]
    return next_one, heard & (source_id != source_id[next_one])
