"""Charts, pictures and videos inside a page, so that it needs no other file."""

import base64
import io
from pathlib import Path

from PIL import Image


def jpeg_uri(image: Image.Image) -> str:
    """An RGB picture, slightly compressed."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=88, subsampling=0)  # full colour: contours are a pixel wide
    return _uri(buffer.getvalue(), "image/jpeg")


def svg_uri(text: str) -> str:
    """A chart."""
    return _uri(text.encode(), "image/svg+xml")


def file_uri(path: Path, kind: str) -> str:
    """A file as it is; `kind` is its media type."""
    return _uri(path.read_bytes(), kind)


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
