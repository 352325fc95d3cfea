"""Measuring what a frozen encoder learned: each evaluator is a call that takes the encoder first.

    from vidssl.evaluate import CRW, davis, knn

    davis(encoder, "DAVIS", protocol=CRW).figures["J&F-Mean"]
    knn(encoder, "UCF101", baselines=True).baselines["random weights"].figures["top1"]

Fine-tuning trains: `vidssl.finetune`.
Names are loaded on first use.
"""

import importlib
from typing import Any

_HOME = {
    "CRW": "propagation.protocols",
    "DINO": "propagation.protocols",
    "DINOV3": "propagation.protocols",
    "SIAMMAE": "propagation.protocols",
    "VFS": "propagation.protocols",
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
