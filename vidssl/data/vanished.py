"""A disk that goes away while its files are read: unmounted, renamed, out of reach for a while."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

from .media.container import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from .corpus.entry import Entry

# Between looks for files that are gone: servers start again within minutes.
WAITS_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0)
_HEARTBEAT_SECONDS = 1.0
_NUM_LOOKED_FOR = 16

_log = logging.getLogger(__name__)


class CorpusGone(OSError):
    """The files of a corpus are gone, most of them at once: no fault of theirs."""


def num_gone(entries: Sequence[Entry], index: int) -> tuple[int, int]:
    """How many files are not there, of those looked for: (0, 1) if that of `index` is, else of some of the corpus."""
    if _is_there(entries[index]):
        return 0, 1
    step = max(1, len(entries) // _NUM_LOOKED_FOR)
    there = [_is_there(entries[number]) for number in range(0, len(entries), step)]
    return there.count(False), len(there)


def wait_for(
    entries: Sequence[Entry], index: int, root: Path, *, seconds: float | None, heartbeat: Callable[[], None]
) -> bool:
    """Whether an entry that could not be read is to be read again, because most files of its corpus are gone.

    Args:
        entries: Of the corpus.
        index: Of the entry.
        root: Of the corpus.
        seconds: How long to wait before; None gives up.
        heartbeat: Called every second meanwhile.

    Raises:
        CorpusGone: They are, and `seconds` is None.
    """
    gone, looked_for = num_gone(entries, index)
    if 2 * gone <= looked_for:
        return False
    what = f"{gone} of {looked_for} files looked for in {printable(root)} are gone"
    if seconds is None:
        raise CorpusGone(
            f"{what}, such as {printable(entries[index].path)}, and did not come back within {sum(WAITS_SECONDS):g} s; "
            "bring the disk back (mount it, or undo the renaming)"
        )
    _log.warning("%s; looking again in %g s", what, seconds)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, _HEARTBEAT_SECONDS))
        heartbeat()
    return True


def _is_there(entry: Entry) -> bool:
    if entry.member is None:
        return os.path.exists(entry.path)  # noqa: PTH110 (False for every error of a disk)
    return entry.member.is_remote or os.path.exists(entry.member.shard)  # noqa: PTH110
