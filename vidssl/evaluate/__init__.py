"""Measuring what a frozen encoder learned: each evaluator is a call that takes the encoder first.

    from vidssl.evaluate import davis, knn

    davis(encoder, "DAVIS", out="runs/x/evaluate/davis", protocol=CRW).figures["J&F-Mean"]
    knn(encoder, labelled_set("UCF101"), out="runs/x/evaluate/knn").figures["top1"]

`vidssl evaluate TASK` measures random weights and other baselines beside it. Fine-tuning trains: `vidssl.finetune`.
Names are loaded on first use.
"""

import importlib
from typing import Any

_HOME = {
    "davis": "propagation.calls",
    "got10k": "propagation.calls",
    "jhmdb": "propagation.calls",
    "otb": "propagation.calls",
    "tapvid": "propagation.calls",
    "vip": "propagation.calls",
    "Extraction": "recognition.calls",
    "cluster": "recognition.calls",
    "knn": "recognition.calls",
    "linear": "recognition.calls",
    "lowshot": "recognition.calls",
    "retrieval": "recognition.calls",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vidssl.evaluate' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
