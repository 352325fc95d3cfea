import torch
import torch.nn.functional as F
from torch import nn

from vidssl.ops.precision import in_single_precision


def test_logits_of_a_trained_size_keep_their_gradient():
    """Most samples are classified rightly: what is left of the loss is the tails of the softmax."""
    torch.manual_seed(0)
    head, features = nn.Linear(32, 50), torch.randn(64, 32)
    with torch.no_grad():
        head.weight.mul_(30)  # logits of about +-15
        label = head(features).argmax(1)

    def gradient(logits_of, dtype: torch.dtype) -> torch.Tensor:
        rows = features.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = F.cross_entropy(logits_of(rows), label)
        loss.backward()
        return rows.grad

    exact = gradient(head, torch.float32)
    found = gradient(lambda rows: in_single_precision(head, rows), torch.bfloat16)
    torch.testing.assert_close(found, exact, atol=0, rtol=0)
    assert (gradient(head, torch.bfloat16) - exact).norm() > 0.02 * exact.norm()


def test_features_of_bfloat16_are_widened():
    head = nn.Linear(4, 2)
    rows = torch.randn(3, 4).bfloat16()
    found = in_single_precision(head, rows)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, head(rows.float()), atol=0, rtol=0)
