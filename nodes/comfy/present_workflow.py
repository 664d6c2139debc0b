"""The workflow that is being executed, as ComfyUI hands it to a node: read to say what is wrong, and for no more."""

import logging
from typing import Any

from comfy_execution.utils import get_executing_context

from .latent_line import COLLECT, latent_line_of
from .why_no_run import why_no_run
from .workflow_graph import kind_of

log = logging.getLogger(__name__)


def why_no_run_here(workflow: Any, started: bool) -> str:
    """Why a Capture, of which a run has ``started`` or none has, has no maps of the latent of the present I2AM Collect.

    ``workflow`` is ComfyUI's ``DynamicPrompt``. "" where that cannot be read from it: nothing is raised.
    """
    try:
        nodes = {str(number): workflow.get_node(number) for number in workflow.all_node_ids()}
        collects = [number for number, node in nodes.items() if node["class_type"] == COLLECT]
        present = present_node()
        if present not in collects:
            (present,) = collects  # one alone, else it is not known which
        return why_no_run(latent_line_of(present, nodes, kind_of), started)
    except Exception:  # of workflows that are out of shape, or other than today's
        log.debug("the workflow could not be read", exc_info=True)
        return ""


def present_node() -> str:
    """The number of the node that runs; "" where ComfyUI does not say it, as in a thread of a node."""
    context = get_executing_context()
    return "" if context is None else str(context.node_id)
