"""One table for both models, of numbers whose means are known."""

import torch

from i2am_pack.validation.side_by_side import best_baseline, in_short, side_by_side


def scores(**means):
    return {name.replace("_", ", "): {"x": torch.tensor([mean, mean])} for name, mean in means.items()}


def test_each_model_has_its_columns_and_what_it_lacks_is_empty():
    one = {"Effect": {"a": torch.tensor([0.0, 1.0]), "b": torch.tensor([1.0, 1.0])}}
    other = {"share": {"a": torch.tensor([0.25, 0.25])}}
    heads, rows = side_by_side({"first": one, "second": other})
    assert heads == ["", "first: a", "first: b", "second: a"]
    assert rows == [
        ["Effect", "**0.50 [0.00, 1.00]**", "**1.00 [1.00, 1.00]**", ""],
        ["share", "", "", "**0.25 [0.25, 0.25]**"],
    ]


def test_baselines_come_last_and_the_truth_is_never_bold():
    of = scores(object=1.0, random=0.1, Effect=0.5, share=0.75)
    _, rows = side_by_side({"model": of})
    assert [row[0] for row in rows] == ["Effect", "share", "random", "object"]
    assert ["**" in row[1] for row in rows] == [False, True, False, False]


def test_the_truth_is_no_rival():
    assert best_baseline(scores(Effect=0.9, random=0.5, edges=0.7, object=0.95), "x") == "edges"


def test_maps_are_named_from_the_highest_on_and_then_the_best_baseline():
    of = scores(share=0.5, Effect=0.9, random=0.1, edges=0.2, object=1.0)
    assert in_short(of, "x") == (
        "Effect 0.90 [0.90, 0.90], share 0.50 [0.50, 0.50], the best baseline, edges, 0.20 [0.20, 0.20], "
        "the truth of where the object is 1.00 [1.00, 1.00]"
    )


def test_what_cannot_be_told_from_the_highest_is_bold_too():
    """Scene by scene: one that is lower in every scene is told from it, however the scenes differ from each other."""
    top = torch.tensor([0.9, 0.1, 0.5, 0.7, 0.3, 0.6])
    of = {"a": {"x": top}, "b": {"x": top.flip(0) - 0.01}, "c": {"x": top - 0.02}}
    _, rows = side_by_side({"model": of})
    assert ["**" in row[1] for row in rows] == [True, True, False]
