"""An output that there is none of: nodes after it do not run, and ComfyUI says why. All others go on."""

# ComfyUI's graph has no types.
# mypy: allow-untyped-calls

from typing import Any

from comfy_execution.graph_utils import ExecutionBlocker


def blocked(why: str) -> Any:
    """In the place of an output. ``why`` is a sentence for a person."""
    return ExecutionBlocker(why)
