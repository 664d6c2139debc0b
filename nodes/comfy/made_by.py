"""By which part of the workflow a result was made: kept with it, so that it is known from that of other settings."""

# ComfyUI's graph has no types.
# mypy: allow-untyped-calls

import json
import logging
from collections.abc import Mapping
from typing import Any

from comfy_execution.graph_utils import is_link

from ...i2am_core import HeaderMadeBy, HeaderNode

log = logging.getLogger(__name__)

LONGEST = 20_000  # letters of an input, as JSON: what holds a whole picture is no setting


def made_by(workflow: Any, node: str) -> HeaderMadeBy | None:
    """The present ``node`` and all that it depends on, as ComfyUI was sent them.

    ``workflow`` is ComfyUI's ``DynamicPrompt``. None where that cannot be read from it: nothing is raised.
    """
    try:
        return depends_on(workflow.get_original_prompt(), node)
    except Exception:  # of workflows that are out of shape, or other than today's
        log.debug("the workflow could not be read", exc_info=True)
        return None


def depends_on(prompt: Mapping[str, Mapping[str, Any]], node: str) -> HeaderMadeBy:
    """A node of a prompt, and those before it. Inputs that are too long are None. KeyError where a node is missing."""
    waiting = [node]
    nodes: dict[str, HeaderNode] = {}
    while waiting:
        name = waiting.pop()
        if name in nodes:
            continue
        inputs = dict(prompt[name]["inputs"])
        waiting += [str(value[0]) for value in inputs.values() if is_link(value)]
        settings = {key: value if len(json.dumps(value)) <= LONGEST else None for key, value in inputs.items()}
        nodes[name] = {"class_type": str(prompt[name]["class_type"]), "inputs": settings}
    return {"last": node, "nodes": nodes}
