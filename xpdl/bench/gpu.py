"""``python -m xpdl.bench.gpu``: the GPU report, as ``xpdl bench --gpu-report``."""

import sys

from xpdl.bench.gpu_report import main

if __name__ == "__main__":
    sys.exit(main())
