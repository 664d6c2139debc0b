"""A small reference-inpainting diffusion model, trained here, that gives I2AM something to look at."""
