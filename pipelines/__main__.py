"""`python -m pipelines` is the command `premask`."""

import sys

from pipelines.cli import main

sys.exit(main())
