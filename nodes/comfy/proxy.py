"""Around an object of another pack, for one run: whoever looks at it finds what the object has."""

from typing import Any


class Proxy:
    def __init__(self, original: Any) -> None:
        self.original = original

    def __getattr__(self, name: str) -> Any:
        if name == "original":  # of a copy that is not filled yet: no endless search
            raise AttributeError(name)
        return getattr(self.original, name)

    def __deepcopy__(self, memo: dict) -> "Proxy":
        """ModelPatcher.clone() copies what options hold, and the run must still be told."""
        return self
