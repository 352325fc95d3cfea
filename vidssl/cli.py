"""The `vidssl` command: finds the command that is asked for, and turns errors of the user into one paragraph.

Exit codes: 0 done; 1 `vidssl data check` found unreadable files; 2 error of the user; 128 + signal if stopped
(SIGINT 130, SIGTERM 143, SIGUSR1 138, SIGHUP 129).
Nothing here imports torch: help, lists and mistyped commands answer at once. Signatures of the commands
(vidssl/commands) are their options.
"""

import importlib
import inspect
import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version as _version
from typing import Any

import rich
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from . import __version__
from .catalog import near_misses

# Command -> the function whose signature is its options, and what it does.
COMMANDS = {
    "pretrain": ("commands.pretrain:pretrain", "train an encoder on a folder of videos"),
    "evaluate davis": (
        "commands.evaluate.davis:davis",
        "measure an encoder by label propagation on DAVIS, or on data laid out like it",
    ),
    "evaluate jhmdb": (
        "commands.evaluate.jhmdb:jhmdb",
        "measure an encoder by carrying the joints of a body: PCK on JHMDB",
    ),
    "evaluate vip": (
        "commands.evaluate.vip:vip",
        "measure an encoder by carrying the parts of bodies: mIoU on VIP",
    ),
    "evaluate otb": (
        "commands.evaluate.boxes:otb",
        "measure an encoder by following boxes: success and precision on OTB",
    ),
    "evaluate got10k": ("commands.evaluate.boxes:got10k", "measure an encoder by following boxes on GOT-10k"),
    "evaluate tapvid": ("commands.evaluate.tapvid:tapvid", "measure an encoder by following points on TAP-Vid"),
    "evaluate knn": (
        "commands.evaluate.recognition:knn",
        "measure an encoder by nearest neighbours on labelled data",
    ),
    "evaluate linear": ("commands.evaluate.recognition:linear", "measure an encoder by a linear classifier"),
    "evaluate lowshot": (
        "commands.evaluate.recognition:lowshot",
        "measure an encoder by classifiers of few labels",
    ),
    "evaluate retrieval": (
        "commands.evaluate.recognition:retrieval",
        "measure an encoder by retrieval, also between sound and video",
    ),
    "evaluate cluster": (
        "commands.evaluate.recognition:cluster",
        "measure an encoder by its clusters against classes",
    ),
    "evaluate finetune": ("commands.evaluate.finetune:finetune", "train an encoder on labels, and measure that"),
    "extract": ("commands.extract:extract", "encode every file of a data set once and keep the features"),
    "propagate": ("commands.propagate:propagate", "carry the masks of a first frame through a video of your own"),
    "data check": ("commands.data:check", "look at every file of a corpus and list those that cannot be read"),
    "data prepare": ("commands.data:prepare", "re-encode a corpus so that random clips of it cost little to read"),
    "replay": ("commands.replay:replay", "compute a step again whose numbers were not finite"),
    "slurm": ("commands.slurm:slurm", "write the sbatch file of a training that queues itself again"),
    "methods": ("commands.methods:methods", "list the methods, their configs and what they measured"),
    "export": ("commands.export:export", "write the encoder of a run to a file"),
    "report": ("commands.report:report", "draw a run and its evaluations, or several encoders side by side"),
    "demo": (
        "commands.demo:demo",
        "all of it, end to end, on a small made-up corpus (about 15 minutes on two cores)",
    ),
}
USER_ERRORS = (ValueError, OSError, ImportError, FloatingPointError, MemoryError)

logger = logging.getLogger("vidssl.cli")  # also when this file is run as __main__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; `arguments` None takes those of the process. Returns the exit code."""
    # Progress bars, warnings and errors go to stderr; stdout is for what was asked for.
    rich.reconfigure(stderr=True)
    try:
        _configure_logging()
        return _dispatch(list(sys.argv[1:] if arguments is None else arguments))
    except USER_ERRORS as error:
        _complain(str(error) or type(error).__name__)
        logger.debug("where it was raised:", exc_info=True)
        return 2
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        _complain(
            f"torch {_version('torch')} and torchvision {_version('torchvision')} were not built for each other "
            f"({error}); install both anew from one index, as https://pytorch.org/get-started/locally says"
        )
        return 2
    except KeyboardInterrupt:
        _complain("stopped by Ctrl-C")
        return 130


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        _show_overview()
        return 0 if words else 2
    if words[0] == "--version":
        Console().print(f"vidssl {__version__}", highlight=False)
        return 0
    for name in COMMANDS:
        parts = name.split()
        if words[: len(parts)] == parts:
            return _run(name, words[len(parts) :])
    group = [name for name in COMMANDS if name.split()[0] == words[0]]
    if group and words[1:2] in ([], ["-h"], ["--help"]):
        _show_overview(group)
        return 0 if words[1:] else 2
    typed = " ".join(words[:2]) if group else words[0]
    near = group or near_misses(typed, [*COMMANDS, *{name.split()[0] for name in COMMANDS}])
    hint = f"perhaps you meant {' or '.join(near)}" if near else f"the commands are {', '.join(COMMANDS)}"
    raise ValueError(f"there is no command {typed!r}; {hint}. `vidssl --help` says more")


def _run(name: str, words: list[str]) -> int:
    """Call the function of a command with its options."""
    function = command(name)
    parameters = inspect.signature(function).parameters
    if "words" in parameters:  # its options depend on its first word
        return function(words) or 0
    if not words and not parameters:
        return function() or 0  # spares the import of tyro
    import tyro

    from . import options as door
    from .config import constructor

    options = door.parse(
        constructor(function, without=["command"]),
        words,
        prog=f"vidssl {name}",
        config=(tyro.conf.DisallowNone, tyro.conf.PositionalMetavarFromFieldName),
    )
    if "command" in parameters:
        options["command"] = shlex.join(["vidssl", *name.split(), *words])
    return function(**options) or 0


def command(name: str) -> Callable[..., Any]:
    """Import the function that a command stands for."""
    module, _, function = COMMANDS[name][0].partition(":")
    return getattr(importlib.import_module(f"vidssl.{module}"), function)


def _show_overview(names: Sequence[str] = tuple(COMMANDS)) -> None:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
    for name in names:
        table.add_row(f"  [bold]{name}[/]", COMMANDS[name][1])
    console = Console(highlight=False)
    console.print(
        "vidssl COMMAND [OPTIONS]: self-supervised learning from video, and the measurement of what was learned\n"
    )
    console.print(table)
    console.print(
        "\n`vidssl COMMAND --help` lists the options of a command, with units and defaults.\n"
        "VIDSSL_LOG=debug shows where an error was raised."
    )


def _complain(text: str) -> None:
    console = rich.get_console()
    # Files and pipes get unbroken lines, people get lines broken between words.
    console.print(f"[bold red]error:[/] {escape(text)}", soft_wrap=not console.is_terminal, highlight=False)


class _LogHandler(logging.Handler):
    """One line per record, on the console that draws the progress bars, so that neither breaks the other."""

    STYLES = {"WARNING": "yellow", "ERROR": "bold red", "CRITICAL": "bold red"}  # noqa: RUF012

    def emit(self, record: logging.LogRecord) -> None:
        level = f"{record.levelname.lower()}: " if record.levelno != logging.INFO else ""
        style = self.STYLES.get(record.levelname)
        try:
            rich.get_console().print(
                level + self.format(record), style=style, markup=False, highlight=False, soft_wrap=True
            )
        except OSError:  # the terminal is gone, or the disk of the file is full: the work it tells of goes on
            self.handleError(record)


def _configure_logging() -> None:
    """Send log records to the console; of several processes (torchrun) only the first one tells its progress."""
    is_first_process = os.environ.get("RANK", "0") == "0"
    logging.getLogger("vidssl").setLevel(
        os.environ.get("VIDSSL_LOG", "info" if is_first_process else "error").upper()
    )
    root = logging.getLogger()
    if not any(isinstance(handler, _LogHandler) for handler in root.handlers):
        root.addHandler(_LogHandler())


if __name__ == "__main__":
    sys.exit(main())
