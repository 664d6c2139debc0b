"""A pack with the contract of Advanced-ControlNet's reference modes, at its smallest; no code of it is here.

A control in the conditioning holds a reference latent. While the run lasts, each transformer block has an
``injection_holder``, and a forward of its own; the U-Net runs once on each reference, whose features blocks write down,
and then on the picture, which attends to them.
"""

import types
from types import SimpleNamespace

import torch
from comfy.controlnet import ControlBase
from comfy.ldm.modules.attention import BasicTransformerBlock
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key

WRITE, READ, ALL = "ref_write_attn_control_list", "ref_read_attn_control_list", "ref_control_list_all"


class Control(ControlBase):
    is_context_ref = False
    order = 0

    def __init__(self, latent, kind, fidelity, strength):
        super().__init__()
        self.latent, self.strength = latent, strength
        self.ref_opts = SimpleNamespace(reference_type=kind, attn_style_fidelity=fidelity)

    def any_attn_strength_to_apply(self):
        return self.strength != 1.0

    def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
        """Nothing that is added: the latent with noise, as it is in this step."""
        if self.previous_controlnet is not None:
            self.previous_controlnet.get_control(x_noisy, t, cond, batched_number, transformer_options)
        latent = self.latent.expand(len(x_noisy), -1, -1, -1)
        part = 1 / (float(t[0]) ** 2 + 1)
        self.hint = part**0.5 * latent + (1 - part) ** 0.5 * torch.randn_like(latent)


def chain(control, order=-1):
    if control is None:
        return []
    control.order = order
    return [control, *chain(control.previous_controlnet, order - 1)]


def forward(self, x, context=None, transformer_options=None):
    options, holder = transformer_options, self.injection_holder.bank_styles
    extra = {key: value for key, value in options.items() if key not in ("patches", "patches_replace")}
    patches = options.get("patches", {})
    n = self.norm1(x)
    for control in options.get(WRITE, ()):
        holder.bank.append(n.clone())
        holder.style_cfgs.append(control.ref_opts.attn_style_fidelity)
        holder.cn_idx.append(control.order)
    own = value = n
    for patch in patches.get("attn1_patch", ()):
        n, own, value = patch(n, own, value, extra)
    if options.get(READ) and holder.bank:
        strengths = {control.order: control.strength for control in options[READ]}
        bank = [strengths[o] * b + (1 - strengths[o]) * own for o, b in zip(holder.cn_idx, holder.bank, strict=True)]
        both = self.attn1(n, context=torch.cat([own, *bank], 1), value=torch.cat([value, *bank], 1))
        alone, rows = both.clone(), options["ref_uncond_idxs"]
        fidelity = sum(holder.style_cfgs) / len(holder.style_cfgs)
        if rows and fidelity:
            alone[rows] = self.attn1(n[rows], context=own[rows], value=value[rows])
        n = fidelity * alone + (1 - fidelity) * both
        holder.bank, holder.style_cfgs, holder.cn_idx = [], [], []
    else:
        n = self.attn1(n, context=own, value=value)
    x = x + n
    n, own, value = self.norm2(x), context, context
    for patch in patches.get("attn2_patch", ()):
        n, own, value = patch(n, own, value, extra)
    x = x + self.attn2(n, context=own, value=value)
    return x + self.ff(self.norm3(x))


def around_unet(executor, x, timesteps, context, y, control, options, *args, **kwargs):
    items = len(x) // len(options["cond_or_uncond"])
    options["ref_uncond_idxs"] = [
        chunk * items + item
        for chunk, kind in enumerate(options["cond_or_uncond"])
        if kind == 1
        for item in range(items)
    ]
    controls = options[ALL]
    for one in controls:
        options[WRITE], options[READ] = [one], []
        executor(one.hint, timesteps, context, y, None, options, *args, **kwargs)
    options[WRITE], options[READ] = [], controls
    return executor(x, timesteps, context, y, control, options, *args, **kwargs)


def around_run(executor, *args, **kwargs):
    guider = executor.class_obj
    controls = {one for conds in guider.conds.values() for cond in conds for one in chain(cond.get("control"))}
    blocks = [m for m in guider.model_patcher.model.modules() if isinstance(m, BasicTransformerBlock)]
    for block in blocks:
        block.injection_holder = SimpleNamespace(bank_styles=SimpleNamespace(bank=[], style_cfgs=[], cn_idx=[]))
        block.forward = types.MethodType(forward, block)
    options = guider.model_options["transformer_options"]
    options[ALL] = sorted(controls, key=lambda control: control.order)
    add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "reference stand-in", around_unet, options)
    try:
        return executor(*args, **kwargs)
    finally:
        for block in blocks:
            del block.injection_holder, block.forward


class StandIn:
    @staticmethod
    def apply(graph, latent, kind="reference_attn", fidelity=0.5, strength=1.0):
        """The graph with one more reference, in both its conditionings."""
        control = Control(latent, kind, fidelity, strength)
        first = graph.positive[0][1].get("control")
        control.set_previous_controlnet(first)
        for conditioning in (graph.positive, graph.negative):
            conditioning[0] = [conditioning[0][0], conditioning[0][1] | {"control": control}]
        if first is None:
            graph.model = graph.model.clone()
            graph.model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "reference stand-in", around_run)
        return graph
