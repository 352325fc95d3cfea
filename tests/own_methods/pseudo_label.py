"""A method that learns from few labels: its own guesses on a picture are the labels of a noisy one."""

import torch
from torch import nn

from vidssl import Method


class PseudoLabel(Method):
    def __init__(self, encoder, *, num_classes):
        super().__init__()
        self.encoder = encoder
        self.classifier = nn.Linear(encoder.dim, num_classes)

    def forward(self, batch, progress):
        video = batch.video[:, 0].float() / 255
        told = batch.label >= 0
        supervised = nn.functional.cross_entropy(self.classifier(self.encoder(video[told])), batch.label[told])
        with torch.no_grad():
            confidence, guess = self.classifier(self.encoder(video[~told])).softmax(1).max(1)
        noisy = video[~told] + 0.1 * torch.randn_like(video[~told])
        losses = nn.functional.cross_entropy(self.classifier(self.encoder(noisy)), guess, reduction="none")
        unsupervised = (confidence * losses).mean()
        shares = {"num_labelled": told.sum().float(), "num_unlabelled": (~told).sum().float()}
        return {"loss": supervised + unsupervised, **shares}
