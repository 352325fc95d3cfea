"""Self-supervised learning from video, sound and images, and the measurement of what an encoder learned.

Names are loaded on first use, so that `import vidssl` and `vidssl --help` stay quick.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Batch": "vidssl.batch",
    "Method": "vidssl.method",
    "Epoch": "vidssl.method",
    "Run": "vidssl.train.run",
    "fit": "vidssl.train.loop",
    "init_from": "vidssl.initialize",
    "load_encoder": "vidssl.models",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vidssl' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
