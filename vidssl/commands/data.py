"""vidssl data: looking after a corpus."""

from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console


def check(root: tyro.conf.Positional[Path], *, media: Literal["video", "image"] = "video") -> int:
    """Decode every file of a corpus to its end; print what there is, and each file with a finding.

    An error is a file that training could not read right: damaged, cut short, or no media at all. A note is a file
    that is read right but costs time or has an oddity. The exit code is 0 if no file has an error, 1 if one has.

    Args:
        root: Folder, list file (.txt) or table (.csv) of videos or images.
        media: What to look for.
    """
    from ..data.corpus import audit

    result = audit(root, media=media)
    Console().print(result, soft_wrap=True)
    return 1 if result.bad else 0
