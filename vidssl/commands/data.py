"""vidssl data: looking after a corpus."""

import logging
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console


def check(root: tyro.conf.Positional[Path], *, media: Literal["video", "image"] = "video") -> int:
    """Look at every file of a corpus; print what there is, and each file that cannot be read with the reason.

    The exit code is 0 if every file can be read, 1 if not.

    Args:
        root: Folder, list file (.txt) or table (.csv) of videos or images.
        media: What to look for.
    """
    from ..data.corpus import Corpus

    # The scan warns of bad files one by one, which the summary repeats.
    logging.getLogger("vidssl.data.corpus").setLevel(logging.ERROR)
    corpus = Corpus.scan(root, media=media)
    Console().print(corpus.summary(), markup=False, highlight=False, soft_wrap=True)
    return 1 if corpus.bad else 0
