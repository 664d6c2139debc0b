"""A release, tried without releasing: the version, its changes, the zip. It is a pushed tag that sends it.

    python scripts/release.py                  checks everything, and makes out/i2am-VERSION.zip
    python scripts/release.py --notes [TAG]    prints what has changed in this version; TAG must be of it

Needs git and, for the zip, what ``scripts/host --tests`` sets up.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".host" / "venv" / "bin" / "python"
TOOLS = ROOT / ".host" / "tools" / "bin"
OUT = ROOT / "out"


class ReleaseError(Exception):
    """What is to be done before this can be released, in one sentence."""


def version_of(pyproject: str) -> str:
    match = re.search(r'^version = "([^"]*)"$', pyproject, re.MULTILINE)
    if not match or not re.fullmatch(r"\d+\.\d+\.\d+", match[1]):
        raise ReleaseError("pyproject.toml has no version of the form 1.2.3, which is the only one the registry takes.")
    return match[1]


def notes_of(changelog: str, version: str) -> str:
    """The changes of a version, which must be the newest section."""
    _, *sections = re.split(r"^## ", changelog, flags=re.MULTILINE)
    title, _, notes = (sections[0] if sections else "").partition("\n")
    if title.strip() != version:
        raise ReleaseError(
            f"CHANGELOG.md begins with {title.strip()!r} where pyproject.toml has {version}: "
            "give the unreleased changes the version's number, and the version to pyproject.toml."
        )
    if not notes.strip():
        raise ReleaseError(f"CHANGELOG.md says nothing of {version}.")
    return notes.strip()


def notes(tag: str | None = None) -> tuple[str, str]:
    """The version and its changes. With ``tag``, it must be that version's."""
    version = version_of((ROOT / "pyproject.toml").read_text())
    if tag not in (None, f"v{version}"):
        raise ReleaseError(f"The tag {tag} is not v{version}, which pyproject.toml says.")
    return version, notes_of((ROOT / "CHANGELOG.md").read_text(), version)


def check_git(version: str) -> None:
    if git("branch", "--show-current") != "main":
        raise ReleaseError("This is not the branch main, which is what is pushed with the tag: switch to it.")
    if git("status", "--porcelain"):
        raise ReleaseError("There are changes that are not committed; the zip would not be what the tag says.")
    if git("tag", "--list", f"v{version}"):
        raise ReleaseError(f"There is a tag v{version} already: the registry takes a version once.")


def git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    except OSError as error:
        raise ReleaseError(f"git cannot be run ({error.strerror}): install it.") from None
    if done.returncode:
        raise ReleaseError(f"`git {arguments[0]}` failed: {done.stderr.strip()}")
    return done.stdout.strip()


def pack(version: str) -> Path:
    """The zip as the registry would get it, validated and linted."""
    if not (TOOLS / "comfy").exists():
        raise ReleaseError("The registry's tools are not set up: run scripts/host --tests.")
    OUT.mkdir(exist_ok=True)
    path = OUT / f"i2am-{version}.zip"
    if subprocess.run([PYTHON, ROOT / "scripts" / "registry.py", TOOLS, path], cwd=ROOT).returncode:
        raise ReleaseError("The zip was not made; what is printed above says why.")
    return path


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Try a release without releasing: version, changes, git, the zip.")
    parser.add_argument("--notes", nargs="?", const="", metavar="TAG", help="only print the changes of this version")
    arguments = parser.parse_args(argv)
    if arguments.notes is not None:
        print(notes(arguments.notes or None)[1])
        return
    version, changes = notes()
    check_git(version)
    print(f"{pack(version)} is what the registry would get, with these notes:\n\n{changes}\n")
    print(f"Nothing was sent. To release: git tag v{version} && git push --atomic origin main v{version}")


if __name__ == "__main__":
    try:
        main()
    except ReleaseError as error:
        sys.exit(str(error))
