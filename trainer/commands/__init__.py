"""The command `premask-train`."""
