"""Every numeric option of every command and config: values that cannot be are refused, by name and in one line."""

import dataclasses
import functools
import inspect
import re
import sys
import types
import typing
from pathlib import Path

import pytest

from vidssl import catalog, cli, config, options
from vidssl.commands import pretrain, slurm

pytestmark = pytest.mark.usefixtures("looked_at_here")

# Options for which zero is legal, and what it means there.
ZERO_IS_LEGAL = {
    "seed": "a seed like any other",
    "num_workers": "decodes between the steps",
    "gpus": "one process without a GPU",
    "rank": "the first process",
    "step": "the first step",
    "jitter_px": "no jitter",
    "num_local_views": "no small views",
    "offsets_frames": "the first frame",
    "weight_decay": "none",
    "alignment_penalty": "none",
    "redundancy_weight": "none",
    "relation_weight": "none",
    "lr_backbone": "a frozen encoder",
    "notice_seconds": "no notice",
    "hours": "the shortest job",
    "crf": "lossless",
    "momentum": "a teacher that is the student",
    "mask_ratio": "nothing is hidden",
    "drop_path": "nothing is left out",
    "bad_file_budget": "no file may be unreadable",
    "missing_budget": "no file may be missing",
    "test_share": "nothing is tested",
    "lost_share": "nothing is lost",
    "visible_share": "all is visible",
}
INFINITY_IS_LEGAL = {"temperatures": "votes without weights"}
Option = tuple[str, str, typing.Any]


def fields_of(kind: typing.Any) -> dict[str, typing.Any]:
    return typing.get_type_hints(kind, include_extras=True)


def options_of(name: str, kind: typing.Any) -> typing.Iterator[tuple[str, typing.Any]]:
    """(name, type) of an option, or of those of the dataclass that it is."""
    inner = typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind
    if dataclasses.is_dataclass(inner):
        for field, one in fields_of(inner).items():
            yield from options_of(field, one)
    else:
        yield name, inner


def number_of(kind: typing.Any) -> type | None:
    """int or float if an option takes such numbers, else None."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType, tuple, list):
        return next((found for one in typing.get_args(kind) if (found := number_of(one))), None)
    return kind if kind in (int, float) else None


@functools.cache
def everything() -> list[Option]:
    """(command, option, type), from the signatures."""
    found: list[Option] = []
    for command in cli.COMMANDS:
        if command in ("pretrain", "slurm"):
            continue
        for parameter in inspect.signature(cli.command(command), eval_str=True).parameters.values():
            found += [(command, *one) for one in options_of(parameter.name, parameter.annotation)]
    for entry in catalog.entries():
        for parameter in inspect.signature(config.load(entry.name).run, eval_str=True).parameters.values():
            found += [(f"pretrain {entry.name}", *one) for one in options_of(parameter.name, parameter.annotation)]
    first = catalog.entries()[0].name
    found += [(f"pretrain {first}", *one) for one in options_of("", pretrain.FitOptions)]
    found += [(f"slurm {first}", *one) for one in options_of("", slurm.SlurmOptions)]
    return found


def needed(command: str) -> list[str]:
    """Words without which a command does not begin to look at its options."""
    if command.startswith(("pretrain", "slurm")):
        return ["--root", "absent", *(["--teacher", "absent"] if "distillation" in command else [])]
    words = []
    for parameter in inspect.signature(cli.command(command), eval_str=True).parameters.values():
        kinds = fields_of(typing.get_args(parameter.annotation)[0]) if _is_group(parameter.annotation) else {}
        groups = typing.get_args(parameter.annotation)[0] if kinds else None
        names = [item.name for item in dataclasses.fields(groups) if _required(item)] if groups else []
        if not groups and parameter.default is parameter.empty:
            names = [parameter.name]
        for name in names:
            positional = not groups and "Positional" in str(parameter.annotation)
            values = ["3" if name == "step" else "absent"]
            words += values if positional else [f"--{name.replace('_', '-')}", *values]
    return words


def _is_group(kind: typing.Any) -> bool:
    return typing.get_origin(kind) is typing.Annotated and dataclasses.is_dataclass(typing.get_args(kind)[0])


def _required(item: typing.Any) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def refused(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    """What is said of a command line that is refused before anything begins."""
    try:
        code = cli.main(words)
    except SystemExit as stop:
        code = stop.code  # type: ignore[assignment]
    text = capsys.readouterr().err
    assert code == 2 and "Traceback" not in text, (words, text[-400:])
    return text


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", [*sys.path])


def numbers() -> list[Option]:
    return [(command, name, number_of(kind)) for command, name, kind in everything() if number_of(kind)]


def test_every_numeric_option_has_a_rule() -> None:
    assert len(numbers()) > 150
    assert {name for _, name, _ in numbers() if options.rule_of(name) is None} == set()
    zeros = {name for _, name, _ in numbers() if options.rule_of(name).allows(0)}  # type: ignore[union-attr]
    assert zeros == ZERO_IS_LEGAL.keys() & {name for _, name, _ in numbers()}


def bad_values(name: str, kind: type) -> list[str]:
    return ["-1", "0"][: 1 + (name not in ZERO_IS_LEGAL)] + ["nan", "-inf", "inf"][
        : 3 - (name in INFINITY_IS_LEGAL)
    ] * (kind is float)


def test_defaults_are_allowed() -> None:
    for name in cli.COMMANDS:
        if name not in ("pretrain", "slurm"):
            for parameter in inspect.signature(cli.command(name), eval_str=True).parameters.values():
                kind = (typing.get_args(parameter.annotation) or [None])[0]
                if _is_group(parameter.annotation):
                    for item in dataclasses.fields(kind):
                        options.check(item.name, item.default)
                elif parameter.default is not parameter.empty:
                    options.check(parameter.name, parameter.default)
    for entry in catalog.entries():
        for parameter in inspect.signature(config.load(entry.name).run).parameters.values():
            if parameter.default is not parameter.empty:
                options.check(parameter.name, parameter.default)


def test_values_that_cannot_be_are_refused_by_name() -> None:
    for _, name, kind in numbers():
        option = f"--{name.replace('_', '-')}"
        for value in bad_values(name, kind):
            with pytest.raises(ValueError, match=rf"^{option} is {value}(\.0)?, expected (at least|more than) "):
                options.check(name, kind(value))
            with pytest.raises(ValueError, match=rf"^{option} is "):
                options.check(name, (1, kind(value)))
        if name in ZERO_IS_LEGAL:
            options.check(name, kind(0))


def test_every_command_refuses_them(capsys) -> None:
    """Through `main`: each option once for each family of commands, as reading a command line takes a while."""
    seen = set()
    for command, name, kind in everything():
        family = command.split()[0]
        number = number_of(kind)
        if number is None or (family, name) in seen:
            continue
        seen.add((family, name))
        option = f"--{name.replace('_', '-')}"
        rest = needed(command)
        if option in rest:
            at = rest.index(option)
            rest = [*rest[:at], *rest[at + 2 :]]
        is_pair = typing.get_origin(kind) is tuple and ... not in typing.get_args(kind)
        value = bad_values(name, number)[2 if len(seen) % 2 and number is float else 0].replace("-inf", "nan")
        words = [*command.split(), *rest, option, *[value] * (2 if is_pair else 1)]
        said = refused(capsys, words)
        assert re.match(rf"error: {option} is -?[\d.naif]+, expected ", said), (words, said)
        assert len(said.strip().splitlines()) == 1
        for empty in ([option, ""], [f"{option}="]):
            said = refused(capsys, [*command.split(), *rest, *empty])
            assert said == f"error: {option} is empty; give it a value or leave it out\n"
    assert len(seen) > 80
    new = {"frame_rate_hz", "clip_seconds", "drop_path"}
    assert new <= {name for family, name in seen if family == "pretrain"} and ("evaluate", "drop_path") in seen


@pytest.mark.parametrize(
    "command", ["evaluate davis", "evaluate knn", "data check", "report", "slurm", "pretrain"]
)
def test_empty_words_are_refused(capsys, command) -> None:
    first = catalog.entries()[0].name
    words = [*command.split(), *([first] if command in ("slurm", "pretrain") else [])]
    assert refused(capsys, [*words, "--out", "", "--root", "x"]).startswith(
        "error: --out is empty; give it a value"
    )
    assert refused(capsys, [*words, "--out=", "--root", "x"]).startswith("error: --out is empty; give it a value")
    assert "a word of the command line is empty" in refused(capsys, [*words, " "])
    if command in ("pretrain", "evaluate davis"):
        for option in ("--export", "--sync-batch-norm") if command == "pretrain" else ("--layer", "--baselines"):
            for empty in ([option, ""], [f"{option}="]):
                said = refused(capsys, [*words, "--root", "x", *empty])
                assert said == f"error: {option} is empty; give it a value or leave it out\n"


def test_a_bad_regular_expression_is_refused_by_name(capsys) -> None:
    texts = [(command, name) for command, name, _ in everything() if name.endswith("_pattern")]
    assert len(texts) >= 5
    for command, name in texts:
        option = f"--{name.replace('_', '-')}"
        said = refused(capsys, [*command.split(), *needed(command), option, "(film"])
        assert said.startswith(f"error: {option} is '(film', which is no regular expression: missing )"), said


def test_a_config_of_a_user_may_name_what_it_likes() -> None:
    def run(*, margin: float = 0.0, num_extra: int = 0, lr: float = 1e-3) -> None: ...

    words = ["--margin", "-2"]
    assert options.parse(config.constructor(run), words, defaults={"num_extra": 0})["margin"] == -2
    with pytest.raises(ValueError, match=r"--margin is nan, expected a finite number"):
        options.parse(config.constructor(run), ["--margin", "nan"], defaults={"num_extra": 0})
    with pytest.raises(ValueError, match=r"--num-extra is -1, expected at least 1"):
        options.parse(config.constructor(run), ["--num-extra", "-1"], defaults={"num_extra": 0})
    with pytest.raises(ValueError, match=r"--lr is 0.0, expected more than 0"):
        options.parse(config.constructor(run), ["--lr", "0"], defaults={"num_extra": 0})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("crf", 52, "--crf is 52, expected at least 0 and at most 51"),
        ("bad_file_budget", 1.5, "--bad-file-budget is 1.5, expected at least 0 and at most 1"),
        ("fractions", (0.1, 0.0), "--fractions is 0.0, expected more than 0 and at most 1"),
        ("neighbours", (1, 0), "--neighbours is 0, expected at least 1"),
    ],
)
def test_ranges(name, value, message) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        options.check(name, value)
    for fine in (1, (1, 1), None, True, "text"):
        options.check(name, fine)
