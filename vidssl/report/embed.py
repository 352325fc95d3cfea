"""Charts, pictures and videos inside a page, so that it needs no other file."""

import base64
import io
from pathlib import Path

from PIL import Image

from ..files import own_file


def jpeg_uri(image: Image.Image) -> str:
    """An RGB picture, slightly compressed."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=88, subsampling=0)  # full colour: contours are a pixel wide
    return _uri(buffer.getvalue(), "image/jpeg")


def svg_uri(text: str) -> str:
    """A chart."""
    return _uri(text.encode(), "image/svg+xml")


def file_uri(path: Path, kind: str, *, folder: Path) -> str:
    """A file of a folder as it is; `kind` is its media type. Links are refused: see `own_file`."""
    return _uri(own_file(path, folder=folder).read_bytes(), kind)


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
