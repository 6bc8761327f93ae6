"""`python -m pipelines` is the command `premask`."""

import sys

from pipelines.commands.cli import main

sys.exit(main())
