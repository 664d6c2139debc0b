"""Around an object of another pack, for one run: whoever reads its attributes gets those of the object."""

from typing import Any


class Proxy:
    """Has all attributes of ``original``."""

    def __init__(self, original: Any) -> None:
        self.original = original

    def __getattr__(self, name: str) -> Any:
        if name == "original":  # of a copy that is not filled yet: it would look for ever
            raise AttributeError(name)
        return getattr(self.original, name)

    def __deepcopy__(self, memo: dict) -> "Proxy":
        """ModelPatcher.clone() copies what options hold; a copy of the object alone would be out of the run's sight."""
        return self
