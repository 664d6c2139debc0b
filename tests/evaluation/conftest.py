"""Ray's workers, and the servers that they start, run as fast as what runs beside them: else it makes them nice."""

import os

os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 (so Ray calls it)
