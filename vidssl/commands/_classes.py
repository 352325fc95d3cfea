"""Look at the classes of a data set before hours are spent on it."""

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..data.labelled import LabelledSet

logger = logging.getLogger(__name__)


def look_at_classes(data: "LabelledSet") -> dict[str, list[str]]:
    """Refuse training samples of one class; say which classes are odd (`odd_classes`), and return their names.

    Raises:
        ValueError: All training samples are of one class.
    """
    from ..evaluate.class_counts import check_classes, odd_classes

    train, test = ([item.label for item in items] for items in (data.train, data.test))
    try:
        check_classes(train, class_names=data.class_names)
    except ValueError as error:
        raise ValueError(f"{data.name}: {error}") from error
    found, said = odd_classes(train, test, class_names=data.class_names)
    for text in said:
        logger.warning("%s: %s", data.name, text)
    return found
