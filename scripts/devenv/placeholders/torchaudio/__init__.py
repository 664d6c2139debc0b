import sys

from i2am_stand_in import fill

fill(sys.modules[__name__], ("functional", "transforms"))
