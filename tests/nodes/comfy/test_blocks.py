"""Packs that replace, add, reorder and nest attention: every block is accounted for, by its right name.

An account that shares no code with I2AM records every attention call of a run with the pack and without capture. Hooks
of its own say which block was running, and the pack's own marks which calls the pack made. What each case expects of
attention that cannot be observed is written by hand.
"""

import contextlib
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import attention_packs
import comfy.ldm.modules.attention
import comfy_extras.nodes_sag as nodes_sag
import ip_adapter_standin
import pytest
import tiny_graphs
import tiny_ltxv
import tiny_wan
import torch
from attention_packs import forwards, transformers, unet
from comfy.model_management import InterruptProcessingException
from mechanisms import Measured, expected_maps
from oracle import Call, Oracle

from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.comfy.tags import KEY, tag
from i2am_pack.nodes.tag_reference import I2AMTagReference

MAPS = ("r2g_share", "g2r_share", "g2r_paper", "r2g_paper")


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Several threads spin on tensors as small as these, above all where others use the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    outcome.cache_clear()


# The account


NAMES = {  # of attention blocks, by their place in the model; as in a run without a pack
    r"(input|output)_blocks\.(\d+)\.1\.transformer_blocks\.(\d+)": "{} {}.{}",
    r"middle_block\.1\.transformer_blocks\.(\d+)": "middle 0.{}",
    r"(double|single)_blocks\.(\d+)": "{} {}",
    r"transformer_blocks\.(\d+)": "double {}",
    r"(?:blocks|layers)\.(\d+)": "block {}",
    r"vace_blocks\.(\d+)": "vace {}",
    r"(\w+_refiner)\.(\d+)": "{} {}",
}


def name_of(path: str) -> str | None:
    matches = ((re.fullmatch(pattern, path), name) for pattern, name in NAMES.items())
    return next((name.format(*match.groups()) for match, name in matches if match), None)


@dataclass
class Site:
    block: str | None  # the innermost one that was running
    theirs: bool  # whether a pack made the call


class Account(Oracle):
    """Every attention call of a run, with its site.

    ``watched`` are the conditionings of the positive branch, as ``(forward, place in its batch)``.
    """

    def __init__(self, graph: tiny_graphs.Graph) -> None:
        super().__init__()
        self.sites: list[Site] = []
        self._running: list[str] = []
        with self._hooks(graph.model.model.diffusion_model):
            self.samples = graph.sample(self.on(graph.model))["samples"]
        first = [u for f in self.forwards for n, u in zip(f.cond_or_uncond, f.uuids, strict=True) if n == 0]
        known = first[: len(graph.positive)]  # later, a pack may call for the negative alone, as number 0
        self.watched = [(n, i) for n, f in enumerate(self.forwards) for i, uuid in enumerate(f.uuids) if uuid in known]

    @contextlib.contextmanager
    def _hooks(self, denoiser: torch.nn.Module):
        handles = []
        for path, module in denoiser.named_modules():
            if name := name_of(path):
                handles.append(module.register_forward_pre_hook(lambda *_, n=name: self._running.append(n)))
                handles.append(module.register_forward_hook(lambda *_: self._running.pop() and None))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _call(self, *args: Any) -> Call:
        self.sites.append(Site(self._running[-1] if self._running else None, attention_packs.is_theirs()))
        return super()._call(*args)

    def calls_of(self, forward: int) -> list[tuple[Call, Site]]:
        both = zip(self.calls, self.sites, strict=True)
        return [(call, site) for call, site in both if call.forward == forward]

    def rows(self, forward: int, place: int) -> range:
        known = self.forwards[forward]
        items = known.x[0] // len(known.uuids)
        return range(place * items, (place + 1) * items)

    @property
    def counted(self) -> int:
        """Calls on rows of the branch, for each of its conditionings."""
        return sum(len(self.calls_of(n)) for n, _ in self.watched)

    @property
    def counted_theirs(self) -> int:
        return sum(site.theirs for n, _ in self.watched for _, site in self.calls_of(n))


# The graphs


@dataclass(frozen=True)
class Reads:
    """How a reference is read: which calls do, the picture's rows, the reference's columns, and what is counted."""

    where: Callable[[Call], bool]
    picture: Callable[[Call], range]
    columns: Callable[[Call], list[int]]
    gain: Callable[[Call], torch.Tensor | None] = lambda call: None


def reads(length: int, picture: range, columns: range, queries: int | None = None) -> Reads:
    """Self-attention of a sequence of this length, or attention of ``queries`` to it."""
    rows = length if queries is None else queries
    return Reads(lambda c: (c.q.shape[2], c.k.shape[2]) == (rows, length), lambda c: picture, lambda c: list(columns))


def _side(call: Call) -> int:
    return round(call.q.shape[2] ** 0.5)


def _left(call: Call) -> list[int]:
    return [n for n in range(call.q.shape[2]) if n % _side(call) < _side(call) // 2]


def _right(call: Call) -> torch.Tensor:
    return (torch.arange(call.q.shape[2]) % _side(call) >= _side(call) // 2).float()


CANVAS = Reads(
    lambda c: c.q.shape[2] == c.k.shape[2] in (16, 64), lambda c: range(c.q.shape[2]), _left, lambda c: _right(c)
)
TAGGED = Reads(lambda c: c.k.shape[2] == 7 != c.q.shape[2], lambda c: range(c.q.shape[2]), lambda c: list(range(2, 6)))


def unet_graph(adapter: bool = False, **shape: Any) -> tiny_graphs.Graph:
    """A canvas, and text whose tokens 2 to 5 are tagged."""
    graph = tiny_graphs.sd15_canvas(**shape)
    tokens, about = graph.positive[0]
    graph.positive = [[tokens, about | {KEY: [tag("tagged", 2, tokens[:, 2:6], (2, 2))]}]]
    if adapter:
        seen = (tiny_graphs.noise(40, 1, 16, 8), tiny_graphs.noise(60, 1, 16, 8))
        weights = ip_adapter_standin.weights()
        graph.model = ip_adapter_standin.StandIn.apply(
            graph.model, weights, *seen, False, **ip_adapter_standin.SETTINGS
        )
    return graph


def redux_graph(**shape: Any) -> tiny_graphs.Graph:
    """Text of 7 tokens, and 729 that are tagged."""
    graph = tiny_graphs.flux_redux(**shape)
    tokens, about = graph.positive[0]
    before = [[tokens[:, :7], about]]
    graph.positive = I2AMTagReference.execute(before, graph.positive, None).args[0]
    return graph


UNET = [f"{name} {number}.0" for name, number in unet.BLOCKS]
FLUX = ["double 0", "double 1", "single 0", "single 1"]
WAN = ["block 0", "block 1"]
GUIDE = "guide 1" if tiny_ltxv.TOKENS_BY_GUIDE else "guide frame 1"


@dataclass(frozen=True)
class Kind:
    make: Callable[..., tiny_graphs.Graph]
    layers: list[str]
    references: dict[str, Reads]
    regions: bool = False
    besides: str = "none"  # a reference that other tests are about
    looked_into: int = 0  # calls in a forward that come through an adapter's contract, not the override
    through_adapter: frozenset = frozenset()  # what these read, which test_refusals.py is about


KINDS = {
    "unet": Kind(unet_graph, UNET, {"reference region": CANVAS, "tagged": TAGGED}, regions=True),
    "ip_adapter": Kind(
        functools.partial(unet_graph, True),
        UNET,
        {"reference region": CANVAS, "tagged": TAGGED},
        True,
        "IP-Adapter",
        looked_into=4,  # two blocks; in each, text and adapter
        through_adapter=frozenset({("tagged", "input 1.0"), ("tagged", "output 3.0")}),
    ),
    "kontext": Kind(
        tiny_graphs.flux_kontext,
        FLUX,
        {
            "reference latent 1": reads(33, range(7, 19), range(19, 27)),
            "reference latent 2": reads(33, range(7, 19), range(27, 33)),
        },
    ),
    "redux": Kind(redux_graph, FLUX, {"style tokens": reads(748, range(736, 748), range(7, 736))}),
    "qwen": Kind(
        tiny_graphs.qwen_edit,
        ["double 0", "double 1"],
        {
            "reference latent 1": reads(33, range(7, 19), range(19, 27)),
            "reference latent 2": reads(33, range(7, 19), range(27, 33)),
        },
    ),
    "omnigen2": Kind(
        tiny_graphs.omnigen2_edit,
        WAN,
        {
            "reference latent 1": reads(33, range(21, 33), range(7, 15)),
            "reference latent 2": reads(33, range(21, 33), range(15, 21)),
        },
    ),
    "phantom": Kind(
        tiny_graphs.wan_phantom,
        WAN,
        {
            "reference frame 1": reads(24, range(12), range(12, 18)),
            "reference frame 2": reads(24, range(12), range(18, 24)),
        },
    ),
    "fun": Kind(tiny_graphs.wan_fun_reference, WAN, {"reference frame 1": reads(18, range(6, 18), range(6))}),
    "vace": Kind(
        tiny_graphs.wan_vace, ["block 0", "vace 0", "block 1"], {"reference frame 1": reads(18, range(6, 18), range(6))}
    ),
    "i2v": Kind(tiny_graphs.wan_i2v, WAN, {"start image": reads(257, range(12), range(1, 257), 12)}),
    "wan_text": Kind(tiny_graphs.wan_text, [], {}),
    "animate": Kind(
        functools.partial(tiny_wan.animate, clip=False),
        WAN,
        {
            "reference frame 1": Reads(
                reads(18, range(18), range(6)).where,
                lambda c: range(18),
                lambda c: [*range(6)],
                lambda c: (torch.arange(18) >= 6).float(),
            )
        },
    ),
    "guides": Kind(tiny_ltxv.guides, ["double 0", "double 1"], {GUIDE: reads(32, range(24), range(24, 32))}),
}


# The cases


@dataclass(frozen=True)
class Case:
    """A pack on a graph.

    ``unobserved`` is how many attentions of blocks cannot be observed, in each forward of the branch. A layer is
    ``lost`` where one of these reads the reference; of an ``unsure`` one the pack makes the call itself: its maps are
    this call's, or a reason names the pack. ``names`` are what a reason may call the pack's function, all in
    ``module``.
    """

    kind: str
    pack: Callable[[Any], Any]
    names: tuple[str, ...] = ()
    module: str = ""
    unobserved: int = 0
    lost: frozenset[tuple[str, str]] = frozenset()  # reference, layer
    unsure: frozenset[tuple[str, str]] = frozenset()
    shape: dict[str, Any] = field(default_factory=dict)
    capture_first: bool = False
    twice: bool = False  # the positive conditioning is there two times, and counts as two


def at(references: str | tuple[str, ...], layers: list[str]) -> frozenset[tuple[str, str]]:
    references = (references,) if isinstance(references, str) else references
    return frozenset((r, layer) for r in references for layer in layers)


def all_of(kind: str, *layers: str) -> frozenset[tuple[str, str]]:
    return at(tuple(KINDS[kind].references), list(layers))


CASES: dict[str, Case] = {f"no pack on {kind}": Case(kind, lambda model: model.clone()) for kind in KINDS}


def case(title: str, kind: str, function: Callable, *args: Any, names: Any = (), **about: Any) -> None:
    """``function(model, *args)``; without ``names`` the pack makes and replaces nothing that reasons should name."""
    if names and "module" not in about:
        about["module"] = function.__module__
    names = (names,) if isinstance(names, str) else names
    CASES[f"{title} on {kind}"] = Case(kind, lambda model: function(model, *args), names, **about)


# U-Net: replacements

ONE = (("input", 3),)
for which, reference in (("attn1", "reference region"), ("attn2", "tagged")):
    for blocks, layers in ((ONE, ["input 3.0"]), (unet.BLOCKS, UNET)):
        several = "all" if len(blocks) > 1 else "one"
        for parts in (2, 3) if several == "one" else (2,):
            title = f"{which} of {several} by {parts} parts"
            wholly = at(reference, layers)
            case(
                f"{title} with options",
                "unet",
                unet.replaces,
                unet.with_options,
                which,
                blocks,
                parts,
                names="with_options",
                unsure=wholly,
            )
            for function in (unet.without_options, unet.softmax_by_hand):
                case(
                    f"{title} {function.__name__}",
                    "unet",
                    unet.replaces,
                    function,
                    which,
                    blocks,
                    parts,
                    names=function.__name__,
                    unobserved=len(blocks),
                    lost=wholly,
                )
case(
    "attn2 by an object",
    "unet",
    unet.replaces,
    unet.Recording(),
    "attn2",
    ONE,
    names=("Recording.__call__", "Recording"),
    unobserved=1,
    lost=at("tagged", ["input 3.0"]),
)
for title, function, name in (
    ("a bound method", unet.Recording().record, "Recording.record"),
    ("a partial", functools.partial(unet.with_a_setting, 0.9), "with_a_setting"),
):
    lost = at("tagged", ["input 3.0"])
    case(f"attn2 by {title}", "unet", unet.replaces, function, "attn2", ONE, names=name, unobserved=1, lost=lost)
case(
    "attn1 without options and capture first",
    "unet",
    unet.replaces,
    unet.without_options,
    "attn1",
    ONE,
    names="without_options",
    unobserved=1,
    lost=at("reference region", ["input 3.0"]),
    capture_first=True,
)
for cfg in (1.0, 3.0):
    case(
        f"self-attention guidance cfg {cfg}",
        "unet",
        lambda model: tiny_graphs.run(nodes_sag.SelfAttentionGuidance, model, 0.5, 2.0)[0],
        names="SelfAttentionGuidance.execute.<locals>.attn_and_record",
        module="comfy_extras.nodes_sag",
        unobserved=1,
        lost=at("reference region", ["middle 0.0"]),
        shape={"cfg": cfg},
    )
case("daam", "unet", unet.daam, names="daam.<locals>.heat.<locals>.hook", unobserved=7, lost=at("tagged", UNET))
case(
    "attn1 without options beside an adapter",
    "ip_adapter",
    unet.replaces,
    unet.without_options,
    "attn1",
    ONE,
    names="without_options",
    unobserved=1,
    lost=at("reference region", ["input 3.0"]),
)
case(
    "attn2 without options beside an adapter",
    "ip_adapter",
    unet.replaces,
    unet.without_options,
    "attn2",
    (("middle", 0),),
    names="without_options",
    unobserved=1,
    lost=at("tagged", ["middle 0.0"]),
)
CASES["no pack on ip_adapter"] = Case("ip_adapter", lambda model: model.clone())

# U-Net: one more beside

for function, name in (
    (unet.self_attention_output, "look_twice"),
    (unet.text_attention_output, "mix"),
    (unet.before_self_attention, "look_first"),
    (unet.before_text_attention, "look_first"),
):
    for also, about in {
        "": {},
        ", a batch": {"shape": {"batch": 2}},
        ", uneven": {"shape": {"lengths": (7, 9)}},
        ", capture first": {"capture_first": True},
        ", two conditionings": {"twice": True},
    }.items():
        title = f"one more {function.__name__.replace('_', ' ')}{also}"
        case(title, "unet", function, names=f"{function.__name__}.<locals>.{name}", **about)
case(
    "one more beside an adapter",
    "ip_adapter",
    unet.self_attention_output,
    names="self_attention_output.<locals>.look_twice",
)

# A block's own forward, in every family

BLOCKS = {  # graph: path of a block, its layer, and how many attentions it has
    "unet": ("input_blocks.3.1.transformer_blocks.0", "input 3.0", 2),
    "kontext": ("double_blocks.0", "double 0", 1),
    "redux": ("single_blocks.1", "single 1", 1),
    "qwen": ("transformer_blocks.0", "double 0", 1),
    "omnigen2": ("layers.0", "block 0", 1),
    "phantom": ("blocks.0", "block 0", 2),
    "fun": ("blocks.1", "block 1", 2),
    "vace": ("vace_blocks.0", "vace 0", 2),
    "i2v": ("blocks.0", "block 0", 3),
}
for kind, (path, layer, attentions) in BLOCKS.items():
    case("forward calls original", kind, forwards.calls_original, path)
    case("another module around a block", kind, forwards.wraps_module, path)
    for before in (False, True):
        title = "forward adds one " + ("before" if before else "after")
        case(title, kind, forwards.adds, path, before, names="adds.<locals>.forward")
    case(
        "forward without attention",
        kind,
        forwards.without,
        path,
        names=("without.<locals>.forward",),
        unobserved=attentions,
        lost=all_of(kind, layer),
    )
case("forward of another adds one", "vace", forwards.adds, "blocks.1", names="adds.<locals>.forward")
case(
    "attn1.forward without attention",
    "unet",
    forwards.attention_without,
    "input_blocks.3.1.transformer_blocks.0.attn1",
    names="attention_without.<locals>.attend",
    unobserved=1,
    lost=at("reference region", ["input 3.0"]),
)
for kind in ("phantom", "vace", "fun"):
    case(
        "self_attn.forward without attention",
        kind,
        forwards.attention_without,
        "blocks.1.self_attn",
        names="attention_without.<locals>.attend",
        unobserved=1,
        lost=all_of(kind, "block 1"),
    )
case("refiner adds one", "omnigen2", forwards.adds, "noise_refiner.0", names="adds.<locals>.forward")

# Blocks replaced by ComfyUI's own means

DIT = {
    "kontext": (("double_block", 0), ("single_block", 1)),
    "redux": (("double_block", 1),),
    "phantom": (("double_block", 0), ("double_block", 1)),
    "fun": (("double_block", 0), ("double_block", 1)),
    "vace": (("double_block", 0), ("double_block", 1)),
    "i2v": (("double_block", 0), ("double_block", 1)),
    "wan_text": (("double_block", 0), ("double_block", 1)),
}
for kind, blocks in DIT.items():
    case("blocks wrapped", kind, transformers.wraps_blocks, blocks)
    for before in (False, True):
        title = "blocks wrapped and one more " + ("before" if before else "after")
        case(title, kind, transformers.adds_to_blocks, blocks, before, names="adds_to_blocks.<locals>.wrap")
case(
    "blocks wrapped and one more, guided",
    "kontext",
    transformers.adds_to_blocks,
    DIT["kontext"],
    False,
    names="adds_to_blocks.<locals>.wrap",
    shape={"cfg": 3.0, "batch": 2},
)
for number, kind_of_block in enumerate(("double_block", "single_block")):
    layer = f"{kind_of_block.removesuffix('_block')} {number}"
    case(
        f"{kind_of_block} replaced",
        "kontext",
        transformers.replaces_blocks,
        ((kind_of_block, number),),
        names="replaces_blocks.<locals>.block",
        unobserved=1,
        lost=all_of("kontext", layer),
    )
OF_A_BLOCK = {"phantom": 2, "fun": 2, "vace": 2, "i2v": 3, "wan_text": 2, "animate": 2, "guides": 2}  # attentions
for kind, attentions in OF_A_BLOCK.items():
    case(
        "block replaced",
        kind,
        transformers.replaces_blocks,
        (("double_block", 1),),
        names="replaces_blocks.<locals>.block",
        unobserved=attentions,
        lost=all_of(kind, *KINDS[kind].layers[-1:]),
    )
case("blocks in another order", "kontext", transformers.reorders, unsure=all_of("kontext", "double 0", "double 1"))
case("a block twice", "kontext", transformers.runs_twice, (("double_block", 1),), unsure=all_of("kontext", "double 1"))
case("a block twice", "phantom", transformers.runs_twice, (("double_block", 1),), unsure=all_of("phantom", "block 1"))

# Attention in attention

for kind in ("unet", "kontext", "qwen", "phantom", "vace", "i2v", "wan_text", "animate", "guides"):
    for first in (False, True):
        title = "attention in attention" + (", capture first" if first else "")
        case(title, kind, transformers.nests, names="nests.<locals>.override", capture_first=first)
    case("attention by an override", kind, transformers.nests_by_hand)

# Wan

TEXT_TWICE = transformers.attends_to_text_twice
NAG = ("attends_twice", "TwoTexts.__get__.<locals>.attend")
for kind in ("phantom", "fun", "i2v", "wan_text"):
    unsure = all_of("i2v", *WAN) if kind == "i2v" else frozenset()
    case("attention to the text twice", kind, TEXT_TWICE, names=NAG, unsure=unsure)
case("attention to the text twice", "vace", TEXT_TWICE, "vace_blocks", names=NAG)
case("attention to the text twice in main blocks", "vace", TEXT_TWICE, names=NAG)
case(
    "attention to the text twice and uneven",
    "phantom",
    transformers.attends_to_text_twice,
    names=NAG,
    shape={"lengths": (9, 14)},
)
for kind, tokens in (("phantom", 24), ("fun", 18), ("vace", 18), ("i2v", 12), ("wan_text", 12)):
    about = {"names": "attends_before_the_blocks.<locals>.attend"}
    case("one before the blocks", kind, transformers.attends_before_the_blocks, tokens, **about)
    case(
        "one while embedding",
        kind,
        transformers.attends_while_embedding,
        names="attends_while_embedding.<locals>.embed",
    )


# The tests


@dataclass
class Outcome:
    account: Account
    attribution: Any
    plain: torch.Tensor
    watched: torch.Tensor
    state: tuple[Any, Any]  # of the modules, after the run without capture and after the one with
    handle: Any = None


@functools.cache
def outcome(title: str) -> Outcome:
    about, kind = CASES[title], KINDS[CASES[title].kind]
    graph = kind.make(**about.shape)
    if about.twice:
        graph.positive = [[tokens, dict(options)] for tokens, options in graph.positive * 2]
    bare, graph.model = graph.model, about.pack(graph.model)
    watched, handle = captured(bare if about.capture_first else graph.model, kind)
    watched = about.pack(watched) if about.capture_first else watched
    account = Account(graph)
    plain = graph.sample()["samples"]
    before = state_of(graph.model)
    samples = graph.sample(watched)["samples"]
    return Outcome(account, handle.find(samples), plain, samples, (before, state_of(graph.model)), handle)


def captured(model, kind):
    left = torch.zeros(1, 8, 8)
    left[:, :, :4] = 1
    return I2AMCapture.execute(model, "auto", "positive", "off", 512, None, left if kind.regions else None).args


def state_of(model):
    """What could stay behind in the modules, and beside them."""
    hooks = torch.nn.modules.module
    modules = {
        path: (
            frozenset(vars(module)),
            vars(module).get("forward"),
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
        )
        for path, module in model.model.named_modules()
    }
    everywhere = len(hooks._global_forward_hooks), len(hooks._global_forward_pre_hooks)
    functions = comfy.ldm.modules.attention.optimized_attention, nodes_sag.optimized_attention
    options = model.model_options["transformer_options"]
    return modules, everywhere, functions, {name: repr(value) for name, value in options.items()}


def assert_nothing_stays(before, after):
    assert after[1:] == before[1:] and before[1] == (0, 0)
    for path, known in before[0].items():
        assert after[0][path] == known, path
        assert after[0][path][2:] == (0, 0), path


@pytest.mark.parametrize("title", CASES)
def test_the_picture_does_not_change_and_nothing_stays_patched(title):
    run = outcome(title)
    assert torch.equal(run.plain, run.watched)
    assert torch.equal(run.plain, run.account.samples)
    assert_nothing_stays(*run.state)


@pytest.mark.parametrize("title", CASES)
def test_captured_and_skipped_are_all(title):
    """Calls that are observed, and attentions of blocks that are not, for each forward that has the branch."""
    run, about = outcome(title), CASES[title]
    reported = run.attribution.captured_calls + sum(run.attribution.skipped.values())
    conditionings = len(run.account.watched)
    assert conditionings == 2 * (1 + about.twice)
    beside = conditionings * (about.unobserved + KINDS[about.kind].looked_into)
    assert reported == run.account.counted + beside
    assert all(reason and "could not read" not in reason for reason in run.attribution.skipped)


@pytest.mark.parametrize("title", CASES)
def test_blocks_have_the_names_of_a_run_without_the_pack(title):
    attribution, about = outcome(title).attribution, CASES[title]
    kind = KINDS[about.kind]
    names = [layer.name for layer in attribution.layers]
    assert len(names) == len(set(names))
    got = {(attribution.references[r].name, attribution.layers[n].name) for r, n in attribution.entries}
    got = {(r, layer) for r, layer in got if r != kind.besides}
    expected = at(tuple(kind.references), kind.layers)
    assert got <= expected - about.lost
    assert got >= expected - about.lost - about.unsure


@pytest.mark.parametrize("title", [title for title, about in CASES.items() if not about.twice])
def test_maps_of_a_block_are_its_own(title):
    """Those of its own call: a pack's beside it counts for nothing; a block that runs twice has the one or the mean."""
    run, kind = outcome(title), KINDS[CASES[title].kind]
    attribution = run.attribution
    for (r, n), entry in attribution.entries.items():
        reference, layer = attribution.references[r].name, attribution.layers[n].name
        if reference not in kind.references or (reference, layer) in kind.through_adapter:
            continue
        for step, watched in enumerate(run.account.watched):
            choices = choices_of(run.account, watched, layer, kind.references[reference])
            assert choices, f"{layer} has not read {reference}"
            got = {name: entry.maps[name][:, step].double() for name in MAPS}
            assert any(close(got, choice) for choice in choices), (
                f"{layer}, {reference}, step {step}: share {got['r2g_share'].mean():.4f}, in truth "
                f"{[round(float(choice['r2g_share'].mean()), 4) for choice in choices]}"
            )


def choices_of(account, watched, layer, reads):
    """What the maps may be, of the block's own calls; only where it has none, of the pack's inside it."""
    forward, place = watched
    sites = [(c, site) for c, site in account.calls_of(forward) if site.block == layer and reads.where(c)]
    calls = [c for c, site in sites if not site.theirs] or [c for c, _ in sites]
    rows = account.rows(forward, place)
    choices = [expected_maps(measured(c, rows, reads.picture(c)), reads.columns(c), reads.gain(c)) for c in calls]
    if len(choices) > 1:
        choices.append({name: torch.stack([x[name] for x in choices]).mean(0) for name in MAPS})
    return choices


def measured(call, rows, picture):
    def stacked(values):
        return torch.stack([torch.stack([values(call, r, h)[list(picture)] for h in range(call.heads)]) for r in rows])

    return Measured(stacked(Oracle.weights), stacked(Oracle.logits))


def close(got, expected):
    return all(
        got[name].shape == expected[name].shape and torch.allclose(got[name], expected[name], atol=2e-5, rtol=1e-3)
        for name in MAPS
    )


@pytest.mark.parametrize("title", [title for title, about in CASES.items() if about.names])
def test_the_reason_names_the_packs_function(title):
    """Each call that the pack makes, and each attention that it hides: never another's."""
    run, about = outcome(title), CASES[title]
    named = {
        reason: count
        for reason, count in run.attribution.skipped.items()
        if about.module in reason and any(name in reason for name in about.names)
    }
    expected, said = run.account.counted_theirs + about.unobserved * len(run.account.watched), sum(named.values())
    attribution = run.attribution
    got = {(attribution.references[r].name, attribution.layers[n].name) for r, n in attribution.entries}
    assert 0 <= said <= expected != 0
    unsure, skipped = bool(got & about.unsure), attribution.skipped
    assert said == expected or unsure, f"{said} of {expected} are named in {skipped}"


@pytest.mark.parametrize("title", [t for t, about in CASES.items() if not (about.names or about.unsure)])
def test_a_pack_that_takes_nothing_away_is_not_blamed(title):
    assert not any("attention_packs" in reason for reason in outcome(title).attribution.skipped)


def test_collect_names_the_pack_where_nothing_is_left():
    """A daam on a text of tagged tokens: Collect refuses, and names the function."""
    graph = unet_graph()
    watched, handle = I2AMCapture.execute(unet.daam(graph.model), "auto", "positive", "off", 512).args
    with pytest.raises(ValueError, match=r"daam\.<locals>\.heat\.<locals>\.hook.*attention_packs\.unet"):
        I2AMCollect.execute(handle, graph.sample(watched))


def test_an_adapter_in_a_closure():
    """An IP-Adapter that a pack calls inside a function of its own: intercepted, or a skip that names what hides it."""
    graph = unet_graph(adapter=True)
    graph.model = unet.daam(graph.model)
    watched, handle = captured(graph.model, KINDS["ip_adapter"])
    account, samples = Account(graph), graph.sample(watched)["samples"]
    assert torch.equal(samples, account.samples)
    attribution = handle.find(samples)
    beside = attribution.captured_calls + sum(attribution.skipped.values()) - account.counted
    assert beside in (2 * 7, 2 * (5 + 4))  # of the 7 blocks, 2 have an adapter; looked into, they make 2 calls each
    named = sum(count for reason, count in attribution.skipped.items() if "heat.<locals>.hook" in reason)
    assert named >= 2 * 5


@pytest.mark.parametrize("kind", ["unet", "kontext", "phantom"])
def test_blocks_that_did_not_run_are_not_counted(kind):
    """The second of two steps is answered from a cache of the whole model."""
    graph, about = KINDS[kind].make(), KINDS[kind]
    bare, graph.model = graph.model, transformers.answers_from_a_cache(graph.model)
    model, handle = captured(graph.model, about)
    account, samples = Account(graph), graph.sample(model)["samples"]
    assert torch.equal(samples, account.samples)
    attribution = handle.find(samples)
    reported = attribution.captured_calls + sum(attribution.skipped.values())
    graph.model = bare
    assert reported == account.counted == Account(graph).counted / 2
    assert {layer.name for layer in attribution.layers} == set(about.layers)


@pytest.mark.parametrize("kind", ["unet", "kontext", "phantom"])
def test_hooks_of_others_stay_and_are_called(kind):
    graph, about, seen = KINDS[kind].make(), KINDS[kind], []
    block = graph.model.model.diffusion_model.get_submodule(BLOCKS[kind][0])
    handles = [
        block.register_forward_pre_hook(lambda module, args: seen.append("before")),
        block.register_forward_hook(lambda module, args, output: seen.append("after")),
    ]
    model, _ = captured(graph.model, about)
    samples = graph.sample(model)["samples"]
    assert seen == ["before", "after"] * 2
    assert (len(block._forward_pre_hooks), len(block._forward_hooks)) == (1, 1)
    for handle in handles:
        handle.remove()
    assert torch.equal(samples, graph.sample()["samples"])


FAILING = {"unet": "output_blocks.1.1.transformer_blocks.0", "kontext": "double_blocks.1", "phantom": "blocks.1"}


@pytest.mark.parametrize("kind", FAILING)
@pytest.mark.parametrize(
    "error", [RuntimeError("broken pack"), InterruptProcessingException()], ids=lambda e: type(e).__name__
)
def test_a_run_that_ends_early_leaves_nothing_and_the_next_is_right(kind, error):
    """The run ends inside a block, in its second step."""
    graph, about = KINDS[kind].make(), KINDS[kind]
    before = state_of(graph.model)
    graph.model = forwards.fails_once(graph.model, FAILING[kind], error)
    model, handle = captured(graph.model, about)
    with pytest.raises(type(error)):
        graph.sample(model)
    after = state_of(graph.model)
    assert all(x[2:] == (0, 0) for x in after[0].values()) and after[1] == (0, 0) and after[2] == before[2]
    samples = graph.sample(model)["samples"]
    account = Account(graph)
    assert torch.equal(samples, account.samples)
    attribution = handle.find(samples)
    assert attribution.captured_calls + sum(attribution.skipped.values()) == account.counted
    assert {layer.name for layer in attribution.layers} == set(about.layers)
    for (r, n), entry in attribution.entries.items():
        way = about.references[attribution.references[r].name]
        for step, watched in enumerate(account.watched):
            choices = choices_of(account, watched, attribution.layers[n].name, way)
            assert any(close({m: entry.maps[m][:, step].double() for m in MAPS}, c) for c in choices)


def test_several_runs_at_once_with_and_without_a_pack():
    """The model of the pack and the bare one are one model: hooks of one run are gone before the next begins."""
    graph = tiny_graphs.wan_phantom()
    packed = transformers.attends_to_text_twice(graph.model)
    runs = []
    for model in (graph.model, packed, graph.model):
        watched, handle = I2AMCapture.execute(model, "auto", "positive", "off", 512).args
        runs.append(handle.find(graph.sample(watched)["samples"]))
    first, between, last = runs
    assert {layer.name for layer in between.layers} == {layer.name for layer in first.layers} == set(WAN)
    assert first.skipped == last.skipped
    for key, entry in first.entries.items():
        assert all(torch.equal(entry.maps[name], last.entries[key].maps[name]) for name in MAPS)
