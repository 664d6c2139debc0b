"""Words that the glossary calls riddles name nothing in the code."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ["i2am_core"]


def banned_words(glossary):
    """The first column of the table "Words that are not names": ``told, tell`` are two, remarks in brackets are none."""
    _, _, section = glossary.partition("## Words that are not names")
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]
    cells = [re.sub(r"\(.*?\)", "", row) for row in rows[2:]]  # after the heads of the columns and their line
    return {word for cell in cells for word in re.findall(r"[a-z]+", cell)}


def names(tree):
    """Line and name of all that a module gives a name to: modules, classes, functions, parameters, variables, fields."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield node.lineno, node.asname
        elif (isinstance(node, (ast.MatchAs, ast.MatchStar)) and node.name) or (
            isinstance(node, ast.ExceptHandler) and node.name
        ):
            yield node.lineno, node.name


def parts(name):
    """``found_in``, ``_Found`` and ``FoundIn`` all have the part ``found``."""
    return {part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def riddles(source, words):
    return [f"line {line}: {name}" for line, name in names(ast.parse(source)) if parts(name) & words]


WORDS = banned_words((ROOT / "docs/glossary.md").read_text())


if __name__ == "__main__":
    import sys

    print(sorted(WORDS))
    for f in sys.argv[1:]:
        for r in riddles(Path(f).read_text(), WORDS):
            print(f, r)
