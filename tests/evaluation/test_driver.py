"""Rows and workers, with Ray: none is lost, whatever fails. Servers sleep here; test_run.py has real ones."""

import json
import os
import time

import pytest
import ray

from devenv import HostError
from evaluation.cluster import joined
from evaluation.driver import ATTEMPTS, Driver
from evaluation.simulate import crowds
from evaluation.store import Store, results
from evaluation.table import Row
from evaluation.worker import Answer


@pytest.fixture(scope="module", autouse=True)
def _ray():
    with joined(""):
        yield


@ray.remote(num_cpus=0)
class Falls:
    """Falls over in rows as these say: the process dies, the worker or its server fails, or it does not start."""

    def __init__(self, folder):
        self.folder = folder

    def wake(self):
        pass

    def run(self, row):
        tries = self.folder / row.name
        count = len(tries.read_text()) if tries.exists() else 0
        tries.write_text("x" * (count + 1))
        if count < row.values.get("dies", 0):
            os._exit(1)
        if count < row.values.get("raises", 0):
            raise TypeError("a mistake of ours")
        if count < row.values.get("fails", 0):
            return Answer(row, None, "it fell over")
        if count < row.values.get("starts", 0):
            return Answer(row, None, "it did not start", started=False)
        return Answer(row, {"id": row.name, "error": None})

    def stop(self):
        (self.folder / f"stopped {os.getpid()}").touch()


def rows(count):
    return (Row(f"{number:04d}", {"seed": number}) for number in range(count))


def run(folder, given, workers=2):
    """The results by name, and the answers that a person saw."""
    tries, answers = folder / "tries", []
    tries.mkdir(exist_ok=True)
    with Store(folder / "scores") as store:
        Driver(store, lambda number: Falls.remote(tries), workers, answers.append).run(given)
    return {result["id"]: result["error"] for result in results(folder / "scores")}, answers


def test_many_rows_on_many_servers_that_fall_over(tmp_path):
    started, answers = time.monotonic(), []
    with Store(tmp_path) as store:
        Driver(store, crowds(servers=40, processes=2, seconds=0.05, fails=40), 40, answers.append).run(rows(400))
    assert sum(answer.result is None for answer in answers) > 3, "some did fall over"
    errors = [row["error"] for row in results(tmp_path) if row["error"]]
    assert len(errors) < 5 and all("in 3 attempts" in error for error in errors), "one may meet three that fall over"
    lines = [json.loads(line)["id"] for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert sorted(lines) == [row.name for row in rows(400)], "each is recorded once"
    assert time.monotonic() - started < 400 * 0.05, "they run beside each other"


def test_a_worker_whose_process_dies_is_made_anew(tmp_path):
    given = [Row(str(n), {"dies": 1 if n in (0, 5) else 0}) for n in range(12)]
    errors, answers = run(tmp_path, given)
    assert errors == {str(n): None for n in range(12)}
    assert any("ActorDied" in answer.why or "RayActor" in answer.why for answer in answers if answer.result is None)


def test_a_row_that_waited_is_not_blamed_for_the_one_that_ran(tmp_path):
    """One worker: what is in line behind a row that kills its process comes back with it."""
    errors, _ = run(tmp_path, [Row("bad", {"dies": 99}), Row("good", {})], workers=1)
    assert errors["good"] is None
    assert errors["bad"].startswith(f"no server could run it in {ATTEMPTS} attempts: the process of worker 0 ended")


def test_a_worker_that_fails_by_itself_gets_as_many_rows_as_before(tmp_path):
    given = [Row("bad", {"raises": 99}), Row("once", {"raises": 1}), *rows(4)]
    errors, _ = run(tmp_path, given, workers=1)
    why = errors.pop("bad")
    assert why == f"no server could run it in {ATTEMPTS} attempts: worker 0 failed (TypeError: a mistake of ours)"
    assert errors == {row.name: None for row in given[1:]}


def test_a_worker_for_which_there_is_no_room_is_not_waited_for(tmp_path, monkeypatch):
    """As of 3 servers that want a GPU each, where there are 2: rows go to those that are there."""
    tries = tmp_path / "tries"
    tries.mkdir()
    never = Falls.options(resources={"what no machine has": 1})
    with Store(tmp_path / "scores") as store:
        make = lambda number: (never if number else Falls).remote(tries)  # noqa: E731
        Driver(store, make, 2).run(rows(6))
        assert len(store.done()) == 6
        monkeypatch.setattr("evaluation.driver.PATIENCE", 1.0)
        with pytest.raises(HostError, match="could be placed"):
            Driver(store, lambda number: never.remote(tries), 2).run(rows(6))


def test_a_row_that_fells_every_server_says_so(tmp_path):
    errors, _ = run(tmp_path, [Row("good", {}), Row("bad", {"fails": 99}), Row("other", {})])
    assert errors["good"] is errors["other"] is None
    assert errors["bad"] == f"no server could run it in {ATTEMPTS} attempts: it fell over"
    assert (tmp_path / "tries" / "bad").read_text() == "x" * ATTEMPTS


def test_a_server_that_is_slow_to_start_costs_no_row(tmp_path):
    errors, _ = run(tmp_path, [Row("a", {"starts": 4}), Row("b", {})], workers=1)
    assert errors == {"a": None, "b": None}


def test_servers_that_never_start_end_the_run_and_what_is_done_stays(tmp_path):
    given = [Row("a", {}), *(Row(f"b{n}", {"starts": 99}) for n in range(20))]
    with pytest.raises(HostError, match="None of the 2 servers could be started"):
        run(tmp_path, given)
    assert [row["id"] for row in results(tmp_path / "scores")] == ["a"]
    assert list((tmp_path / "tries").glob("stopped *")), "servers of our own are stopped"


def test_rows_that_have_a_result_are_not_run_again(tmp_path):
    """As the command does it when it goes on: with the names that are done."""
    for count in (10, 30):
        with Store(tmp_path) as store:
            done = store.done() if count == 30 else {}
            make = crowds(servers=4, processes=1, seconds=0.01, fails=0)
            Driver(store, make, 4).run(row for row in rows(count) if row.name not in done)
    assert len((tmp_path / "scores.jsonl").read_text().splitlines()) == 30
