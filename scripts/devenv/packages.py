"""Python packages, by uv: which is itself a pinned package, in an environment of its own."""

from __future__ import annotations

import ast
import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from devenv.errors import HostError
from devenv.places import LOGS, UV, requirements
from devenv.processes import install_debian, output_of, run
from devenv.stages import put, scratch_folder, stage

# What pip may be configured with, and uv's name for it.
OF_PIP = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "constraint": "UV_CONSTRAINT",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}
UNREACHABLE = r"connection broken|NewConnectionError|Timeout|name resolution|Could not fetch URL|error sending request"
COMMA_BETWEEN = ("UV_FIND_LINKS",)  # in the others it is a space
SECTIONS = ("global", "install", ":env:")  # of pip's configuration, the strongest last


def make_uv() -> None:
    """The one environment that Python itself makes, since it can do so without uv."""
    file = requirements("uv")

    def build() -> None:
        venv = [sys.executable, "-m", "venv", "--clear", str(UV)]
        if run(venv, "venv", check=False):
            if not install_debian("python3-venv"):
                raise HostError(
                    f"{sys.executable} cannot make a virtual environment: install the package python3-venv "
                    "(on Debian and Ubuntu: sudo apt-get install python3-venv) and run this again."
                )
            run(venv, "venv")
        quiet = ("--disable-pip-version-check", "--no-input", "--progress-bar", "off")
        pip = [str(UV / "bin" / "python"), "-m", "pip", "install", *quiet, "--only-binary=:all:", "-r", str(file)]
        if run(pip, "pip", check=False):
            errors = [line[7:] for line in output_of("pip").splitlines() if line.startswith("ERROR: ")]
            raise could_not_install("uv", "pip", (errors or ["no reason given"])[-1])

    stage("uv", UV, lambda: file.read_text() + made_of(UV), build)


def make_environment(title: str, folder: Path) -> None:
    """A virtual environment cannot be renamed into place, since it knows its own path: its stamp comes last."""

    def build() -> None:
        if uv("venv", "--no-config", "--clear", "--python", sys.executable, str(folder)):
            raise HostError(f"uv could not make {folder} ({reason(output_of('uv-venv'))}): see {LOGS / 'uv-venv.log'}.")

    stage(title, folder, lambda: f"venv of {made_of(folder)}", build)


def made_of(environment: Path) -> str:
    """The Python that an environment was made from, and where: its programs name it by its path.

    So it is made again once that Python was removed or replaced, or the checkout was moved.
    """
    return f"{os.path.realpath(environment / 'bin' / 'python')} at {environment}"


def install(folder: Path, name: str) -> None:
    """Install pins without looking at dependencies: all are listed, and one (torchvision) is unwanted.

    torch goes first and with its dependencies, since only the chosen build knows which CUDA libraries it needs.
    """
    file = requirements(name)
    text = file.read_text()
    python = ("--python", str(folder / "bin" / "python"))

    def build() -> None:
        discard_half_installed(folder)
        torch = re.search(r"^torch==\S+", text, re.MULTILINE)
        if torch:
            uv_install(torch[0], *python, "-c", str(file), torch[0])
        uv_install(file.name, *python, "--no-deps", "--only-binary=:all:", "-r", str(file))

    stage(f"{file.stem} (uv)", folder, lambda: text, build, stamp=f".i2am-{file.stem}")


def discard_half_installed(folder: Path) -> None:
    """Make uv install again what it was at when it was stopped: INSTALLER is among the last files it writes."""
    for info in folder.glob("lib/python*/site-packages/*.dist-info"):
        if not (info / "INSTALLER").exists():
            shutil.rmtree(info)


def unpack(title: str, name: str, inside: str, target: Path, without: str | None = None) -> None:
    """Put a folder that one pinned package carries at ``target``, less the file ``without``."""
    file = requirements(name)

    def build() -> None:
        with scratch_folder(name) as folder:
            # Copies: people edit such a tree, and a link would lead into uv's cache.
            copies = ("--link-mode=copy", "--no-deps", "--only-binary=:all:")
            uv_install(file.name, "--python", sys.executable, *copies, "--target", str(folder), "-r", str(file))
            if without:
                (folder / inside / without).unlink(missing_ok=True)
            put(folder / inside, target)

    stage(title, target, lambda: file.read_text(), build)


def uv_install(what: str, *args: str) -> None:
    """Run uv; the user's own configuration of pip, or of uv, decides where packages come from."""
    if uv("pip", "install", "--no-progress", *args):
        raise could_not_install(what, "uv-pip", reason(output_of("uv-pip")))


def could_not_install(what: str, log: str, why: str) -> HostError:
    output = output_of(log)
    if "No space left on device" in output:
        advice = "the disk is full (TMPDIR and uv's cache count too): make room and run this again"
    elif re.search(UNREACHABLE, output):
        advice = "the package index cannot be reached: check the network and pip config list, then run this again"
    elif "Hash mismatch" in output:
        advice = "it is not the file this host was tested with: check where it is downloaded from (pip config list)"
    else:
        advice = f"see {LOGS / f'{log}.log'}"
    return HostError(f"{what} could not be installed ({why.rstrip('.')}): {advice}.")


def reason(output: str) -> str:
    """The error of uv with its last cause."""
    said = re.findall(r"^\s*(?:error|cause): (.*)", output, re.MULTILINE)
    return ": ".join(dict.fromkeys([said[0], said[-1]])) if said else "no reason given"


def uv(*command: str) -> int:
    return run([str(UV / "bin" / "uv"), *command], f"uv-{command[0]}", check=False, env=uv_env())


@functools.cache
def uv_env() -> dict[str, str]:
    """The configuration of pip in uv's words, since uv does not read it. Settings of uv's own take precedence."""
    env = {"UV_PYTHON_DOWNLOADS": "never", "UV_INDEX_STRATEGY": "unsafe-best-match"}  # of all indexes, as pip does
    for option, value in configuration_of_pip().items():
        name = OF_PIP.get(option)
        if name:
            env[name] = ("," if name in COMMA_BETWEEN else " ").join(value.split())
    return env | os.environ


def configuration_of_pip() -> dict[str, str]:
    command = [str(UV / "bin" / "python"), "-m", "pip", "config", "list"]
    answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    entries = re.findall(r"^(.+?)\.([\w-]+)=(.*)$", answer.stdout, re.MULTILINE)  # global.index-url='https://...'
    entries = sorted((entry for entry in entries if entry[0] in SECTIONS), key=lambda entry: SECTIONS.index(entry[0]))
    return {option: str(ast.literal_eval(value)) for _, option, value in entries}
