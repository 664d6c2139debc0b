"""What a workflow says of the way of a latent: which sampler made it, from which model, and what changed it since.

ComfyUI hands a node its workflow as it was queued: of each node its class and its inputs, where a link is the other
node and the number of its output. What the outputs are is asked of the class. Nothing is guessed: where a link is of a
type that could carry a model without saying so, the way is not read any further.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...i2am_core.printing import listed, printable

LONGEST = 60  # letters of a title
MOST_NAMED = 7  # nodes in a sentence

CAPTURE, COLLECT = "I2AM_Capture", "I2AM_Collect"
PICTURES = frozenset({"LATENT", "IMAGE"})
MODELS = frozenset({"MODEL", "GUIDER"})
WITHOUT_MODEL = PICTURES | {  # types that carry no model that could be sampled
    *("MASK", "VAE", "CLIP", "CLIP_VISION", "CONDITIONING", "CONTROL_NET", "UPSCALE_MODEL", "NOISE", "SAMPLER"),
    *("SIGMAS", "INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "I2AM_CAPTURE", "I2AM_ATTRIBUTION"),
}

Link = tuple[str, str]  # the node that it comes from, and its type; "*" where that is not known


@dataclass(frozen=True)
class Kind:
    """A class of nodes: the types of its outputs, and whether it is ComfyUI's own."""

    outputs: Sequence[Any]
    of_comfyui: bool


KindOf = Callable[[str], Kind | None]
"""The class of that name; None where it is not known."""


@dataclass(frozen=True)
class Node:
    """A node by what people see of it."""

    number: str
    title: str

    def __str__(self) -> str:
        return f"'{printable(self.title, LONGEST)}' (node {printable(self.number, LONGEST)})"


@dataclass(frozen=True)
class Upstream:
    """Of one Collect: where its latent comes from. ``certain``: whether no other way is left out."""

    certain: bool
    begins: Node | None = None  # where the latent begins, if no sampler is on its way
    sampler: Node | None = None  # the last on its way
    gives_latents: bool = True  # whether the sampler has an output for them
    of_comfyui: bool = False  # whether the sampler is ComfyUI's own
    between: tuple[Node, ...] = ()  # after the sampler, in order
    idle: str = ""  # why the sampler samples nothing
    capture: Node | None = None  # that this Collect is connected to
    model_line: tuple[Node, ...] | None = None  # from that Capture to the sampler; None where there is no such way
    other_capture: Node | None = None  # where the sampler's model comes from another one


def upstream_of(collect: str, nodes: Mapping[str, Mapping[str, Any]], kind_of: KindOf) -> Upstream:
    """Of the Collect with this number, in a workflow of ``nodes``. Raises whatever a workflow out of shape raises."""
    graph = _Graph(nodes, kind_of)
    capture = graph.capture_of(collect)
    sampler, way, certain = graph.latent_line(collect)
    if sampler is None:
        return Upstream(certain, begins=graph.node(way[0]) if way else None, capture=graph.node_or_none(capture))
    line, other, all_read = graph.model_line(sampler, capture)
    kind = graph.kind(sampler)
    return Upstream(
        certain and all_read,
        sampler=graph.node(sampler),
        gives_latents=kind is None or "LATENT" in kind.outputs,
        of_comfyui=kind is not None and kind.of_comfyui,
        between=tuple(map(graph.node, way)),
        idle=graph.why_idle(sampler),
        capture=graph.node_or_none(capture),
        model_line=None if line is None else tuple(map(graph.node, line)),
        other_capture=graph.node_or_none(other),
    )


def why_no_run(upstream: Upstream, started: bool) -> str:
    """Why a Capture, of which a run has ``started`` or none has, has no maps of a latent; "" where that is not known.

    What is proved is said as such; where it can be one of several things, all are named.
    """
    sampler, capture = upstream.sampler, upstream.capture
    if capture is None:
        return ""
    if sampler is None:
        return _without_sampler(upstream) if upstream.certain and upstream.begins is not None else ""
    if upstream.model_line is None:
        return _of_other_model(upstream) if upstream.certain else ""
    if not upstream.gives_latents and started:
        return (
            f"{sampler} samples with the model of {capture}, but gives pictures and no latent: what was encoded from "
            "a picture is not what it sampled. Use I2AM Collect Runs, which takes the runs themselves."
        )
    if upstream.idle:
        return (
            f"{sampler} samples nothing, since {upstream.idle}: the latent that it is given goes through as it is, and "
            "there is nothing to capture."
        )
    if not started:
        return _not_reached(upstream, sampler, capture)
    if upstream.between and upstream.certain:
        return (
            f"between {sampler} and this node the latent goes through {_listed(upstream.between)}: a latent that was "
            f"changed after sampling has no maps here. Connect the LATENT output of {sampler} itself."
        )
    return ""


def _without_sampler(upstream: Upstream) -> str:
    return (
        f"no sampler made this latent in this workflow: it comes from {upstream.begins}. Connect the LATENT output of "
        f"the sampler that uses the model of {upstream.capture}."
    )


def _of_other_model(upstream: Upstream) -> str:
    if upstream.other_capture is not None:
        return (
            f"the model of {upstream.sampler}, which made this latent, comes from another I2AM Capture, "
            f"{upstream.other_capture}: connect the capture output of that one."
        )
    return (
        f"the model of {upstream.sampler}, which made this latent, does not come from {upstream.capture}: connect the "
        "MODEL output of that I2AM Capture to it."
    )


def _not_reached(upstream: Upstream, sampler: Node, capture: Node) -> str:
    """The model is connected, and yet nothing of a run has come to the Capture."""
    way = f" by way of {_listed(upstream.model_line)}" if upstream.model_line else ""
    causes = []
    if upstream.model_line:
        several = len(upstream.model_line) > 1
        causes.append(
            f"{'one of the nodes between' if several else 'the node between'} leaves out what I2AM Capture has added "
            "to the model (place I2AM Capture behind it, right before the sampler)"
        )
    if not upstream.of_comfyui:
        causes.append(
            f"{sampler} does not sample in ComfyUI's own way, so that nothing of it can be captured (use a sampler of "
            "ComfyUI's)"
        )
    causes.append("it has nothing to sample (denoise 0, or a start that is not before the end)")
    causes.append("ComfyUI has taken the latent from its memory of an earlier queue (change the seed)")
    return (
        f"{sampler} has its model from {capture}{way}, but no run has come to that I2AM Capture. It may be that "
        f"{', or that '.join(causes)}."
    )


def _listed(nodes: Sequence[Node] | None) -> str:
    return listed(map(str, nodes or ()), MOST_NAMED)


class _Graph:
    def __init__(self, nodes: Mapping[str, Mapping[str, Any]], kind_of: KindOf) -> None:
        self._nodes, self._kind_of = nodes, kind_of

    def node(self, number: str) -> Node:
        about = self._nodes[number]
        title = (about.get("_meta") or {}).get("title") or about["class_type"]
        return Node(number, str(title))

    def node_or_none(self, number: str | None) -> Node | None:
        return None if number is None else self.node(number)

    def kind(self, number: str) -> Kind | None:
        return self._kind_of(self._nodes[number]["class_type"])

    def links(self, number: str) -> dict[str, Link]:
        """The inputs of a node that come from another one."""
        inputs = self._nodes[number].get("inputs", {})
        return {name: self._link(value) for name, value in inputs.items() if self._is_link(value)}

    def value(self, number: str, name: str) -> float | None:
        """The number in an input; None where another node gives it."""
        value = self._nodes[number].get("inputs", {}).get(name)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def capture_of(self, collect: str) -> str | None:
        """The Capture that a Collect is connected to, through nodes that hand its handle on."""
        seen: set[str] = set()
        number = collect
        while number not in seen:
            seen.add(number)
            handles = [other for other, kind in self.links(number).values() if kind == "I2AM_CAPTURE"]
            if not handles:
                return number if self._nodes[number]["class_type"] == CAPTURE else None
            number = handles[0]
        return None

    def latent_line(self, collect: str) -> tuple[str | None, list[str], bool]:
        """The last sampler of a latent, the nodes after it, and whether all was read.

        Without a sampler, the first node is the one where the latent begins.
        """
        certain, ways = True, deque([[self.links(collect)["samples"][0]]])
        seen: set[str] = set()
        first: list[str] = []
        while ways:
            way = ways.popleft()  # the last node of it is the one to look at
            number = way[-1]
            if number in seen:
                continue
            seen.add(number)
            links = self.links(number).values()
            if any(kind in MODELS for _, kind in links):
                return number, self._changing(way[-2::-1]), certain
            certain &= all(kind in WITHOUT_MODEL for _, kind in links) and self.kind(number) is not None
            pictures = [other for other, kind in links if kind in PICTURES]
            first = first or ([] if pictures else way[::-1])
            ways.extend([*way, other] for other in pictures)
        return None, first, certain

    def model_line(self, sampler: str, capture: str | None) -> tuple[list[str] | None, str | None, bool]:
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
            if self._nodes[number]["class_type"] == CAPTURE:
                other_capture = other_capture or number
            for other, kind in self.links(number).values():
                certain &= kind in MODELS or kind in WITHOUT_MODEL
                if kind in MODELS:
                    ways.append([*way, other])
        return None, other_capture, certain

    def why_idle(self, sampler: str) -> str:
        """Why a sampler takes no step, as far as numbers on it, or on the node of its sigmas, say so."""
        schedules = [other for other, kind in self.links(sampler).values() if kind == "SIGMAS"]
        for number in (sampler, *schedules):
            if (denoise := self.value(number, "denoise")) is not None and denoise <= 0:
                name = "its denoise" if number == sampler else f"the denoise of {self.node(number)}"
                return f"{name} is 0 (set it above 0)"
        steps, start, end = (self.value(sampler, name) for name in ("steps", "start_at_step", "end_at_step"))
        if start is not None and end is not None and start >= end:
            return f"it starts at step {start} and ends at step {end} (the end has to be after the start)"
        if start is not None and steps is not None and start >= steps:
            return f"it starts at step {start} of {steps} (the start has to be before the last)"
        return ""

    def _changing(self, way: Sequence[str]) -> list[str]:
        """Without the nodes of ours that hand a latent on as it is."""
        return [number for number in way if self._nodes[number]["class_type"] != COLLECT]

    def _is_link(self, value: Any) -> bool:
        return (
            isinstance(value, list) and len(value) == 2 and isinstance(value[1], int) and str(value[0]) in self._nodes
        )

    def _link(self, value: list) -> Link:
        other = str(value[0])
        kind = self.kind(other)
        known = kind is not None and 0 <= value[1] < len(kind.outputs)
        output = kind.outputs[value[1]] if kind is not None and known else "*"
        return other, output if isinstance(output, str) else "COMBO"
