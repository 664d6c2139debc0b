"""I2AM Collect Runs in ComfyUI's own executor: the runs of the connected picture, whatever was queued before."""

import re

import execution
import pytest
import torch
from picture_nodes import NODES, Executor, keeps

import demo_graph
import nodes as comfyui_nodes
from demo_graph import node
from i2am_pack.demo.nodes import DEMO_NODES
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.collect_runs import I2AMCollectRuns

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", autouse=True)
def known_nodes():
    ours = {x.define_schema().node_id: x for x in (I2AMCapture, I2AMCollect, I2AMCollectRuns, *DEMO_NODES)}
    with pytest.MonkeyPatch.context() as patch:
        for name, one in (ours | NODES).items():
            patch.setitem(comfyui_nodes.NODE_CLASS_MAPPINGS, name, one)
        yield


def graph(way="once", kind="Detailer", which="all", number=0, budget_mb=512, seed=1, **other):
    """The demo, painted by a node that gives an IMAGE."""
    demo = demo_graph.build(steps=2)
    demo["capture"]["inputs"]["budget_mb"] = budget_mb
    demo["detailer"] = node(
        kind, model=["capture", 0], positive=["inpaint", 0], negative=["inpaint", 1], vae=["loader", 1],
        latent=["inpaint", 2], seed=seed, steps=2, way=way, **other,
    )  # fmt: skip
    demo["runs"] = node("I2AM_CollectRuns", capture=["capture", 1], image=["detailer", 0], which=which, number=number)
    for n, name in enumerate(("attributions", "image", "summary")):
        demo[name] = keeps(name, "runs", n)
    demo["sampler"]["inputs"] |= {"model": ["capture", 0], "steps": 2}
    demo["plain"] = node("VAEDecode", samples=["sampler", 0], vae=["loader", 1])
    return demo


def collected(executor, demo):
    """The attributions, and the summary."""
    values = executor.queue(demo, "attributions", "summary")
    return values["attributions"], values.get("summary", [""])[0]


def lines_of(summary):
    """Those that list the runs."""
    return [line.strip() for line in summary.splitlines() if re.match(r"  run \d+:", line)]


def test_the_node_runs_after_the_sampler_and_again_when_the_picture_changes():
    executor = Executor()
    (first,), summary = collected(executor, graph("once", which="last"))
    assert first.entries and first.steps == 2
    assert lines_of(summary) == ["run 0: a latent of 16x16, 2 steps, 1 reference, by Detailer (node detailer)"]
    assert executor.queue(graph("once", which="last"), "attributions", "summary") == {}
    assert {"capture", "detailer", "runs"} <= executor.cached
    (second,), summary = collected(executor, graph("once", which="last", seed=2))
    assert "capture" in executor.cached and not {"detailer", "runs"} & executor.cached
    assert second is not first and len(lines_of(summary)) == 1
    one, other = (x.entries[0, 0].maps["r2g_paper"] for x in (first, second))
    assert not torch.equal(one, other)


def test_it_is_the_attribution_that_collect_would_give_and_the_picture_is_the_same():
    executor, demo = Executor(), graph("once", which="last", seed=3)
    demo["pictures"] = keeps("pictures", "runs", 1)
    demo["of sampler"] = keeps("of sampler", "plain", 0)
    demo["of latent"] = keeps("of latent", "collect", 0)
    (picture,), (other,) = (executor.queue(demo, name)[name] for name in ("pictures", "of sampler"))
    assert torch.equal(picture, other)
    (attribution,), _ = collected(executor, demo)
    (by_latent,) = executor.queue(demo, "of latent")["of latent"]
    for place, entry in attribution.entries.items():
        for key, values in entry.maps.items():
            assert torch.equal(values, by_latent.entries[place].maps[key])


def test_without_capture_the_picture_is_the_same():
    demo = graph("tiles")
    (with_capture,) = Executor().queue(demo, "image")["image"]
    demo["detailer"]["inputs"]["model"] = ["loader", 0]
    demo["bare"] = keeps("bare", "detailer", 0)
    (bare,) = Executor().queue(demo, "bare")["bare"]
    assert torch.equal(with_capture, bare)


@pytest.mark.parametrize(
    ("way", "sizes"),
    [
        ("once", ["16x16"]),
        ("twice", ["16x16"] * 2),
        ("tiles", ["8x8"] * 4),
        ("whole and tiles", ["16x16", *["8x8"] * 4]),
    ],
)
def test_several_runs_of_one_picture(way, sizes):
    executor = Executor()
    attributions, summary = collected(executor, graph(way))
    assert [str(x.grid) for x in attributions] == sizes
    assert [re.search("latent of (.*?),", line)[1] for line in lines_of(summary)] == sizes
    for number in dict.fromkeys((0, len(sizes) - 1, -1, -len(sizes))):
        (one,), _ = collected(executor, graph(way, which="by number", number=number))
        assert one is attributions[number]
        assert "detailer" in executor.cached  # another number does not sample again
    (last,), _ = collected(executor, graph(way, which="last"))
    assert last is attributions[-1]


def test_what_is_not_known_of_places_is_said():
    _, summary = collected(Executor(), graph("whole and tiles"))
    assert all(f"run {n} is on a smaller latent than others" in summary for n in range(1, 5))
    assert "run 0 is on" not in summary and "nor where a part lies" in summary
    _, summary = collected(Executor(), graph("strip"))
    assert "run 0: its latent has not the shape of the picture" in collected(Executor(), cropped("strip"))[1]
    _, summary = collected(Executor(), graph("once"))
    assert "not known" not in summary and "not the shape" not in summary


def cropped(way):
    """The picture is put back into a larger one, as a detailer does."""
    demo = graph(way)
    demo["paste"] = node(
        "ImageScale", image=["detailer", 0], upscale_method="bicubic", width=64, height=64, crop="disabled"
    )
    demo["runs"]["inputs"]["image"] = ["paste", 0]
    return demo


def test_runs_of_earlier_queues_do_not_count():
    executor = Executor()
    for seed in (1, 5, 9):
        attributions, summary = collected(executor, graph("twice", seed=seed))
        assert len(attributions) == len(lines_of(summary)) == 2 and "earlier queue" not in summary


def test_a_cached_sampler_and_one_that_runs_made_the_picture_together():
    """A base picture, which stays, goes into a detailer that samples again."""
    executor, demo = Executor(), graph("twice", image=["plain", 0])
    attributions, summary = collected(executor, demo)
    assert [line.partition(", by ")[2] for line in lines_of(summary)] == [
        "KSampler (node sampler)",
        *["Detailer (node detailer)"] * 2,
    ]
    demo["detailer"]["inputs"]["seed"] = 8
    again, summary = collected(executor, demo)
    assert "sampler" in executor.cached and "detailer" not in executor.cached
    assert again[0] is attributions[0] and again[1] is not attributions[1] and len(again) == 3
    assert [", in an earlier queue" in line for line in lines_of(summary)] == [True, False, False]
    demo["runs"]["inputs"]["image"] = ["plain", 0]
    alone, _ = collected(executor, demo)
    assert len(alone) == 1 and alone[0] is attributions[0]


def test_a_picture_that_comes_back_from_a_cache_has_its_own_runs():
    """An LRU cache keeps outputs of earlier queues: the newest runs are not those of the picture."""
    executor = Executor(execution.CacheType.LRU, lru=100)
    first, _ = collected(executor, graph("twice", seed=1))
    collected(executor, graph("twice", seed=20))
    (back,), summary = collected(executor, graph("twice", seed=1, which="by number", number=1))
    assert "detailer" in executor.cached and "runs" not in executor.cached
    assert back is first[1]
    assert all("in an earlier queue" in line for line in lines_of(summary))


def test_runs_of_another_branch_of_the_graph_do_not_count():
    executor, demo = Executor(), graph("once")
    demo["other"] = node("Detailer", **demo["detailer"]["inputs"] | {"seed": 33, "way": "twice"})
    demo["other picture"] = keeps("other picture", "other", 0)
    executor.queue(demo, "other picture", "attributions", "summary")
    _, summary = collected(executor, graph("once", which="last"))
    assert [line.partition(" by ")[2] for line in lines_of(summary)] == [
        "Detailer (node detailer), in an earlier queue"
    ]


@pytest.mark.parametrize("idempotent", [True, False])
def test_two_nodes_with_equal_inputs(idempotent, monkeypatch):
    """ComfyUI takes the picture of the one for that of the other, unless a node says that it is not to do that."""
    monkeypatch.setattr(NODES["Detailer"], "NOT_IDEMPOTENT", not idempotent, raising=False)
    executor, demo = Executor(), graph("once")
    demo["other"] = node("Detailer", **demo["detailer"]["inputs"])
    demo["of other"] = keeps("of other", "other", 0)
    executor.queue(demo, "of other")
    attributions, summary = collected(executor, demo)
    assert len(attributions) == 1
    (line,) = lines_of(summary)
    assert ("(node other), in an earlier queue" in line) == idempotent
    assert line.endswith("(node detailer)") != idempotent


def test_a_node_that_unfolds_into_others():
    executor = Executor()
    for seed in (1, 2):
        attributions, summary = collected(executor, graph(kind="Unfolding", seed=seed))
        assert len(attributions) == 1
        assert lines_of(summary)[0].endswith("by Unfolding (node detailer)")


def over_seeds(count=3, kind="Detailer", **more):
    """Pictures of a list of seeds."""
    demo = graph(kind=kind, **more)
    demo["seeds"] = node("Seeds", count=count)
    demo["detailer"]["inputs"]["seed"] = ["seeds", 0]
    demo["summaries"] = keeps("summaries", "runs", 2)
    return demo


def same(one, other):
    return all(
        torch.equal(x, other.entries[place].maps[key])
        for place, entry in one.entries.items()
        for key, x in entry.maps.items()
    )


@pytest.mark.parametrize(("way", "which"), [("once", "last"), ("once", "all"), ("twice", "last")])
def test_each_picture_of_a_list_has_its_own_runs(way, which):
    executor, demo = Executor(), over_seeds(way=way, which=which)
    values = executor.queue(demo, "attributions", "summaries")
    runs, summaries = values["attributions"], values["summaries"]
    assert len(runs) == len(summaries) == 3
    for seed, (run, summary) in enumerate(zip(runs, summaries, strict=True)):
        (alone,), _ = collected(Executor(), graph(way, which="last", seed=seed))
        assert same(run, alone)
        lines = lines_of(summary)
        assert len(lines) == (2 if way == "twice" else 1)
        assert all(line.endswith(f", for number {seed} of a list") == (seed > 0) for line in lines)
        assert "not known here" not in summary
    assert not same(runs[0], runs[1])


def test_what_is_made_once_counts_for_each_of_a_list():
    """A base picture, and a detailer that works on it with each seed."""
    demo = over_seeds(image=["plain", 0])
    values = Executor().queue(demo, "attributions", "summaries")
    by = [[line.partition(", by ")[2] for line in lines_of(summary)] for summary in values["summaries"]]
    assert by == [
        ["KSampler (node sampler)", f"Detailer (node detailer){f', for number {n} of a list' * (n > 0)}"]
        for n in range(3)
    ]


def test_nodes_between_that_are_called_for_each_keep_the_numbers():
    demo = over_seeds(which="last")
    for name, image in (("one", "detailer"), ("two", "one")):
        demo[name] = node(
            "ImageScale", image=[image, 0], upscale_method="bicubic", width=64, height=64, crop="disabled"
        )
    demo["runs"]["inputs"]["image"] = ["two", 0]
    runs = Executor().queue(demo, "attributions")["attributions"]
    apart = Executor().queue(over_seeds(which="last"), "attributions")["attributions"]
    assert len(runs) == 3 and all(same(one, other) for one, other in zip(runs, apart, strict=True))


def behind(kind, **more):
    """Pictures of a list that go through another node."""
    demo = over_seeds(**more)
    demo["behind"] = node(kind, images=["detailer", 0])
    demo["runs"]["inputs"]["image"] = ["behind", 0]
    return demo


MIXED = {
    "another order": lambda **more: behind("Turned", **more),
    "a node that unfolds": lambda **more: over_seeds(kind="Unfolding", **more),
    "a list that one call gives": lambda **more: graph("twice", kind="Single", **more),
    "lists of a list": lambda **more: over_seeds(kind="Single", **more),
}


@pytest.mark.parametrize("name", MIXED)
def test_which_run_made_which_picture_of_a_list_is_not_guessed(name):
    with pytest.raises(RuntimeError, match=r"which of these runs made which picture .*'by number': run 0"):
        collected(Executor(), MIXED[name](which="last"))
    attributions, summary = collected(Executor(), MIXED[name](which="all"))
    assert "which of these runs made which picture of the list is not known here" in summary
    assert len(lines_of(summary)) == (2 if "one call" in name else 3)
    (first, *_), _ = collected(Executor(), MIXED[name](which="by number", number=0))
    assert same(first, attributions[0])


def test_a_picture_for_which_nothing_was_sampled_gets_no_other_run():
    """The detailer detects something for two of three."""
    demo = over_seeds(way="unless the seed is 2")
    demo["runs"]["inputs"]["which"] = "last"
    with pytest.raises(RuntimeError, match="is not known here"):
        collected(Executor(), demo)
    demo = over_seeds(way="unless the seed is 1")
    demo["runs"]["inputs"]["which"] = "last"
    with pytest.raises(RuntimeError, match="no run that this I2AM Capture has kept made this picture"):
        collected(Executor(), demo)


def test_a_batch_of_a_list_was_made_by_all():
    demo = behind("Batched", which="last")
    (last,), summary = collected(Executor(), demo)
    assert len(lines_of(summary)) == 3 and "not known here" not in summary
    (alone,), _ = collected(Executor(), graph(which="last", seed=2))
    assert same(last, alone)


def test_a_list_of_numbers_for_one_picture():
    demo = graph("twice", which="by number")
    demo["seeds"] = node("Seeds", count=2)
    demo["runs"]["inputs"]["number"] = ["seeds", 0]
    runs, _ = collected(Executor(), demo)
    every, _ = collected(Executor(), graph("twice"))
    assert len(runs) == 2 and all(same(one, other) for one, other in zip(runs, every, strict=True))


def test_a_number_that_there_is_not():
    for number in (2, -3):
        with pytest.raises(
            RuntimeError, match=f"number of I2AM Collect Runs is {number}.*run 0: a latent of 16x16, 2 st"
        ):
            collected(Executor(), graph("twice", which="by number", number=number))


def test_dropped_runs_keep_their_numbers():
    executor = Executor()
    demo = graph("whole and tiles", budget_mb=1)
    demo["detailer"]["inputs"]["steps"] = 12
    attributions, summary = collected(executor, demo)
    lines = lines_of(summary)
    assert len(lines) == 5 and len(attributions) < 5
    assert "were dropped to stay within budget_mb" in lines[0] and "dropped" not in lines[-1]
    demo["runs"]["inputs"] |= {"which": "by number", "number": 0}
    with pytest.raises(
        RuntimeError, match=r"maps of run 0 were dropped.*raise budget_mb.*There are: .*run 4: a latent of"
    ):
        collected(executor, demo)
    demo["runs"]["inputs"] |= {"number": -1}
    (last,), _ = collected(executor, demo)
    assert last is attributions[-1]


def test_a_node_that_samples_nothing():
    with pytest.raises(RuntimeError, match=r"no sampler has used this I2AM Capture's model.*detected nothing"):
        collected(Executor(), graph("nothing"))
    executor = Executor()
    collected(executor, graph("once"))
    with pytest.raises(RuntimeError, match=r"no run .* made this picture.*Kept: a latent of 16x16, 2 steps.*Detailer"):
        collected(executor, graph("nothing"))


def test_a_picture_from_elsewhere():
    executor, demo = Executor(), graph("once")
    collected(executor, demo)
    demo["runs"]["inputs"]["image"] = ["scene", 0]
    with pytest.raises(RuntimeError, match=r"no run .* made this picture: connect the IMAGE"):
        collected(executor, demo)


def test_no_attention_and_no_effect():
    demo = graph("once")
    demo["capture"]["inputs"]["branch"] = "negative"
    with pytest.raises(RuntimeError, match=r"I2AM Effect, with its input without"):
        collected(Executor(), demo)


def test_where_nothing_is_known_of_a_picture_all_runs_count():
    demo = over_seeds(way="twice")
    demo["handle"] = keeps("handle", "capture", 1)
    (handle,) = Executor().queue(demo, "attributions", "handle")["handle"]
    of_picture = handle.runs_of(None)
    assert len(of_picture.runs) == 6 and not of_picture.mixed


def test_outside_of_a_graph_all_runs_are_listed():
    import workflow

    demo = workflow.make()
    model, handle = demo.capture()
    pictures = [demo.vae.decode(demo.sample(model, seed=seed)["samples"]) for seed in (1, 2)]
    attributions, image, summary = I2AMCollectRuns.execute(handle, pictures[1], "all", 0).args
    assert len(attributions) == 2 and image is pictures[1]
    assert summary.startswith("which of the runs made this picture is not known here")
