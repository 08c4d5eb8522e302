"""Gradients of a model with respect to its input."""

from __future__ import annotations

from typing import Any

from xpdl.backends import asnumpy
from xpdl.backends.namespaces import Array, array_namespace, device, is_array
from xpdl.errors import ShapeError
from xpdl.layers.nodes import is_several
from xpdl.models import placement
from xpdl.ops.checks import require_range, require_shape


class InputGradients:
    """The method `input_gradient` of a model."""

    name: str
    forward: Any
    backward: Any
    build_for: Any
    _loss_layer: Any
    _on_its_device: Any
    _first_parameter: Any

    def input_gradient(self, x: Any, t: Any = None, *, output: Any = None) -> Any:
        """Gradient of the loss, or of the score of a class, with respect to the input, in evaluation.

        Parameters
        ----------
        x : array (N, ...) of any library, list or DataFrame; a tuple or dict of them for several inputs
        t : array, or tuple or dict of them for several outputs
            Targets of the loss.
        output : int or integer array (N,), in place of `t`
            Class whose score, before the activation of the loss, is differentiated: one for all rows, or one for each.

        Returns
        -------
        array (N, ...), or tuple or dict of them
            In the form and library of `x`. Of the mean loss of the rows, or of each row's own score. None for an input of
            ids, which has no gradient.

        Raises
        ------
        TypeError
            If both `t` and `output` are given, or neither.
        ShapeError, LabelError
            If `output` does not fit scores (N, K).

        Notes
        -----
        Steps against it lower the loss, steps along its sign make adversarial examples (arXiv:1412.6572); the size of that
        of a score is the saliency of each value (arXiv:1312.6034). Gradients of parameters are computed on the way.

        Examples
        --------
        >>> net = Sequential(Affine(np.eye(2)), loss=SoftmaxWithLoss)
        >>> net.input_gradient(np.array([[1.0, 3.0]]), output=1)
        array([[0., 1.]])
        """
        owner = f"{self.name}.input_gradient"
        if (t is None) == (output is None):
            raise TypeError(f"{owner}: give targets t of the loss, or output=, the class of a score, and not both")
        rows = placement.rows(self, x, owner)
        self.build_for(rows)
        first = self._first_parameter()
        with self._on_its_device():
            y = self.forward(placement.moved(rows, first), False)
            if output is None:
                loss = self._loss_layer()
                loss.forward(y, placement.moved(t, first))
                dout = loss.backward()
            else:
                dout = _one_hot(y, output, owner)
            return placement.answered(self.backward(dout), rows, first)


def _one_hot(y: Any, output: Any, owner: str) -> Array:
    """The gradient of one score of each row of `y` (N, K)."""
    if is_several(y) or y.ndim != 2:
        got = f"{len(y)} outputs" if is_several(y) else f"shape {tuple(y.shape)}"
        raise ShapeError(f"{owner}: output= is for scores (N, K) of classes, got {got}")
    xp, rows, classes = array_namespace(y), int(y.shape[0]), int(y.shape[1])
    chosen = placement.moved(output, y) if is_array(output) else xp.asarray(output, device=device(y))
    if not xp.isdtype(chosen.dtype, "integral") or chosen.ndim > 1:
        raise ShapeError(f"{owner}: output must be an int or an array of {rows} ints, got {output!r}")
    if chosen.ndim:
        require_shape(chosen, (rows,), owner, "output")
    require_range(asnumpy(chosen), classes, owner)
    numbers = xp.arange(classes, dtype=chosen.dtype, device=device(y))
    hot = xp.expand_dims(numbers, axis=0) == xp.reshape(chosen, (-1, 1))
    return xp.astype(xp.broadcast_to(hot, (rows, classes)), y.dtype)
