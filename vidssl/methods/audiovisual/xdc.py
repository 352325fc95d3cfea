"""XDC: cross-modal deep clustering, each modality learns the clusters of the other.

Alwassel, Mahajan, Korbar, Torresani, Ghanem and Tran 2020, "Self-supervised learning by cross-modal audio-video
clustering", arXiv:1911.12667.
"""

from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...augment.sound import RandomLoudness, at_loudness, audible
from ...batch import Batch
from ...data.clips import ClipSampler, clip_with_sound
from ...method import Epoch, Method
from ...models import AudioEncoder, Encoder
from ...models.audio import waveform_of
from ...ops import draws
from ...ops.agreement import normalized_mutual_information
from ...ops.contrast import usage_entropy
from ...ops.gather import gather_rows, own_rows
from ...ops.kmeans import kmeans, nearest
from ...ops.precision import in_single_precision

# Eight frames and two seconds of sound.
CLIPS = partial(clip_with_sound, num_frames=8, audio_seconds=2.0)

# Of all sound that is clustered, root mean square: no cluster gathers what was recorded softly.
CLUSTERED_LOUDNESS_DB = -20.0

UNHEARD = -1  # label of silent samples


class XDC(Method):
    """Alternate two steps: cluster what each encoder makes of the corpus; teach each encoder the other's clusters.

    Silent samples would make a cluster that says nothing of what is seen; they get no label and are passed over.

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] -> pooled features (B, D).
        audio_encoder: Waveform (B, S) -> pooled features (B, D).
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1].
        num_samples: Of the dataset, N.
        num_clusters: K of both modalities.
        sound_view: (waveforms (B, S), seeds (B,)) -> waveforms; by default a drawn loudness.
        epochs_per_clustering: Passes over the data between clusterings.
        clips: Which frames; by default eight, with two seconds of sound after the first.

    Differences from the paper: features are scaled to unit length before they are clustered; silence is passed over
    and loudness levelled; the video encoder is any.
    """

    view: nn.Module
    sound_view: nn.Module
    video_labels: Tensor
    audio_labels: Tensor
    agreement: Tensor
    entropy: Tensor

    def __init__(
        self,
        encoder: Encoder,
        *,
        audio_encoder: AudioEncoder,
        view: nn.Module,
        num_samples: int,
        num_clusters: int,
        sound_view: nn.Module | None = None,
        epochs_per_clustering: int = 1,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.audio_encoder = audio_encoder
        self.view = view
        self.sound_view = sound_view or RandomLoudness()
        self.video_head = nn.Linear(encoder.dim, num_clusters)
        self.audio_head = nn.Linear(audio_encoder.dim, num_clusters)
        self.num_clusters = num_clusters
        self.epochs_per_clustering = epochs_per_clustering
        self.clips = clips
        self.register_buffer("video_labels", torch.full((num_samples,), UNHEARD))  # clusters of what is seen
        self.register_buffer("audio_labels", torch.full((num_samples,), UNHEARD))  # clusters of what is heard
        # Of the newest clusters of sight and of sound: with those before, and how evenly they are filled.
        self.register_buffer("agreement", torch.zeros(2))
        self.register_buffer("entropy", torch.zeros(2))

    def before_epoch(self, epoch: Epoch) -> None:
        """Cluster both modalities anew; the heads, whose classes are new, start anew.

        Raises:
            ValueError: The dataset has another size than the method was built for, or too few samples with sound.
        """
        if epoch.number % self.epochs_per_clustering:
            return
        features = epoch.extract(self.both)  # (N, D video + D audio + 1)
        if len(features) != len(self.video_labels):
            raise ValueError(
                f"the dataset has {len(features)} samples but the method was built with "
                f"num_samples={len(self.video_labels)}"
            )
        video, audio, heard = features.split([self.encoder.dim, self.audio_encoder.dim, 1], dim=1)
        heard = heard[:, 0] > 0
        for number, (modality, labels) in enumerate([(video, self.video_labels), (audio, self.audio_labels)]):
            new = torch.full_like(labels, UNHEARD)
            new[heard] = cluster(modality[heard], self.num_clusters)
            both = heard & (labels != UNHEARD)
            if both.any():
                self.agreement[number] = normalized_mutual_information(labels[both], new[both])
            sizes = torch.bincount(new[heard], minlength=self.num_clusters)
            self.entropy[number] = usage_entropy(sizes[None] / sizes.sum())
            labels.copy_(new)
        for head in (self.video_head, self.audio_head):
            head.reset_parameters()
            epoch.forget(head.parameters())

    def both(self, batch: Batch) -> Tensor:
        """Encode a batch un-augmented, by both encoders, and tell what has sound: (B, D video + D audio + 1)."""
        waveform = waveform_of(batch)
        audio = self.audio_encoder(at_loudness(waveform, CLUSTERED_LOUDNESS_DB))
        return torch.cat([self.embed(batch), audio, audible(waveform).float()[:, None]], dim=1)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Cross-entropy of the clusters of sound seen and of the clusters of sight heard, each a mean (Sec. 3)."""
        assert batch.seed is not None
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)
        sound = self.sound_view(waveform_of(batch), draws.mix(batch.seed, 1))
        seen = in_single_precision(self.video_head, self.encoder(video))
        heard = in_single_precision(self.audio_head, self.audio_encoder(sound))
        of_sound, of_sight = self.audio_labels[batch.index], self.video_labels[batch.index]
        return {
            "loss": labelled_mean(seen, of_sound) + labelled_mean(heard, of_sight),
            "video_accuracy": (seen.argmax(1) == of_sound).float().mean(),
            "audio_accuracy": (heard.argmax(1) == of_sight).float().mean(),
            "cluster_entropy": self.entropy[0],
            "audio_cluster_entropy": self.entropy[1],
            # NMI with the clusters before, 0 while there are none.
            "video_nmi": self.agreement[0],
            "audio_nmi": self.agreement[1],
        }


def cluster(features: Tensor, num_clusters: int) -> Tensor:
    """Name the k-means cluster of each sample, by direction: (N, D), the same on every process -> int64 (N,).

    Each process works on its part of the samples.
    """
    unit = F.normalize(own_rows(features).float(), dim=1)
    return gather_rows(nearest(unit, kmeans(unit, num_clusters, shared=True)))


def labelled_mean(logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy over those with a label, divided by all: the mean over processes is that of the joined batch."""
    return F.cross_entropy(logits, label, ignore_index=UNHEARD, reduction="sum") / len(label)
