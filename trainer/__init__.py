"""The encoder, its training loop and the command `premask-train`. Torch, and no Beam."""
