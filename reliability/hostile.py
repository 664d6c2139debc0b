"""Every input of every node of the pack at its edges, over HTTP, on the real server: is an error ever a raw one?

    .host/venv/bin/python -m reliability.hostile [--only EXPRESSION] [--sample N --seed S]

An attack is a working graph in which one input of one node is something else. It may be refused by ComfyUI (400), end
in our sentence (a ValueError), or run. Anything else is raw: 500, another exception, a message that is no sentence, no
end. The exit code is 1 where there is one. What ComfyUI itself refuses with an exception of its own, before any code of
ours has run, is counted apart.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import random
import re
import sys
import tempfile
import time
import urllib.error
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reliability import places

import demo_graph  # isort: skip
from comfy_server import ComfyServer  # isort: skip
from devenv import one_sentence_errors, prepare  # isort: skip

Graph = dict[str, Any]
node = demo_graph.node

PACK = Path(__file__).with_name("hostile_pack")
SECONDS = 60  # for one graph
LONGEST_MESSAGE = 1500  # characters that anyone reads
KINDS = ("refused by ComfyUI", "refused in a sentence", "ran", "an exception of ComfyUI's own", "raw")

LITERALS: dict[str, Any] = {
    "0": 0,
    "-1": -1,
    "1.5": 1.5,
    "huge": 2**70,
    "1e308": 1e308,
    "NaN": math.nan,
    "Infinity": math.inf,
    "-Infinity": -math.inf,
    "true": True,
    "null": None,
    "word": "word",
    "empty word": "",
    "spaces": "   ",
    "number as a word": "12",
    "all": "all",
    "long word": "x" * 100_000,
    "long list of numbers": ",".join(map(str, range(20_000))),
    "long number": "9" * 5000,
    "range": "0-99999999999",
    "backwards": "3-1",
    "commas": ",,,",
    "pattern": "[*?!-]" * 20,
    "control characters": "\x01\x1b[31m\r\n\t\x7f",
    "NUL": "a\x00b",
    "unicode": "\u6f22\u5b57 \U0001f389 \u202e\u0301",
    "half a character": "\ud800",
    "format": "{0} %s %date% ${x} $x_1$",
    "path out": "../../etc/passwd",
    "absolute path": "/etc/passwd",
    "Windows path": "..\\..\\C:\\con",
    "output path": "output/../../etc/passwd",
    "empty list": [],
    "list of one": [1],
    "list of three": [1, 2, 3],
    "list of two words": ["word", "word"],
    "dictionary": {},
    "wrapped list": {"__value__": [1, 2]},
    "wrapped nothing": {"__value__": None},
    "wrapped dictionary": {"__value__": {"samples": 1}},
}
LINKS: dict[str, Any] = {
    "link to no node": ["nowhere", 0],
    "link to no output": ["scene", 99],
    "link to a negative output": ["scene", -1],
    "link to a named output": ["scene", "scene"],
    "link by a number": [1, 0],
    "link to an image": ["scene", 0],
    "link to a mask": ["scene", 1],
    "link to a model": ["loader", 0],
    "link to a latent": ["sampler", 0],
    "link to an attribution": ["collect", 0],
    "link to a capture": ["capture", 1],
    "link to a text": ["collect", 2],
    "link to a number": ["imacs", 0],
}


@dataclass(frozen=True)
class Attack:
    """One input of one node, and what it becomes. ``graph`` is the whole prompt."""

    node: str
    input: str
    name: str
    graph: Any

    def __str__(self) -> str:
        return f"{self.node}.{self.input} <- {self.name}"


@dataclass(frozen=True)
class Outcome:
    kind: str  # of KINDS
    detail: str = ""


def working_graph() -> Graph:
    """A graph that runs, with every node of ours in it, by short names."""
    whole = demo_graph.build(steps=2)
    inputs = ("scene", "loader", "positive", "negative", "inpaint")
    names = (*inputs, "capture", "effect", "sampler", "collect", "decode", "imacs", "counterfactual")
    graph = {name: whole[name] for name in names}
    graph["effect"]["inputs"]["regions"] = 2
    everything = demo_graph.selection()
    look = {"attribution": ["collect", 0], "colormap": "jet", "opacity": 0.5, "image": ["decode", 0]}
    graph["maps"] = node(
        "I2AM_Maps", direction="reference to generated", level="time", normalization="paper", scope="auto",
        time_groups=2, scale="each map", **look, **everything,
    )  # fmt: skip
    graph["specific"] = node(
        "I2AM_SpecificReference", region=["scene", 1], direction="generated to reference", **look, **everything
    )
    graph["specific"]["inputs"]["image"] = ["scene", 2]
    pictures = {"attribution": ["collect", 0], "image": ["decode", 0], "reference": ["scene", 2]}
    graph["viewer"] = node("I2AM_Viewer", mask=["scene", 1], vae=["loader", 1], **pictures)
    graph["report"] = node("I2AM_Report", item=0, mask=["scene", 1], reference_mask=["scene", 3], **pictures)
    graph["compare"] = node(
        "I2AM_Compare", a=["collect", 0], b=["of half 0", 0], direction="reference to generated", level="unified",
        normalization="share", scope="auto", time_groups=2, image_a=["decode", 0], image_b=["decode", 0], **everything,
    )  # fmt: skip
    graph["save"] = node("I2AM_Save", filename_prefix="i2am/hostile", **pictures)
    graph["load"] = node("I2AM_Load", file="output/i2am/hostile_00001_.i2am.safetensors")
    graph["runs"] = node("I2AM_CollectRuns", capture=["capture", 1], image=["decode", 0], which="by number", number=0)
    graph |= joined_halves(graph["sampler"]["inputs"])
    graph["text"] = node("Hostile_Object", name="text")
    graph["tokens"] = node("Hostile_Object", name="text and tokens")
    graph["adapter"] = node("Hostile_Object", name="adapter")
    graph["vision"] = node("Hostile_Object", name="vision")
    graph["tag"] = node(
        "I2AM_TagReference", conditioning_before=["text", 0], conditioning_after=["tokens", 0], image=["scene", 2]
    )
    graph["rollout"] = node(
        "I2AM_IPAdapterReference", capture=["capture", 1], ipadapter=["adapter", 0], image=["scene", 2],
        clip_vision=["vision", 0],
    )  # fmt: skip
    graph["steer"] = node(
        "I2AM_Steer", model=["loader", 0], strength=0.5, by="attention", through="everything", branch="both",
        mechanism="auto", reference_region=["scene", 3], generated_region=["scene", 1],
        **everything | {"reference": -1},
    )  # fmt: skip
    del graph["steer"]["inputs"]["item"]
    graph["capture"]["inputs"]["model"] = ["steer", 0]
    return graph


def joined_halves(inputs: Mapping[str, Any]) -> Graph:
    """Two samplers, the second of which goes on where the first ends, and their runs as one."""
    shared = {name: x for name, x in inputs.items() if name not in ("seed", "denoise", "steps")}
    graph, latent = {}, inputs["latent_image"]
    for number, ends in enumerate(((0, 1), (1, 2))):
        graph[f"half {number}"] = node(
            "KSamplerAdvanced", **shared | {"latent_image": latent}, noise_seed=1, steps=2, start_at_step=ends[0],
            end_at_step=ends[1], add_noise=("enable", "disable")[number],
            return_with_leftover_noise=("enable", "disable")[number],
        )  # fmt: skip
        latent = [f"half {number}", 0]
        graph[f"of half {number}"] = node("I2AM_Collect", capture=["capture", 1], samples=latent)
    graph["join"] = node("I2AM_JoinRuns", attribution_1=["of half 0", 0], attribution_2=["of half 1", 0])
    return graph


def with_ends(graph: Graph, target: str, info: Mapping[str, Any]) -> Graph:
    """What runs the node ``target`` and looks at all that it gives; of what goes into a sampler, also at its maps."""
    ends = [target, "collect"] if target in ("capture", "effect", "steer", "positive") else [target]
    sinks = {}
    for name in ends:
        for number, kind in enumerate(info[graph[name]["class_type"]]["output"]):
            sinks[f"sink {name} {number}"] = node("Hostile_Sink", value=[name, number], kind=kind)
    needed = set(before(graph, [target, *ends]))
    return {name: one for name, one in graph.items() if name in needed} | sinks


def before(graph: Graph, names: Iterable[str]) -> list[str]:
    """These nodes and all that they need."""
    reached, waiting = [], list(names)
    while waiting:
        name = waiting.pop()
        if name in graph and name not in reached:
            reached.append(name)
            waiting += [x[0] for x in graph[name]["inputs"].values() if isinstance(x, list)]
    return reached


def attacks(info: Mapping[str, Any], objects: Sequence[str]) -> Iterator[Attack]:
    """All of them. ``info`` is the server's ``/object_info``, ``objects`` names what the other pack hands out."""
    whole = working_graph()
    for target, one in whole.items():
        if not one["class_type"].startswith("I2AM_"):
            continue
        inputs = info[one["class_type"]]["input"]
        declared = {**inputs.get("required", {}), **inputs.get("optional", {})}
        assert declared.keys() >= one["inputs"].keys(), target
        for name, declaration in declared.items():
            graph = with_ends(whole, target, info)
            for what, changed in _variants(whole, graph, target, name, edges(declaration), objects):
                yield Attack(target, name, what, changed)
    yield from malformed(with_ends(whole, "maps", info))


def _variants(
    whole: Graph, graph: Graph, target: str, name: str, edges: Mapping[str, Any], objects: Sequence[str]
) -> Iterator[tuple[str, Graph]]:
    for what, value in {**edges, **LITERALS}.items():
        yield what, _changed(graph, target, name, value)
    for what, value in LINKS.items():
        reached = {x: whole[x] for x in before(whole, [value[0]])}
        yield what, _changed({**reached, **graph}, target, name, value)
    yield "link to itself", _changed(graph, target, name, [target, 0])
    for what in objects:
        yield (
            f"object: {what}",
            _changed(graph, target, name, ["hostile", 0]) | {"hostile": node("Hostile_Object", name=what)},
        )
    missing = _changed(graph, target, name, None)
    del missing[target]["inputs"][name]
    yield "missing", missing


def edges(declaration: Sequence[Any]) -> dict[str, Any]:
    """Where a number's range begins and ends, and just beyond; every value of a list."""
    kind, options = declaration[0], declaration[1] if len(declaration) > 1 else {}
    values: dict[str, Any] = {}
    for name, beyond in (("min", -1), ("max", 1)):
        if name in options:
            step = 1 if kind == "INT" else 1e-6
            values |= {name: options[name], f"beyond {name}": options[name] + beyond * step}
    choices = kind if isinstance(kind, list) else options.get("options", ())
    return values | {f"choice {x}": x for x in choices}


def _changed(graph: Graph, target: str, name: str, value: Any) -> Graph:
    one = graph[target]
    return {**graph, target: {**one, "inputs": {**one["inputs"], name: value}}}


def malformed(graph: Graph) -> Iterator[Attack]:
    """Graphs that are none."""
    one = graph["maps"]
    bodies = {
        "no inputs": {"class_type": one["class_type"]},
        "inputs that are a list": one | {"inputs": []},
        "inputs that are nothing": one | {"inputs": None},
        "no class": {"inputs": one["inputs"]},
        "unknown class": one | {"class_type": "I2AM_Nothing"},
        "class that is a list": one | {"class_type": []},
        "a node that is a word": "maps",
        "unknown input": one | {"inputs": one["inputs"] | {"unknown": 1, "": 2}},
    }
    for name, body in bodies.items():
        yield Attack("maps", "(graph)", name, {**graph, "maps": body})
    ring = {"maps": one | {"inputs": one["inputs"] | {"image": ["viewer", 0]}}}
    yield Attack("maps", "(graph)", "ring of two", {**graph, **ring, "viewer": node("I2AM_Maps", image=["maps", 0])})
    for name, whole in {"empty graph": {}, "graph that is a list": [], "graph that is nothing": None}.items():
        yield Attack("maps", "(graph)", name, whole)


# What comes of one


def outcome_of(server: ComfyServer, attack: Attack) -> Outcome:
    """Queue it and wait for its end."""
    try:
        answer = server.open("/prompt", json.dumps({"prompt": attack.graph}).encode(), "application/json")
    except urllib.error.HTTPError as error:
        return refused(error.code, error.read().decode(errors="replace"))
    prompt_id = json.loads(answer)["prompt_id"]
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        server.check_alive()
        entry = json.loads(server.get(f"/history/{prompt_id}")).get(prompt_id)
        if entry is not None:
            return ended(dict(entry["status"]["messages"]))
        time.sleep(0.005)
    server.interrupt()
    return Outcome("raw", f"no end within {SECONDS} s")


def refused(code: int, body: str) -> Outcome:
    """A graph that was not queued. Tracebacks in the answer say whose code failed."""
    if "maximum recursion depth" in body:  # it follows rings until it cannot, wherever it is then
        return Outcome("an exception of ComfyUI's own", f"{code}, a ring")
    ours = re.search(rf"File \\\"[^\"]*(?:custom_nodes/i2am/|{re.escape(str(places.ROOT))}/)(?!.host)[^\"]*", body)
    if ours:
        return Outcome("raw", f"{code}, in our code: {ours[0][-80:]}")
    if code == 400 and "exception_during" not in body:
        return Outcome("refused by ComfyUI")
    return Outcome("an exception of ComfyUI's own", f"{code} {body[:200]}")


def ended(events: Mapping[str, Any]) -> Outcome:
    """A graph that ran."""
    error = events.get("execution_error")
    if error is None:
        return Outcome("ran" if "execution_success" in events else "raw", "" if "execution_success" in events else "?")
    message = error["exception_message"].strip()
    detail = f"{error['node_type']}: {error['exception_type']}: {message[:300]!r}"
    if error["exception_type"] == "ValueError" and is_sentence(message) and error["node_type"].startswith(OURS):
        return Outcome("refused in a sentence", message)
    if not any("i2am" in line and ".host" not in line for line in error["traceback"]):
        return Outcome("an exception of ComfyUI's own", detail)
    return Outcome("raw", detail)


OURS = ("I2AM_", "KSampler")  # Steer's refusals end the sampler


def is_sentence(message: str) -> bool:
    return message.endswith((".", "?")) and message.isprintable() and 20 < len(message) <= LONGEST_MESSAGE


# All of it


@contextmanager
def hostile_server() -> Iterator[ComfyServer]:
    """A server that has both packs, and a saved attribution."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "custom_nodes").mkdir()
        (work / "custom_nodes" / "i2am_hostile").symlink_to(PACK, target_is_directory=True)
        whitelist = ["--whitelist-custom-nodes", "i2am", "i2am_hostile"]
        with ComfyServer(prepare(tests=True), work, whitelist) as server:
            graph = working_graph()
            server.run(with_ends(graph, "save", server.object_info()))
            yield server


def names_of_objects() -> list[str]:
    """Of what the other pack hands out: read without ComfyUI."""
    from reliability.hostile_pack import objects, valid

    return [name for name in objects() if name not in valid()]


def run(server: ComfyServer, chosen: Sequence[Attack]) -> Iterator[tuple[Attack, Outcome]]:
    for attack in chosen:
        yield attack, outcome_of(server, attack)


def selected(every: Sequence[Attack], count: int, seed: int) -> list[Attack]:
    """Some of them, evenly of all inputs: in turn one of each, in an order that ``seed`` gives."""
    order = random.Random(seed)
    by_input = collections.defaultdict(list)
    for attack in every:
        by_input[attack.node, attack.input].append(attack)
    for group in by_input.values():
        order.shuffle(group)
    longest = max(map(len, by_input.values()))
    in_turn = [group[n] for n in range(longest) for group in by_input.values() if n < len(group)]
    return in_turn[:count]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="a regular expression, of '<node>.<input> <- <what>'")
    parser.add_argument("--sample", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all", action="store_true", help="print what became of each")
    args = parser.parse_args()
    counts: collections.Counter[str] = collections.Counter()
    slowest = ("", 0.0)
    with one_sentence_errors(), hostile_server() as server:
        every = [x for x in attacks(server.object_info(), names_of_objects()) if re.search(args.only, str(x))]
        if args.sample:
            every = selected(every, args.sample, args.seed)
        start = last = time.monotonic()
        for attack, outcome in run(server, every):
            counts[outcome.kind] += 1
            now = time.monotonic()
            slowest = max(slowest, (str(attack), now - last), key=lambda pair: pair[1])
            last = now
            if args.all or outcome.kind == "raw":
                print(f"{outcome.kind}: {attack}: {outcome.detail}", flush=True)
        target = with_ends(working_graph(), "maps", server.object_info())
        after = outcome_of(server, Attack("maps", "", "the working graph", target))
    print(f"{len(every)} attacks in {now - start:.0f} s; the slowest took {slowest[1]:.1f} s: {slowest[0]}")
    for kind in KINDS:
        print(f"{counts[kind]:>6} {kind}")
    print(f"the working graph after it: {after.kind} {after.detail}")
    return 1 if counts["raw"] or after.kind != "ran" else 0


if __name__ == "__main__":
    sys.exit(main())
