"""Why a sampler takes no step and gives the latent back as it is, as far as the numbers in a workflow prove it.

They do so of ComfyUI's own nodes, which are known: of another pack's an input of the same name may mean something else.
"""

from .workflow_graph import WorkflowGraph

# Nodes that give no sigma at all where their denoise is 0, and nodes that make of no sigma none. Others give one sigma:
# then there is a run, without a step, which may change the latent.
SCHEDULES = frozenset({"BasicScheduler", "AlignYourStepsScheduler", "GITSScheduler", "OptimalStepsScheduler"})
HAND_ON = frozenset({"SplitSigmas", "SplitSigmasDenoise", "FlipSigmas"})
# Schedulers of KSampler that give no more steps than are set: ddim_uniform may give more, and those of packs anything.
NO_MORE_STEPS = frozenset(
    {"simple", "sgm_uniform", "karras", "exponential", "normal", "beta", "linear_quadratic", "kl_optimal"}
)


def why_idle(graph: WorkflowGraph, sampler: str) -> str:
    """Why a sampler takes no step; "" where that is not proved."""
    if not graph.is_of_comfyui(sampler):
        return ""
    if _is_0(graph, sampler, "denoise"):
        return "its denoise is 0 (set it above 0)"
    schedule = _schedule_of(graph, sampler)
    if schedule is not None and _is_0(graph, schedule, "denoise"):
        return f"the denoise of {graph.node(schedule)} is 0 (set it above 0)"
    steps, start, end = (graph.number(sampler, name) for name in ("steps", "start_at_step", "end_at_step"))
    if start is not None and end is not None and start >= end:
        return f"it starts at step {start} and ends at step {end} (the end has to be after the start)"
    counted = graph.text(sampler, "scheduler") in NO_MORE_STEPS
    if start is not None and steps is not None and start >= steps and counted:
        return f"it starts at step {start} of {steps} (the start has to be before the last)"
    return ""


def _is_0(graph: WorkflowGraph, node: str, name: str) -> bool:
    value = graph.number(node, name)
    return value is not None and value <= 0


def _schedule_of(graph: WorkflowGraph, sampler: str) -> str | None:
    """The node that makes the sigmas of a sampler, where it is known what it makes at denoise 0."""
    seen: set[str] = set()
    number = sampler
    while number not in seen:
        seen.add(number)
        link = graph.links(number).get("sigmas")
        if link is None or not graph.is_of_comfyui(link.node):
            return None
        number = link.node
        if graph.class_of(number) in SCHEDULES:
            return number
        if graph.class_of(number) not in HAND_ON:
            return None
    return None
