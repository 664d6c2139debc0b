"""Makes ComfyUI use the CPU where there is no CUDA, for programs that run without its server.

To be imported before ComfyUI's other modules: they look for a device while they are imported, and without the server
nobody reads ComfyUI's command line, which would say which one to use.
"""

import torch
from comfy.cli_args import args

args.cpu = args.cpu or not torch.cuda.is_available()
