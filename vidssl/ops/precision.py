"""Single precision where autocast would round: a product that a softmax follows, whose errors it takes the exp of."""

import torch
from torch import Tensor, nn


def in_single_precision(head: nn.Module, features: Tensor) -> Tensor:
    """Apply the layers that give logits, in float32 under autocast as well: (N, D) -> (N, K).

    bfloat16 has eight binary digits: a logit of 10 is off by up to 0.03, its probability and gradient by 3 %.
    """
    with torch.autocast(features.device.type, enabled=False):
        return head(features.float())
