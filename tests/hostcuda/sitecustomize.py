"""Install the hook from a checkout: Python runs this file when it starts with this folder on ``PYTHONPATH``."""

import hostcuda.hook  # noqa: F401
