"""What a workflow says of the way of a latent: which samplers it comes from, from which model, and what changed it.

Nothing is guessed: where a link is of a type that could carry a model without saying so, the way is not read any
further.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .idle import why_idle
from .workflow_graph import KindOf, Node, WorkflowGraph

CAPTURE, COLLECT = "I2AM_Capture", "I2AM_Collect"
PICTURES = frozenset({"LATENT", "IMAGE"})
MODELS = frozenset({"MODEL", "GUIDER"})
WITHOUT_MODEL = PICTURES | {  # types that carry no model that could be sampled
    *("MASK", "VAE", "CLIP", "CLIP_VISION", "CONDITIONING", "CONTROL_NET", "UPSCALE_MODEL", "NOISE", "SAMPLER"),
    *("SIGMAS", "INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "I2AM_CAPTURE", "I2AM_ATTRIBUTION"),
}


@dataclass(frozen=True)
class Sampler:
    """The last sampler on one of the ways of a latent. ``certain``: whether no other line of its model is left out."""

    node: Node
    certain: bool
    gives_latents: bool = True  # whether it has an output for them
    of_comfyui: bool = False  # whether it is ComfyUI's own
    between: tuple[Node, ...] = ()  # after it, in order
    idle: str = ""  # why it samples nothing
    model_line: tuple[Node, ...] | None = None  # from the Collect's Capture to it; None where there is no such way
    other_capture: Node | None = None  # where its model comes from another one

    def __str__(self) -> str:
        return str(self.node)


@dataclass(frozen=True)
class LatentLine:
    """Of one Collect: where its latent comes from. ``certain``: whether no other way is left out."""

    certain: bool
    capture: Node | None  # that this Collect is connected to
    samplers: tuple[Sampler, ...] = ()  # the nearest first; of several one may have made it, or all
    begins: Node | None = None  # where the latent begins, if no sampler is on its way


def latent_line_of(collect: str, nodes: Mapping[str, Mapping[str, Any]], kind_of: KindOf) -> LatentLine:
    """Of the Collect with this number, in a workflow of ``nodes``. Raises whatever a workflow out of shape raises."""
    graph = WorkflowGraph(nodes, kind_of)
    capture = _capture_of(graph, collect)
    ways, first, certain = _ways(graph, collect)
    return LatentLine(
        certain,
        None if capture is None else graph.node(capture),
        tuple(_sampler(graph, way, capture) for way in ways),
        graph.node(first) if first and not ways else None,
    )


def _sampler(graph: WorkflowGraph, way: Sequence[str], capture: str | None) -> Sampler:
    """The sampler at the end of a way that begins at a Collect."""
    number = way[-1]
    kind = graph.kind(number)
    line, other, all_read = _model_line(graph, number, capture)
    changing = (x for x in way[-2::-1] if graph.class_of(x) != COLLECT)  # which hands a latent on as it is
    return Sampler(
        graph.node(number),
        all_read,
        gives_latents=kind is None or "LATENT" in kind.outputs,
        of_comfyui=graph.is_of_comfyui(number),
        between=tuple(map(graph.node, changing)),
        idle=why_idle(graph, number),
        model_line=None if line is None else tuple(map(graph.node, line)),
        other_capture=None if other is None else graph.node(other),
    )


def _capture_of(graph: WorkflowGraph, collect: str) -> str | None:
    """The Capture that a Collect is connected to, through nodes that hand its handle on."""
    seen: set[str] = set()
    number = collect
    while number not in seen:
        seen.add(number)
        handles = [other for other, kind in graph.linked(number) if kind == "I2AM_CAPTURE"]
        if not handles:
            return number if graph.class_of(number) == CAPTURE else None
        number = handles[0]
    return None


def _ways(graph: WorkflowGraph, collect: str) -> tuple[list[list[str]], str, bool]:
    """The ways of a latent back to the last sampler on each, the nearest first, and whether all was read.

    Beside them the first node where a latent or a picture begins.
    """
    certain, first, to_samplers = True, "", []
    ways = deque([[graph.links(collect)["samples"].node]])
    seen: set[str] = set()
    while ways:
        way = ways.popleft()  # the last node of it is the one to look at
        number = way[-1]
        if number in seen:
            continue
        seen.add(number)
        linked = graph.linked(number)
        if any(kind in MODELS for _, kind in linked):
            to_samplers.append(way)
            continue
        certain &= all(kind in WITHOUT_MODEL for _, kind in linked) and graph.kind(number) is not None
        pictures = [other for other, kind in linked if kind in PICTURES]
        first = first or ("" if pictures else number)
        ways.extend([*way, other] for other in pictures)
    return to_samplers, first, certain


def _model_line(graph: WorkflowGraph, sampler: str, capture: str | None) -> tuple[list[str] | None, str | None, bool]:
    """The nodes from a Capture to a sampler, or another Capture on its line, and whether all was read."""
    certain, other_capture = True, None
    ways = deque([[sampler]])
    seen: set[str] = set()
    while ways:
        way = ways.popleft()
        number = way[-1]
        if number == capture:
            return way[-2:0:-1], None, certain
        if number in seen:
            continue
        seen.add(number)
        if graph.class_of(number) == CAPTURE:
            other_capture = other_capture or number
        for other, kind in graph.linked(number):
            certain &= kind in MODELS or kind in WITHOUT_MODEL
            if kind in MODELS:
                ways.append([*way, other])
    return None, other_capture, certain
