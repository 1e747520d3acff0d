"""The lease: of two runs on one output one writes, and a dead run gives way."""

import os
import threading
import time
from pathlib import Path

import pytest

from ray_app import storage
from ray_app.errors import UserError
from ray_app.storage.lease import Lease, sole_trainer
from tests.support.full_disk import full_disk


def lease(out: Path | str) -> Lease:
    return Lease(str(out), beat=0.05, watch=0.5)


def test_a_second_run_is_refused_with_who_holds_it(tmp_path: Path) -> None:
    with lease(tmp_path), pytest.raises(UserError, match=rf"another run is writing there \(process {os.getpid()} on "):
        lease(tmp_path).__enter__()


def test_a_released_lease_is_taken_at_once_and_again(tmp_path: Path) -> None:
    for number in range(3):
        with Lease(str(tmp_path), watch=60) as held:
            held.check()
            assert held.number == number
    assert len(list((tmp_path / "_lease").iterdir())) == 1


def dead(out: Path, **changes: object) -> None:
    with lease(out):
        pass
    uri = f"{out}/_lease/000000.json"
    storage.write_json(uri, {**storage.read_json(uri), "released": False, **changes})


def test_the_lease_of_a_dead_process_of_this_machine_is_taken_at_once(tmp_path: Path) -> None:
    dead(tmp_path, started="long ago")
    with Lease(str(tmp_path), watch=60) as held:
        assert held.number == 1


def test_the_lease_of_another_machine_is_taken_once_it_stands_still(tmp_path: Path) -> None:
    dead(tmp_path, space="elsewhere", host="elsewhere")
    began = time.monotonic()
    with lease(tmp_path) as held:
        assert held.number == 1
    assert time.monotonic() - began >= 0.4


def test_who_lost_the_lease_is_told_and_leaves_the_new_one_alone(tmp_path: Path) -> None:
    with lease(tmp_path) as held:
        assert storage.create(f"{tmp_path}/_lease/000001.json", b'{"beat": 0}')
        with pytest.raises(UserError, match="another run took it over"):
            held.check()
        held.thread.join(5)
    assert storage.read_json(f"{tmp_path}/_lease/000001.json") == {"beat": 0}


def test_of_many_that_want_a_dead_lease_one_gets_it(tmp_path: Path) -> None:
    dead(tmp_path, started="long ago")
    got, refused, gate = [], [], threading.Barrier(6)

    def want() -> None:
        gate.wait()
        try:
            with lease(tmp_path):
                got.append(1)
                time.sleep(0.8)
        except UserError:
            refused.append(1)

    threads = [threading.Thread(target=want) for _ in range(6)]
    [thread.start() for thread in threads]  # type: ignore[func-returns-value]
    [thread.join() for thread in threads]  # type: ignore[func-returns-value]
    assert (len(got), len(refused)) == (1, 5)


def test_a_training_run_leaves_no_lease_however_it_ends(tmp_path: Path) -> None:
    out = f"{tmp_path}/out"
    with sole_trainer(out):
        assert storage.exists(f"{out}.training/_lease")
    assert not storage.exists(f"{out}.training/_lease")
    with pytest.raises(ValueError, match="broken"), sole_trainer(out):
        raise ValueError("broken")
    assert not storage.exists(f"{out}.training/_lease")


def test_a_training_run_that_was_taken_over_leaves_the_new_lease(tmp_path: Path) -> None:
    later = f"{tmp_path}/out.training/_lease/000001.json"
    with pytest.raises(UserError, match="another run took it over"), sole_trainer(f"{tmp_path}/out"):
        assert storage.create(later, b'{"beat": 0}')
    assert storage.read_json(later) == {"beat": 0}


def test_a_full_disk_hides_nothing_of_what_went_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease cannot be released then; it dies with its process."""

    def trains() -> None:
        with Lease(str(tmp_path)):
            full_disk(monkeypatch, 0)
            raise UserError("a checkpoint: no space left")

    with pytest.raises(UserError, match="a checkpoint: no space left"):
        trains()
