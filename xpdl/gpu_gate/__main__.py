"""``python -m xpdl.gpu_gate``: the GPU report under its former name."""

import sys
import warnings

from xpdl.bench.gpu_report import main

if __name__ == "__main__":
    warnings.warn(
        "gpu_gate: python -m xpdl.gpu_gate is deprecated; use python -m xpdl.bench.gpu",
        DeprecationWarning,
        stacklevel=1,
    )
    sys.exit(main())
