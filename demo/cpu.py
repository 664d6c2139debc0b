"""Imported before ComfyUI's modules by programs that run without its server: without CUDA, use the CPU.

ComfyUI looks for a device as soon as its modules load, and its own command line is not read here.
"""

import torch
from comfy.cli_args import args

args.cpu = args.cpu or not torch.cuda.is_available()
