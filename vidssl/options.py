"""The one door of all command lines: words to options by tyro, and values that cannot be are refused by name.

What an option may be follows from its type and its name, which carries its unit (`RULES`): that of every command and
every config is held to the same.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a number may be.

    Args:
        least: Smallest value.
        most: Largest value.
        is_open: The smallest value itself is not allowed.
        may_be_infinite: As the largest value.
    """

    least: float
    most: float = math.inf
    is_open: bool = False
    may_be_infinite: bool = False

    def allows(self, value: float) -> bool:
        """Whether a number is one of these; NaN never is."""
        is_enough = self.least < value if self.is_open else self.least <= value
        return is_enough and value <= self.most and (value < math.inf or self.may_be_infinite)

    def __str__(self) -> str:
        least = f"{'more than' if self.is_open else 'at least'} {self.least:g}"
        return least if self.most == math.inf else f"{least} and at most {self.most:g}"


COUNT = Rule(1)
FROM_ZERO = Rule(0)
POSITIVE = Rule(0, is_open=True)
SHARE = Rule(0, 1)
# Names of options -> what they may be; the first that fits counts. Zero means something in those of FROM_ZERO: no
# processes, no decay, no jitter, a frozen encoder, no smaller views, the first frame or step.
RULES = {
    r"seed|num_workers|gpus|rank|step|jitter_px|num_local_views|offsets_frames": FROM_ZERO,
    r"weight_decay|alignment_penalty|\w+_weight|lr_backbone|notice_seconds|hours": FROM_ZERO,
    r"crf": Rule(0, 51),
    r"momentum|mask_ratio|drop_path": SHARE,
    r"\w+_budget|\w+_share": SHARE,
    r"fractions|crop_scale": Rule(0, 1, is_open=True),
    r"temperatures": Rule(0, is_open=True, may_be_infinite=True),  # votes without weights
    r"lr|lr_head|learning_rate|temperature|content_scale|\w+_temperature|\w+_seconds|\w+_gib|frame_rate_hz": POSITIVE,
    r"num_\w+|\w+_(px|frames|hz|every|gb|topk|dim|depth|samples|per_process)": COUNT,
    r"steps|batch_size|width|dim|depth|frames|clips|crops|stride|accumulate|shard_window|nodes|short_side": COUNT,
    r"neighbours|ranks|shots|split|scale|epochs_per_round": COUNT,
}


def parse(
    target: Callable[..., Any],
    words: Sequence[str],
    *,
    defaults: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Any:
    """Read a command line; what tyro returns for `target`.

    Args:
        target: Function or dataclass whose signature is the options.
        words: Of the command line.
        defaults: Values that are allowed whatever the rules say, by name: a config knows what its own mean.
        settings: Of `tyro.cli`.

    Raises:
        ValueError: A value is empty, or cannot be; the message names the option.
        SystemExit: tyro did not understand the words, and said so.
    """
    import tyro

    _refuse_empty_words(words)
    found = tyro.cli(target, args=list(words), **settings)
    for name, value in _named_values(found[0] if settings.get("return_unknown_args") else found):
        if defaults is None or name not in defaults or value != defaults[name]:
            check(name, value)
    return found


def rule_of(name: str) -> Rule | None:
    """Find what a number of this name may be; None where the name does not tell."""
    return next((rule for names, rule in RULES.items() if re.fullmatch(names, name)), None)


def check(name: str, value: Any) -> None:
    """Hold the value of an option, or each of several, to the rule of its name.

    Raises:
        ValueError: It cannot be.
    """
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, tuple | list):
        for item in value:
            check(name, item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        rule = rule_of(name)
        if not (math.isfinite(value) if rule is None else rule.allows(value)):
            raise ValueError(f"{option} is {value}, expected {rule or 'a finite number'}")
    elif isinstance(value, str) and name.endswith("_pattern"):
        try:
            re.compile(value)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"{option} is {value!r}, which is no regular expression: {error}") from error


def _named_values(found: Any) -> Iterator[tuple[str, Any]]:
    """Options by name, of what tyro built: dataclasses, and dicts of the options of functions."""
    if dataclasses.is_dataclass(found) and not isinstance(found, type):
        found = {item.name: getattr(found, item.name) for item in dataclasses.fields(found)}
    if isinstance(found, tuple):
        for item in found:
            yield from _named_values(item)
    elif isinstance(found, dict):
        for name, value in found.items():
            if dataclasses.is_dataclass(value):
                yield from _named_values(value)
            else:
                yield name, value


def _refuse_empty_words(words: Sequence[str]) -> None:
    # tyro makes the folder "." of an empty path, and takes an empty text for one.
    for number, word in enumerate(words):
        option, equals, value = word.partition("=")
        if word.startswith("--") and equals and not value.strip():
            raise ValueError(f"{option} is empty; give it a value or leave it out")
        if not word.strip():
            before = next((one for one in reversed(words[:number]) if one.startswith("--")), None)
            where = f"{before.partition('=')[0]} is" if before else "a word of the command line is"
            raise ValueError(f"{where} empty; give it a value or leave it out")
