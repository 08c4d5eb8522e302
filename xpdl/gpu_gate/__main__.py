"""``python -m xpdl.gpu_gate [--out FOLDER] [--minutes N]``."""

import sys

from xpdl.gpu_gate.gate import main

if __name__ == "__main__":
    sys.exit(main())
