"""The map so far, sent to the page while a sampler runs, so that a bad run can be stopped early.

It is an event of our own, to the client that has queued the workflow, as ComfyUI's own progress is. Each one says it
all: one that is late or lost does no harm. Nothing is sent, nor computed, where nobody would see it: without a server,
without a client, or without a viewer of this Capture.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context

from ...i2am_core.printing import NAME, printable
from ...i2am_core.reading.so_far import MapSoFar, SoFar
from ...i2am_core.recording.recorder import Recorder
from ...i2am_core.recording.so_far import Steps
from ...i2am_core.showing.quantized import quantize
from .workflow_graph import WorkflowGraph, kind_of

log = logging.getLogger(__name__)

EVENT = "i2am.live"
VIEWER = "I2AM_Viewer"
OURS = {"I2AM_CAPTURE", "I2AM_ATTRIBUTION", "*"}  # types of what goes from a Capture to its viewers
LARGEST = 64  # cells on a side of a map that is sent
MOST_REFERENCES = 8


@dataclass(frozen=True)
class Audience:
    """Who sees what a Capture has so far: ``send`` brings an event to the client that has queued the ``prompt``.

    All nodes are named by their ids in the workflow that is executed.
    """

    send: Callable[[dict[str, Any]], None]
    prompt: str
    capture: str
    sampler: str  # the node at work
    viewers: Sequence[str]


def audience_of(capture: str) -> Audience | None:
    """That of the node of this id; None where there is nobody. Raises nothing."""
    try:
        server, context, state = _server(), get_executing_context(), get_progress_state()
        client = getattr(server, "client_id", None)
        if client is None or context is None or state.prompt_id != context.prompt_id:
            return None
        viewers = viewers_of(capture, state.dynprompt)
    except Exception:  # of a ComfyUI that is other than today's
        log.warning("the maps so far are not sent to the page", exc_info=True)
        return None

    def send(message: dict[str, Any]) -> None:
        server.send_sync(EVENT, message, client)

    return Audience(send, context.prompt_id, capture, context.node_id, viewers) if viewers else None


def _server() -> Any:
    """ComfyUI's server; None in a script, which has not imported it."""
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)


def viewers_of(capture: str, workflow: Any) -> list[str]:
    """The viewers to which the maps of a Capture go; ``workflow`` is ComfyUI's ``DynamicPrompt``."""
    nodes = {str(number): workflow.get_node(number) for number in workflow.all_node_ids()}
    graph, reached, more = WorkflowGraph(nodes, kind_of), set[str](), {capture}
    while more:
        reached |= more
        more = {
            number
            for number in nodes.keys() - reached
            if any(before in more and kind in OURS for before, kind in graph.linked(number))
        }
    return sorted(number for number in reached & nodes.keys() if graph.class_of(number) == VIEWER)


class Live:
    """Sends the maps that one run has so far, as often as a step ends."""

    def __init__(self, recorder: Recorder, audience: Audience | None) -> None:
        self._recorder, self._audience = recorder, audience
        self._so_far = SoFar()
        self._arrived: Callable[[], Steps] | None = None  # waits for what is on its way

    def step_ended(self, waits: bool) -> None:
        """Send what there is. Where to wait for a device is to wait, that is what there was a step ago.

        What goes wrong ends it: the picture comes first.
        """
        if self._audience is None:
            return
        try:
            self._send()
            self._arrived = self._recorder.new_steps()
            if not waits:
                self._send()
        except Exception:
            log.warning("the maps so far are no longer sent to the page", exc_info=True)
            self._audience = None

    def _send(self) -> None:
        """Send what has arrived."""
        arrived, self._arrived = self._arrived, None
        if arrived is None or self._audience is None:
            return
        steps = arrived()
        self._so_far.update(steps)
        if steps and (maps := self._so_far.maps()):
            self._audience.send(self._message(self._audience, maps))

    def _message(self, audience: Audience, maps: dict[int, MapSoFar]) -> dict[str, Any]:
        references = self._recorder.references
        return {
            "prompt_id": audience.prompt,
            "capture": audience.capture,
            "sampler": audience.sampler,
            "viewers": audience.viewers,
            "step": self._so_far.step + 1,  # as people count
            "steps": self._recorder.steps,
            "items": self._recorder.items,
            "maps": [_map(n, references[n].name, maps[n]) for n in list(maps)[:MOST_REFERENCES]],
        }


def _map(number: int, name: str, so_far: MapSoFar) -> dict[str, Any]:
    """A map in at most ``LARGEST`` cells on a side, as bytes from the lowest value to the highest."""
    height, width = so_far.values.shape
    part = min(1.0, LARGEST / max(height, width))
    size = max(1, round(part * height)), max(1, round(part * width))
    small = F.adaptive_avg_pool2d(so_far.values[None], size)
    levels, ranges = quantize(small)
    return {
        "reference": number,
        "name": printable(name, NAME),
        "normalization": so_far.normalization,
        "grid": size,
        "range": ranges[0].tolist(),
        "levels": levels.numpy().tobytes().hex(),
    }
