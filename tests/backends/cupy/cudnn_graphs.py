"""hostcuda's cuDNN with a note of what is asked of it."""

import importlib

import numpy as np


def noted(unsupported=()):
    """hostcuda's cuDNN with a note of its graphs, streams and executions.

    It lacks plans for `unsupported` kinds, and raises the `failures` of steps by their names.
    """
    stand_in = importlib.import_module("hostcuda.cudnn")
    module = stand_in.module()
    set_stream = module.set_stream

    class Graph(stand_in.Graph):
        def __init__(self, **options):
            super().__init__(**options)
            module.graphs.append(self)

        def _step(self, name):
            if name in module.failures:
                raise module.failures[name]
            super()._step(name)

        def create_execution_plans(self, modes):
            super().create_execution_plans(modes)
            self.modes = modes

        def check_support(self):
            super().check_support()
            if self.kind in unsupported or (self.rectified and "relu" in unsupported):
                raise module.cudnnGraphNotSupportedError(self.kind)

        def execute(self, *args, **options):
            super().execute(*args, **options)
            module.executed.append(self)

        def _computed(self, *args):
            result = super()._computed(*args)
            return np.fmax(result, 0) if self.rectified and module.swallows_nan else result

    def set_noted_stream(handle, stream):
        module.streams.append(stream)
        set_stream(handle, stream)

    module.graphs, module.executed, module.streams, module.failures = [], [], [], {}
    module.pygraph, module.set_stream, module.swallows_nan = Graph, set_noted_stream, False
    return module
