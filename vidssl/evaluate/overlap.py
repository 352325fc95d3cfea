"""Reading ahead and writing behind: files are read and written by a thread each while the network works."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")


def read_ahead(items: Iterable[Item], *, num_items: int = 2) -> Iterator[Item]:
    """Go through `items` while a thread draws the next ones.

    What goes wrong while an item is drawn is raised in its place.

    Args:
        items: Only the thread touches them, one at a time.
        num_items: Drawn before they are asked for, at most.
    """
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as thread:
        coming = deque(thread.submit(next, iterator, end) for _ in range(num_items))
        while (item := coming.popleft().result()) is not end:
            coming.append(thread.submit(next, iterator, end))
            yield item  # type: ignore[misc]  # mypy does not know that the end is none


@contextmanager
def write_behind(*, num_calls: int = 4) -> Iterator[Callable[..., None]]:
    """Hand calls to a thread, which makes them in order: yield `later(function, *arguments)`.

    All have been made when the block ends. What goes wrong in one is raised by a later call, or at the end of the
    block; then, and if the block itself fails (Ctrl-C among it), those that still wait are dropped.

    Args:
        num_calls: That wait or are being made, at most; `later` waits for a place.
    """
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="write-behind")
    waiting: deque[Future[Any]] = deque()

    def later(function: Callable[..., Any], *arguments: Any) -> None:
        while len(waiting) >= num_calls:
            waiting.popleft().result()
        waiting.append(thread.submit(function, *arguments))

    try:
        yield later
        while waiting:
            waiting.popleft().result()
    finally:
        thread.shutdown(cancel_futures=True)
