import importlib.util
from collections import Counter

import in_process_host
import pytest

in_process_host.load()

LEFT_OUT = pytest.StashKey[Counter[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "of_model(name, module): of a model in comfy/supported_models.py of newer cores")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, and count, tests of models that this ComfyUI does not have."""
    marks = [item.get_closest_marker("of_model") for item in items]
    lacking = [mark is not None and _lacks(*mark.args) for mark in marks]
    config.stash[LEFT_OUT] = Counter(mark.args[0] for mark, lacks in zip(marks, lacking, strict=True) if lacks)
    config.hook.pytest_deselected(items=[item for item, lacks in zip(items, lacking, strict=True) if lacks])
    items[:] = [item for item, lacks in zip(items, lacking, strict=True) if not lacks]


def _lacks(name: str, module: str) -> bool:
    return importlib.util.find_spec(module) is None or not hasattr(importlib.import_module(module), name)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if left_out := config.stash.get(LEFT_OUT, None):
        counts = ", ".join(f"{name} ({count})" for name, count in left_out.items())
        terminalreporter.write_line(f"not in this ComfyUI, so that their tests were left out: {counts}")
