"""What a person sees of a run: how far it is, how fast, and each failure."""

from __future__ import annotations

import sys
from types import TracebackType

from tqdm import tqdm

from evaluation.worker import Answer


class Progress:
    """A line that moves, above it a line for each row that came to nothing."""

    def __init__(self, rows: int, done: int) -> None:
        self._bar: tqdm = tqdm(total=rows, initial=done, unit="row", file=sys.stderr, smoothing=0.05, mininterval=0.5)
        self.failed = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def __call__(self, answer: Answer) -> None:
        if answer.result is None:
            self._bar.write(f"{answer.row.name}: once more, since {_short(answer.why)}", file=sys.stderr)
            return
        if answer.result["error"]:
            self.failed += 1
            self._bar.set_postfix(failed=self.failed, refresh=False)
            self._bar.write(f"{answer.row.name}: {_short(answer.result['error'])}", file=sys.stderr)
        self._bar.update()


def _short(why: str) -> str:
    """The first line, and the last where there are more: of a server's log, which says most."""
    lines = why.strip().splitlines()
    return " ... ".join(dict.fromkeys([lines[0], lines[-1]])) if lines else "no reason given"
