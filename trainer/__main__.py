"""`python -m trainer` is the command `premask-train`."""

import sys

from trainer.commands.cli import main

sys.exit(main())
