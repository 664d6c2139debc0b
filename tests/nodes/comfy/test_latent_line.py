"""Why no run made a latent, as the workflow says it: in ComfyUI's own executor, and of workflows of any shape."""

import pytest
from comfy.model_patcher import ModelPatcher
from queued import Queue, registered

import demo_graph
import nodes as comfyui_nodes
from demo_graph import node
from i2am_pack.nodes.comfy.handle import NO_RUN_YET, NOT_OF_THESE
from i2am_pack.nodes.comfy.latent_line import latent_line_of
from i2am_pack.nodes.comfy.present_workflow import why_no_run_here
from i2am_pack.nodes.comfy.why_no_run import why_no_run
from i2am_pack.nodes.comfy.workflow_graph import kind_of


class ForgetsAll:
    """As packs that make a model anew, or take away what they do not know: wrappers of others are gone."""

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"model": ("MODEL",)}}

    RETURN_TYPES, FUNCTION = ("MODEL",), "forget"
    RELATIVE_PYTHON_MODULE = "custom_nodes.forgets"

    def forget(self, model):
        return (ModelPatcher(model.model, model.load_device, model.offload_device),)


class SamplesInside:
    """As upscalers and detailers: it samples, and gives a picture only."""

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        kinds = {"model": "MODEL", "vae": "VAE", "positive": "CONDITIONING", "negative": "CONDITIONING"}
        return {"required": {name: (kind,) for name, kind in kinds.items()} | {"latent_image": ("LATENT",)}}

    RETURN_TYPES, FUNCTION = ("IMAGE",), "sample"
    RELATIVE_PYTHON_MODULE = "custom_nodes.inside"

    def sample(self, model, vae, positive, negative, latent_image):
        (latent,) = comfyui_nodes.common_ksampler(model, 1, 1, 1.0, "euler", "normal", positive, negative, latent_image)
        return (vae.decode(latent["samples"]),)


class SamplesAlone:
    """As packs that run the model in a loop of their own, without ComfyUI's sampling."""

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"model": ("MODEL",), "latent_image": ("LATENT",)}}

    RETURN_TYPES, FUNCTION = ("LATENT",), "sample"
    RELATIVE_PYTHON_MODULE = "custom_nodes.alone"

    def sample(self, model, latent_image):
        return ({"samples": latent_image["samples"] + 1},)


class SamplesFromPipe:
    """As packs that put a model and all else into one link."""

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"pipe": ("BASIC_PIPE",), "latent_image": ("LATENT",)}}

    RETURN_TYPES, FUNCTION = ("LATENT",), "sample"

    def sample(self, pipe, latent_image):
        return ({"samples": latent_image["samples"] + 1},)


class Switch:
    """As packs' switches: what it gives may be of any type."""

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"one": ("*",), "other": ("*",)}}

    @classmethod
    def VALIDATE_INPUTS(cls, input_types):  # noqa: N802
        return True

    RETURN_TYPES, FUNCTION = ("LATENT",), "choose"

    def choose(self, one, other):
        return (other,)


class Pipe:
    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"model": ("MODEL",)}}

    RETURN_TYPES, FUNCTION = ("BASIC_PIPE",), "put"

    def put(self, model):
        return (model,)


STAND_INS = (Switch, ForgetsAll, SamplesInside, SamplesAlone, SamplesFromPipe, Pipe)


@pytest.fixture
def queue():
    with pytest.MonkeyPatch.context() as patch:
        registered(patch, *STAND_INS)
        yield Queue()


def graph(**changes):
    """The demo in one step, with these nodes in it: a dictionary changes inputs of a node that is there."""
    whole = demo_graph.build(steps=1)
    names = ("scene", "loader", "positive", "negative", "inpaint", "capture", "sampler", "collect")
    nodes = {name: node(whole[name]["class_type"], **whole[name]["inputs"]) for name in names}
    nodes["sampler"]["inputs"]["model"] = ["capture", 0]
    for name, change in changes.items():
        nodes[name] = change if "class_type" in change else nodes[name] | {"inputs": nodes[name]["inputs"] | change}
    return nodes


def behind(other, index=0, **more):
    """A graph whose Collect is given the output of another node than the sampler."""
    return graph(collect={"samples": [other, index]}, **more)


ADVANCED = {"noise_seed": 1, "steps": 4, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal"}


def advanced(start, end):
    inputs = {"positive": ["inpaint", 0], "negative": ["inpaint", 1], "latent_image": ["inpaint", 2]}
    widgets = {"add_noise": "enable", "return_with_leftover_noise": "disable"}
    steps = {"start_at_step": start, "end_at_step": end}
    return node("KSamplerAdvanced", model=["capture", 0], **ADVANCED, **inputs, **widgets, **steps)


def custom(denoise, split=None):
    """A sampler whose sigmas come from a scheduler, or from this node behind it."""
    return behind(
        "custom",
        guider=node("CFGGuider", model=["capture", 0], positive=["inpaint", 0], negative=["inpaint", 1], cfg=1.0),
        sigmas=node("BasicScheduler", model=["loader", 0], scheduler="normal", steps=2, denoise=denoise),
        select=node("KSamplerSelect", sampler_name="euler"),
        noise=node("RandomNoise", noise_seed=1),
        custom=node(
            "SamplerCustomAdvanced", noise=["noise", 0], guider=["guider", 0], sampler=["select", 0],
            sigmas=["split", 1] if split else ["sigmas", 0], latent_image=["inpaint", 2],
        ),
        **({"split": split} if split else {}),
    )  # fmt: skip


def number(value):
    return node("PrimitiveFloat" if isinstance(value, float) else "PrimitiveInt", value=value)


def two_samplers(join="LatentComposite", second=None, **more):
    """A latent that both samplers have a part in, or either."""
    ends = {
        "LatentComposite": {"samples_to": ["sampler", 0], "samples_from": ["second", 0], "x": 8, "y": 8, "feather": 0},
        "LatentBatch": {"samples1": ["sampler", 0], "samples2": ["second", 0]},
        "Switch": {"one": ["sampler", 0], "other": ["second", 0]},
    }
    second = {"model": ["loader", 0], "seed": 5} | (second or {})
    nodes = behind("join", join=node(join, **ends[join]), **more)
    nodes["second"] = node("KSampler", **nodes["sampler"]["inputs"] | second)
    return nodes


SEVERAL = (
    "this latent comes from several samplers, 'KSampler' (node sampler) and 'KSampler' (node second) (from all of "
    "them, or from one), and I2AM Collect takes the maps of one run. "
)


UPSCALE = {"upscale_method": "nearest-exact", "width": 256, "height": 256, "crop": "disabled"}
CROP = {"width": 32, "height": 32, "x": 0, "y": 0}
CASES = {
    "no Capture on the line": (
        graph(sampler={"model": ["loader", 0]}),
        "the model of 'KSampler' (node sampler), which made this latent, does not come from 'I2AM_Capture' (node "
        "capture): connect the MODEL output of that I2AM Capture to it.",
    ),
    "another Capture": (
        graph(sampler={"model": ["capture 2", 0]}, **{"capture 2": graph()["capture"]}),
        "the model of 'KSampler' (node sampler), which made this latent, comes from another I2AM Capture, "
        "'I2AM_Capture' (node capture 2): connect the capture output of that one.",
    ),
    "no sampler": (
        behind("empty", empty=node("EmptyLatentImage", width=64, height=64, batch_size=1)),
        "no sampler made this latent in this workflow: it comes from 'EmptyLatentImage' (node empty). Connect the "
        "LATENT output of the sampler that uses the model of 'I2AM_Capture' (node capture).",
    ),
    "denoise 0": (
        graph(sampler={"denoise": 0.0}),
        "'KSampler' (node sampler) samples nothing, since its denoise is 0 (set it above 0): the latent that it is "
        "given goes through as it is, and there is nothing to capture.",
    ),
    "start after end": (graph(sampler=advanced(3, 2)), "it starts at step 3 and ends at step 2 (the end has to be"),
    "start is end": (graph(sampler=advanced(2, 2)), "it starts at step 2 and ends at step 2 (the end has to be after"),
    "start after all": (graph(sampler=advanced(4, 10000)), "it starts at step 4 of 4 (the start has to be before"),
    "denoise 0 of the sigmas": (custom(0.0), "since the denoise of 'BasicScheduler' (node sigmas) is 0 (set it above"),
    "denoise 0 of sigmas that are split": (
        custom(0.0, node("SplitSigmas", sigmas=["sigmas", 0], step=1)),
        "'SamplerCustomAdvanced' (node custom) samples nothing, since the denoise of 'BasicScheduler' (node sigmas) is "
        "0 (set it above 0)",
    ),
    "denoise 0 of sigmas that are split by denoise": (
        custom(0.0, node("SplitSigmasDenoise", sigmas=["sigmas", 0], denoise=0.5)),
        "since the denoise of 'BasicScheduler' (node sigmas) is 0 (set it above",
    ),
    "denoise 0 from a node": (
        graph(sampler={"denoise": ["zero", 0]}, zero=number(0.0)),
        "'KSampler' (node sampler) samples nothing, since its denoise is 0 (set it above 0)",
    ),
    "steps from a node": (
        graph(sampler=advanced(4, 10000) | {"inputs": advanced(4, 10000)["inputs"] | {"steps": ["four", 0]}},
              four=number(4)),
        "it starts at step 4 of 4 (the start has to be before",
    ),
    "a composite of two samplers": (
        two_samplers(),
        SEVERAL + "Connect the LATENT output of 'KSampler' (node sampler) itself, which samples with the model of "
        "'I2AM_Capture' (node capture).",
    ),
    "a batch of two samplers": (two_samplers("LatentBatch"), SEVERAL + "Connect the LATENT output of 'KSampler' (n"),
    "a switch of two samplers": (two_samplers("Switch"), SEVERAL + "Connect the LATENT output of 'KSampler' (n"),
    "two samplers, of which the nearest is idle": (two_samplers(sampler={"denoise": 0.0}), SEVERAL),
    "two samplers of one Capture": (
        two_samplers(second={"model": ["capture", 0]}),
        SEVERAL + "Connect the LATENT output of 'KSampler' (node sampler) or 'KSampler' (node second) itself, which",
    ),
    "two samplers of no Capture": (
        two_samplers(sampler={"model": ["loader", 0]}),
        SEVERAL + "Connect the LATENT output of the one that is to have maps itself, and the MODEL output of "
        "'I2AM_Capture' (node capture) to that sampler.",
    ),
    "a wrapper that was dropped": (
        graph(forgets=node("ForgetsAll", model=["capture", 0]), sampler={"model": ["forgets", 0]}),
        "'KSampler' (node sampler) has its model from 'I2AM_Capture' (node capture) by way of 'ForgetsAll' (node "
        "forgets), but no run has come to that I2AM Capture. It may be that the node between leaves out what I2AM "
        "Capture has added to the model (place I2AM Capture behind it, right before the sampler), or that",
    ),
    "dropped on a line of several": (
        graph(
            forgets=node("ForgetsAll", model=["capture", 0]),
            guider=node("ForgetsAll", model=["forgets", 0]),
            sampler={"model": ["guider", 0]},
        ),
        "by way of 'ForgetsAll' (node forgets) and 'ForgetsAll' (node guider), but no run has come to that I2AM "
        "Capture. It may be that one of the nodes between leaves out",
    ),
    "a sampler of its own": (
        graph(sampler=node("SamplesAlone", model=["capture", 0], latent_image=["inpaint", 2])),
        "'SamplesAlone' (node sampler) has its model from 'I2AM_Capture' (node capture), but no run has come to that "
        "I2AM Capture. It may be that 'SamplesAlone' (node sampler) does not sample in ComfyUI's own way",
    ),
    "upscaled": (
        behind("upscale", upscale=node("LatentUpscale", samples=["sampler", 0], **UPSCALE)),
        "between 'KSampler' (node sampler) and this node the latent goes through 'LatentUpscale' (node upscale): a "
        "latent that was changed after sampling has no maps here. Connect the LATENT output of 'KSampler' (node "
        "sampler) itself.",
    ),
    "cropped": (
        behind("crop", crop=node("LatentCrop", samples=["sampler", 0], **CROP)),
        "goes through 'LatentCrop' (node crop): a latent that was changed",
    ),
    "pasted": (
        behind(
            "paste",
            paste=node("LatentComposite", samples_to=["inpaint", 2], samples_from=["sampler", 0], x=8, y=8, feather=0),
        ),
        "goes through 'LatentComposite' (node paste): a latent that was changed",
    ),
    "decoded and encoded": (
        behind(
            "encode",
            decode=node("VAEDecode", samples=["sampler", 0], vae=["loader", 1]),
            encode=node("VAEEncode", pixels=["decode", 0], vae=["loader", 1]),
        ),
        "goes through 'VAEDecode' (node decode) and 'VAEEncode' (node encode): a latent that was changed",
    ),
    "a node that gives a picture": (
        behind(
            "encode",
            inside=node(
                "SamplesInside", model=["capture", 0], vae=["loader", 1], positive=["inpaint", 0],
                negative=["inpaint", 1], latent_image=["inpaint", 2],
            ),
            encode=node("VAEEncode", pixels=["inside", 0], vae=["loader", 1]),
        ),
        "'SamplesInside' (node inside) samples with the model of 'I2AM_Capture' (node capture), but gives pictures and "
        "no latent: what was encoded from a picture is not what it sampled. Use I2AM Collect Runs",
    ),
    "a model that is in a pipe": (
        behind(
            "piped",
            pipe=node("Pipe", model=["capture", 0]),
            piped=node("SamplesFromPipe", pipe=["pipe", 0], latent_image=["inpaint", 2]),
        ),
        NO_RUN_YET,
    ),
    "behind a sampler in a pipe": (
        behind(
            "piped",
            pipe=node("Pipe", model=["capture", 0]),
            piped=node("SamplesFromPipe", pipe=["pipe", 0], latent_image=["sampler", 0]),
        ),
        NOT_OF_THESE.format(1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_proved_is_said(queue, name):
    nodes, sentence = CASES[name]
    assert sentence in queue.run(nodes, "collect")


@pytest.mark.parametrize(
    "nodes",
    [
        graph(),
        custom(0.5),
        graph(sampler=advanced(1, 3)),
        behind("collect 2", 1, **{"collect 2": graph()["collect"]}),
    ],
)
def test_what_was_sampled_is_collected(queue, nodes):
    assert queue.run(nodes, "collect") == ""


def test_a_collect_behind_another_is_no_node_that_changes(queue):
    """One hands the latent on as it is: it is not named among those that change it."""
    nodes = behind(
        "collect 2",
        1,
        upscale=node("LatentUpscale", samples=["sampler", 0], **UPSCALE),
        **{"collect 2": node("I2AM_Collect", capture=["capture", 1], samples=["upscale", 0])},
    )
    (sampler,) = latent_line_of("collect", nodes, kind_of).samplers
    assert [one.number for one in sampler.between] == ["upscale"]


def test_titles_are_named_and_cannot_take_over_a_terminal(queue):
    nodes = graph(sampler={"denoise": 0.0})
    nodes["sampler"]["_meta"] = {"title": "My \x1b[31msampler"}
    assert "'My \\x1b[31msampler' (node sampler) samples nothing" in queue.run(nodes, "collect")


def test_the_collect_is_cached_by_what_it_was_before(queue):
    """Its number in the workflow is no part of it: one of another number, with the same inputs, is not run again."""
    assert "UNIQUE_ID" not in comfyui_nodes.NODE_CLASS_MAPPINGS["I2AM_Collect"].INPUT_TYPES()["hidden"].values()
    assert queue.run(graph(), "collect") == ""
    renumbered = {("another" if name == "collect" else name): node for name, node in graph().items()}
    assert queue.run(renumbered, "another") == "" and "another" not in queue.executed()


class Workflow:
    def __init__(self, nodes):
        self.nodes = nodes

    def all_node_ids(self):
        return set(self.nodes)

    def get_node(self, number):
        return self.nodes[number]


IDLE = graph(sampler={"denoise": 0.0})  # of which it is known why there are no maps
NOT_SAMPLED = behind("x", x=node("LatentUpscale", samples=["inpaint", 2]))


def but(whole, **changes):
    """The workflow with other nodes in it; None takes one out."""
    return {name: about for name, about in (whole | changes).items() if about is not None}


def with_inputs(name, whole=IDLE, **inputs):
    return but(whole, **{name: whole[name] | {"inputs": whole[name]["inputs"] | inputs}})


SAMPLER = IDLE["sampler"]
BROKEN = {  # a workflow that says why, and what is wrong with the other one
    "no nodes": (IDLE, {}),
    "a node that is text": (IDLE, but(IDLE, collect="text")),
    "no inputs": (IDLE, but(IDLE, collect={"class_type": "I2AM_Collect"})),
    "inputs that are a list": (IDLE, but(IDLE, sampler=SAMPLER | {"inputs": [1, 2]})),
    "two Collects": (IDLE, but(IDLE, other=IDLE["collect"])),
    "no link to a latent": (IDLE, with_inputs("collect", samples=3)),
    "no link to a Capture": (IDLE, with_inputs("collect", capture="x")),
    "a link to nowhere": (IDLE, but(IDLE, sampler=None)),
    "an output that is not there": (IDLE, with_inputs("sampler", model=["capture", 7])),
    "an output below 0": (IDLE, with_inputs("sampler", model=["capture", -2])),
    "a class that is a list": (IDLE, but(IDLE, sampler=SAMPLER | {"class_type": ["KSampler"]})),
    "a loop": (
        but(IDLE, **behind("a", a=node("LatentUpscale", samples=["b", 0]), b=NOT_SAMPLED["x"])),
        but(IDLE, **behind("a", a=node("LatentUpscale", samples=["b", 0]), b=node("LatentUpscale", samples=["a", 0]))),
    ),
    "a class that is not installed": (NOT_SAMPLED, but(NOT_SAMPLED, x=node("NotHere", samples=["inpaint", 2]))),
    "a class whose inputs are not known": (NOT_SAMPLED, with_inputs("x", NOT_SAMPLED, pipe=["sampler", 5])),
}


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("name", BROKEN)
def test_a_workflow_that_cannot_be_read_says_nothing(queue, name, started):
    whole, broken = BROKEN[name]
    assert why_no_run_here(Workflow(whole), started)
    assert why_no_run_here(Workflow(broken), started) == ""


def test_no_workflow_says_nothing(queue):
    assert why_no_run_here(None, False) == ""


SPLIT = node("SplitSigmas", sigmas=["sigmas", 0], step=1)
NOT_PROVED = {  # that a sampler samples nothing, of what would be said if the value were 0, or the node another one
    "a number that a node works out": graph(sampler={"denoise": ["worked out", 0]}, **{"worked out": node("Random")}),
    "a number that comes to a node": graph(
        sampler={"denoise": ["number", 0]}, number=node("PrimitiveFloat", value=["worked out", 0]),
        **{"worked out": node("Random")},
    ),
    "no number": graph(sampler={"denoise": float("nan")}),
    "truth": graph(sampler={"denoise": False}),
    "a sampler of a pack": graph(
        sampler=node("SamplesAlone", model=["capture", 0], latent_image=["inpaint", 2], denoise=0.0)
    ),
    "a scheduler that may give more steps": graph(
        sampler=advanced(4, 10000) | {"inputs": advanced(4, 10000)["inputs"] | {"scheduler": "ddim_uniform"}}
    ),
    "sigmas of a pack": custom(0.0) | {"sigmas": node("SamplesAlone", denoise=0.0)},
    "one sigma": custom(1.0, node("SplitSigmasDenoise", sigmas=["sigmas", 0], denoise=0.0)),
    "sigmas in a circle": custom(0.0, SPLIT | {"inputs": SPLIT["inputs"] | {"sigmas": ["split", 0]}}),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_PROVED)
def test_what_is_not_proved_is_not_said(queue, name):
    """Each of them is one of several causes at most, and none of a latent that was changed after a run."""
    line = latent_line_of("collect", NOT_PROVED[name], kind_of)
    assert len(line.samplers) == 1
    for started in (False, True):
        assert "samples nothing" not in why_no_run(line, started)


def test_a_long_line_is_read_to_its_end(queue):
    nodes = graph(sampler={"denoise": 0.0})
    for number in range(5000):
        nodes[f"x{number}"] = node("LatentUpscale", samples=[f"x{number - 1}" if number else "sampler", 0])
    nodes["collect"]["inputs"]["samples"] = ["x4999", 0]
    sentence = why_no_run(latent_line_of("collect", nodes, kind_of), started=True)
    assert "samples nothing" in sentence
    nodes["sampler"]["inputs"]["denoise"] = 1.0
    assert "and 4994 more" in why_no_run(latent_line_of("collect", nodes, kind_of), started=True)
