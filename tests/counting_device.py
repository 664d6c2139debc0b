"""A device over the CPU's memory, which counts how often the host waits for it and how many kernels it is given.

PyTorch takes it for an accelerator that runs on its own: what a GPU would make the host wait for is counted, and what
it would refuse is refused (tensors on two devices in one operation). What it computes is what the CPU computes.

What counts as a wait is what makes PyTorch synchronise on CUDA: a scalar that is read (aten/src/ATen/native/cuda/
CUDAScalar.cu), a copy from or to the host's pageable memory (Copy.cu), results whose size depends on values
(``nonzero``, boolean indexing, ``unique``), and indices that lie on the host.
"""

import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cuda_rules
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "counting"
aten = torch.ops.aten

OF_UNKNOWN_SIZE = {
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.unique_consecutive.default,
    aten.repeat_interleave.Tensor,
    aten.bincount.default,
}
SCALARS = {aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default}
INDEXED = {
    aten.index.Tensor,
    aten._unsafe_index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
    aten._unsafe_index_put.default,
}
COPIES = {aten.copy_.default, aten._to_copy.default}
NO_KERNELS = {aten.empty.memory_format, aten.empty_strided.default, aten.detach.default, aten.alias.default}


class Count:
    """What was counted. ``waits`` are numbered by what waited, and where in our code or ComfyUI's."""

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()
        self.kernels = 0

    def wait(self, why: str) -> None:
        self.waits[f"{why} at {_place()}"] += 1

    def __str__(self) -> str:
        return "\n".join(f"{number:4d} {where}" for where, number in self.waits.most_common())


_count = Count()
_played = cuda_rules.CudaKernels().played


@contextmanager
def counting() -> Iterator[Count]:
    """Counts what is done in it."""
    global _count
    before, _count = _count, Count()
    try:
        yield _count
    finally:
        _count = before


class OnDevice(Tensor):
    """A tensor of the device, whose values are those of ``cpu``."""

    cpu_tensor: Tensor

    @staticmethod
    def __new__(cls, cpu_tensor: Tensor) -> "OnDevice":
        made = Tensor._make_wrapper_subclass(
            cls,
            cpu_tensor.size(),
            strides=cpu_tensor.stride(),
            storage_offset=cpu_tensor.storage_offset(),
            dtype=cpu_tensor.dtype,
            layout=cpu_tensor.layout,
            device=torch.device(NAME, 0),
        )
        made.cpu_tensor = cpu_tensor
        return made

    def __repr__(self, **_: Any) -> str:
        return f"OnDevice({self.cpu_tensor})"

    def data_ptr(self) -> int:
        return self.cpu_tensor.data_ptr()

    def __deepcopy__(self, memo: dict) -> "OnDevice":
        return OnDevice(self.cpu_tensor.clone())

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_function__(cls, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if function is F.scaled_dot_product_attention:
            return _attention(*args, **(kwargs or {}))
        with torch._C.DisableTorchFunctionSubclass():  # what comes to the host stays a plain tensor
            return function(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if operation is aten._has_compatible_shallow_copy_type.default:  # so that a module gets new parameters
            return False
        if _is_composite(operation):
            return operation.decompose(*args, **kwargs)  # inference mode hands over the whole operation
        _count_waits(operation, args, kwargs)
        if operation is aten._to_copy.default:
            return _to_copy(*args, **kwargs)
        if "device" in kwargs:
            kwargs = kwargs | {"device": None if kwargs["device"] is None else torch.device("cpu")}
        run = _played.get(operation, operation)
        out = run(*_on_cpu(args), **_on_cpu(kwargs))
        if operation is aten.copy_.default and not isinstance(args[0], OnDevice):
            return args[0]
        if operation._schema.is_mutable:
            return _same_wrappers(operation, args, kwargs, out)
        return _mapped(Tensor, OnDevice, out)


@functools.cache
def _is_composite(operation: Any) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(operation.name(), "CompositeImplicitAutograd")


def _mapped(kind: type, function: Callable, tree: Any) -> Any:
    """Arguments or results with ``function`` of all that are of a kind. PyTorch's own takes five times as long."""
    if isinstance(tree, kind):
        return function(tree)
    if isinstance(tree, tuple | list):
        return type(tree)([_mapped(kind, function, x) for x in tree])
    if isinstance(tree, dict):
        return {key: _mapped(kind, function, x) for key, x in tree.items()}
    return tree


def _on_cpu(tree: Any) -> Any:
    return _mapped(OnDevice, lambda x: x.cpu_tensor, tree)


def _same_wrappers(operation: Any, args: tuple, kwargs: dict, out: Any) -> Any:
    """What an operation that writes into its arguments returns: these themselves."""
    written = [
        args[n] if n < len(args) else kwargs.get(argument.name)
        for n, argument in enumerate(operation._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    of = {id(x.cpu_tensor): x for x in written if isinstance(x, OnDevice)}
    return _mapped(Tensor, lambda x: of.get(id(x)) if id(x) in of else OnDevice(x), out)


def _count_waits(operation: Any, args: tuple, kwargs: dict) -> None:
    every: list[Tensor] = []
    _mapped(Tensor, every.append, (args, kwargs))
    on_host = [x for x in every if not isinstance(x, OnDevice)]
    if operation in SCALARS:
        _count.wait("a scalar")
    elif operation in OF_UNKNOWN_SIZE:
        _count.wait(operation.overloadpacket.__name__)
    elif operation in INDEXED:
        indices = [x for x in args[1] if x is not None]
        if any(x.dtype in (torch.bool, torch.uint8) for x in indices) and not _is_fill(operation, args):
            _count.wait("a boolean index")
        if any(not isinstance(x, OnDevice) for x in indices):
            _count.wait("an index on the host")
        on_host = [x for x in on_host if not any(x is index for index in indices)]
    elif operation in COPIES and (on_host or torch.device(kwargs.get("device") or NAME).type != NAME):
        _count.wait("a copy across")
    if operation not in COPIES and any(x.ndim for x in on_host):
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {NAME} and cpu "
            f"({operation})"
        )
    if not (operation.is_view or operation in NO_KERNELS):
        _count.kernels += 1


def _is_fill(operation: Any, args: tuple) -> bool:
    """Whether PyTorch makes it a ``masked_fill`` (``canDispatchToMaskedFill``, TensorAdvancedIndexingUtils.h)."""
    return "put" in str(operation) and args[2].numel() == 1 and len([x for x in args[1] if x is not None]) == 1


def _to_copy(x: Tensor, **kwargs: Any) -> Tensor:
    device = torch.device(kwargs.pop("device", None) or NAME)
    copy = aten._to_copy.default(_on_cpu(x), **kwargs, device=torch.device("cpu"))
    return OnDevice(copy) if device.type == NAME else copy


def _attention(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
               is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False) -> Tensor:  # fmt: skip
    """As on CUDA: flash where it can, and the memory-efficient kernel elsewhere, without row sums."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if enable_gqa:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    size = q.shape[-1]
    if q.dtype in cuda_rules.HALF and attn_mask is None and q.ndim == 4:
        q, k, v = (F.pad(x, (0, -size % 8)) if size % 8 else x for x in (q, k, v))
        return aten._scaled_dot_product_flash_attention(q, k, v, scale=scale)[0][..., :size]
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=q.dtype).masked_fill(~attn_mask, -torch.inf)
    return aten._scaled_dot_product_attention_math(q, k, v, attn_mask, scale=scale)[0]


def _place() -> str:
    """The innermost lines of ComfyUI, the pack or a test that are at work."""
    frame, places = sys._getframe(), []
    while frame is not None and len(places) < 3:
        name = frame.f_code.co_filename
        if "/torch/" not in name and name != __file__:
            places.append(f"{name.split('/ComfyUI/')[-1]}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(places)


_setup_privateuseone_for_python_backend(NAME)
_library = torch.library.Library("aten", "IMPL")


def _empty(size: Any, *, dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: Any = None,
           memory_format: Any = None) -> Tensor:  # fmt: skip
    return OnDevice(
        torch.empty(size, dtype=dtype, device="cpu", memory_format=memory_format or torch.contiguous_format)
    )


def _empty_strided(size: Any, stride: Any, *, dtype: Any = None, layout: Any = None, device: Any = None,
                   pin_memory: Any = None) -> Tensor:  # fmt: skip
    return OnDevice(torch.empty_strided(size, stride, dtype=dtype, device="cpu"))


def _copy_from(origin: Tensor, into: Tensor, non_blocking: bool = False) -> Tensor:
    if isinstance(origin, OnDevice) != isinstance(into, OnDevice):
        _count.wait("a copy across")
    _on_cpu(into).copy_(_on_cpu(origin))
    return into


_library.impl("_copy_from", _copy_from, "PrivateUse1")
_library.impl("empty.memory_format", _empty, "PrivateUse1")
_library.impl("empty_strided", _empty_strided, "PrivateUse1")
DEVICE = torch.device(NAME, 0)
