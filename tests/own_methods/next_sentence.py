"""A method that reads: which of two sentences of a film comes first, from their words alone."""

import re

import torch
from torch import nn

from vidssl import Method
from vidssl.data import Layout, Sample, Samples
from vidssl.ops import draws

NUM_TOKENS = 8  # of a sentence; shorter ones are padded


class Subtitles(Samples):
    """Neighbouring sentences of a subtitle file (.srt)."""

    layout = Layout(text=(2, NUM_TOKENS), text_time=(2, 2))

    def __init__(self, path):
        self.path = path
        blocks = [block.split("\n", 2)[1:] for block in path.read_text().strip().split("\n\n")]
        words = sorted({word for _, line in blocks for word in line.split()})
        self.number = {word: place for place, word in enumerate(words, 1)}  # 0 is padding
        self.sentences = [([self.number[word] for word in line.split()], seconds(times)) for times, line in blocks]

    def __len__(self):
        return len(self.sentences) - 1

    def name(self, index):
        return f"{self.path}, subtitle {index + 1}"

    def sample(self, key, *, out=None, note=None):
        seed, position = key
        index = position % len(self)
        two = self.sentences[index : index + 2]
        text = torch.tensor([tokens + [0] * (NUM_TOKENS - len(tokens)) for tokens, _ in two])
        text_time = torch.tensor([times for _, times in two], dtype=torch.float64)
        return Sample(index=index, seed=seed or 0, text=text, text_time=text_time)


def seconds(times):
    """Start and end, "00:00:01,500 --> 00:00:02,000"."""
    parts = [float(part.replace(",", ".")) for part in re.split(r":| --> ", times)]
    return [60 * (60 * hours + minutes) + rest for hours, minutes, rest in (parts[:3], parts[3:])]


class Words(nn.Module):
    """Mean of word vectors: (B, L) -> (B, D)."""

    def __init__(self, num_words, dim):
        super().__init__()
        self.vectors = nn.Embedding(num_words + 1, dim, padding_idx=0)

    def forward(self, text):
        return self.vectors(text).sum(1) / (text > 0).sum(1, keepdim=True).clamp(min=1)


class NextSentence(Method):
    def __init__(self, encoder, *, dim):
        super().__init__()
        self.encoder = encoder
        self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Linear(2 * dim, 2))

    def forward(self, batch, progress):
        swap = draws.integers(batch.seed, 2)
        text = torch.where(swap.bool()[:, None, None], batch.text.flip(1), batch.text)
        logits = self.classifier(torch.cat([self.encoder(text[:, 0]), self.encoder(text[:, 1])], dim=1))
        gap = (batch.text_time[:, 1, 0] - batch.text_time[:, 0, 1]).mean()
        return {"loss": nn.functional.cross_entropy(logits, swap), "gap_seconds": gap.float()}

    def embed(self, batch):
        return self.encoder(batch.text[:, 0])
