"""Demo models with permuted weights: the same numbers in another order, so that nothing that was learned is left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from zlib import crc32

import torch
from torch import nn

from ..demo.subject import CrossAttention, JointAttention, Subject

Block = tuple[str, list[nn.Module]]


def blocks_of(subject: Subject) -> list[Block]:
    """All that has weights, from the output to the input, by name."""
    denoiser = subject.model.model.diffusion_model
    if isinstance(subject, CrossAttention):
        return [
            ("out", [denoiser.out]),
            *_numbered("output", denoiser.output_blocks),
            *_numbered("input", denoiser.input_blocks),
            ("time", [denoiser.time_embed]),
            ("reference encoder", [subject.encoder]),
        ]
    assert isinstance(subject, JointAttention)
    modulations = [x for name, x in denoiser.named_children() if name.endswith(("modulation", "_img", "_txt"))]
    return [
        ("final", [denoiser.final_layer]),
        *_numbered("single", denoiser.single_blocks),
        *_numbered("double", denoiser.double_blocks),
        ("modulation, time", [*modulations, denoiser.time_in]),
        ("picture and text in", [denoiser.img_in, denoiser.txt_in]),
    ]


@contextmanager
def permuted(blocks: Sequence[Block]) -> Iterator[None]:
    """Within, each tensor of weights of these blocks has its numbers in another order, drawn from the block's name."""
    before = [(p, p.data.clone()) for _, modules in blocks for module in modules for p in module.parameters()]
    try:
        for name, modules in blocks:
            generator = torch.Generator().manual_seed(crc32(name.encode()))
            for parameter in (p for module in modules for p in module.parameters()):
                values = parameter.data.flatten()
                parameter.data.copy_(values[torch.randperm(len(values), generator=generator)].view_as(parameter))
        yield
    finally:
        for parameter, values in before:
            parameter.data.copy_(values)


def _numbered(name: str, blocks: Sequence[nn.Module]) -> list[Block]:
    """The last one first."""
    return [(f"{name} {number}", [blocks[number]]) for number in reversed(range(len(blocks)))]
