"""`python -m trainer`: the same as `premask-train`."""

from trainer.commands.cli import main

main()
