"""Classes that cannot be measured, or hardly: none to tell apart, none to learn from, a single sample."""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...data.published.labelled import LabelledSet

logger = logging.getLogger(__name__)

_MAX_LISTED = 10


def check_classes(labels: Sequence[int], *, what: str = "training", class_names: Sequence[str] = ()) -> None:
    """Refuse samples of one class: every answer would be right, whatever the features.

    Args:
        labels: Class of each sample.
        what: Which samples they are.
        class_names: By number of the class; without them the number is named.

    Raises:
        ValueError: There are fewer than two classes.
    """
    classes = set(labels)
    if len(classes) < 2:
        name = "".join(repr(class_names[one]) if class_names else str(one) for one in classes)
        raise ValueError(
            f"all {len(labels)} {what} samples are of class {name}: there is nothing to tell apart, two classes or "
            f"more are needed. Give each class a folder of its own, or a list whose label column tells them apart "
            f"(--label-column), and see that the split leaves {what} samples of at least two"
        )


def odd_classes(
    train: Sequence[int], test: Sequence[int], *, class_names: Sequence[str]
) -> tuple[dict[str, list[str]], list[str]]:
    """Find the classes that figures suffer from without their telling.

    Args:
        train: Class of each training sample.
        test: Of each test sample.
        class_names: By number of the class.

    Returns:
        Names of the classes by what is odd: "without_training_samples" (of test samples: these count as wrong),
        "with_one_training_sample", "without_test_samples" (no figure tells of them); and a sentence for each kind
        that occurs.
    """
    learned, tested = Counter(train), Counter(test)
    unseen = sorted(tested.keys() - learned.keys())
    single = sorted(number for number, count in learned.items() if count == 1)
    untested = sorted(learned.keys() - tested.keys())
    found = {
        "without_training_samples": [class_names[number] for number in unseen],
        "with_one_training_sample": [class_names[number] for number in single],
        "without_test_samples": [class_names[number] for number in untested],
    }
    num_wrong = sum(tested[number] for number in unseen)
    said = [
        f"{len(unseen)} of {len(tested)} test classes have no training sample and cannot be found; their "
        f"{num_wrong} of {len(test)} test samples count as wrong: {_listed(found['without_training_samples'])}",
        f"{len(single)} of {len(learned)} training classes have a single training sample, which nothing else of "
        f"their class can be checked against: {_listed(found['with_one_training_sample'])}",
        f"{len(untested)} of {len(learned)} training classes have no test sample, so no figure tells of them: "
        f"{_listed(found['without_test_samples'])}",
    ]
    kinds = (unseen, single, untested)
    return found, [text for text, kind in zip(said, kinds, strict=True) if kind]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_MAX_LISTED]) + (f" and {len(names) - _MAX_LISTED} more" * (len(names) > _MAX_LISTED))


def look_at_classes(data: "LabelledSet") -> dict[str, list[str]]:
    """Refuse training samples of one class; say which classes are odd (`odd_classes`), and return their names.

    Raises:
        ValueError: All training samples are of one class.
    """

    train, test = ([item.label for item in items] for items in (data.train, data.test))
    try:
        check_classes(train, class_names=data.class_names)
    except ValueError as error:
        raise ValueError(f"{data.name}: {error}") from error
    found, said = odd_classes(train, test, class_names=data.class_names)
    for text in said:
        logger.warning("%s: %s", data.name, text)
    return found
