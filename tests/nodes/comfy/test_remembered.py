"""What packs remember is put back, in whatever order their functions are in a run."""

import types

import pytest
import torch

from i2am_pack.nodes.comfy.remembered import put_back


class Counter:
    """Of the second pack."""

    def __init__(self):
        self.count = 0


Counter.__module__ = "second_pack.counter"


def functions_of_two_packs():
    """The first pack's is around the second's object."""
    counter = Counter()

    def outer():
        counter.count += 1

    def inner():
        pass

    outer.__module__, inner.__module__ = "first_pack", "second_pack"
    return counter, outer, inner


@pytest.mark.parametrize("reverse", [False, True])
def test_an_object_that_another_pack_reaches_first(reverse):
    counter, outer, inner = functions_of_two_packs()
    with put_back([inner, outer] if reverse else [outer, inner], []):
        outer()
    assert counter.count == 0


def test_an_object_of_a_pack_in_what_the_denoiser_keeps():
    counter, _, inner = functions_of_two_packs()
    denoiser = torch.nn.Module()
    denoiser.of_pack = {"memory": counter}
    with put_back([inner], [denoiser]):
        denoiser.of_pack["memory"].count += 1
        denoiser.of_pack["more"] = 1
    assert counter.count == 0 and denoiser.of_pack == {"memory": counter}


def test_what_is_of_no_pack_of_the_run_stays_as_it_is():
    counter, outer, _ = functions_of_two_packs()
    memory = types.SimpleNamespace(count=0)
    outer.memory = memory
    with put_back([outer], []):
        outer()
        memory.count += 1
    assert counter.count == 1 and memory.count == 0
