import threading

import numpy as np
import pytest

from caloforge.generation.beside import Beside


def test_items_are_done_in_order_in_another_thread():
    done, threads = [], set()

    def work(item):
        done.append(item)
        threads.add(threading.get_ident())

    with Beside(work) as beside:
        for item in range(50):
            beside(item)
    assert done == list(range(50))
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    assert beside.wall >= 0


def test_time_spent_beside_is_told():
    with Beside(lambda n: np.sort(np.random.default_rng(0).random(n))) as beside:
        beside(3_000_000)
    assert 0.02 < beside.cpu < 20
    assert beside.wall > 0.02


@pytest.mark.parametrize("late", [True, False])
def test_errors_beside_reach_the_caller(late):
    def work(item):
        if item == 3:
            raise ValueError("no more")
        done.append(item)

    done = []
    with pytest.raises(ValueError, match="no more"), Beside(work) as beside:  # noqa: PT012
        for item in range(4 if late else 100):
            beside(item)
    assert done == [0, 1, 2]


def test_after_the_callers_error_nothing_more_is_begun():
    held, done = threading.Event(), []

    def work(item):
        held.wait(10)
        done.append(item)

    beside = Beside(work)

    def interrupted():
        with beside:
            beside(0)
            beside(1)
            threading.Timer(0.3, held.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done in ([], [0])
    assert not beside._thread.is_alive()
