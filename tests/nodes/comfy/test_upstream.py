"""Why no run made a latent, as the workflow says it: in ComfyUI's own executor, and of workflows of any shape."""

import pytest
from comfy.model_patcher import ModelPatcher
from queued import Queue, registered

import demo_graph
import nodes as comfyui_nodes
from demo_graph import node
from i2am_pack.nodes.comfy.handle import NO_RUN_YET, NOT_OF_THESE
from i2am_pack.nodes.comfy.present_workflow import kind_of, why_no_run_here
from i2am_pack.nodes.comfy.upstream import upstream_of, why_no_run


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


class Pipe:
    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"model": ("MODEL",)}}

    RETURN_TYPES, FUNCTION = ("BASIC_PIPE",), "put"

    def put(self, model):
        return (model,)


STAND_INS = (ForgetsAll, SamplesInside, SamplesAlone, SamplesFromPipe, Pipe)


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


def custom(denoise):
    return behind(
        "custom",
        guider=node("CFGGuider", model=["capture", 0], positive=["inpaint", 0], negative=["inpaint", 1], cfg=1.0),
        sigmas=node("BasicScheduler", model=["loader", 0], scheduler="normal", steps=2, denoise=denoise),
        select=node("KSamplerSelect", sampler_name="euler"),
        noise=node("RandomNoise", noise_seed=1),
        custom=node(
            "SamplerCustomAdvanced", noise=["noise", 0], guider=["guider", 0], sampler=["select", 0],
            sigmas=["sigmas", 0], latent_image=["inpaint", 2],
        ),
    )  # fmt: skip


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
    upstream = upstream_of("collect", nodes, kind_of)
    assert [one.number for one in upstream.between] == ["upscale"]


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


LOOP = {
    "collect": node("I2AM_Collect", capture=["capture", 1], samples=["a", 0]),
    "a": node("LatentUpscale", samples=["b", 0]),
    "b": node("LatentUpscale", samples=["a", 0]),
    "capture": node("I2AM_Capture", model=["capture", 0]),
}
BROKEN = {
    "none": None,
    "no nodes": Workflow({}),
    "a node that is text": Workflow({"collect": "text"}),
    "no inputs": Workflow({"collect": {"class_type": "I2AM_Collect"}}),
    "inputs that are a list": Workflow({"collect": {"class_type": "I2AM_Collect", "inputs": [1, 2]}}),
    "two Collects": Workflow({"a": graph()["collect"], "b": graph()["collect"]}),
    "no link": Workflow({"collect": node("I2AM_Collect", samples=3, capture="x")}),
    "links to nowhere": Workflow({"collect": graph()["collect"]}),
    "an output that is not there": Workflow(graph(sampler={"model": ["capture", 7]})),
    "an output below 0": Workflow(graph(sampler={"model": ["capture", -1]})),
    "a loop": Workflow(LOOP),
    "a class that is not installed": Workflow(behind("x", x=node("NotHere", samples=["inpaint", 2]))),
    "a class that is a list": Workflow(graph(sampler={"class_type": ["KSampler"], "inputs": {}})),
    "NaN": Workflow(graph(sampler={"denoise": float("nan"), "model": ["loader", 0]}, loader=node("NotHere"))),
}


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("name", BROKEN)
def test_a_workflow_that_cannot_be_read_says_nothing(queue, name, started):
    assert why_no_run_here(BROKEN[name], started) == ""


def test_a_long_line_is_read_to_its_end(queue):
    nodes = graph(sampler={"denoise": 0.0})
    for number in range(5000):
        nodes[f"x{number}"] = node("LatentUpscale", samples=[f"x{number - 1}" if number else "sampler", 0])
    nodes["collect"]["inputs"]["samples"] = ["x4999", 0]
    sentence = why_no_run(upstream_of("collect", nodes, kind_of), started=True)
    assert "samples nothing" in sentence
    nodes["sampler"]["inputs"]["denoise"] = 1.0
    assert "and 4994 more" in why_no_run(upstream_of("collect", nodes, kind_of), started=True)
