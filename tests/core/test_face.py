"""The face of the core: all that README, nodes and tools use is in it, described, and needs no more than it says."""

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import i2am_core

ROOT = Path(__file__).resolve().parents[2]
FACE = ast.parse((ROOT / "i2am_core/__init__.py").read_text())
PUBLIC = [name for name in i2am_core.__all__ if callable(getattr(i2am_core, name))]


def test_all_that_is_imported_is_public():
    imported = [alias.name for node in FACE.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(imported) == sorted(i2am_core.__all__)


FIRST = {
    *("Attribution", "AttributionError", "Layer", "LayerMaps", "Logits", "MapKind", "Maps", "Marginals", "Place"),
    *("Positions", "Recorder", "Reference", "Selection", "TokenGrid", "TokenGroup", "Verdict", "attribute", "imacs"),
    *("maps", "min_max", "share_inside", "span", "split_heads"),
}


def test_public_names_stay():
    """Those that there were when the core became a package, and the two modules whose names users may have."""
    assert set(i2am_core.__all__) >= FIRST
    assert i2am_core.attention.attribute is i2am_core.attribute
    storage = importlib.import_module("i2am_core.storage")
    assert all(getattr(storage, name) is getattr(i2am_core, name) for name in ("SUFFIX", "load", "save"))


def test_no_name_hides_a_module():
    modules = {module.name for module in pkgutil.iter_modules(i2am_core.__path__)}
    assert modules & set(i2am_core.__all__) == {"errors"}


def used_of_the_core(path):
    """What a file imports from the core: ``module.name``, or ``name`` where it is of the face; and ``core.name``."""
    tree = ast.parse(path.read_text())
    whole = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            package, core, module = (node.module or "").partition("i2am_core")
            if core and not package:
                yield from (f"{module}.{alias.name}".lstrip(".") for alias in node.names)
            whole |= {alias.asname or alias.name for alias in node.names if alias.name == "i2am_core"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in whole:
            yield node.attr


USERS = [*sorted((ROOT / "nodes").glob("*.py")), *sorted((ROOT / "demo").glob("*.py"))]


@pytest.mark.parametrize("path", USERS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nodes_use_the_face_alone(path):
    assert set(used_of_the_core(path)) <= set(i2am_core.__all__)


def test_nodes_use_much_of_it():
    used = {name for path in USERS for name in used_of_the_core(path)}
    assert {"maps", "LEVELS", "heat", "save_new", "SUFFIX", "errors", "cells_of", "view", "specific"} <= used


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_described(name):
    value = getattr(i2am_core, name)
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        types = {
            *("Certainty", "Cut", "Direction", "Fate", "Index", "Level", "Normalization", "Owner", "Route", "Scale"),
            *("ShareOwner", "Suggestion"),
        }
        assert name in types  # which have no docstring
        return
    described = [(name, value)]
    if inspect.isclass(value):
        members = [(member, x) for member, x in vars(value).items() if not member.startswith("_")]
        described += [(m, x) for m, x in members if isinstance(x, property | classmethod) or inspect.isfunction(x)]
    for member, thing in described:
        text = inspect.getdoc(thing) or ""
        assert text and not text.startswith(f"{member}("), f"{name}: {member}"  # what dataclass writes, if nobody does


WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("matplotlib", "safetensors"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
import pathlib, torch, i2am_core
from i2am_core import *

grid = TokenGrid(2, 2)
(m,) = attribute(torch.randn(1, 2, 4, 8), torch.randn(1, 2, 7, 8), [span("reference", 3, grid)])
recorder = Recorder(torch.tensor([1.0, 0.0]), 1, 2**20)
recorder.add(Place(Layer("a", grid, 2), 0, recorder.reference(Reference("reference", 4, grid))), m)
attribution = recorder.freeze(grid=grid)
values = maps(attribution, MapKind("r2g")).values
assert values.shape == (1, 2, 2) and "reference" in attribution.summary()
assert heat(values, (8, 8)).shape == (1, 8, 8)
path = pathlib.Path("run" + SUFFIX)
for use in (
    lambda: save(attribution, path),
    lambda: load(path),
    lambda: colorize(values),
    lambda: contact_sheet([Row("", [values[0]], [""])], path),
):
    try:
        use()
    except errors.MissingPackage as error:
        assert isinstance(error, AttributionError) and isinstance(error, ImportError)
        print(error)
"""


def test_without_optional_packages_all_else_works_and_one_sentence_says_what_is_missing():
    run = subprocess.run([sys.executable, "-c", WITHOUT], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == [
        "saving an attribution needs safetensors: pip install safetensors (or i2am[files]).",
        "loading an attribution needs safetensors: pip install safetensors (or i2am[files]).",
        "a colormap needs matplotlib: pip install matplotlib (or i2am[sheets]).",
        "a contact sheet needs matplotlib: pip install matplotlib (or i2am[sheets]).",
    ]
