"""Scores of many pictures: a workflow with I2AM nodes, a table of inputs, and ComfyUI servers give one table of scores.

    scripts/evaluate run WORKFLOW TABLE FOLDER      a row for each row of the table, on as many servers as there are
    scripts/evaluate report FOLDER                  what the scores have to do with the quality of the pictures
    scripts/evaluate demo FOLDER                    a workflow and a table to try it on

A run goes through these files from top to bottom: ``table`` and ``workflow`` read what was given, ``checks`` looks at
all of it before anything runs, ``driver`` gives rows to ``worker``s, which have a server each (``servers``), and
``store`` writes what comes back. docs/scale.md says how far it goes.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The client of ComfyUI's HTTP interface is there; on other machines of a cluster the whole repository is.
sys.path.insert(0, str(ROOT / "scripts"))
