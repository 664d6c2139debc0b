"""Broken files by the ten thousand: each is refused in a sentence, or all that can be done with it works.

``python -m reliability.fuzz --mutations 100000`` loads saved attributions of all versions, mutated by
``mutations.py``, and uses what loads: its summary, maps of every level, the viewer's file, a contact sheet of some,
saved and read again. Each is tried in a process of limited memory and time, so that a crash or a hang is seen.
``--page`` does the same with the viewer's file and the page's reader (``fuzz_page.mjs``). It prints a table, and its
exit status is 1 if anything came of a file that must not:

* refused: in a sentence; equal: the content is what was saved, such as where a blank was added to JSON;
* other content: which may be without a checksum (version 1), and with one that was recomputed; not where it is wrong;
* late: refused by no sentence, or later than in load(), or for want of memory; crash; hang.

A use that the file before its mutation does not allow either (maps of a level that it lacks) is not asked of it.
"""

import argparse
import collections
import contextlib
import io
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path

import torch

from i2am_core import (
    CUTS,
    Attribution,
    AttributionError,
    MapKind,
    Selection,
    effect_inside,
    effect_maps,
    errors,
    load,
    maps,
    save,
    specific,
    specific_effect,
    view,
)
from i2am_core.files.checksum import checksum
from i2am_core.files.header import header_text
from i2am_core.files.writing import _tensors
from i2am_core.kinds import DIRECTIONS, NORMALIZATIONS
from i2am_core.printing import printable, printable_lines
from i2am_core.reading.levels import LEVELS
from i2am_core.showing.report import attribution_sheet

from .mutations import EFFECTS, EFFECTS_ALONE, mutated, seeds

ROOT = Path(__file__).resolve().parents[1]
MEMORY = 2**30  # that a case may take, in bytes: its file has some ten thousand
SECONDS = 20  # of the processor that it may take: how busy the machine is does not matter
PATIENCE = 15 * SECONDS  # by the clock: for what waits, and takes none
SHEETS = 40  # one of so many that load is drawn: that takes a second
OUTCOMES = ("refused", "equal", "other content", "late", "crash", "hang")
FAILED = ("late", "crash", "hang")

Case = tuple[int, str, str, bool, str, str]
"""Its number, the file and the mutation, whether it was sealed, what came of it, and why."""


def content(attribution: Attribution) -> str:
    """What tells two attributions apart."""
    return checksum(header_text(attribution), _tensors(attribution))


def read_summary(attribution: Attribution, path: Path, number: int) -> None:
    text = printable_lines(attribution.summary())
    assert all(line.isprintable() for line in text.split("\n")), "its summary is not printable"


def read_levels(attribution: Attribution, path: Path, number: int) -> None:
    for item in range(min(2, attribution.items)):
        for reference in range(min(3, len(attribution.references))):
            _read(attribution, reference, item, number)


def read_effects(attribution: Attribution, path: Path, number: int) -> None:
    """Maps of all effects that there are; that one is not is said in a sentence."""
    direction, region = DIRECTIONS[number % 2], torch.eye(4)
    for item in range(min(2, attribution.items)):
        for level in LEVELS:
            with contextlib.suppress(AttributionError):
                values = effect_maps(attribution, direction, level, Selection(item=item)).values
                assert values.isfinite().all(), f"effects of level {level} are not finite"
        for cut in CUTS:
            with contextlib.suppress(AttributionError):
                values = specific_effect(attribution, region, direction, Selection(item=item), cut).values
                assert values.isfinite().all(), f"effects of regions, {cut}, are not finite"
        for owner in attribution.effects.owners if attribution.effects else ():
            with contextlib.suppress(AttributionError):
                part = effect_inside(attribution, owner, "everything", region, item).part
                assert 0 <= part <= 1 + 1e-6, f"a part of {part} is inside"


def make_view(attribution: Attribution, path: Path, number: int) -> None:
    view(attribution, 2**20)


def save_again(attribution: Attribution, path: Path, number: int) -> None:
    save(attribution, path)
    assert content(load(path)) == content(attribution), "what is saved is read otherwise"


def draw_sheet(attribution: Attribution, path: Path, number: int) -> None:
    if number % SHEETS == 0:
        attribution_sheet(attribution, path.with_suffix(".png"))


Use = Callable[[Attribution, Path, int], None]
USES: tuple[Use, ...] = (read_summary, read_levels, read_effects, make_view, save_again, draw_sheet)
"""What can be done with an attribution; each raises what goes wrong."""


def possible(path: Path, attribution: Attribution) -> tuple[Use, ...]:
    """What can be done with an attribution as it was saved: no more is asked of it when it was mutated.

    Nothing is drawn for that, since drawing is slow, and needs what reading levels needs.
    """
    result = []
    for use in USES:
        with contextlib.suppress(Exception):  # any: then it is not possible
            use(attribution, path, 1)
            result.append(use)
    return tuple(use for use in result if use is not draw_sheet or read_levels in result)


def _read(attribution: Attribution, reference: int, item: int, number: int) -> None:
    """Maps of every level, in one direction or the other. That there are none is said in a sentence."""
    kind = MapKind(DIRECTIONS[number % 2], NORMALIZATIONS[number // 2 % 2])
    for level in LEVELS:
        with contextlib.suppress(AttributionError):
            values = maps(attribution, kind, level, Selection(reference=reference, item=item)).values
            assert not values.isinf().any(), f"maps of level {level} are infinite"
    with contextlib.suppress(AttributionError):
        specific(attribution, torch.ones(4, 4), "g2r", Selection(reference=reference, item=item))


def outcome(path: Path, number: int, before: str, uses: tuple[Use, ...]) -> tuple[str, str]:
    """What comes of a file whose content was ``before``, and which allowed for these uses; and why."""
    try:
        attribution = load(path)
    except errors.BadFile as error:
        text = str(error)
        if not text.isprintable() or len(text) > 2000 or "no memory" in text:
            return "late", text
        return "refused", text
    except Exception:  # any: that is what is looked for
        return "late", traceback.format_exc(limit=-3)
    try:
        if content(attribution) == before:
            return "equal", ""
        for use in uses:
            use(attribution, path.with_name("again.i2am.safetensors"), number)
    except Exception:  # any: that is what is looked for
        return "late", traceback.format_exc(limit=-4)
    return "other content", printable(str(attribution.references), 300)


def work(connection: Connection, seed: int) -> None:
    """Try the cases that come through the connection, in this process."""
    torch.set_num_threads(1)
    sys.stderr = io.StringIO()  # warnings of matplotlib about letters that no font has
    files = seeds()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.i2am.safetensors"
        before, uses = {}, {}
        for name, data in files.items():
            path.write_bytes(data)
            before[name] = content(load(path))
            uses[name] = possible(path, load(path))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
        connection.send({name: [use.__name__ for use in USES if use not in uses[name]] for name in files})
        while (number := connection.recv()) is not None:
            file, mutation, data, seal = mutated(number, seed, files)
            path.write_bytes(data)
            resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + SECONDS, resource.RLIM_INFINITY))
            connection.send((number, file, mutation, seal, *outcome(path, number, before[file], uses[file])))


class Worker:
    """A process that tries one case after the other, and is replaced when it dies of one."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.number: int | None = None
        self.start()

    def start(self) -> None:
        self.connection, far = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(target=work, args=(far, self.seed), daemon=True)
        self.process.start()
        far.close()
        self.untried = self.connection.recv()

    def give(self, number: int | None) -> None:
        self.number, self.since = number, time.monotonic()
        self.connection.send(number)

    def take(self) -> Case | None:
        """What came of the case, None while nobody knows."""
        assert self.number is not None
        if self.connection.poll():
            try:
                case: Case = self.connection.recv()
                return case
            except EOFError:
                return self.replaced("crash")
        return self.replaced("hang") if time.monotonic() - self.since > PATIENCE else None

    def replaced(self, outcome: str) -> Case:
        number = self.number or 0
        if outcome == "hang":
            self.process.kill()
        self.process.join()
        reason = f"exit code {self.process.exitcode}"
        outcome = "hang" if self.process.exitcode == -signal.SIGXCPU else outcome
        file, mutation, _, seal = mutated(number, self.seed, seeds())
        self.start()
        return number, file, mutation, seal, outcome, reason


def run(first: int, mutations: int, seed: int, processes: int) -> list[Case]:
    """Try so many cases, from one of this number on."""
    workers = [Worker(seed) for _ in range(processes)]
    for file, uses in workers[0].untried.items():
        if uses:
            print(f"not tried with '{file}', which does not allow for it: {', '.join(uses)}", file=sys.stderr)
    numbers = iter(range(first, first + mutations))
    for worker in workers:
        worker.give(next(numbers, None))
    cases: list[Case] = []
    while busy := [worker for worker in workers if worker.number is not None]:
        wait([worker.connection for worker in busy], timeout=1)
        for worker in busy:
            if (case := worker.take()) is not None:
                cases.append(case)
                if len(cases) % 5000 == 0:
                    print(f"{len(cases)} of {mutations}", file=sys.stderr, flush=True)
                worker.give(next(numbers, None))
    for worker in workers:
        worker.process.join()
    return cases


def failures(cases: list[Case]) -> list[Case]:
    """Those of which something came that must not."""
    return [
        case
        for case in cases
        if case[4] in FAILED or (case[4] == "other content" and case[1] != "version 1" and not case[3])
    ]


def table(cases: list[Case]) -> str:
    """How often what came of them, for each kind of file."""
    groups: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for _, file, _, seal, result, _ in cases:
        version = {"version 1": "version 1", EFFECTS: "version 3", EFFECTS_ALONE: "version 3"}.get(file, "version 2")
        groups[version + (", checksum recomputed" if seal else "")][result] += 1
    lines = [f"| {len(cases)} files | {' | '.join(OUTCOMES)} |", "|---|" + "---:|" * len(OUTCOMES)]
    for name in sorted(groups):
        counts = " | ".join(str(groups[name][result]) for result in OUTCOMES)
        lines.append(f"| {name} | {counts} |")
    return "\n".join(lines)


def page(mutations: int, seed: int, first: int = 0) -> int:
    """The same for the page's reader, in node; its exit status."""
    node = ROOT / ".host/node/bin/node"
    program = str(node) if node.exists() else shutil.which("node") or "node"
    script = str(Path(__file__).with_name("fuzz_page.mjs"))
    return subprocess.run([program, script, str(mutations), str(seed), str(first)], check=False).returncode


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m reliability.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("--mutations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case, to go on with")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--page", action="store_true", help="the viewer's file, and the page's reader")
    arguments = parser.parse_args()
    if arguments.page:
        sys.exit(page(arguments.mutations, arguments.seed, arguments.first))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    cases = run(arguments.first, arguments.mutations, arguments.seed, arguments.processes)
    failed = failures(cases)
    for number, file, mutation, seal, result, reason in failed[:20]:
        print(f"case {number}: {file}, {mutation}{', sealed' if seal else ''}: {result}: {reason}")
    print(table(cases))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
