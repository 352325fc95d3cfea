"""What image/deepcluster_v2_resnet18 learns. Letters: linear probe, and with clusters dealt out at random."""

import copy
from functools import partial
from pathlib import Path

import torch

from vidssl import Run, optim
from vidssl.augment import GaussianNoise, Pipeline, RandomInvert, RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.evaluate.metrics.clustering import normalized_mutual_information
from vidssl.evidence import worlds
from vidssl.evidence.probes import letters_probe
from vidssl.evidence.proof import Proof, pretrain
from vidssl.evidence.refutation import Claim
from vidssl.method import Epoch
from vidssl.methods import DeepClusterV2
from vidssl.models import ConvNet


class DealtClusters(DeepClusterV2):
    """The control: the clusters keep their sizes and are dealt out at random."""

    def before_epoch(self, epoch: Epoch) -> None:
        """Cluster, then deal."""
        super().before_epoch(epoch)
        self.assignment.copy_(self.assignment[:, torch.randperm(self.assignment.shape[1])])


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters: linear probe, agreement of the last clusters with the letters; and with clusters dealt at random."""
    images, letter = worlds.letters(3000, seed=seed)
    encoder = ConvNet(
        widths=(16, 16, 32, 32, 64, 64),
        strides=(2, 1, 2, 1, 2, 1),
        color="gray",
        standardize=True,
        padding_mode="reflect",
    )
    view = Pipeline(RandomResizedCrop(32, scale=(0.3, 1.0), flip=0.0), RandomInvert(), GaussianNoise(std=0.05))
    local = Pipeline(RandomResizedCrop(16, scale=(0.1, 0.4), flip=0.0), RandomInvert(), GaussianNoise(std=0.05))
    sizes = {"num_samples": len(images), "num_clusters": 60, "hidden_dim": 128, "out_dim": 64}
    initial = DeepClusterV2(encoder, view=view, local_view=local, num_local_views=1, **sizes)
    figures = {"random": letters_probe(encoder)}
    for kind, name in ((DeepClusterV2, "pretrained"), (DealtClusters, "dealt_clusters")):
        method = copy.deepcopy(initial)
        method.__class__ = kind
        recipe = Run(
            method=method,
            dataset=ArrayDataset(images, clips=method.clips),
            optimizer=partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.01),
            learning_rate=optim.warmup(optim.cosine(2e-3), share=0.1),
            steps=186,  # six passes
            batch_size=96,
        )
        pretrain(recipe, out=out / name, seed=seed)
        figures[name] = letters_probe(method.encoder)
        figures[f"nmi_{name}"] = normalized_mutual_information(method.assignment[0], letter)
    return {**figures, "chance": 10.0}


PROOF = Proof(
    metric="linear probe on letters, per cent",
    claims=(
        Claim("pretrained", "above", "random", 10),
        Claim("pretrained", "above", "dealt_clusters", 20),
        Claim("nmi_pretrained", "above", "nmi_dealt_clusters", 0.1),
    ),
    measure=measure,
)
