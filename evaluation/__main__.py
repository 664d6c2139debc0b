"""The commands: ``run``, ``report``, ``demo`` and ``simulate``."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from comfy_client import ANSWER_SECONDS, Json
from devenv import HostError, one_sentence_errors
from evaluation.checks import check_columns, check_rows, check_servers, check_unchanged, check_wanted
from evaluation.servers import OwnServer, Specification
from evaluation.store import Store, results, write_parquet
from evaluation.table import Row, Table
from evaluation.worker import Task
from evaluation.workflow import Wanted, Workflow, read_workflow

NO_COLUMN = "-"


def whole(least: int) -> Callable[[str], int]:
    """A reader of an argument: a whole number, ``least`` or more."""
    return partial(_number, int, least)


def number(least: float) -> Callable[[str], float]:
    """A reader of an argument: any number, ``least`` or more."""
    return partial(_number, float, least)


def _number(kind: Callable[[str], Any], least: float, text: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= least):
        what = "a whole number" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"is {text}: give {what} from {least:g} on")
    return value


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="scripts/evaluate", description=__doc__)
    commands = parser.add_subparsers(required=True)
    _add_run(commands.add_parser("run", help="scores of all rows of a table", description=run.__doc__))
    report = commands.add_parser("report", help="scores against quality, as a table and a figure")
    report.add_argument("folder", type=Path)
    report.add_argument(
        "--models", default="", metavar="COLUMN", help="that names the model of a row (default: model, if there is one)"
    )
    report.add_argument(
        "--scenes", default="", metavar="COLUMN", help="that names the scene of a row (default: scene, if there is one)"
    )
    report.set_defaults(command=report_on)
    demo = commands.add_parser("demo", help="write a workflow and a table of the demo model's held-out scenes")
    demo.add_argument("folder", type=Path)
    demo.add_argument("--pairs", type=whole(1), default=256, help="scenes, each for 4 models (default: 256)")
    demo.set_defaults(command=write_demo)
    _add_simulate(commands.add_parser("simulate", help="how many servers one driver can have: they only sleep"))
    given = parser.parse_args(arguments)
    with one_sentence_errors():
        given.command(given)


def _add_run(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("workflow", type=Path, help="in API format (Workflow > Export (API)), with I2AM IMACS or I2AM Report in it")
    add("table", type=Path, help=".csv or .parquet: a row for each picture; a column 'id' names them")
    add("folder", type=Path, help="for the results; the same folder again goes on where it stopped")
    add("--feed", action="append", default=[], metavar="COLUMN=NODE.INPUT", help="what a column feeds, if not its name")
    add("--server", action="append", default=[], metavar="URL", help="a ComfyUI that runs (may be given several times)")
    add("--start", type=whole(0), default=0, metavar="N", help="own servers to start (default: 1 without --server)")
    add("--cpu", action="store_true", help="own servers compute on the CPU")
    add("--gpus", type=number(0), default=0, help="GPUs that each own server takes from Ray's machines")
    add("--ray", default="", metavar="ADDRESS", help="a Ray cluster to join (default: one on this machine)")
    add("--picture", metavar="NODE", help="the node whose picture is judged (default: the only one that shows one)")
    add(
        "--truth", default="", metavar="COLUMN", help="of the right picture (default: truth, if there is such a column)"
    )
    add(
        "--mask",
        default="",
        metavar="COLUMN",
        help="of a mask, in which it is judged too (default: mask, if it is one)",
    )
    add("--pictures", action="store_true", help="write the pictures that were made to FOLDER/pictures")
    add("--maps", action="store_true", help="fetch what I2AM Save wrote to FOLDER/maps, of rows that run from now on")
    add(
        "--seconds",
        type=number(1),
        default=600,
        help="that a graph may run before its server counts as hanging (one that is silent: 60, or these)",
    )
    add("--again", action="store_true", help="run rows that failed once more")
    add("--memory", type=whole(1), metavar="MB", help="start an own server again when it has grown to this")
    parser.set_defaults(command=run)


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", type=Path, help="for the results, a new one")
    add("--rows", type=whole(1), default=100_000)
    add("--servers", type=whole(1), default=1000)
    add("--processes", type=whole(1), default=4, help="that have the servers between them (default: 4)")
    add("--seconds", type=number(0), default=2.0, help="that a row takes, more or less by half (default: 2)")
    add(
        "--fails",
        type=whole(0),
        default=1000,
        help="of so many rows one makes its server fall over (0: none; default: 1000)",
    )
    add("--ray", default="", metavar="ADDRESS", help="a Ray cluster to join (default: one on this machine)")
    parser.set_defaults(command=simulated)


def run(given: argparse.Namespace) -> None:
    """Run the workflow for each row of the table, and write the scores to FOLDER/scores.parquet."""
    from evaluation.cluster import actors, joined
    from evaluation.driver import Driver
    from evaluation.progress import Progress

    table = Table.of(given.table)
    specifications = _specifications(given)
    with _those_that_answer(specifications) as urls:
        nodes, versions = check_servers(urls)
    workflow = read_workflow(given.workflow, table.columns, _feeds(given.feed), nodes, given.picture, given.maps)
    wanted = Wanted(_column(given.truth, "truth", table), _column(given.mask, "mask", table))
    check_wanted(wanted, table.columns, workflow)
    check_columns(table.columns)
    count = check_rows(table, workflow, wanted, given.pictures or given.maps)
    with Store(given.folder) as store:
        store.about(_about(workflow, wanted, nodes) | versions)
        done = store.done(given.again)
        check_unchanged(table, done)
        pictures, maps = (_folder(given, name) if getattr(given, name) else "" for name in ("pictures", "maps"))
        task = Task(workflow, wanted, pictures, maps, given.seconds, given.memory)
        left = _left(table, done)
        with joined(given.ray), Progress(count, len(done)) as progress:
            Driver(store, actors(specifications, task, given.gpus), len(specifications), progress).run(left)
    path = write_parquet(given.folder)
    failed = sum(result["error"] is not None for result in results(given.folder))
    print(f"{path}: {count} rows; {failed} have no scores, and their column 'error' says why (--again runs them).")


def report_on(given: argparse.Namespace) -> None:
    """Draw what the scores have to do with quality."""
    from evaluation.report import write_report

    for path in write_report(given.folder, given.models, given.scenes):
        print(path)


def write_demo(given: argparse.Namespace) -> None:
    """Write a workflow and a table."""
    from evaluation.demo import MODEL, SCENE, write

    workflow, table = write(given.folder, given.pairs)
    scores = given.folder / "scores"
    print(f"scripts/evaluate run {workflow} {table} {scores} --start 2 --cpu")
    print(f"scripts/evaluate report {scores} --models {MODEL} --scenes {SCENE}")


def simulated(given: argparse.Namespace) -> None:
    """Run rows on servers that only sleep."""
    from evaluation.simulate import simulate

    simulate(given)


def _specifications(given: argparse.Namespace) -> list[Specification]:
    """A server for each worker."""
    own = given.start or (0 if given.server else 1)
    numbers = range(1, own + 1)
    return [Specification(url, url) for url in given.server] + [
        Specification(f"own {n}", cpu=given.cpu) for n in numbers
    ]


@contextmanager
def _those_that_answer(specifications: list[Specification]) -> Iterator[list[str]]:
    """Addresses of servers that say what they are: all given ones, and one of our own, started for that."""
    urls, own = [x.url for x in specifications if x.url], [x for x in specifications if not x.url]
    if not own:
        yield urls
        return
    server = OwnServer(own[0], ANSWER_SECONDS)
    try:
        server.start()
        yield [*urls, server.url]
    finally:
        server.stop()


def _feeds(given: list[str]) -> dict[str, str]:
    feeds = dict(x.split("=", 1) for x in given if "=" in x)
    if len(feeds) < len(given):
        raise HostError(f"--feed is {', '.join(given)}: expected COLUMN=NODE.INPUT, each column once.")
    return feeds


def _column(given: str, usual: str, table: Table) -> str:
    """A column that has a name by custom; '-' is for none."""
    if given:
        return "" if given == NO_COLUMN else given
    return usual if usual in table.columns else ""


def _about(workflow: Workflow, wanted: Wanted, nodes: Json) -> Json:
    """What results in one folder have in common. The table may grow."""
    feeds = [(feed.column, feed.node, feed.name) for feed in workflow.feeds]
    graph = {node: x for node, x in workflow.graph.items() if node not in workflow.saved.values()}  # --maps may change
    ours = {name: about.get("input") for name, about in nodes.items() if name.startswith("I2AM_")}
    return {
        "workflow": _digest([graph, feeds, workflow.picture]),
        "I2AM": _digest(ours),
        "truth": wanted.truth,
        "mask": wanted.mask,
    }


def _digest(given: Any) -> str:
    return hashlib.sha256(json.dumps(given, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _left(table: Table, done: Mapping[str, str]) -> Iterator[Row]:
    """Rows without a result."""
    return (row for row in table.rows() if row.name not in done)


def _folder(given: argparse.Namespace, name: str) -> str:
    folder = (given.folder / name).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
