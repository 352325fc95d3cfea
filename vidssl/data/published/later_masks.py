"""Whether masks behind those to start from are what is scored."""

import logging

from .benchmarks import MaskSequence
from .masks import check_object_ids, listed_ids, read_mask

logger = logging.getLogger(__name__)


def check_later_masks(sequence: MaskSequence) -> None:
    """Refuse soft masks behind those to start from; say which ids are not counted, and which objects never return.

    Raises:
        ValueError: A mask is soft; the message names it.
    """
    if sequence.objects == "one":
        return
    shown: set[int] = set()
    for number in sequence.annotated:
        path = sequence.annotation_paths[number]
        ids = set(sequence.mask(number).unique().tolist()) - {0}
        if path is not None and ids - sequence.first_frames.keys():
            check_object_ids(read_mask(path), path=path)
        shown |= ids if number else set()
    if strangers := sorted(shown - sequence.first_frames.keys()):
        logger.warning(
            "%s: later masks have the ids %s, which the first has not: not counted, as in davis2017-evaluation",
            sequence.name,
            listed_ids(strangers),
        )
    # Whatever joins is in the mask it joins with.
    if len(sequence.annotated) > 1 and (lost := sorted(sequence.first_frames.keys() - shown - _joined(sequence))):
        logger.warning("%s: no later mask shows the objects %s", sequence.name, listed_ids(lost))


def _joined(sequence: MaskSequence) -> set[int]:
    return {i for i, first in sequence.first_frames.items() if first > 0}
