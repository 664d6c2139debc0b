"""The checksum of a file's content: one that was changed by accident never loads as something else."""

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor

from .container import type_of

KEY = "i2am_checksum"  # in the metadata


def checksum(header: str, tensors: Mapping[str, Tensor]) -> str:
    """Of the header's text, and of all contiguous tensors, in the order of their names: BLAKE2b, 32 bytes, as hex.

    First comes a line of JSON with the header, and of each tensor name, type and shape; then the bytes of all. Types
    and shapes say where a tensor ends, so that no two contents give the same bytes.
    """
    names = sorted(tensors)
    parts = [[name, type_of(tensors[name]), list(tensors[name].shape)] for name in names]
    digest = hashlib.blake2b(json.dumps([header, parts]).encode() + b"\n", digest_size=32)
    for name in names:
        digest.update(tensors[name].flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
