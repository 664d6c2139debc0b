"""Ray's workers, and the servers that they start, run as fast as what runs beside them: by itself it makes them nice."""

import os

os.environ["RAY_worker_niceness"] = "0"
