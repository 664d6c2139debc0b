"""What the core raises is typed, says one sentence, and names no node and no widget."""

import ast
import dataclasses
import re
from pathlib import Path

import pytest

from i2am_core import errors
from i2am_core.errors import AttributionError

CORE = Path(__file__).resolve().parents[2] / "i2am_core"
FILES = sorted(CORE.rglob("*.py"))
EXAMPLES = [
    errors.UnknownReference(3, 2),
    errors.UnknownItem(3, 2),
    errors.Lacking("no effect was measured"),
    errors.UnknownChoice("level", "depth", ("unified", "time")),
    errors.UnknownColormap("colormap", "rainbows", ("jet",)),
    *(errors.BadSelection("steps", "3-1", 5, p) for p in ("nothing", "backwards", "out of range", "unreadable")),
    errors.BadSelection("layers", "middle", 2, "unreadable", ("input 1.0", "output 3.0")),
    errors.BadCount("time_groups", -1, "each step apart"),
    errors.UnresolvedAxis("steps", "0", ("0-4", "5-9")),
    errors.UnresolvedAxis("steps", "0", pairs=True),
    errors.UnresolvedAxis("heads", "3"),
    errors.UnresolvedAxis("heads"),
    errors.NoLayout(0, "face", 4),
    errors.NoLayout(0, "face", 4, part=True),
    errors.NoMask(1),
    errors.NothingCaptured("layers", "2", 0, "face"),
    errors.NothingCaptured("layers", "2"),
    errors.NothingCaptured("steps", "7"),
    errors.NoPairMaps(),
    errors.NoPairMaps(outside=True),
    errors.EmptyRegion(),
    errors.OneSidedMask(full=True),
    errors.FlatMap(),
    errors.NoFrames("g2r", [1]),
    errors.NoFrames("r2g", [2, 3]),
    errors.OnlyOnPicture(),
    errors.NoEffects(),
    errors.NoEffects(("reference 0 ('face'): out of memory", "the text: out of memory")),
    errors.NotMeasured(1, "reference 1 ('face')", "directly", "", ("reference 0 ('room')", "the text")),
    errors.NotMeasured(1, "reference 1 ('face')", reason="out of memory", measured=["the text"]),
    errors.NoEffectInSteps("0-4", "the text", [6, 9]),
    errors.NoRegions(0, "reference 0 ('face')"),
    errors.NoRegions(0, "reference 0 ('face')", "only this left", ("taken away",)),
    errors.NoEffectLevel("head"),
    errors.NoEffectLevel("time", regions=True),
    errors.EffectTooSmall(0, "reference 0 ('face')", 0.002, 0.001),
    errors.NotOneRun("sigmas", "0", "14.6"),
    *(errors.NotOneRun(what, "1", "2") for what in ("items", "grid", "branch")),
    errors.BadAttention("queries or keys hold values that are not numbers.", (2, 3)),
    *(errors.BadFile("a.safetensors", p, "why") for p in ("missing", "no file", "unreadable", "too large", "damaged")),
    *(errors.BadFile("a.safetensors", p, "why") for p in ("foreign", "newer", "invalid", "not saved")),
    errors.BadAdapter("this is no adapter.", "plain"),
    errors.InOneRun("B", errors.UnknownItem(3, 2)),
    errors.Incomparable("the prediction holds values that are not numbers"),
    errors.MissingPackage("safetensors", "files", "saving an attribution"),
]
FOREIGN = (  # nodes, their widgets, and what these offer
    *("I2AM (Capture|Collect|Viewer|Maps|Save|Load|IMACS|Tag|Specific|IPAdapter)", "budget_mb", "pair_maps"),
    *("filename_prefix", "inpainting_mask", "reference_mask", "generated_region", "reference_region"),
    *("'reference to generated'", "'generated to reference'", r"\bwidget", r"\bthis node\b"),
)


def test_there_is_an_example_of_every_error():
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AttributionError)}
    assert {type(error) for error in EXAMPLES} == kinds - {AttributionError}


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_is_a_sentence_with_its_data(error):
    assert isinstance(error, ValueError)
    text = str(error)
    assert text and text.endswith(".") and "\n" not in text and "None" not in text
    for field in dataclasses.fields(error):
        assert hasattr(error, field.name)


def test_what_a_file_says_is_printed_and_not_obeyed():
    """Nor does it fill the screen."""
    text = str(errors.BadFile("a\x1b[2J\ud800.safetensors", "invalid", "\x07" + "long " * 1000))
    assert text.isprintable() and "a\\x1b[2J\\ud800.safetensors" in text and len(text) < 2000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_core_names_no_node_and_no_widget(path):
    named = [pattern for pattern in FOREIGN if re.search(pattern, path.read_text())]
    assert not named


def test_the_core_raises_its_own_errors():
    """ValueError alone is for the parts of a file that do not fit, which ``files.load`` puts into one of its own.

    What the system says of a file that cannot be written stays what it is.
    """
    raised = [
        (path.name, node.exc.func.id)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name)
    ]
    assert [place for place in raised if place[1] == "ValueError"] == [("checks.py", "ValueError")]
    of_code = {"RuntimeError", "NotImplementedError", "AttributeError"}  # mistakes of code, not of what is requested
    of_system = {"OSError", "FileExistsError"}
    others = {name for _, name in raised} - {"ValueError"} - of_code - of_system
    assert others and all(issubclass(getattr(errors, name), AttributionError) for name in others)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_function_takes_more_than_six_parameters(path):
    """But kernels that Triton compiles for a GPU, where there is nothing but numbers and addresses."""
    many = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if any(ast.unparse(decorator).startswith("triton.jit") for decorator in node.decorator_list):
                continue
            a = node.args
            names = [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
            names = names[1:] if names[:1] in (["self"], ["cls"]) else names
            if len(names) + (a.vararg is not None) + (a.kwarg is not None) > 6:
                many.append((node.name, names))
    assert not many
