"""The browsers of the tests: a Chromium, any that is there, Debian's, or Playwright's; and a Firefox, or Debian's."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from devenv.errors import HostError
from devenv.places import BROWSER, HOST
from devenv.processes import apt_prefix, install_debian, run, which
from devenv.stages import report, write_whole

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FIREFOXES = ("firefox-esr", "firefox")


def find_chromium(python: Path) -> Path:
    given = os.environ.get("CHROMIUM")
    if given:
        path = shutil.which(given)
        if not path:
            raise HostError(f"CHROMIUM is {given!r}, which is no program that can be run: give a path to a Chromium.")
        return Path(path)
    if known := which(*BROWSERS):
        return known
    if BROWSER.exists() and Path(BROWSER.read_text()).exists():
        return Path(BROWSER.read_text())
    with report("Chromium"):
        if install_debian("chromium", "fonts-noto-color-emoji") and (known := which(*BROWSERS)):
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


def find_firefox() -> Path:
    """For the one test that opens a saved page in it: it is not looked for before."""
    given = os.environ.get("FIREFOX")
    known = which(given) if given else which(*FIREFOXES)
    if not known and not given:
        with report("Firefox"):
            known = which(*FIREFOXES) if install_debian("firefox-esr") else None
    if not known:
        raise HostError(
            f"Firefox is not there ({given or 'not on PATH'}) and could not be installed: install it (on Debian: sudo "
            "apt-get install firefox-esr) or name one in the environment variable FIREFOX, and run this again."
        )
    return known
