"""I2AM Report: one page about one picture of a run, its findings as text, and all of it as data."""

import json
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..i2am_core import (
    SENTENCES,
    Attribution,
    Examined,
    Finding,
    Page,
    examine,
    finding_lines,
    inside_of,
    report_page,
)
from .checked import checked
from .images import choose, generated_picture, reference_image
from .load_image import check_not_placeholder
from .schema import AttributionHandle, Schema
from .summary import tries_of
from .wording import in_words

SEARCH_ALIASES = [
    "report", "diagnose", "why does my reference not work", "findings", "reference does not come through", "I2AM",
]  # fmt: skip
VERSION = 1  # of the data: docs/report.md


class I2AMReport(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="I2AM_Report",
            display_name="I2AM Report",
            description="One page that says in plain words what the reference did, what proves it, and what to try: a "
            "picture to post, the findings as text, and everything as data.",
            search_aliases=SEARCH_ALIASES,
            inputs=[
                AttributionHandle.Input(
                    "attribution",
                    tooltip="From I2AM Collect. With I2AM Effect in the run, the "
                    "report says what the reference caused, not only where it was looked at.",
                ),
                io.Int.Input("item", default=0, min=0, max=4095, tooltip="Which picture of the batch, counted from 0."),
                io.Image.Input("image", optional=True, tooltip="The generated picture. Of a video: all its frames."),
                io.Image.Input("reference", optional=True, tooltip="The first reference image, as the model saw it."),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where in the picture the reference should act (white). Without it, the mask that the "
                    "sampler worked with.",
                ),
                io.Mask.Input(
                    "reference_mask",
                    optional=True,
                    tooltip="What of the reference should be used (white), painted on it. For runs in which I2AM "
                    "Effect measured regions.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="page", tooltip="The page, 1600 pixels wide."),
                io.String.Output(display_name="findings", tooltip="What was found, as Markdown."),
                io.String.Output(display_name="data", tooltip="All of it as JSON: docs/report.md says what is in it."),
            ],
        )

    @classmethod
    @in_words()
    @checked
    def execute(
        cls, attribution: Attribution, item: int, image: Tensor | None = None, reference: Tensor | None = None,
        mask: Tensor | None = None, reference_mask: Tensor | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        picture = generated_picture(attribution, item)
        painted = None if mask is None else _marked(mask, picture, "mask")
        result = examine(attribution, item, painted, _on_reference(attribution, reference_mask, item, "reference_mask"))
        advice = tries_of(result.findings, attribution)
        page = Page(
            attribution,
            result,
            item,
            None if image is None else choose(image, picture).float(),
            _on_reference(attribution, reference, item, ""),
            advice,
            painted,
        )
        return io.NodeOutput(report_page(page)[None], _markdown(result, advice), json.dumps(_data(page), indent=2))


def _marked(mask: Tensor, subject: Any, name: str) -> Tensor:
    check_not_placeholder(mask, name)
    chosen = choose(mask, subject).float().nan_to_num(0)
    if not inside_of(chosen).any():
        raise ValueError(f"{name} is black everywhere: paint in white what it is to mark, or disconnect it.")
    return chosen


def _on_reference(attribution: Attribution, batch: Tensor | None, item: int, name: str) -> Tensor | None:
    """The image or mask of the first reference, where one is connected and a reference has a place for it."""
    if batch is None:
        return None
    if not attribution.references or attribution.references[0].grid is None:  # nothing lies on it
        return None if name else batch[0][..., :3].float()
    subject = reference_image(attribution, 0, item)
    return _marked(batch, subject, name) if name else choose(batch, subject).float()


def _markdown(result: Examined, advice: list[str]) -> str:
    lines = [f"* {line}" for line in [*finding_lines(result.findings), *advice]]
    lines += [f"* not examined: {rule}, since {reason}" for rule, reason in result.lacking.items()]
    return "\n".join(lines)


def _data(page: Page) -> dict[str, Any]:
    a = page.attribution
    return {
        "version": VERSION,
        "item": page.item,
        "findings": [_finding(finding) for finding in page.examined.findings],
        "not_examined": dict(page.examined.lacking),
        "try": list(page.advice),
        "run": {
            "mechanisms": a.mechanisms,
            "branch": a.branch,
            "guidance": a.guidance,
            "steps": a.steps,
            "sigmas": list(a.sigmas),
            "pictures": a.items,
            "grid": str(a.grid),
            "references": [
                {"name": r.name, "tokens": r.tokens, "grid": None if r.grid is None else str(r.grid)}
                for r in a.references
            ],
            "layers": [layer.name for layer in a.layers],
            "captured_calls": a.captured_calls,
            "skipped": dict(a.skipped),
            "given": [{"what": x.what, "fate": x.fate, "how": x.how} for x in a.given if x.certain],
            "notes": list(a.notes),
            "summary": a.summary().splitlines(),
        },
        "curves": page.curves(),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    evidence, selection = finding.evidence, finding.evidence.selection
    return {
        "rule": finding.rule,
        "case": finding.case,
        "weight": finding.weight,
        "sentence": finding.worded(SENTENCES),
        "values": dict(finding.values),
        "rule_of_thumb": finding.of_thumb,
        "suggestion": finding.suggestion,
        "evidence": {
            "shows": evidence.shows,
            "direction": evidence.direction,
            "owner": evidence.owner,
            "steps": selection.steps,
            "reference": selection.reference,
        },
    }
