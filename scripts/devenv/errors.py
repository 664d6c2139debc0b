"""How a script ends: with one sentence, also on Ctrl-C and SIGTERM."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from devenv.places import HOST


class HostError(Exception):
    """A failure that one sentence explains."""


def stop_on_sigterm() -> None:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that children are stopped and servers closed."""

    def stop(signum: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    main_thread = threading.current_thread() is threading.main_thread()  # no other may set a handler
    if main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, stop)


@contextlib.contextmanager
def one_sentence_errors() -> Iterator[None]:
    """End a script with one sentence on stderr and exit code 1 for every failure that has an explanation."""
    stop_on_sigterm()
    try:
        yield
    except HostError as error:
        message = str(error)
    except KeyboardInterrupt:
        message = "Interrupted; run the same command again to go on from where it stopped."
    except OSError as error:
        message = (
            f"The system refused ({error}): check the disk space, and the permissions of {error.filename or HOST}."
        )
    else:
        return
    print(message, file=sys.stderr)
    raise SystemExit(1)
