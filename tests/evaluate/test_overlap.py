"""Threads that read ahead and write behind: order, bounds, errors, and what is left when work is broken off."""

import threading
import time

import pytest

from vidssl.evaluate.overlap import read_ahead, write_behind


def helpers():
    return [thread for thread in threading.enumerate() if thread.name.startswith(("read-ahead", "write-behind"))]


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_items_come_in_order_and_no_more_are_drawn_than_allowed():
    drawn = []

    def items():
        for number in range(6):
            drawn.append((number, threading.current_thread() is threading.main_thread()))
            yield number

    ahead = read_ahead(items(), num_items=2)
    assert next(ahead) == 0
    wait_until(lambda: len(drawn) == 3)  # the one handed out and two more, without being asked
    time.sleep(0.02)
    assert drawn == [(number, False) for number in range(3)]
    assert list(ahead) == [1, 2, 3, 4, 5]
    assert not helpers()
    assert list(read_ahead([])) == []


def test_a_frame_that_cannot_be_read_is_named_in_its_place():
    def items():
        yield "first"
        yield "second"
        raise ValueError("00002.jpg cannot be read as an image")

    ahead = read_ahead(items())
    assert [next(ahead), next(ahead)] == ["first", "second"]
    with pytest.raises(ValueError, match=r"00002\.jpg cannot be read"):
        next(ahead)
    assert not helpers()


def test_reading_ends_when_no_one_asks_any_more():
    ahead = read_ahead(iter(range(100)))
    next(ahead)
    ahead.close()
    assert not helpers()


def test_calls_are_made_in_order_by_another_thread():
    made = []
    with write_behind(num_calls=2) as later:
        for number in range(20):
            later(lambda number: made.append((number, threading.current_thread().name)), number)
    assert [number for number, _ in made] == list(range(20))
    assert all(name.startswith("write-behind") for _, name in made)
    assert not helpers()


def test_no_more_calls_wait_than_allowed():
    gate, made = threading.Event(), []
    with write_behind(num_calls=2) as later:
        later(gate.wait)
        later(made.append, 1)
        threading.Timer(0.05, gate.set).start()
        later(made.append, 2)  # waits until the first is done
        assert gate.is_set()
    assert made == [1, 2]


@pytest.mark.parametrize("num_more", [0, 5])
def test_what_goes_wrong_in_the_thread_is_raised(num_more):
    def full():
        raise OSError("no space left on device")

    made = []
    with pytest.raises(OSError, match="no space left"), write_behind(num_calls=1) as later:
        later(full)
        for number in range(num_more):
            later(made.append, number)
    assert not made and not helpers()


def test_what_waits_is_dropped_when_the_block_is_broken_off():
    gate, started, made = threading.Event(), threading.Event(), []
    with pytest.raises(KeyboardInterrupt), write_behind() as later:
        later(lambda: (started.set(), gate.wait(), made.append("began")))
        later(made.append, "waited")
        started.wait()
        threading.Timer(0.05, gate.set).start()
        raise KeyboardInterrupt
    assert made == ["began"]  # a file is written whole
    assert not helpers()
