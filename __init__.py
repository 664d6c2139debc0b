"""I2AM for ComfyUI: see how a reference image acts on the picture being generated."""

from comfy_api.latest import ComfyExtension, io

WEB_DIRECTORY = "./web"


class I2AMExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        from .demo.nodes import DEMO_NODES
        from .nodes.capture import I2AMCapture
        from .nodes.collect import I2AMCollect
        from .nodes.collect_runs import I2AMCollectRuns
        from .nodes.compare import I2AMCompare
        from .nodes.counterfactual import I2AMCounterfactual
        from .nodes.effect import I2AMEffect
        from .nodes.imacs import I2AMIMACS
        from .nodes.ip_adapter_reference import I2AMIPAdapterReference
        from .nodes.join_runs import I2AMJoinRuns
        from .nodes.maps import I2AMMaps
        from .nodes.report import I2AMReport
        from .nodes.save_load import I2AMLoad, I2AMSave
        from .nodes.specific_reference import I2AMSpecificReference
        from .nodes.steer import I2AMSteer
        from .nodes.tag_reference import I2AMTagReference
        from .nodes.viewer import I2AMViewer

        capture: list[type[io.ComfyNode]] = [I2AMCapture, I2AMTagReference, I2AMIPAdapterReference, I2AMCollect]
        runs: list[type[io.ComfyNode]] = [I2AMCollectRuns, I2AMJoinRuns]
        look: list[type[io.ComfyNode]] = [I2AMReport, I2AMCompare, I2AMViewer, I2AMMaps, I2AMSpecificReference]
        score: list[type[io.ComfyNode]] = [I2AMIMACS]
        measure: list[type[io.ComfyNode]] = [I2AMEffect, I2AMCounterfactual]
        change: list[type[io.ComfyNode]] = [I2AMSteer]
        files: list[type[io.ComfyNode]] = [I2AMSave, I2AMLoad]
        return [*capture, *runs, *look, *score, *measure, *change, *files, *DEMO_NODES]


async def comfy_entrypoint() -> I2AMExtension:
    return I2AMExtension()
