"""Files that are no attribution: each is refused in one sentence, before anything is made that is as large as it says."""

import json
import os
import resource
import time

import pytest
import torch
from recorded import recorded_run
from safetensors.torch import save_file
from taken_apart import as_version_1, raw, rewrite, write

from i2am_core.errors import BadFile
from i2am_core.files import container, load, save
