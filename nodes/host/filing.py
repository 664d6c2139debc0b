"""What attention calls say, put into the recorder: captured where a source proves its layout, else skipped."""

import dataclasses
import threading
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...i2am_core.attention import Logits, Positions, attribute
from ...i2am_core.attribution import Layer, Reference
from ...i2am_core.recorder import Place, Recorder
from ...i2am_core.regions import cells_of
from ...i2am_core.tokens import TokenGrid
from .attention_call import AttentionCall
from .placement import place, spread, weight_on
from .sources import CallSite, Chunk, ModelCall, Probe, Skip, Source
from .windows import place_frames, spread_frames, weight_of_frames

NEAREST = "the area of a conditioning does not start on a cell of every layer: there, maps are put on the nearest cell"
NO_PAIRS = "no pair maps are kept of conditionings that are limited to an area, nor of context windows"
UNKNOWN = "attention in which I2AM knows no reference"
UNNAMED = "captured calls in layers without a name, by source"  # in the memo of a call
PAIR_MAPS = ("inpainting mask", "everywhere", "off")


class Filing:
    """One run's recorder, and what decides how its attention calls are attributed.

    ``denoise_mask [items, h, w]`` is what is painted, on the latent's ``grid``.
    """

    def __init__(self, recorder: Recorder, pair_maps: str, grid: TokenGrid, denoise_mask: Tensor | None) -> None:
        self.recorder, self.pair_maps, self.grid, self.denoise_mask = recorder, pair_maps, grid, denoise_mask
        self._regions: dict[TokenGrid, Tensor] = {}
        self._lock = threading.Lock()  # ComfyUI may run the chunks of one step in several threads

    def file(
        self,
        call: ModelCall,
        attention: AttentionCall,
        site: CallSite,
        sources: Sequence[Source],
        total: Tensor | None,
    ) -> None:
        """Ask every source about every chunk; capture what one proves, and note why the rest is skipped."""
        used: set[str] = set()
        for chunk in call.chunks:
            answers = [(source.name, source.probe(site, chunk, call)) for source in sources]
            probes = [(name, answer) for name, answer in answers if isinstance(answer, Probe)]
            row_sums = ""
            for name, probe in probes:
                row_sums = self._capture(call, attention, chunk, _named(name, probe, call), total)
                used.add(name)
            if probes:
                self.recorder.captured(", ".join(name for name, _ in probes), row_sums)
            else:
                self.skip(next((a.reason for _, a in answers if isinstance(a, Skip)), UNKNOWN))
        call.once(UNNAMED, Counter).update(used)

    def _capture(
        self, call: ModelCall, attention: AttentionCall, chunk: Chunk, probe: Probe, total: Tensor | None
    ) -> str:
        """What computed the row sums."""
        layer, gain, placement = probe.layer, probe.gain, None
        if chunk.part is not None:
            gain = _times(gain, weight_on(chunk.part, layer.grid))
            if chunk.part.cropped:
                placement = place(chunk.part, layer.grid, self.grid)
        if call.window is not None:
            weight = weight_of_frames(call.window, layer.grid)
            gain = _times(gain, weight)
            placement = place_frames(call.window, layer.grid)
        if placement is not None:
            layer = dataclasses.replace(layer, grid=placement.grid)
            self.note(NO_PAIRS if self.pair_maps != "off" else "")
        with self._lock:
            references = [Reference(g.name, g.places, g.grid, g.key, embeds=g.embeds) for g in probe.references]
            numbers = [self.recorder.reference(reference) for reference in references]
            region = self._region(layer.grid)
            pair_rows = (
                None if placement else self._pair_rows(dict(zip(numbers, references, strict=True)), layer, region)
            )
        whole = probe.keys == slice(0, attention.k.shape[2])
        marginals = attribute(
            attention.q[chunk.rows],
            attention.k[chunk.rows][:, :, probe.keys],
            probe.references,
            Logits(
                attention.scale,
                attention.bias_of(chunk.rows, probe.keys),
                total[chunk.rows] if whole and total is not None else None,
            ),
            Positions(
                probe.queries,
                gain,
                region[:, placement.cells] if placement and region is not None else region,
                pair_rows,
            ),
            self.recorder.chunk_bytes,
        )
        self.note(probe.note, NEAREST if placement and not placement.exact else "")
        for number, group, maps in zip(numbers, probe.references, marginals, strict=True):
            if call.window is not None:
                maps = dataclasses.replace(maps, **spread_frames(maps, placement, weight))
            elif placement:
                maps = dataclasses.replace(maps, **spread(maps, placement, region))
            self.recorder.add(Place(layer, call.step, number, call.evaluation, group.grid), maps, pair_rows)
        return marginals[0].row_sums

    def skip(self, reason: str) -> None:
        self.recorder.skip(reason)

    def _region(self, grid: TokenGrid) -> Tensor | None:
        """The inpainting mask on a layer's grid: ``[items, cells]``, True where the picture is painted."""
        if self.denoise_mask is None:
            return None
        if grid not in self._regions:
            self._regions[grid] = cells_of(self.denoise_mask, grid)
        return self._regions[grid]

    def _pair_rows(self, references: Mapping[int, Reference], layer: Layer, region: Tensor | None) -> Tensor | None:
        """The positions whose pair maps are kept; ``references`` by their numbers."""
        if self.pair_maps == "everywhere":
            rows = torch.arange(layer.grid.cells)
        elif self.pair_maps == "inpainting mask" and region is not None:
            rows = region.any(0).nonzero().flatten()
        else:
            return None
        if len(rows) == 0:
            return None
        fits = [self.recorder.pairs_fit(n, layer, len(rows), known.tokens) for n, known in references.items()]
        return rows if all(fits) else None

    def note(self, *notes: str) -> None:
        """What a person should know of this run."""
        self.recorder.note(*notes)


def _times(gain: Tensor | None, weight: Tensor) -> Tensor:
    return weight if gain is None else gain * weight.to(gain.device)


def _named(source: str, probe: Probe, call: ModelCall) -> Probe:
    """A layer that the model does not name is numbered, among the captured calls of its source."""
    if probe.layer.name:
        return probe
    name = f"block {call.once(UNNAMED, Counter)[source]}"
    return dataclasses.replace(probe, layer=dataclasses.replace(probe.layer, name=name))
