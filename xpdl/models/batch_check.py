"""Labels and ids of batches that are made elsewhere, looked at before a step that would not look at them."""

from __future__ import annotations

from typing import Any

from xpdl.backends.readable import is_readable
from xpdl.data.structure import map_arrays, map_parts
from xpdl.layers.composite import Composite


class BatchCheck:
    """Refuse batches with labels or ids out of range, where reading them waits for no device.

    A step on a GPU, or one that is compiled, gives a wrong loss or NaN for them.

    Parameters
    ----------
    network
        Only models of xpdl say what they take.
    """

    def __init__(self, network: Any) -> None:
        self.network = network
        #: the shape of the outputs of rows of the last shape
        self._outputs: tuple[Any, Any] = (None, None)

    def __call__(self, x: Any, t: Any, x_name: str, t_name: str) -> None:
        """Check a batch, where the network has its parameters.

        Raises
        ------
        LabelError
            If an id or a label is out of range.
        ShapeError
            If labels do not fit the outputs.
        """
        network = self.network
        if not (isinstance(network, Composite) and network.built):
            return
        map_parts(self._check_ids, x, x_name)
        loss = getattr(network, "last_layer", None)
        if loss is not None:
            loss.check_labels(t, self._output_shape(x), t_name)

    def _check_ids(self, key: Any, x: Any, name: str) -> None:
        for taker in self.network.takers_of_ids(key):
            if is_readable(x):
                taker.check_ids(x, name)

    def _output_shape(self, x: Any) -> Any:
        rows = map_arrays(lambda a: tuple(a.shape[1:]), x)
        if self._outputs[0] != rows:
            self._outputs = rows, self.network.output_shape(rows)
        return self._outputs[1]
