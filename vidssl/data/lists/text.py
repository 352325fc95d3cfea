"""The text of lists that others made, as spreadsheets and shells write it."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from ..media.container import printable

if TYPE_CHECKING:
    from pathlib import Path


def read_text(path: Path, *, names_files: bool = False) -> str:
    """Read a text of UTF-8, or of UTF-16 with a byte-order mark (Excel, PowerShell).

    Args:
        path: Of the text.
        names_files: Whether bytes that are no UTF-8 become surrogates, as in names of files.

    Raises:
        ValueError: It is no such text; the message names the file.
        OSError: It cannot be read.
    """
    content = path.read_bytes()
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        if is_wide:
            return content.decode("utf-16")
        if b"\0" in content[:2]:
            raise ValueError(
                f"{printable(path)} is no text of UTF-8, nor of UTF-16 with a byte-order mark; save it as UTF-8"
            )
        return content.decode("utf-8-sig", errors="surrogateescape" if names_files else "strict")
    except UnicodeDecodeError as error:
        kind = "UTF-16, though it begins like one" if is_wide else "UTF-8"
        raise ValueError(f"{printable(path)} is no text of {kind} ({error}); save it as UTF-8") from error
