import sys

from i2am_stand_in import fill

MODULES = (
    *("io", "models", "models.optical_flow", "ops", "utils"),
    *("transforms", "transforms.functional", "transforms.v2", "transforms.v2.functional"),
)

fill(sys.modules[__name__], MODULES)
