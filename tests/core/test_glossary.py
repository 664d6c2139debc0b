"""Words that the glossary has a better one for name nothing in the code."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("i2am_core", "nodes", "demo", "scripts", "benchmarks", "evaluation", "reliability", "tests", "validation")
ALONE = (
    "__init__.py",
    *(f"scripts/{name}" for name in ("check", "demo", "evaluate", "gpu_check", "host", "pictures", "test", "validate")),
)
PATHS = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
PATHS += [ROOT / name for name in ALONE]
PAGE = [path for path in sorted((ROOT / "web").rglob("*js")) if path.is_file()]
PAGE.remove(ROOT / "web/viewer/findings_zh.mjs")  # which has words alone, and names nothing


def rejected_words(glossary):
    """Words in the first column of the table "Words that are not names"; and those of them that are nouns there.

    ``told, tell`` in a cell are two words, and what is in brackets is none.
    """
    _, _, section = glossary.partition("## Words that are not names")
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]
    words, nouns = set(), set()
    for cell in rows[2:]:  # after the titles of the columns and their line
        in_cell = set(re.findall(r"[a-z]+", re.sub(r"\(.*?\)", "", cell)))
        words |= in_cell
        nouns |= in_cell if "as a noun" in cell else set()
    return words, nouns


WORDS, NOUNS = rejected_words((ROOT / "docs/glossary.md").read_text())


NAMED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)


def names(tree):
    """Line and name of all that a module names: classes, functions, parameters, variables, attributes, imports."""
    for node in ast.walk(tree):
        if isinstance(node, NAMED):
            yield node.lineno, node.name or ""
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.alias):
            yield node.lineno, node.asname or node.name.split(".")[0]
        elif isinstance(node, ast.MatchMapping):
            yield node.lineno, node.rest or ""


def is_riddle(name):
    """Whether a name is a rejected word, or has one for a part: ``_found``, ``found_in``, ``FoundIn``.

    A noun is looked for alone: ``heads_kept`` says of heads that they are. A test's name is a sentence, not a name.
    """
    if name.startswith("test_"):
        return False
    parts = [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    words = [part if part in WORDS else part.removesuffix("s") for part in parts]
    return any(word in WORDS and (word not in NOUNS or len(words) == 1) for word in words)


def riddles(code):
    return [f"line {line}: {name}" for line, name in names(ast.parse(code)) if is_riddle(name)]


def test_the_table_is_read():
    assert {"found", "room", "told", "tell", "held", "kept"} <= WORDS
    assert not {"as", "noun", "not", "references", "budget"} & WORDS
    assert {"held", "kept"} <= NOUNS < WORDS


@pytest.mark.parametrize(
    "code",
    [
        "found = 1",
        "_found: int = 1",
        "for found_in in (): pass",
        "LITTLE_ROOM = 1",
        "def held(): pass",
        "def call(x, *, shown): pass",
        "self.told = 1",
        "class _HeardCall: pass",
        "import torch as found",
        "with open('x') as found: pass",
        "[found for found in ()]",
        "lambda asked: 1",
        "(found := 1)",
        "import found",
        "from m import found",
        "match x:\n    case {**found}: pass",
        "visits = 1",
        "try: pass\nexcept ValueError as found: pass",
    ],
)
def test_what_it_is_looked_for_in(code):
    assert len(riddles(code)) == 1


def test_what_is_no_such_name():
    assert not riddles("heads_kept = 1\nfoundation = roomy = 1\nx.found()\ndef test_a_patch_is_found(): pass")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_name_is_a_word_that_has_a_better_one(path):
    assert not riddles(path.read_text())


@pytest.mark.parametrize("path", PAGE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nor_is_one_in_the_page(path):
    named = re.findall(r"\b(?:const|let|function|class)\s+(\w+)", path.read_text())
    assert named and [name for name in named if is_riddle(name)] == []


RIDDLES = re.compile(r"\bwho asks\b|\basked by\b|overheard|unheard|\btold apart\b|\blook(?:ed)? into\b", re.IGNORECASE)
READ = [
    *(ROOT / "web" / "docs").rglob("*.md"),
    *(ROOT / "locales").rglob("*.json"),
    *(ROOT / "nodes").rglob("*.py"),
    *(ROOT / "i2am_core").rglob("*.py"),
    *(ROOT / "docs").glob("*.md"),
    ROOT / "README.md",
    ROOT / "web" / "viewer" / "text.mjs",
]


@pytest.mark.parametrize("path", sorted(READ), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_people_read_is_no_riddle(path):
    """Messages, help, comments. The glossary itself may name what it rejects."""
    text = path.read_text()
    if path.name == "glossary.md":
        text = text.partition("## Words that are not names")[0]
    assert RIDDLES.findall(text) == []
