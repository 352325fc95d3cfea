"""From files to batches, on the CPU.

Names are loaded on first use: the processes that scan a corpus need no torch.
"""

import importlib
from typing import Any

_HOME = {
    "ArrayDataset": "arrays",
    "Corpus": "corpus.corpus",
    "Layout": "samples",
    "Mixed": "mixed",
    "Sample": "samples",
    "Samples": "samples",
    "ImageDataset": "datasets",
    "VideoDataset": "datasets",
    "Loader": "loader",
    "MediaError": "media.video",
    "scan": "corpus.scan",
    "open_video": "media.video",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vidssl.data' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
