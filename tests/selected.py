"""Maps of an attribution in one line: what a test selects by name, put into a kind and a selection of its own core."""

import importlib


def core_of(attribution, module=""):
    """The core that made it: tests have it under two names (``conftest``), which must not be mixed."""
    prefix, _, _ = type(attribution).__module__.partition("i2am_core")
    return importlib.import_module(f"{prefix}i2am_core{module}")


def maps(attribution, direction, level="unified", normalization="paper", time_groups=5, **selection):
    core = core_of(attribution)
    return core.maps(
        attribution, core.MapKind(direction, normalization), level, core.Selection(**selection), time_groups
    )


def specific(attribution, region, direction, **selection):
    core = core_of(attribution)
    return core_of(attribution, ".reading.specific").specific(
        attribution, region, direction, core.Selection(**selection)
    )
