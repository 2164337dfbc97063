import signal
import threading

import pytest

from dassl.engine.interruption import Interruption


@pytest.fixture(autouse=True)
def handlers():
    """As they are outside of a test."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler), signal.getsignal(signal.SIGTERM)
    yield
    for number, handler in zip((signal.SIGINT, signal.SIGTERM), before):
        signal.signal(number, handler)


def test_the_first_signal_waits_for_the_end_of_the_step():
    done = []
    with pytest.raises(KeyboardInterrupt), Interruption() as interruption:
        for batch in interruption.batches(range(5)):
            if batch == 2:
                signal.raise_signal(signal.SIGINT)
            done.append(batch)
        assert interruption.asked
        interruption.act()
    assert done == [0, 1, 2]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_second_one_does_not():
    with pytest.raises(KeyboardInterrupt), Interruption():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("not reached")


def batches_of_lost_workers():
    yield 1
    raise RuntimeError("DataLoader worker (pid 7) exited unexpectedly")


def test_workers_that_ctrl_c_has_reached_too_are_not_missed():
    with Interruption() as interruption:
        batches = interruption.batches(batches_of_lost_workers())
        next(batches)
        interruption._asked = signal.SIGINT  # as while it waits for the second
        assert list(batches) == []


def test_workers_that_are_lost_otherwise_are_an_error():
    with Interruption() as interruption, pytest.raises(RuntimeError, match="exited unexpectedly"):
        list(interruption.batches(batches_of_lost_workers()))


def test_a_signal_that_is_ignored_stays_so():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGTERM)
        assert not interruption.asked


def test_other_threads_get_no_signals():
    handled = []

    def enter():
        with Interruption():
            handled.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert handled == [signal.default_int_handler]
