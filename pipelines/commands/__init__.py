"""The command `premask`."""
