"""One call of the denoiser while it runs: which block is running, and what has been heard of its attention.

The blocks' own forwards are hooked for as long as the call lasts, so that a layer is what really runs: an attention
call that a pack adds, and a block that it replaces or runs in another order, shift no other. What the host says
(``block``, ``block_type`` and ``block_index``) names a call outside all hooks, as compiled models make it.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor
from torch.nn import Module

from .blocks import Block, Part
from .callers import Function, foreign_caller, function_of
from .eager import eager
from .located import ModelCall

Unheard = Callable[[str, Function], None]
"""Takes the name of a block, and the function in which its attention ran, unheard."""


class Visit:
    """A block that runs, or the function that a pack has put in its place (``function``)."""

    def __init__(self, block: Block, name: str, function: Function | None = None) -> None:
        self.block, self.name, self.function = block, name, function
        self.depth = 1
        self.inside: list[Part] = []  # parts whose module runs
        self.announced = ""  # the role of the attention that ComfyUI has announced, of U-Nets
        self.entered: set[int] = set()  # modules of parts that ran
        self.heard: set[str] = set()  # roles of which an attention call was heard
        self.strays = 0  # calls heard that may be of any part
        self.delegated = False  # whether what runs in the block's place runs a block itself

    def is_of(self, block: Block) -> bool:
        return self.function is None and self.block.module is block.module

    def unheard(self) -> list[Part]:
        """The parts that nothing was heard of; a call of a pack may stand for any of them."""
        return [part for part in self.block.parts if part.role not in self.heard][self.strays :]

    def modules(self) -> frozenset[str]:
        """Where the code of what runs is."""
        parts = (_code_of(part.module) for part in self.inside if part.module is not None)
        return _code_of(self.block.module).union(*parts)


class Forward:
    """``replaced`` is the ``patches_replace`` of the call; ``unheard`` is told of attention that ran unheard."""

    def __init__(self, call: ModelCall, blocks: Sequence[Block], replaced: Mapping, unheard: Unheard) -> None:
        self.call, self.blocks = call, blocks
        self.read: frozenset[tuple] = frozenset()  # layers, the first rows of chunks, and the references located there
        self.in_kernel = False  # of an attention call
        self._replaced, self._unheard = replaced, unheard
        self._visits: list[Visit] = []
        self._runs: Counter[int] = Counter()  # of modules
        self._keys: list[tuple[Tensor, str]] = []  # tensors that are keys, and of which part
        self._announced = ("", "")  # outside all hooks: role and layer

    @property
    def visit(self) -> Visit | None:
        return self._visits[-1] if self._visits else None

    # What the hooks say

    def enter(self, block: Block) -> None:
        if (visit := self.visit) is not None and visit.is_of(block):
            visit.depth += 1  # a hook that a compiler has kept says it as well
            return
        for outer in self._visits:
            outer.delegated |= outer.function is not None
        self._visits.append(Visit(block, self._name(block)))

    def leave(self, block: Block) -> None:
        if (visit := self.visit) is None or not visit.is_of(block):
            return
        visit.depth -= 1
        if not visit.depth:
            self._end(self._visits.pop())

    def enter_part(self, block: Block, part: Part) -> None:
        if (visit := self.visit) is not None and visit.is_of(block):
            visit.inside.append(part)
            visit.entered.add(id(part.module))

    def leave_part(self, block: Block, part: Part) -> None:
        if (visit := self.visit) is not None and part in visit.inside:
            visit.inside.remove(part)
            self._keys.clear()

    def made_keys(self, part: Part, keys: Any) -> None:
        if isinstance(keys, Tensor):
            self._keys.append((keys, part.role))

    def announce(self, role: str, options: Mapping[str, Any]) -> None:
        """ComfyUI is about to run this attention of a U-Net's block."""
        if (visit := self.visit) is not None:
            visit.announced = role
        else:
            self._announced = role, self._told(options)

    @contextmanager
    def in_place_of(self, block: Block, function: Callable) -> Iterator[None]:
        """While a pack's function runs that was put in the block's place."""
        visit = Visit(block, block.names[0], function_of(function))
        self._visits.append(visit)
        try:
            yield
            self._end(visit)
        finally:
            del self._visits[self._visits.index(visit) :]

    # What an attention call is told

    def hear(self, k: Any, options: Mapping[str, Any], known: bool) -> tuple[str, str, Function | None]:
        """Layer, role, and the pack's function that makes the present attention call (None where the model does).

        ``k`` are the keys, as they were given. ``known``: a mechanism knows whose call it is.
        """
        visit = self.visit
        code = _code_of(self.call.denoiser) if visit is None else visit.modules()
        function = None if known else foreign_caller(code)
        if visit is None:
            layer = self._told(options)
            (role, announced), self._announced = self._announced, ("", "")
            return layer, role if announced == layer else "", function
        role = self._role(visit, k)
        own = function is None or bool(visit.inside) or self._stands_for(visit, function)
        if own and role in {part.role for part in visit.block.parts}:
            visit.heard.add(role)
        elif not visit.announced:
            visit.strays += 1
        changed = visit.announced == f"changed {role}"
        return visit.name, visit.announced if changed else role, function

    def ran_again(self) -> str:
        """What runs the present block once more than the model does, as far as that is known."""
        outer = next((visit.function for visit in reversed(self._visits) if visit.function), None)
        function = outer or foreign_caller(())
        return "another pack" if function is None else str(function)

    def _role(self, visit: Visit, k: Any) -> str:
        if visit.inside:
            return next((role for keys, role in self._keys if keys is k), self._by_count(visit, k))
        return visit.announced.removeprefix("changed ")

    def _by_count(self, visit: Visit, k: Any) -> str:
        """A graph that was compiled without the hooks does not say what the keys are: then their number does."""
        last = visit.inside[-1]
        beside = () if self._keys else (part for part in visit.block.parts if part.module is last.module)
        return next((part.role for part in beside if part.columns == k.shape[-2]), last.role)

    def _stands_for(self, visit: Visit, function: Function) -> bool:
        """Whether a pack's function makes its call in place of the attention that ComfyUI has announced."""
        role = visit.announced.removeprefix("changed ")
        by_role = (part for part in visit.block.parts if part.role == role and role)
        return any((stand_in := self._stand_in(part)) and stand_in.module == function.module for part in by_role)

    def _stand_in(self, part: Part) -> Function | None:
        """What a pack has put in place of a part."""
        for kind, key in part.replaced:
            if key in (replaced := self._replaced.get(kind, {})):
                return function_of(replaced[key])
        return None

    def _told(self, options: Mapping[str, Any]) -> str:
        """Some cores give all of a model's blocks names that are of others here, or several the same: then ""."""
        name = told_by_host(options)
        return name if not self.blocks or any(name in block.names for block in self.blocks) else ""

    def _name(self, block: Block) -> str:
        """The layer that this run of the block is; "" for one more than the model makes."""
        self._runs[id(block.module)] += 1
        run = self._runs[id(block.module)]
        return block.names[run - 1] if run <= len(block.names) else ""

    def _end(self, visit: Visit) -> None:
        if visit.delegated:
            return
        for part in visit.unheard():
            self._unheard(visit.name or visit.block.names[-1], self._function(visit, part))

    def _function(self, visit: Visit, part: Part) -> Function:
        """In which function the attention of a part ran: of a pack, if any of those around it is."""
        if (stand_in := self._stand_in(part)) is not None:
            return stand_in
        in_block = visit.function or function_of(visit.block.module.forward)
        ran = part.module is not None and id(part.module) in visit.entered
        function = function_of(part.module.forward) if ran and part.module is not None else in_block
        return function if function.foreign else foreign_caller(()) or function


def told_by_host(options: Mapping[str, Any]) -> str:
    """The block that runs, as U-Nets say it, or transformers; "" where the model does not."""
    if "block" in options:
        kind, number = options["block"]
        return f"{kind} {number}.{options.get('block_index', 0)}"
    if "block_index" in options:
        return f"{options.get('block_type', 'block')} {options['block_index']}"
    return ""


def _code_of(module: Module) -> frozenset[str]:
    return frozenset(kind.__module__ for kind in type(module).__mro__ if kind is not Module)


class Running(threading.local):
    """The forward of this thread: ComfyUI may run the chunks of one step in several."""

    forward: Forward | None = None


@contextmanager
def running(here: Running, forward: Forward) -> Iterator[None]:
    """Hook the blocks for as long as this lasts. A hook that outlives it, in a compiled graph, does nothing."""
    before = here.forward
    with ExitStack() as stack:
        here.forward = forward
        stack.callback(setattr, here, "forward", before)
        for block in forward.blocks:
            _hook(stack, block.module, _told(here, Forward.enter, block), _told(here, Forward.leave, block))
            for part in block.parts:
                if part.keys is not None:
                    handle = part.keys.register_forward_hook(_told_output(here, part))
                    stack.callback(handle.remove)
        for block, part, module in _modules_of_parts(forward.blocks):
            enter, leave = _told(here, Forward.enter_part, block, part), _told(here, Forward.leave_part, block, part)
            _hook(stack, module, enter, leave)
        yield


def _modules_of_parts(blocks: Sequence[Block]) -> Iterator[tuple[Block, Part, Module]]:
    """Each module once: where it makes several attentions, the last of them is what it is taken for."""
    for block in blocks:
        by_module = {id(part.module): part for part in block.parts if part.module is not None}
        for part in by_module.values():
            assert part.module is not None
            yield block, part, part.module


def _hook(stack: ExitStack, module: Module, enter: Callable, leave: Callable) -> None:
    stack.callback(module.register_forward_pre_hook(enter).remove)
    stack.callback(module.register_forward_hook(leave).remove)


def _told(here: Running, method: Callable, *what: Any) -> Callable:
    def hook(*_: Any) -> None:
        if here.forward is not None:
            method(here.forward, *what)

    return eager(hook)


def _told_output(here: Running, part: Part) -> Callable:
    def hook(module: Module, args: tuple, output: Any) -> None:
        if here.forward is not None:
            here.forward.made_keys(part, output)

    return eager(hook)
