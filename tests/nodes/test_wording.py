"""What the core refuses, in the words of the nodes: the widget, and what to do."""

import pytest

from i2am_pack.i2am_core import errors
from i2am_pack.nodes.wording import WORDS, in_words, words

CASES = [
    (errors.UnresolvedAxis("steps", "0", ("0-4", "5-9")), "within budget_mb this attribution kept the groups 0-4, 5-9"),
    (errors.UnresolvedAxis("steps", "0", ("0-4",)), "raise budget_mb and sample again"),
    (
        errors.UnresolvedAxis("heads", "3", within="steps"),
        "heads '3' are not resolved in single steps: budget_mb was enough",
    ),
    (errors.UnresolvedAxis("heads", within="frames"), "single heads are not resolved in single frames"),
    (errors.UnresolvedAxis("heads", "3"), "only their mean fitted budget_mb: write 'all', not '3'"),
    (errors.UnresolvedAxis("heads"), "only their mean fitted budget_mb. Raise it"),
    (errors.UnresolvedAxis("steps", "0", pairs=True), "use 'all' for both"),
    (errors.NoLayout(0, "face", 4), "use the direction 'reference to generated'"),
    (errors.InOneRun("B", errors.EmptyRegion()), "in B, the region is empty"),
    (errors.InOneRun("A", ValueError("no effect.")), "in A, no effect."),
    (errors.NoPairMaps(), "set pair_maps of I2AM Capture to 'inpainting mask' or 'everywhere'"),
    (errors.NoPairMaps(outside=True), "set pair_maps of I2AM Capture to 'everywhere' and sample again"),
    (errors.EmptyRegion(), "paint the part of the image"),
    (errors.OnlyOnPicture(), "use the direction 'reference to generated', or choose one reference"),
    (errors.BadFile("a.safetensors", "missing"), "choose one that I2AM Save wrote"),
    (errors.BadFile("a.safetensors", "foreign"), "choose one that I2AM Save wrote"),
    (errors.BadFile("a\x1b.safetensors", "no file"), r"a\x1b.safetensors is a folder, a pipe or a device"),
    (errors.BadFile("a.safetensors", "too large", "9 GB"), "(9 GB): lower budget_mb of I2AM Capture"),
    (errors.BadFile("a.safetensors", "damaged", "why"), "a.safetensors is damaged or not a safetensors file (why)"),
    (errors.UnknownReference(3, 2), "reference 3 does not exist: this run has 2"),
    (errors.UnknownReference(0, 0), "normalization 'effect' with the direction 'reference to generated'"),
    (errors.NoEffects(), "beside I2AM Capture on the MODEL line, connect its model to the sampler, and sample again"),
    (errors.NoEffects(["the text: no tokens"]), "measured nothing in this run (the text: no tokens): see to that"),
    (errors.NotMeasured(2, "C", measured=["A", "B"]), "that of A; B: choose one of these in effect_of and ref"),
    (
        errors.NotMeasured(2, "C", reason="why", measured=["A"]),
        "of C (why), but that of A: choose one of these in effect_of and reference, or mend that and sample again",
    ),
    (errors.NotMeasured("text", "the text", measured=["A"]), "set owners of I2AM Effect to 'references and text'"),
    (errors.NotMeasured("conditioning", "all that", measured=["A"]), "connect 'without' of I2AM Effect"),
    (errors.NotMeasured("all references", "all", measured=["A"]), "choose one of these in effect_of"),
    (errors.NotMeasured(0, "A", "directly", measured=["A"]), "set effect_through to 'everything'"),
    (errors.NotMeasured(0, "A", measured=["A, by itself"]), "set effect_through to 'directly', or through"),
    (errors.NoEffectInSteps("0-1", "A", [2, 3]), "in steps '0-1', but in 2, 3: set steps to some"),
    (errors.NoRegions(0, "A"), "set regions of I2AM Effect, to 4 for example, and sample again"),
    (errors.NoRegions("text", "the text"), "set effect_of to 'reference', or the direction to"),
    (errors.NoRegions(0, "A", "only this left", ["taken away"]), "in this way, but taken away: choose that (in by"),
    (errors.NoEffectLevel("head"), "set heads and layers to 'all', and level to 'unified', 'time', 'reference' or 'fr"),
    (errors.NoEffectLevel("time", regions=True), "set level to 'unified'"),
    (errors.EffectTooSmall(0, "A", 0.002, 0.001), "0.002 latent units, and the noise floor is 0.001"),
    (errors.NotOneRun("sigmas", "0", "14.6"), "end_at_step of the first must be start_at_step of the second"),
    (errors.NotOneRun("items", 1, 2), "one made 1 picture(s), and the other 2. To join them, connect the latent"),
    (errors.NotOneRun("grid", "4x4", "8x8"), "on a latent of 4x4, and the other on 8x8. To join them, connect"),
    (errors.NotOneRun("branch", "positive", "negative"), "set branch of both I2AM Captures to the same"),
    (errors.UnknownItem(3, 2), "item 3 does not exist: this run made 2 picture(s)"),
]


@pytest.mark.parametrize(("error", "text"), CASES, ids=lambda x: type(x).__name__)
def test_users_read_what_to_do(error, text):
    assert text in words(error)
    with pytest.raises(ValueError) as caught, in_words():
        raise error
    assert str(caught.value) == words(error) and caught.value.__cause__ is error
    assert not isinstance(caught.value, errors.AttributionError)


def test_every_sentence_that_is_worded_is_tried():
    assert set(WORDS) <= {type(error) for error, _ in CASES}


@pytest.mark.parametrize("text", ["x" * 100_000, "a\nb\x1b[31mc", "\ud800", "\u202e"])
def test_what_someone_typed_does_not_spoil_the_sentence(text):
    sentence = words(errors.BadSelection("steps", text, 4, "unreadable"))
    assert sentence.isprintable() and len(sentence) <= 600
    assert sentence.startswith("cannot read '") and sentence.endswith("write 'all', numbers such as '0-4,10'.")


def test_other_errors_stay_as_they_are():
    with pytest.raises(KeyError), in_words():
        raise KeyError("a mistake")
