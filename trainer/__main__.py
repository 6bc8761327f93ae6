"""`python -m trainer`: the same as `premask-train`."""

from trainer.cli import main

main()
