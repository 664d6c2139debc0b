"""Ray: embedded on this machine, or a cluster that is joined by its address; and the actors of the workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray

from comfy_client import Json
from devenv import HostError
from evaluation import ROOT
from evaluation.servers import Specification
from evaluation.worker import Task, Worker

# What a machine of a cluster does not need of this repository, and what may not leave this one.
LEFT_HERE = [".git", ".host", "out", "demo/checkpoints", "docs", "example_workflows", "tests"]


THREADS = 4  # of a worker: the row that runs, the one that waits, and what ends both


def first_line(error: Exception) -> str:
    return f"{error}".partition("\n")[0] or type(error).__name__


@contextmanager
def joined(address: str) -> Iterator[None]:
    """While Ray runs: a cluster of its own on this machine, or that at ``address``. Raises HostError."""
    given: Json = {"address": address, "runtime_env": {"working_dir": str(ROOT), "excludes": LEFT_HERE}}
    own: Json = {"address": "local", "include_dashboard": False, "runtime_env": {"env_vars": {"PYTHONPATH": str(ROOT)}}}
    try:
        ray.init(log_to_driver=False, **(given if address else own))
    except Exception as error:  # Ray raises many kinds, of what is one fact
        raise HostError(f"Ray could not be started ({first_line(error)}): see --ray in --help.") from None
    try:
        yield
    finally:
        ray.shutdown()


def actors(specifications: Sequence[Specification], task: Task, gpus: float = 0) -> Callable[[int], Any]:
    """Makes the actor of a worker by its number. ``gpus`` are those that each needs: it comes where one is free."""
    remote = ray.remote(num_cpus=0, num_gpus=gpus)(Worker).options(max_concurrency=THREADS)
    stored = ray.put(task)  # once for all, and again for one that is made anew
    return lambda number: remote.remote(specifications[number], stored)
