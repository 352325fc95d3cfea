"""A method that looks at shapes: are two points of a box on one of its parts?"""

import torch
from torch import nn

from vidssl import Method
from vidssl.data import Layout, Sample, Samples


class Boxes(Samples):
    """Boxes of random sizes, points drawn anew from their surface; the part of a point is the pair of its sides."""

    def __init__(self, num_boxes, *, num_points):
        generator = torch.Generator().manual_seed(0)
        self.sizes = 0.5 + torch.rand(num_boxes, 3, generator=generator)
        self.layout = Layout(points=(num_points, 3), part=(num_points,))

    def __len__(self):
        return len(self.sizes)

    def name(self, index):
        return f"box {index}"

    def sample(self, key, *, out=None, note=None):
        seed, position = key
        index = position % len(self)
        generator = torch.Generator().manual_seed(seed or 0)
        (num_points,) = self.layout.part
        points = torch.rand(num_points, 3, generator=generator) * 2 - 1
        part = torch.randint(3, (num_points,), generator=generator)
        points.scatter_(1, part[:, None], points.gather(1, part[:, None]).sign())
        return Sample(index=index, seed=seed or 0, points=points * self.sizes[index], part=part)


class PointNet(nn.Module):
    """Points, each beside what the cloud has most of: (B, N, 3) -> (B, N, D)."""

    def __init__(self, dim):
        super().__init__()
        self.own, self.all = nn.Linear(3, dim), nn.Linear(3, dim)
        self.mix = nn.Sequential(nn.BatchNorm1d(dim), nn.ReLU(), nn.Linear(dim, dim))

    def forward(self, points):
        mixed = self.own(points) + self.all(points).amax(1, keepdim=True)
        return self.mix(mixed.flatten(0, 1)).unflatten(0, mixed.shape[:2])


class SamePart(Method):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, batch, progress):
        features = nn.functional.normalize(self.encoder(batch.points), dim=2)
        alike = (features @ features.mT) * 4
        same = (batch.part[:, :, None] == batch.part[:, None, :]).float()
        return {"loss": nn.functional.binary_cross_entropy_with_logits(alike, same)}

    def embed(self, batch):
        return self.encoder(batch.points).mean(1)
