"""How long random clips take to read, from a file and from what was prepared of it."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..media.container import MediaError
from ..media.isolation import call_each
from ..media.video import open_video

if TYPE_CHECKING:
    from collections.abc import Sequence

# The clips that are timed before and after.
_CLIP_FRAMES, _CLIP_STRIDE, _MAX_CLIP_SECONDS = 16, 4, 300.0


def _clips_per_second(
    pairs: Sequence[tuple[Path, Path]], *, num_clips: int, short_side_px: int
) -> tuple[float, float] | None:
    """Time random clips of a few files before and after; the same clips each time this is called."""
    draws = random.Random(0)
    requests = [
        json.dumps({"files": [os.fspath(path) for path in draws.choice(pairs)], "short_side_px": short_side_px,
                    "start": draws.random()})
        for _ in range(num_clips if pairs else 0)
    ]  # fmt: skip
    answers = call_each(
        "vidssl.data.corpus.timing:time_clip", requests, num_workers=1, timeout_seconds=_MAX_CLIP_SECONDS
    )
    seconds = [answer["seconds"] for _, answer in answers if "seconds" in answer]
    if not seconds:
        return None
    before, after = np.median(np.array(seconds), axis=0)
    return float(1 / before), float(1 / after)


def time_clip(request: str) -> dict[str, Any]:
    """Read one clip from each of two files as training does, which knows them: {"seconds": processor time of each}."""
    wanted = json.loads(request)
    seconds = []
    try:
        for file in wanted["files"]:
            with open_video(file) as reader:
                index = reader.packed_index()
                reader.frames([0.0])  # imports what is imported on first use
            begin = time.process_time()
            with open_video(file, index=index) as reader:
                last = max(0, reader.info.num_frames - 1 - _CLIP_STRIDE * (_CLIP_FRAMES - 1))
                first = round(wanted["start"] * last)
                times = (first + _CLIP_STRIDE * np.arange(_CLIP_FRAMES)) / reader.info.fps
                reader.frames(times.tolist(), short_side=wanted["short_side_px"])
            seconds.append(time.process_time() - begin)
    except MediaError as error:
        return {"reason": error.reason}
    return {"seconds": seconds}
