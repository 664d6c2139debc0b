"""One call of the denoiser while it runs: which block is running, and what has been heard of its attention.

The blocks' own forwards are hooked, so that a layer is what really runs: an attention call that a pack adds, and a
block that it replaces or runs in another order, shift no other. What the host says
(``block``, ``block_type`` and ``block_index``) names a call outside all hooks, as compiled models make it.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import Module
from torch.utils.hooks import RemovableHandle

from .block_run import BlockRun, ObservedCall, code_of
from .blocks import Block, Blocks, Part
from .callers import Function, foreign_caller, function_of
from .eager import eager
from .located import Chunk, Located, ModelCall

Unheard = Callable[[str, Function], None]
"""Takes the name of a block, and the function in which its attention ran, unheard."""

NOT_ANNOUNCED = ("", "", False)  # outside all hooks: layer, role, whether a pack has changed what it looks at


@dataclass(frozen=True)
class CallOrigin:
    """Whose an attention call is."""

    layer: str  # "" where no block is known to make it
    role: str
    changed: bool = False  # whether a pack has changed what a U-Net's attn2 looks at
    caller: Function | None = None  # a pack's function that makes it; None where the model does
    again: tuple[str, ...] = ()  # the layers of a block that runs more often than the model runs it


class ForwardPass:
    """``unheard`` is told of attention that ran unheard."""

    def __init__(self, call: ModelCall, blocks: Blocks, unheard: Unheard) -> None:
        self.call, self.blocks, self._unheard = call, blocks, unheard
        self.looks_at: tuple = (None, None)  # what a U-Net's attn2 would look at, but for the patches of packs
        self._read: frozenset[tuple] = frozenset()  # layers, first rows of chunks, references located there
        self.in_kernel = False  # of an attention call
        self._replaced = call.options.get("patches_replace", {})
        self._visits: list[BlockRun] = []
        self._runs: Counter[Module] = Counter()
        self._keys: list[tuple[Tensor, str]] = []  # tensors that are keys, and of which part
        self._announced = NOT_ANNOUNCED

    @property
    def visit(self) -> BlockRun | None:
        return self._visits[-1] if self._visits else None

    # What the hooks say

    def enter(self, module: Module) -> None:
        """The forward of a block, or of a module that makes an attention of one, begins."""
        if (block := self.blocks.blocks.get(module)) is not None:
            self._enter_block(block)
        elif (part := self.blocks.parts.get(module)) is not None and self._is_ours(part):
            self._visits[-1].inside.append(part)
            self._visits[-1].entered.add(module)

    def leave(self, module: Module, output: Any) -> None:
        """It has ended, or a module has made keys."""
        visit = self.visit
        if visit is None:
            return
        if (part := self.blocks.keys.get(module)) is not None and isinstance(output, Tensor):
            self._keys.append((output, part.role))
        if (block := self.blocks.blocks.get(module)) is not None and visit.is_of(block):
            visit.depth -= 1
            if output is None:  # it failed: who catches that may run it again
                self._runs[module] -= 1
                self._visits.pop()
            elif not visit.depth:
                self._end(self._visits.pop())
        elif (part := self.blocks.parts.get(module)) is not None and part in visit.inside:
            visit.inside.remove(part)
            self._keys.clear()

    def announce(self, role: str, options: Mapping[str, Any], changed: bool = False) -> None:
        """ComfyUI is about to run this attention of a U-Net's block. ``changed``: what it looks at, by a pack."""
        if (visit := self.visit) is not None:
            visit.announced, visit.changed = role, changed
        else:
            self._announced = self._told(options), role, changed

    def begin_in_place(self, block: Block, function: Callable) -> BlockRun:
        """A pack's function begins that was put in the block's place."""
        visit = BlockRun(block, block.names[0], function_of(function))
        self._visits.append(visit)
        return visit

    def end_in_place(self, visit: BlockRun, failed: bool) -> None:
        """It has ended, and with it what it has begun."""
        del self._visits[self._visits.index(visit) :]
        if not failed:
            self._end(visit)

    # What an attention call is told

    def hear(self, k: Any, options: Mapping[str, Any], known: bool) -> CallOrigin:
        """Take note of the present attention call, over the keys ``k`` as they were given, and say whose it is.

        ``known``: a mechanism knows that already.
        """
        visit = self.visit
        caller = None if known else self._caller(visit)
        if visit is None:
            layer = self._told(options)
            (announced, role, changed), self._announced = self._announced, NOT_ANNOUNCED
            return (
                CallOrigin(layer, role, changed, caller) if announced == layer else CallOrigin(layer, "", caller=caller)
            )
        role = self._role(visit, k)
        visit.calls.append(ObservedCall(role, visit.part, visit.announced, caller))
        again = () if visit.name else visit.block.names
        return CallOrigin(visit.name, role, visit.changed and role == visit.announced, caller, again)

    def _caller(self, visit: BlockRun | None) -> Function | None:
        """The pack's function that makes the present call, None where the model does."""
        if visit is None:
            return foreign_caller(code_of(type(self.call.denoiser)))
        if visit.function is not None:  # past the block's own call, so that nothing says which block that is
            return foreign_caller(()) or visit.function
        part = visit.part
        if visit.block.announced and part is not None and part.role != visit.announced:
            return foreign_caller(())  # a pack runs the module before ComfyUI does
        return foreign_caller(visit.code())

    def reads(self, chunk: Chunk, located: Iterable[Located]) -> bool:
        """Whether a call that locates this is the first to do so: a pack may run a block twice."""
        read = {(x.layer.name, chunk.rows.start, g.name, g.key) for x in located for g in x.references}
        if read <= self._read:
            return False
        self._read |= read
        return True

    def ran_again(self) -> str:
        """What runs the present block once more than the model does, as far as that is known."""
        outer = next((visit.function for visit in reversed(self._visits) if visit.function), None)
        function = outer or foreign_caller(())
        return "another pack" if function is None else str(function)

    def _enter_block(self, block: Block) -> None:
        if (visit := self.visit) is not None and visit.is_of(block):
            visit.depth += 1  # a hook that a compiler has kept says it as well
            return
        for outer in self._visits:
            outer.delegated |= outer.function is not None
        self._visits.append(BlockRun(block, self._name(block)))

    def _is_ours(self, part: Part) -> bool:
        """Whether the part is of the block that runs."""
        return (visit := self.visit) is not None and visit.function is None and part in visit.block.parts

    def _role(self, visit: BlockRun, k: Any) -> str:
        if (part := visit.part) is None:
            return visit.announced
        if visit.block.announced and part.role != visit.announced:
            return ""
        by_keys = next((role for keys, role in self._keys if keys is k), "")  # unknown in compiled graphs
        return part.role if part.keys is None else by_keys

    def _stand_in(self, part: Part) -> Function | None:
        """What a pack has put in place of a part."""
        for kind, key in part.replaced:
            if key in (replaced := self._replaced.get(kind, {})):
                return function_of(replaced[key])
        return None

    def _told(self, options: Mapping[str, Any]) -> str:
        """The host's name of the block that runs, where it is ours: some cores give several blocks the same."""
        name = name_from_options(options)
        return name if not self.blocks.blocks or name in self.blocks.names else ""

    def _name(self, block: Block) -> str:
        """The layer that this run of the block is; "" for one more than the model makes."""
        self._runs[block.module] += 1
        run = self._runs[block.module]
        return block.names[run - 1] if run <= len(block.names) else ""

    def _end(self, visit: BlockRun) -> None:
        if visit.delegated:
            return
        for part in visit.unheard(self._function):
            self._unheard(visit.name or visit.block.names[-1], self._function(visit, part))

    def _function(self, visit: BlockRun, part: Part) -> Function:
        """In which function the attention of a part ran: of a pack, if any of those around it is."""
        if (stand_in := self._stand_in(part)) is not None:
            return stand_in
        in_block = visit.function or function_of(visit.block.module.forward)
        ran = part.module is not None and part.module in visit.entered
        function = function_of(part.module.forward) if ran and part.module is not None else in_block
        if in_block.foreign and not function.foreign:
            return in_block
        return function if function.foreign else foreign_caller(()) or function


def name_from_options(options: Mapping[str, Any]) -> str:
    """The block that runs, as U-Nets say it, or transformers; "" where the model does not."""
    if "block" in options:
        kind, number = options["block"]
        return f"{kind} {number}.{options.get('block_index', 0)}"
    if "block_index" in options:
        return f"{options.get('block_type', 'block')} {options['block_index']}"
    return ""


class Running(threading.local):
    """The forward of this thread: ComfyUI may run the chunks of one step in several."""

    forward: ForwardPass | None = None


class BlockHooks:
    """Hooks on the blocks of the denoisers of one run: there may be several, one for each GPU.

    They do nothing while no forward runs ``here``: a compiler may keep one in its graph for longer than it lasts.
    ``skipping`` is around what they do: see ``Engine``.
    """

    def __init__(self, here: Running, skipping: Callable[[], AbstractContextManager]) -> None:
        self._hooked: set[Module] = set()
        self._handles: list[RemovableHandle] = []

        def before(module: Module, args: tuple) -> None:
            if here.forward is not None:
                with skipping():
                    here.forward.enter(module)

        def after(module: Module, args: tuple, output: Any) -> None:
            if here.forward is not None:
                with skipping():
                    here.forward.leave(module, output)

        self._before, self._after = eager(before), eager(after)

    def put_on(self, blocks: Blocks) -> None:
        """On the modules of these blocks and of their parts."""
        for module in {*blocks.blocks, *blocks.parts, *blocks.keys} - self._hooked:
            self._hooked.add(module)
            self._handles.append(module.register_forward_pre_hook(self._before))
            self._handles.append(module.register_forward_hook(self._after, always_call=True))

    def remove(self) -> None:
        """All of them."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._hooked.clear()
