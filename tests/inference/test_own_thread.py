"""Lanes of a worker: each is held by one caller, and on request by one caller only."""

import threading

from ray_app.inference.own_thread import OwnThread, Pool


def test_an_own_thread_runs_everything_in_one_other_thread() -> None:
    own = OwnThread()
    threads = {own.run(threading.get_ident) for _ in range(3)}
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_callers_hold_different_things_and_wait_for_one() -> None:
    pool = Pool(["a", "b"])
    waited: list[str] = []

    def wait() -> None:
        with pool.held() as third:
            waited.append(third)

    with pool.held() as first:
        with pool.held() as second:
            assert {first, second} == {"a", "b"}
            caller = threading.Thread(target=wait)
            caller.start()
            caller.join(0.05)
            assert not waited
        caller.join()
        assert waited == [second]


def test_one_that_is_alone_waits_for_the_others_and_keeps_them_out() -> None:
    pool, inside, most = Pool(["a", "b", "c"]), [0], [0]
    lock, start = threading.Lock(), threading.Barrier(8)

    def work(alone: bool) -> None:
        start.wait()
        for _ in range(50):
            with pool.held(alone):
                with lock:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0] if alone else 0)
                with lock:
                    most[0] = max(most[0], inside[0] if alone else 0)
                    inside[0] -= 1

    callers = [threading.Thread(target=work, args=(i < 4,)) for i in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert not any(caller.is_alive() for caller in callers)
    assert most == [1]
    assert pool.free.qsize() == 3


def test_a_thing_comes_back_after_an_error() -> None:
    pool = Pool(["a"])
    for _ in range(2):
        try:
            with pool.held():
                raise ValueError
        except ValueError:
            pass
    assert pool.free.qsize() == 1
