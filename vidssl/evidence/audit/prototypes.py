"""DINO, DeepCluster and SwAV's assignment beside their authors' code."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ...methods import DINO
from ...methods.image.deepcluster import whiten
from ...methods.image.dino import DINOHead
from ...ops.sinkhorn import sinkhorn
from ...optim import each_tensor
from ...train.guard import clip_gradients
from .comparing import (
    Fixed,
    FrameNet,
    Row,
    difference,
    gradient_difference,
    gradients,
    imported,
    largest,
    randomize,
    relative,
    video_batch,
)


def dino(root: Path) -> list[Row]:
    """Head (vision_transformer.py), loss and centre (main_dino.py), without prototypes of learned length."""
    crops = torch.rand(4, 3, 1, 3, 4, 4)  # two large ones and two small ones of three pictures
    net = FrameNet(6, 4)
    head = DINOHead(6, num_prototypes=10, hidden_dim=8, bottleneck_dim=5)
    views = Fixed(crops[0]), Fixed(crops[1])
    method: Any = DINO(net, global_views=views, local_view=Fixed(crops[2]), num_local_views=1, head=head)
    with imported(root, "vision_transformer", "main_dino", "utils") as (networks, main_dino, utils):
        theirs, teacher = (networks.DINOHead(6, 10, hidden_dim=8, bottleneck_dim=5) for _ in range(2))
        for network, own in ((theirs, method.student[1]), (teacher, method.teacher[1])):
            randomize(network)
            own.mlp.load_state_dict(network.mlp.state_dict())
            own.prototypes.data.copy_(network.last_layer.weight_v)
        criterion = main_dino.DINOLoss(10, 3, 0.04, 0.04, 0, 1)
        rows = []
        for step in range(2):  # the second one with a centre
            for network in (theirs, method):
                network.zero_grad()
            with torch.no_grad():
                targets = teacher(method.teacher[0](crops[:2].flatten(0, 1)))
            expected = criterion(theirs(net(crops[:3].flatten(0, 1))), targets, 0)
            expected.backward()
            net.zero_grad()
            loss = method(video_batch(3, 1, 4), 0.5)["loss"]
            loss.backward()
            gradient = gradient_difference(method.student[1].mlp, gradients(theirs.mlp))
            prototypes = method.student[1].prototypes.grad
            gradient = largest(gradient, relative(prototypes, theirs.last_layer.weight_v.grad))
            rows.append(Row(f"loss of step {step}", difference(loss, expected), gradient))
        rows.append(Row("clipped gradients", clipping_difference(utils)))
    return [
        *rows,
        Row("centre", difference(method.center, criterion.center[0])),
        Row("features", declared="mean over cells, not the class token"),
    ]


def clipping_difference(utils: Any) -> float:
    """Largest difference of gradients after clipping, some of them below the norm (utils.py)."""
    networks = [nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4)) for _ in range(2)]
    for theirs, ours in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        theirs.grad = torch.randn_like(theirs) * theirs.numel()
        ours.grad = theirs.grad.clone()
    utils.clip_gradients(networks[0], 3.0)
    clip_gradients(each_tensor(networks[1]), 3.0)
    return gradient_difference(networks[1], gradients(networks[0]))


def deepcluster(root: Path) -> list[Row]:
    """Features as they are clustered (clustering.py, with faiss): cosines, for signs of components are free."""
    import faiss

    def pca_matrix(in_dim: int, out_dim: int, eigen_power: float) -> Any:
        matrix = faiss.PCAMatrix(in_dim, out_dim, eigen_power)  # by place alone since, and applied by another name
        return SimpleNamespace(train=matrix.train, is_trained=True, apply_py=matrix.apply)

    # A gap behind the components that are kept, or rounding decides which these are; a small mean, which faiss
    # subtracts after its products, in single precision.
    spread = torch.cat([torch.linspace(4, 2, 8), torch.linspace(0.5, 0.2, 16)])
    features = (torch.randn(400, 24) * spread) @ torch.linalg.qr(torch.randn(24, 24)).Q + 0.5
    with imported(root, "clustering", stand_ins={"faiss": {"PCAMatrix": pca_matrix}}) as (clustering,):
        theirs = torch.from_numpy(clustering.preprocess_features(features.numpy(), pca=8))
    ours = F.normalize(whiten(features, 8), dim=1)
    return [
        Row("cosines of whitened features", difference(ours @ ours.T, theirs @ theirs.T)),
        Row("samples of a pass", declared="losses weighted by cluster, theirs drawn evenly from clusters"),
        Row("first centres, empty clusters", declared="k-means++, the farthest point; faiss draws and splits"),
        Row("network", declared="pooled grey input, theirs Sobel filters and fully connected layers"),
    ]


def swav(root: Path) -> list[Row]:
    """Assignments (main_swav.py) by `ops.sinkhorn`; SwAV itself is no method here."""
    stand_ins: dict[str, Any] = {
        "apex": {"__path__": []},
        "apex.parallel": {"__path__": []},
        "apex.parallel.LARC": {"LARC": None},
        "pandas": {},
    }
    scores = torch.randn(32, 10).clamp(-1, 1)
    with imported(root, "main_swav", stand_ins=stand_ins) as (main_swav,):
        vars(main_swav)["args"] = SimpleNamespace(epsilon=0.05, sinkhorn_iterations=3, world_size=1)
        theirs = main_swav.distributed_sinkhorn(scores)
    return [Row("assignments", difference(sinkhorn(scores), theirs))]
