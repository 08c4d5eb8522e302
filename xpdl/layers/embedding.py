"""The embedding layer."""

from __future__ import annotations

from typing import Any, ClassVar

from xpdl import initializers
from xpdl.backends import asnumpy
from xpdl.backends.namespaces import Array, array_namespace, dtype_name, is_array
from xpdl.backends.readable import is_readable
from xpdl.backends.subclasses import array_cure, ids_cure
from xpdl.errors import DTypeError, LabelError, ShapeError
from xpdl.layers.base import Layer, Make, Shape, gradient, parameter, require_parameters
from xpdl.ops import embedding as ops
from xpdl.ops.checks import positive_int


class Embedding(Layer):
    """Rows of a table by their numbers: of words, characters, categories.

    Parameters
    ----------
    count : int, optional
        Rows of the table; ids go from 0 to ``count - 1``.
    units : int, optional
        Size of a row.
    W : array (count, units), optional
        The table, used as it is and not copied, in the place of `count` and `units`.
    init : str, float or callable
        How `W` is drawn, see `xpdl.initializers`; by default from a normal distribution with standard deviation 0.01.

    Raises
    ------
    ShapeError
        If options contradict each other, or `dout` has not the shape of the output.
    DTypeError
        If ids are not integers.
    LabelError
        If an id is not a row of the table. On a GPU, where reading an id would have the host wait, a `Trainer` and
        `Sequential.predict` check the arrays that they move there, and anything else gives NaN.

    Notes
    -----
    Ids (N, ...) give (N, ..., units). For `build`, a row is one id, of the shape (), or a sequence of ids, (T,). The layer
    saves the ids. Its gradient is summed over equal ids without atomic additions, and `backward` returns None: ids have no
    gradient.

    Examples
    --------
    >>> layer = Embedding(W=np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    >>> layer.forward(np.array([[2, 0, 2]]))
    array([[[5., 6.],
            [1., 2.],
            [5., 6.]]])
    >>> layer.backward(np.ones((1, 3, 2)))
    >>> layer.dW
    array([[1., 1.],
           [0., 0.],
           [2., 2.]])
    """

    W, dW = parameter("W"), gradient("W")
    saved_names: ClassVar[tuple[str, ...]] = ("ids",)

    def __init__(
        self, count: int | None = None, units: int | None = None, *, W: Array | None = None, init: Any = 0.01
    ) -> None:
        super().__init__()
        if W is None:
            if count is None or units is None:
                raise ShapeError(
                    f"{self.name}: give the sizes of the table, Embedding(1000, 64), or an array W, got "
                    f"count={count!r} and units={units!r}"
                )
            self.count, self.units = (
                positive_int(n, key, self.name) for n, key in ((count, "count"), (units, "units"))
            )
        else:
            if count is not None or units is not None or init != 0.01:
                raise ShapeError(f"{self.name}: count, units and init draw no W where one is given; leave them out")
            require_parameters(self.name, W=W)
            if W.ndim != 2:
                raise ShapeError(f"{self.name}: W must be (count, units), got {tuple(W.shape)}")
            self.count, self.units = W.shape
            self.params = {"W": W}
        initializers.resolve(init, f"{self.name}: init")
        self.init = init
        self.ids: Array | None = None

    def output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape, self.units)

    def create_parameters(self, input_shape: Shape, make: Make) -> None:
        self.params["W"] = make("W", (self.count, self.units), self.init)

    def takers_of_ids(self, key: Any) -> list[Any]:
        return [self]

    def check_ids(self, x: Any, owner: str) -> None:
        """Refuse ids that are not integers, or no rows of the table; they are read on the host."""
        self._require_integers(x, owner)
        ids = asnumpy(x)
        if ids.size and (ids.min() < 0 or ids.max() >= self.count):
            wrong = ids[(ids < 0) | (ids >= self.count)]
            raise LabelError(
                f"{owner}: id {wrong[0]} is not a row of the table of {self.count}, whose ids are 0 to {self.count - 1}"
            )

    def forward(self, x: Array) -> Array:
        """(N, ..., units) for ids `x` (N, ...)."""
        if is_array(x) and is_readable(x):
            self.check_ids(x, self.name)
        else:
            self._require_integers(x, self.name)
        self.build_for(x)
        array_namespace(x, self.W, owner=self.name)
        self.ids = x
        return ops.embedding(self.W, x)

    def backward(self, dout: Array) -> None:
        """Fill ``dW`` for `dout` (N, ..., units), and return None."""
        ids = self.require_saved(self.ids)
        self.require_dout(dout, (*ids.shape, self.units), ids)
        if not self.trainable:
            self.grads = {}
            return
        self.grads = {"W": ops.embedding_backward(dout, ids, self.count)}

    def _require_integers(self, x: Any, owner: str) -> None:
        if not is_array(x):
            raise TypeError(f"{owner}: expected an array of ids, got {type(x).__name__}; {array_cure(x)}")
        if not array_namespace(x, owner=owner).isdtype(x.dtype, "integral"):
            raise DTypeError(f"{owner}: ids must be integers, got {dtype_name(x.dtype)}; {ids_cure(x)}")
        if x.ndim == 0:
            raise ShapeError(f"{owner}: expected a batch of ids (N, ...), got an array without axes")
