"""``python -m xpdl``: the command line."""

import sys

from xpdl.cli import main

sys.exit(main())
