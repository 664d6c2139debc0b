"""Running other programs, and Debian's packages where they can be installed without a question asked."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from devenv.errors import HostError
from devenv.places import LOGS


def run(
    command: Sequence[str], log: str, check: bool = True, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> int:
    """Run quietly, output to .host/logs; on an interrupt let the child finish its own cleaning up."""
    LOGS.mkdir(parents=True, exist_ok=True)
    with (LOGS / f"{log}.log").open("w") as out:
        # close_fds=False: the child holds the lock too, for as long as it writes into our folders.
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            close_fds=False,
            env=None if env is None else dict(env),
            cwd=cwd,
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
        raise HostError(f"{Path(command[0]).name} failed ({last_line(output_of(log))}): see {LOGS / f'{log}.log'}.")
    return code


def output_of(log: str) -> str:
    """What the last program that was run with this ``log`` printed."""
    return (LOGS / f"{log}.log").read_text(errors="replace")


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no output"])[-1].strip()


def which(*names: str) -> Path | None:
    return next((Path(path) for path in map(shutil.which, names) if path), None)


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


def install_debian(*packages: str) -> bool:
    """Install with apt-get where that needs no password, and say whether it was done."""
    prefix = apt_prefix()
    if prefix is None:
        return False
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-q"]
    run([*apt, "update"], "apt-update", check=False)
    return run([*apt, "install", "--no-install-recommends", *packages], "apt-install", check=False) == 0
