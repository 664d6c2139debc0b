"""A saved attribution, taken apart and put together again with a change that nobody who saves one would make."""

import json

from safetensors import safe_open
from safetensors.torch import save_file

from i2am_core.files.checksum import KEY, checksum


def rewrite(path, change, sealed=True):
    """Change the header and the tensors of a file. ``sealed``: with the checksum that the changed content has."""
    with safe_open(path, "pt") as file:
        tensors, header = {k: file.get_tensor(k) for k in file.keys()}, json.loads(file.metadata()["i2am"])  # noqa: SIM118
    change(header, tensors)
    write(path, json.dumps(header), tensors, sealed)


def write(path, header, tensors, sealed=True):
    metadata = {"i2am": header} | ({KEY: checksum(header, tensors)} if sealed else {})
    save_file(tensors, path, metadata=metadata)


def as_version_1(path):
    """Make of a file what version 1 wrote, in which heads were kept in each step."""

    def change(header, tensors):
        assert header.pop("heads") == "in each step"
        header.update(version=1, heads_kept=True)

    rewrite(path, change, sealed=False)


def raw(header, data=b"", length=None):
    """Bytes of a safetensors file with this header, said to be ``length`` bytes long."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data
