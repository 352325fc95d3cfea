"""Stopping long work at a good moment: signals set a flag, loops look at it between steps."""

import signal
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Stopped(SystemExit):
    """Raised when work was stopped by a signal and its state is saved; the exit code is 128 + signal."""


class StopFlag:
    """Context in which the first stop signal is noted in `received` and a second one interrupts at once."""

    def __init__(self) -> None:
        self.received: int | None = None

    def __enter__(self) -> "StopFlag":
        self._previous: dict[int, Any] = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number

    def check(self) -> None:
        """Raise Stopped if a signal arrived."""
        if self.received is not None:
            raise Stopped(128 + self.received)
