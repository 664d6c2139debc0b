"""One call of the denoiser while it runs: which block is running, and which of its attention calls were observed.

The blocks' own forwards are hooked (``block_hooks``), so that a layer is what really runs: an attention call that a
pack adds, and a block that it replaces or runs in another order, shift no other. What ComfyUI writes into its options
(``block``, ``block_type`` and ``block_index``) names a call outside all hooks only, as compiled models make it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import Module

from .block_run import BlockRun, ObservedCall, code_of
from .blocks import Block, Blocks, Part
from .callers import Function, calling_pack_function, function_of
from .located import Chunk, Located, ModelCall
from .reference_passes import writes_reference

ReportUnobserved = Callable[[str, str, Function], None]
"""Takes the name of a layer, which of its attentions it was, and the function in which that ran without reaching us."""

Values = tuple[Tensor, Tensor]
"""What values are made from, ``[B, tokens, C]``, before and after another pack has changed it."""

BESIDE = "beside"  # the role of a call that is none of the block's own attentions

NOT_ANNOUNCED: tuple[str, str, bool, Values | None] = (
    "",
    "",
    False,
    None,
)  # outside all hooks: layer, role, and what a pack has changed


@dataclass(frozen=True)
class CallOrigin:
    """Where an attention call comes from."""

    layer: str  # "" where no block is known to make it
    role: str
    changed: bool = False  # whether a pack has changed what a U-Net's attn2 attends to, or its attn1 from and to
    values: Values | None = None  # where it has changed the values alone
    caller: Function | None = None  # a pack's function that makes it; None where the model does
    repeated: tuple[str, ...] = ()  # the layers of a block that runs more often than the model runs it


class ForwardPass:
    """What runs in one call of the denoiser. Attention that was not observed goes to ``report_unobserved``."""

    def __init__(self, call: ModelCall, blocks: Blocks, report_unobserved: ReportUnobserved) -> None:
        self.call, self.blocks, self._report_unobserved = call, blocks, report_unobserved
        self.unpatched: tuple = (None, None, None)  # what a U-Net's attention is made from, before patches of packs
        self.in_kernel = False  # whether the kernel of an attention call runs
        self._read: set[tuple] = set()  # layers, first rows of chunks, references located there
        self._replaced = call.options.get("patches_replace", {})
        self._block_runs: list[BlockRun] = []  # each inside the one before
        self._runs: Counter[Module] = Counter()
        self.layers_run: set[str] = set()  # those whose blocks ran, or what a pack has put in their place
        self._keys: list[tuple[Tensor, str]] = []  # tensors that are keys, and the role of the part they are for
        self._announced: tuple[str, str, bool, Values | None] = NOT_ANNOUNCED
        self._observed_any = False  # whether any attention call was

    @property
    def was_computed(self) -> bool:
        """Whether any block ran, or any attention call was observed: else a node answered the call from memory."""
        return bool(self.layers_run) or self._observed_any

    @property
    def block_run(self) -> BlockRun | None:
        """The innermost."""
        return self._block_runs[-1] if self._block_runs else None

    @property
    def is_aside(self) -> bool:
        """Whether what runs is none of the picture: see ``reference_passes``."""
        return self.block_run is not None and self.block_run.is_aside

    @property
    def announced_options(self) -> Mapping[str, Any]:
        """Those with which ComfyUI has announced the attention of a U-Net's block that runs."""
        return {} if self.block_run is None else self.block_run.options

    # What the hooks say

    def enter(self, module: Module) -> None:
        """The forward of a block, or of a module that makes an attention of one, begins."""
        if (block := self.blocks.blocks.get(module)) is not None:
            self._enter_block(block)
        elif (part := self.blocks.parts.get(module)) is not None and self._is_of_running_block(part):
            self._block_runs[-1].running_parts.append(part)
            self._block_runs[-1].entered.add(module)

    def leave(self, module: Module, output: Any) -> None:
        """It has ended, or a module has made keys."""
        block_run = self.block_run
        if block_run is None:
            return
        if (part := self.blocks.keys.get(module)) is not None and isinstance(output, Tensor):
            self._keys.append((output, part.role))
        if (block := self.blocks.blocks.get(module)) is not None and block_run.is_of(block):
            block_run.depth -= 1
            if output is None:  # it failed, and whoever catches the error may run it once more
                self._runs[module] -= 1
                self._block_runs.pop()
            elif not block_run.depth:
                self._end(self._block_runs.pop())
        elif (part := self.blocks.parts.get(module)) is not None and part in block_run.running_parts:
            block_run.running_parts.remove(part)
            self._keys.clear()

    def announce(
        self, role: str, options: Mapping[str, Any], changed: bool = False, values: Values | None = None
    ) -> None:
        """ComfyUI is about to run this attention of a U-Net's block. ``changed``: a pack changed what it attends to."""
        if (block_run := self.block_run) is not None:
            block_run.announced, block_run.changed, block_run.values = role, changed, values
            block_run.options = options
            if writes_reference(options) and not block_run.is_aside:
                block_run.is_aside = True
                self._runs[block_run.block.module] -= 1
        else:
            self._announced = self._named_layer(options), role, changed, values

    def begin_replacement(self, block: Block, function: Callable) -> BlockRun:
        """A pack's function begins that was put in the block's place."""
        block_run = BlockRun(block, block.names[0], function_of(function))
        self.layers_run.add(block_run.layer)
        self._block_runs.append(block_run)
        return block_run

    def end_replacement(self, block_run: BlockRun, failed: bool) -> None:
        """It has ended, and with it what it has begun."""
        del self._block_runs[self._block_runs.index(block_run) :]
        if not failed:
            self._end(block_run)

    # What is known of an attention call

    def observe(self, k: Any, options: Mapping[str, Any], by_model: bool) -> CallOrigin:
        """Take note of the present attention call, over the keys ``k`` as they were given, and say where it comes from.

        ``by_model``: a mechanism knows already that no pack's function makes it.
        """
        self._observed_any = True
        block_run = self.block_run
        caller = None if by_model else self._caller(block_run)
        if block_run is None:
            return self._origin_outside_blocks(options, caller)
        role = self._role(block_run, k)
        block_run.calls.append(ObservedCall(role, block_run.part, block_run.announced, caller))
        repeated = () if block_run.layer else block_run.block.names
        if role != block_run.announced:
            return CallOrigin(block_run.layer, role, caller=caller, repeated=repeated)
        return CallOrigin(block_run.layer, role, block_run.changed, block_run.values, caller, repeated)

    def beside(self, options: Mapping[str, Any]) -> CallOrigin:
        """Of a call beside the attentions of the block that runs, for none of which it stands."""
        self._observed_any = True
        block_run = self.block_run
        repeated = () if block_run is None or block_run.layer else block_run.block.names
        return CallOrigin(self.layer(options), BESIDE, repeated=repeated)

    def layer(self, options: Mapping[str, Any]) -> str:
        """The layer that runs; "" where that is not known. Nothing is taken note of."""
        return self._named_layer(options) if self.block_run is None else self.block_run.layer

    def is_first_to_read(self, chunk: Chunk, located: Iterable[Located]) -> bool:
        """Take note of what a call reads, and say whether it is the first to do so: a pack may run a block twice."""
        read = {(x.layer.name, chunk.rows.start, g.name, g.key) for x in located for g in x.references}
        if read <= self._read:
            return False
        self._read |= read
        return True

    def repeating_function(self) -> str:
        """What runs the present block once more than the model does, as far as that is known."""
        outer = next((x.replacement for x in reversed(self._block_runs) if x.replacement), None)
        function = outer or calling_pack_function(())
        return "another pack" if function is None else str(function)

    def _origin_outside_blocks(self, options: Mapping[str, Any], caller: Function | None) -> CallOrigin:
        """Of a call outside all hooks: what ComfyUI's options say, and what it has announced for the same layer."""
        layer = self._named_layer(options)
        (announced, role, changed, values), self._announced = self._announced, NOT_ANNOUNCED
        if announced != layer:
            return CallOrigin(layer, "", caller=caller)
        return CallOrigin(layer, role, changed, values, caller)

    def _caller(self, block_run: BlockRun | None) -> Function | None:
        """The pack's function that makes the present call, None where the model does."""
        if block_run is None:
            return calling_pack_function(code_of(type(self.call.denoiser)))
        if block_run.replacement is not None:  # past the block's own call, so that nothing says which block that is
            return calling_pack_function(()) or block_run.replacement
        part = block_run.part
        if block_run.block.announced and part is not None and part.role != block_run.announced:
            return calling_pack_function(())  # a pack runs the module before ComfyUI does
        return calling_pack_function(block_run.code())

    def _enter_block(self, block: Block) -> None:
        if (block_run := self.block_run) is not None and block_run.is_of(block):
            block_run.depth += 1  # a hook that a compiler has kept says it as well
            return
        for outer in self._block_runs:
            outer.delegated |= outer.replacement is not None
        block_run = BlockRun(block, self._next_layer(block))
        self.layers_run.add(block_run.layer)
        self._block_runs.append(block_run)

    def _is_of_running_block(self, part: Part) -> bool:
        block_run = self.block_run
        return block_run is not None and block_run.replacement is None and part in block_run.block.parts

    def _role(self, block_run: BlockRun, k: Any) -> str:
        """Which of the block's attentions the present call is, by the part that runs, or by whose output ``k`` is."""
        if (part := block_run.part) is None:
            return block_run.announced
        if block_run.block.announced and part.role != block_run.announced:
            return ""
        by_keys = next((role for keys, role in self._keys if keys is k), "")  # unknown in compiled graphs
        return part.role if part.keys is None else by_keys

    def _replacement_of(self, part: Part) -> Function | None:
        """What a pack has put in place of a part."""
        for kind, key in part.replaced:
            if key in (replaced := self._replaced.get(kind, {})):
                return function_of(replaced[key])
        return None

    def _named_layer(self, options: Mapping[str, Any]) -> str:
        """The layer that ComfyUI's options name, if the token order has it: some cores give several blocks one name."""
        name = name_from_options(options)
        return name if not self.blocks.blocks or name in self.blocks.names else ""

    def _next_layer(self, block: Block) -> str:
        """The layer that this run of the block is; "" for one more than the model makes."""
        self._runs[block.module] += 1
        run = self._runs[block.module]
        return block.names[run - 1] if run <= len(block.names) else ""

    def _end(self, block_run: BlockRun) -> None:
        if block_run.delegated or block_run.is_aside:
            return
        for part in block_run.unobserved(self._function):
            if self.call.perturbed.intersection((*part.replaced, *block_run.block.replaced)):
                continue  # guidance takes this attention away on purpose
            self._report_unobserved(
                block_run.layer or block_run.block.names[-1], part.role, self._function(block_run, part)
            )

    def _function(self, block_run: BlockRun, part: Part) -> Function:
        """In which function the attention of a part ran: of a pack, if any of those around it is."""
        if (replacement := self._replacement_of(part)) is not None:
            return replacement
        in_block = block_run.replacement or function_of(block_run.block.module.forward)
        ran = part.module is not None and part.module in block_run.entered
        function = function_of(part.module.forward) if ran and part.module is not None else in_block
        if in_block.is_of_another_pack and not function.is_of_another_pack:
            return in_block
        return function if function.is_of_another_pack else calling_pack_function(()) or function


def name_from_options(options: Mapping[str, Any]) -> str:
    """The block that runs, as ComfyUI's U-Nets write it into the options, or transformers; "" where neither does."""
    if "block" in options:
        kind, number = options["block"]
        return f"{kind} {number}.{options.get('block_index', 0)}"
    if "block_index" in options:
        return f"{options.get('block_type', 'block')} {options['block_index']}"
    return ""
