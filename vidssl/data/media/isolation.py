"""Calling a function on many files in child processes: a decoder that crashes or hangs loses one file only.

Children are started as `python -c ...`, not by multiprocessing: that would import the caller's main module again,
which fails or runs the whole script twice where it has no `if __name__ == "__main__"`. They talk in lines of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Video of two megabits per second, decoded as fast as it is shown; a core that is not busy takes a tenth of that.
_BYTES_PER_SECOND = 250_000

# What to do about a file whose frames cannot be reached by seeking.
REMUX = "put its streams into another container, where frames are reached by seeking: ffmpeg -i IN -c copy OUT.mp4"

_CHILD = "import sys; sys.path[:] = {path!r}; from vidssl.data.media.isolation import serve; serve({target!r})"


class _Child:
    """One child process that answers one request at a time."""

    def __init__(self, target: str) -> None:
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD.format(path=sys.path, target=target)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def ask(self, item: str, *, timeout_seconds: float) -> dict[str, Any]:
        """Return the answer, or {"died": reason} if there is none; the child is then of no use any more."""
        assert self._process.stdin is not None and self._process.stdout is not None
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(timeout_seconds, end)
        timer.start()
        try:
            self._process.stdin.write(json.dumps(item).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = b""
        finally:
            timer.cancel()
        if line.endswith(b"\n"):
            return json.loads(line)
        if late.is_set():
            return {
                "died": f"no answer within {round(timeout_seconds, 2):g} s; allow more (timeout_seconds), or {REMUX}"
            }
        return {"died": f"the decoder ended the process ({self._last_words()})"}

    def _last_words(self) -> str:
        code = self._process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        self._errors.seek(0)
        lines = self._errors.read()[-2000:].decode(errors="replace").strip().splitlines()
        return f"{how}: {lines[-1].strip()[:200]}" if lines else how

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()


def allowed_seconds(num_bytes: int, *, timeout_seconds: float) -> float:
    """Longest time for a file: `timeout_seconds` and what decoding all of it may take on a busy machine."""
    return timeout_seconds + max(0, num_bytes) / _BYTES_PER_SECOND


def call_each(
    target: str, items: Sequence[str], *, num_workers: int, timeout_seconds: float | Sequence[float]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Call a function on each item in child processes and yield (number of the item, answer) as they come.

    Args:
        target: "module:function"; the function takes a str and returns a dict that JSON can hold.
        items: What to call it with; may hold undecodable bytes of file names (surrogates).
        num_workers: Processes at a time.
        timeout_seconds: Longest time for one item, or for each of them; then its process is ended.

    Yields:
        The dict returned; {"died": reason} where the process crashed or took too long.
    """
    limits = [timeout_seconds] * len(items) if isinstance(timeout_seconds, (int, float)) else timeout_seconds
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(len(items)):
        todo.put(number)
    answers: queue.SimpleQueue[tuple[int, dict[str, Any]] | BaseException] = queue.SimpleQueue()
    stop = threading.Event()
    children: set[_Child] = set()

    def work() -> None:
        child = None
        try:
            while not stop.is_set():
                try:
                    number = todo.get_nowait()
                except queue.Empty:
                    return
                if child is None:
                    child = _Child(target)
                    children.add(child)
                    if stop.is_set():
                        return
                answer = child.ask(items[number], timeout_seconds=limits[number])
                if "died" in answer:
                    children.discard(child)
                    child.close()
                    child = None
                answers.put((number, answer))
        except BaseException as error:
            answers.put(error)
        finally:
            if child is not None:
                child.close()

    num_workers = max(1, min(num_workers, len(items)))
    with ThreadPoolExecutor(num_workers) as pool:
        try:
            for _ in range(num_workers):
                pool.submit(work)
            for _ in items:
                answer = answers.get()
                if isinstance(answer, BaseException):
                    raise answer
                if "raised" in answer[1]:
                    raise RuntimeError(f"{target} failed on {items[answer[0]]!r}:\n{answer[1]['raised']}")
                yield answer
        finally:
            stop.set()
            for child in tuple(children):  # who leaves early does not wait for what is still being done
                child.kill()


def serve(target: str) -> None:
    """Answer requests from standard input until it ends; the other side of `call_each`."""
    import traceback

    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)
    # Libraries that print must not write between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        try:
            answer = function(json.loads(line))
        except Exception:
            answer = {"raised": traceback.format_exc()}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()
