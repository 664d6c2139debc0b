"""What scripts/check and scripts/test run, part by part: each with its title, its output and its seconds."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from devenv.errors import HostError
from devenv.host import Host, prepare
from devenv.places import ROOT, SCRIPTS, TYPING

COMMANDS = [
    f"scripts/{name}" for name in ("check", "demo", "evaluate", "gpu_check", "host", "pictures", "test", "validate")
]
LINTED = [".", *COMMANDS]  # files without an ending are only looked at when named
FORMATTED = ["web", "tests/web/*.mjs"]
NOTHING_COLLECTED = 5
# About as long as all the others, beside which they run: most start programs of their own, and are no use to others.
# The page comes last: its browser stays, with a loop of events in which ComfyUI's executor cannot run.
OF_NODES = ("demo", "demo_joint", "reliability", "server")
BESIDE = [
    *(f"tests/nodes/comfy/test_{name}.py" for name in OF_NODES),
    "tests/evaluation",
    "tests/validation",
    "tests/web",
]


def prepared() -> Host:
    """The host, as the first part."""
    title("host")
    start = time.monotonic()
    host = prepare(tests=True)
    took(start)
    return host


def check(host: Host) -> None:
    """Everything that needs no run of the pack: form, types, and what ComfyUI's registry wants."""
    python(host, "ruff", "check", *LINTED)
    python(host, "ruff", "format", "--check", *LINTED)
    check_types(host)
    npm_program(host, "tsc", "-p", "web/jsconfig.json")
    npm_program(host, "prettier", "--check", *FORMATTED)
    part("registry", [str(host.python), "scripts/registry.py", str(host.tools)], env_of(host))


def check_types(host: Host) -> None:
    """In two runs, since two modules are called ``nodes``: ComfyUI's file, and our folder.

    The second looks at ComfyUI's own types, which differ from version to version: at those of the pinned one.
    """
    scripts = sorted(str(path.relative_to(ROOT)) for path in [*SCRIPTS.glob("*.py"), *SCRIPTS.glob("devenv/*.py")])
    python(host, "mypy", "--scripts-are-modules", "i2am_core", "evaluation", *scripts, *COMMANDS, types=[SCRIPTS])
    if host.own:
        link_pack()
        packages = [x for name in ("nodes", "demo", "validation") for x in ("-p", f"i2am_pack.{name}")]
        python(host, "mypy", *packages, types=[TYPING, host.comfyui])


def link_pack() -> None:
    """Give the repository, which may have any name, the one by which mypy knows the pack."""
    link = TYPING / "i2am_pack"
    if link.is_symlink() and link.resolve() == ROOT:
        return
    TYPING.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(ROOT, target_is_directory=True)


def test(host: Host) -> None:
    """All tests: in Python, in two processes at a time, and of the page's scripts."""
    slowest = ["--durations=40", "--durations-min=5"]
    halves = {"all the others": ["tests", *(f"--ignore={path}" for path in BESIDE)], ", ".join(BESIDE): BESIDE}
    command = [str(host.python), "-m", "pytest", *slowest]
    threads = str(max(1, (os.cpu_count() or 1) // len(halves)))  # or each half would start as many as there are cores
    env = {"OMP_NUM_THREADS": threads} | env_of(host)
    together({f"pytest of {name}": [*command, *paths] for name, paths in halves.items()}, env)
    scripts = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/web/**/*.test.*js"))
    part("node --test", [str(host.node), "--test", *scripts], env_of(host))


def pytest(host: Host, args: list[str]) -> None:
    python(host, "pytest", *args, codes={NOTHING_COLLECTED: "pytest collected no test"})


def python(host: Host, *command: str, codes: dict[int, str] | None = None, types: list[Path] | None = None) -> None:
    """Run a module of the host's Python. mypy gets the folders ``types`` to look for modules in."""
    env = env_of(host) | ({"MYPYPATH": os.pathsep.join(map(str, types))} if types else {})
    part(" ".join(command[:2]), [str(host.python), "-m", *command], env, codes)


def npm_program(host: Host, *command: str) -> None:
    part(" ".join(command[:2]), [str(host.node), str(host.npm_programs / command[0]), *command[1:]], env_of(host))


def env_of(host: Host) -> dict[str, str]:
    paths = {"COMFYUI_PATH": host.comfyui, "I2AM_CHROMIUM": host.chromium}
    if not host.own:
        paths["COMFYUI_PYTHON"] = host.python  # so that a test that prepares the host gets the same one
    return host.env() | {name: str(path) for name, path in paths.items()}


def part(name: str, command: list[str], env: dict[str, str], codes: dict[int, str] | None = None) -> None:
    """Run one part with its output shown, and end everything if it fails."""
    title(name)
    start = time.monotonic()
    with running(command, env) as child:
        code = child.wait()
    took(start)
    if code:
        raise HostError(f"{name} failed: {(codes or {}).get(code, f'exit code {code}')}.")


def together(commands: Mapping[str, Sequence[str]], env: dict[str, str]) -> None:
    """Run two parts at a time, and show what the second printed in the end. Raises HostError if one has failed."""
    (first, one), (second, other) = commands.items()
    start = time.monotonic()
    with tempfile.TemporaryFile() as output:
        with running(other, env, output) as beside:
            title(first)
            with running(one, env) as child:
                codes = {first: child.wait()}
            took(start)
            codes[second] = beside.wait()
        title(second)
        output.seek(0)
        print(output.read().decode(errors="replace"), flush=True)
        took(start)
    if failed := [f"{name} failed: exit code {code}" for name, code in codes.items() if code]:
        raise HostError("; ".join(failed) + ".")


@contextmanager
def running(
    command: Sequence[str], env: dict[str, str], output: IO[bytes] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program, which ends when we are interrupted."""
    errors = subprocess.STDOUT if output else None
    child = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
    try:
        yield child
    except BaseException:
        child.terminate()  # Ctrl-C reached it as well; this is for a SIGTERM that reached only us
        child.wait(30)
        raise


def title(name: str) -> None:
    print(f"== {name}", flush=True)


def took(start: float) -> None:
    print(f"   {time.monotonic() - start:.1f} s", flush=True)
