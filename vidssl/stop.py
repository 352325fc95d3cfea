"""Stopping long work at a good moment: signals set a flag, loops look at it between steps.

SIGINT (Ctrl-C), SIGTERM and SIGUSR1 (what schedulers send before they take a machine away) and SIGHUP (a terminal or
connection that is closed) all ask for a stop; the exit code is 128 + signal: 130, 143, 138 and 129. The second one
stops at once, wherever the program is. Under nohup SIGHUP stays ignored.
"""

import functools
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, ClassVar, ParamSpec, TypeVar

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
# torchrun passes on what its processes may have received already, as every process of a terminal or a job does: for
# so long the same request counts once. Of a terminal that is closed, shell and kernel both tell.
ECHO_SECONDS = 2.0

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)


class Stopped(SystemExit):
    """Raised when work was stopped by a signal and its state is saved; the exit code is 128 + signal."""


class StopFlag:
    """Context in which the first stop signal is noted in `received` and a second one interrupts at once.

    Signals belong to the process, and so does the flag: inside of a context another one is the same flag, so that a
    stop that is asked for in an evaluation stops the training around it, too. They arrive in the main thread; in
    others this does nothing.
    """

    _active: ClassVar["StopFlag | None"] = None

    def __init__(self) -> None:
        self.received: int | None = None
        self._received_at = 0.0
        self._is_told = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopFlag":
        if StopFlag._active is not None:
            return StopFlag._active
        if threading.current_thread() is not threading.main_thread():
            return self
        self._previous = {
            number: signal.signal(number, self._note)
            for number in SIGNALS
            if not (number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN)  # nohup
        }
        StopFlag._active = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if StopFlag._active is self:
            StopFlag._active = None
            for number, handler in self._previous.items():
                signal.signal(number, handler)
            if kind is None:
                self.check()  # it arrived too late for the last look

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.received is None:
            self.received, self._received_at = number, now
            return
        comes_twice = "TORCHELASTIC_RUN_ID" in os.environ or number == self.received == signal.SIGHUP
        if not comes_twice or now - self._received_at > ECHO_SECONDS:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    def check(self) -> None:
        """Raise Stopped if a signal arrived."""
        if self.received is not None:
            if not self._is_told:
                logger.warning("stopped by %s", signal.Signals(self.received).name)
            self._is_told = True
            raise Stopped(128 + self.received)


def check() -> None:
    """Raise Stopped if a signal arrived while a StopFlag is active: for loops deep inside of long work."""
    if StopFlag._active is not None:
        StopFlag._active.check()


def stoppable(function: Callable[P, T]) -> Callable[P, T]:
    """Run a function under a StopFlag: what it calls looks by `check`, and it ends with Stopped."""

    @functools.wraps(function)
    def run(*arguments: P.args, **options: P.kwargs) -> T:
        with StopFlag():
            return function(*arguments, **options)

    return run


def leave_to_parent() -> None:
    """Let the process that started this one decide when it ends: for workers of a loader.

    A terminal and a scheduler signal every process of a group; a worker that ended at once would take the step that
    its parent is in the middle of with it. So workers have a group of their own, and end with their parent or by its
    SIGTERM, which therefore must not be ignored.
    """
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
