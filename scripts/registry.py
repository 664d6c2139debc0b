"""What ComfyUI's registry gets, made and checked by the tools of the field, in a copy of the repository.

    python scripts/registry.py TOOLS [ZIP]

TOOLS is the folder with ``comfy`` and ``comfy-test`` (scripts/requirements-tools.txt). With ZIP, the file that they
make is kept there. Nothing is sent, nothing is asked, and nothing is written into the checkout.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pathspec

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 12 * 2**20  # bytes of the zip


class RegistryError(Exception):
    """What the registry would refuse, warn of, or pack wrongly, in one sentence."""


def tracked() -> list[str]:
    """The files that git tracks and that are there, by their path in the repository."""
    try:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise RegistryError(
            "git cannot list the files of this checkout: install git, and clone the repository."
        ) from None
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def shipped() -> list[str]:
    """Tracked files, less what .comfyignore leaves out: what the registry zips."""
    ignored = pathspec.PathSpec.from_lines("gitignore", (ROOT / ".comfyignore").read_text().splitlines())
    return [name for name in tracked() if not ignored.match_file(name)]


def check(tools: Path) -> bytes:
    """Validate, pack and lint; the zip. Raises RegistryError."""
    with tempfile.TemporaryDirectory(prefix="i2am-registry-") as work:
        copy, unpacked = Path(work) / "i2am", Path(work) / "unpacked" / "i2am"
        copy_repository(copy)
        validate(tools, copy)
        packed = pack(tools, copy)
        with zipfile.ZipFile(packed) as archive:
            archive.extractall(unpacked)
        shutil.copy(ROOT / "comfy-test.toml", unpacked)  # of use to the checker alone, so it does not ship
        lint(tools, unpacked)
        return packed.read_bytes()


def copy_repository(to: Path) -> None:
    """A repository of its own, since the tools ask git, and write where they are."""
    for name in tracked():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, to / name)
    for command in (["init", "--quiet"], ["add", "--all", "--force"]):
        subprocess.run(["git", "-c", "core.compression=0", *command], cwd=to, check=True)


def validate(tools: Path, folder: Path) -> None:
    """What the registry would say of pyproject.toml and the sources. Its warnings leave the exit code 0."""
    output = run([str(tools / "comfy"), "--skip-prompt", "node", "validate"], folder)
    if "passed successfully" not in output or "warning" in output.lower():
        raise RegistryError("`comfy node validate` has found something; it is printed above.")


def pack(tools: Path, folder: Path) -> Path:
    output = run([str(tools / "comfy"), "--skip-prompt", "node", "pack"], folder)
    if "warning" in output.lower():
        raise RegistryError("`comfy node pack` has a warning; it is printed above.")
    packed = folder / "node.zip"
    with zipfile.ZipFile(packed) as archive:
        names = set(archive.namelist())
    differing = ", ".join(sorted(names ^ set(shipped())))
    if differing:
        raise RegistryError(f"`comfy node pack` and scripts/registry.py do not agree on {differing}.")
    size = packed.stat().st_size
    print(f"{len(names)} files, {size / 2**20:.1f} MiB", flush=True)
    if size > LARGEST:
        raise RegistryError(
            f"The zip has {size / 2**20:.1f} MiB, more than {LARGEST / 2**20:.1f}: leave out what nobody needs at run "
            "time (.comfyignore), or make the largest files smaller."
        )
    return packed


def lint(tools: Path, folder: Path) -> None:
    output = run([str(tools / "comfy-test"), "lint", "--strict", str(folder)], folder)
    if "warning" in output.lower().replace("0 warning(s)", ""):
        raise RegistryError("`comfy-test lint` has a warning; it is printed above.")


def run(command: list[str], folder: Path) -> str:
    """Run one tool with no home of the user's, so that it asks nothing and reports nothing; what it printed."""
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    env = os.environ | {"HOME": str(home), "DO_NOT_TRACK": "1", "PYTHONUTF8": "1"}
    env.pop("XDG_CONFIG_HOME", None)
    try:
        done = subprocess.run(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except OSError as error:
        raise RegistryError(
            f"{command[0]} cannot be run ({error.strerror}): `scripts/host --tests` installs it."
        ) from None
    output = done.stdout.decode(errors="replace")
    print(output.strip(), flush=True)
    if done.returncode:
        raise RegistryError(f"`{' '.join([Path(command[0]).name, *command[1:4]])}` failed; what it says is above.")
    return output


def main() -> None:
    tools, *keep = map(Path, sys.argv[1:])
    try:
        packed = check(tools.absolute())
    except RegistryError as error:
        sys.exit(str(error))
    for path in keep:
        path.write_bytes(packed)


if __name__ == "__main__":
    main()
