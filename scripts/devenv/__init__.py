"""Prepares the host that the demo and the tests run on, under .host/ (or checks the one in COMFYUI_PATH).

``prepare`` says where everything is, and makes what is not there: ``stages`` tells how, ``own`` and ``given`` are
the two kinds of ComfyUI, ``packages``, ``node`` and ``browser`` what comes with it, ``checks`` what is run on it.
"""

from devenv.errors import HostError, one_sentence_errors, stop_on_sigterm
from devenv.host import Host, prepare
from devenv.places import ROOT

__all__ = ["ROOT", "Host", "HostError", "one_sentence_errors", "prepare", "stop_on_sigterm"]
