"""Lists and figures that come as text beside published videos."""

from pathlib import Path


def read_text(path: Path) -> str:
    """Read a text of UTF-8, with or without a byte-order mark.

    Raises:
        ValueError: It is no such text; the message names the file.
        OSError: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text of UTF-8 ({error}); save it as such") from error


def check_name(name: str, *, path: Path) -> str:
    """Return a name of a list that stands for a folder beside it.

    Raises:
        ValueError: It leads elsewhere.
    """
    if "/" in name or "\\" in name or "\0" in name or name in (".", ".."):
        raise ValueError(f"{path} lists {name!r:.80}, which is no name of a folder beside it")
    return name
