"""Processes for tests, forked from a server that has imported what trains: one costs a moment, not five CPU seconds.

Each is a process of its own, with its own group, signals and memory. What a fresh interpreter shows (imports, the
wheel) is tested with fresh ones.
"""

import multiprocessing as mp
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from vidssl.testing import PRELOADED

context = mp.get_context("forkserver")
context.set_forkserver_preload(PRELOADED)


class Process:
    """What runs `code` as a script with `arguments`, in the environment and folder of the moment.

    What it prints is in the file `said`.
    """

    def __init__(self, code: str, *arguments: str | Path, said: Path) -> None:
        self.said = said
        words = [str(argument) for argument in arguments]
        where = dict(os.environ), Path.cwd()
        self._process = context.Process(target=_run, args=(code, words, said, *where))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Exit code, -signal if one ended it; None if it still runs."""
        return self._process.exitcode

    def wait(self, seconds: float = 60) -> int:
        """Wait for the end; the exit code."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            os.killpg(self.pid, 9)
            raise AssertionError(f"still running after {seconds} s: {self.said.read_text()[-3000:]}")
        return self._process.exitcode


def script(path: Path, *words: str | Path, said: Path) -> Process:
    """Run a script: script(ROOT / "tools/prove.py", "--all", said=...)."""
    code = "import runpy, sys\ndel sys.argv[0]\nrunpy.run_path(sys.argv[0], run_name='__main__')"
    return Process(code, path, *words, said=said)


def command(*words: str | Path, said: Path) -> Process:
    """Run a command of vidssl: command("data", "check", root, said=...)."""
    return Process(
        "import sys\nfrom vidssl.cli import main\nif __name__ == '__main__':\n    sys.exit(main(sys.argv[1:]))",
        *words,
        said=said,
    )


def _run(code: str, arguments: Sequence[str], said: Path, environment: dict[str, str], folder: Path) -> None:
    os.setsid()
    with said.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    mp.set_start_method(None, force=True)  # of its own children: as everywhere, not as the one it came from
    script = said.with_suffix(".py")
    script.write_text(code)
    sys.argv = [str(script), *arguments]
    runpy.run_path(str(script), run_name="__main__")
