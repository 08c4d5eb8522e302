"""Base of every layer: parameters it owns, their gradients, a mode, and sizes inferred from the input."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from xpdl import initializers
from xpdl.backends import Backend
from xpdl.backends.graphs import leaf
from xpdl.backends.namespaces import (
    Array,
    array_namespace,
    device,
    dtype_name,
    is_array,
    is_floating,
    is_floating_beside,
)
from xpdl.backends.random import Stream
from xpdl.backends.subclasses import refuse_other_arithmetic
from xpdl.errors import DTypeError, ShapeError
from xpdl.layers.building import backend_for, building, stream_for
from xpdl.layers.config import described, kept_arguments
from xpdl.layers.ids import TakesIds
from xpdl.layers.nodes import CalledWithNodes, in_form_of, parts
from xpdl.layers.old_names import OldNames
from xpdl.layers.passes import WRAPPERS, constructor
from xpdl.layers.saved import SavedForBackward
from xpdl.layers.tracing import trace, traced
from xpdl.layers.tree import LayerTree, require_tree
from xpdl.ops.checks import as_floating, require_floating

Shape = tuple[int, ...]

# (parameter name, shape, initializer) -> array
Make = Callable[[str, Shape, Any], Array]


class Layer(LayerTree, CalledWithNodes, SavedForBackward, TakesIds, OldNames):
    """A function with parameters that knows its own backward pass.

    A subclass gives ``forward(x)`` and ``backward(dout)``; one with parameters also ``create_parameters``, and one that
    changes the shape ``output_shape``. NaN in an input is no error and comes out again. Passes compute with values alone:
    no graph of PyTorch's autograd grows from arguments or parameters, which may require gradients.

    Attributes
    ----------
    params, grads : dict
        Own the parameters and, after `backward`, their gradients under the same keys.
    state : dict
        What else a run must keep: running statistics, counters of random masks.
    training : bool
        Mode of `forward` where it makes a difference; see `train` and `eval`.
    name : str
        Stands in error messages; a model sets it to the layer's place in it.
    share : BatchShare or None
        The rows of a larger batch that the arrays of a pass are, while several ranks make a step.
    """

    #: True if ``forward`` takes the book's ``train_flg`` as its second argument
    accepts_train_flg: ClassVar[bool] = False
    #: True if, in mixed precision, the parameters keep their dtype and the layer casts its input where it matters
    keep_fp32_params: ClassVar[bool] = False
    #: True if ``forward`` takes several inputs as one tuple, rather than as arguments
    takes_tuple: ClassVar[bool] = False

    @constructor
    def __init__(self) -> None:
        self.name = type(self).__name__
        self.params: dict[str, Array] = {}
        self.grads: dict[str, Array] = {}
        self.state: dict[str, Any] = {}
        self.training = True

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in WRAPPERS.keys() & vars(cls).keys():
            setattr(cls, name, WRAPPERS[name](vars(cls)[name]))

    # for subclasses to define

    def forward(self, x: Array) -> Array:
        """Return the output for a batch `x` (N, ...), and save what `backward` needs."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, dout: Array) -> Array:
        """``dx`` for `dout`, the gradient of the output of the last `forward`; fills `grads`.

        It uses up what that saved: a second call needs another `forward` and is a `RuntimeError` without.
        """
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def output_shape(self, input_shape: Shape) -> Shape:
        """The shape of one row of the output, for that of the input; raises `ShapeError` where it does not fit."""
        return traced(self, input_shape).output if any(self.children()) else input_shape

    def create_parameters(self, input_shape: Shape, make: Make) -> None:
        """Fill `params` (and `state`) for inputs of that shape, with arrays from ``make(name, shape, initializer)``.

        A layer of several inputs gets a tuple of shapes.
        """

    def backward_parameters(self, dout: Array) -> None:
        """`backward` for a layer whose input is data: fills `grads` and gives no gradient of the input."""
        self.backward(dout)

    # inherited

    def build(
        self, input_shape: Sequence[int | None], *, stream: Stream | None = None, backend: Backend | None = None
    ) -> Shape:
        """Create the parameters for inputs of `input_shape`, and return the output's shape.

        In `create_parameters` of another layer, the defaults of `stream` and `backend` are those of that layer.

        Parameters
        ----------
        input_shape : sequence of ints
            Of one row, without the batch axis: ``(784,)`` or ``(1, 28, 28)``. A leading None stands for that axis. For a
            layer of several inputs, a tuple of such shapes.
        stream : Stream, optional
            Where initial weights are drawn from; by default a fresh one of `xpdl.seed`.
        backend : Backend, optional
            Where parameters are made: beside those the layer has already, else by default on the one in use.

        Raises
        ------
        ShapeError
            If the shape does not fit this layer, or the parameters it has already.
        """
        shape: Any = row_shapes(input_shape, self.name)
        inside = any(self.children())
        if self.holds_layers:
            require_tree(self)
        if not inside:
            self.output_shape(*parts(shape))
        if not self.built:
            stream = stream_for(self, stream)
            given = next(filter(is_array, (*self.params.values(), *self.state.values())), None)
            backend = backend_for(backend) if given is None else Backend.of(given)

            def make(name: str, size: Shape, init: Any) -> Array:
                return initializers.draw(init, size, stream, name, backend)

            if not inside or not self._own_built:
                with building(self, stream, backend):
                    self.create_parameters(shape, make)
            if any(self.children()) and not self.built:  # some may have been made just now
                trace(self, shape, stream, backend)
        return self.output_shape(*parts(shape))

    @property
    def built(self) -> bool:
        """Return whether the parameters exist, also of layers inside; True where there are none."""
        if not self.holds_layers:
            return bool(self.__dict__["params"]) or type(self).create_parameters is Layer.create_parameters
        inside = [layer.built for _, layer in self.children()]
        # a layer that only builds those inside has no parameters of its own
        return all(inside) and (self._own_built or bool(inside))

    @property
    def _own_built(self) -> bool:
        return bool(self.own("params")) or type(self).create_parameters is Layer.create_parameters

    def prepare(self, x: Array) -> None:
        """Check an input against the layer's own parameters, which are made to match it if there are none yet."""
        if self.built and is_floating_beside(x, *self.own("params").values()):
            return
        require_floating(x, self.name)
        if not (self.holds_layers and self._own_built):  # layers inside are built by what they are called with
            self.build_for(x)
        array_namespace(x, *self.own("params").values(), owner=self.name)

    def build_for(self, x: Array) -> None:
        """`build` from the first input, if that is still to do: shape, library, device and dtype follow it.

        For ids, which have no floating dtype, parameters take that of `xpdl.use`.
        """
        if not self.built:
            if not self.takes_ids:
                require_floating(x, self.name)
            self.build(x.shape[1:], backend=Backend.of(x))

    def require_dout(self, dout: Array, shape: Sequence[int], saved: Array | None = None) -> Array:
        """`dout`, checked to be an array of the shape of the output, beside what the layer has.

        Integers are refused by layers with parameters, and become floats in others, as inputs do.
        """
        own = self.own("params").values()
        if is_floating_beside(dout, saved, *own) and dout.shape == shape:
            return dout
        owner = f"{self.name}.backward"
        if not is_array(dout):
            raise TypeError(f"{owner}: expected an array dout of the shape of the output, got {type(dout).__name__}")
        array_namespace(dout, saved, *own, owner=owner)
        if tuple(dout.shape) != tuple(shape):
            raise ShapeError(
                f"{self.name}: dout must have the shape of the output, {tuple(shape)}, got {tuple(dout.shape)}"
            )
        if own:
            require_floating(dout, owner)
            return dout
        return as_floating(dout, owner)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor that make an equal layer without its arrays, for files of models.

        By default each is the attribute of its name; a layer that keeps one under another name overrides this.
        """
        return kept_arguments(self)

    def __repr__(self) -> str:
        own = type(self).get_config is not Layer.get_config
        return described(self, self.get_config() if own else kept_arguments(self, strict=False))


def parameter(key: str) -> Any:
    """An attribute that is the entry `key` of ``params``: None until there is one."""

    def read(self: Layer) -> Array:
        return self.__dict__["params"].get(key)

    def assign(self: Layer, value: Array) -> None:
        self.params[key] = leaf(value)

    return property(read, assign, doc=f"``params[{key!r}]``")


def gradient(key: str) -> Any:
    """An attribute that is the entry `key` of ``grads``: None until the first backward."""
    return property(lambda self: self.grads.get(key), doc=f"``grads[{key!r}]``")


def row_shape(input_shape: Sequence[int | None], owner: str) -> Shape:
    """`input_shape` as ints of one row, a leading None taken away."""
    try:
        sizes = list(input_shape)
        shape = tuple(operator.index(size) for size in sizes[sizes[:1] == [None] :])  # type: ignore[arg-type]
    except TypeError:
        shape = (0,)
    if any(size < 1 for size in shape):
        raise ShapeError(f"{owner}: input_shape must hold positive ints, without the batch axis, got {input_shape!r}")
    return shape


def row_shapes(input_shape: Any, owner: str) -> Any:
    """`row_shape` of one shape, or of each in a tuple, list or dict of several."""
    if isinstance(input_shape, list) and any(isinstance(shape, (list, tuple)) for shape in input_shape):
        input_shape = tuple(input_shape)
    return in_form_of(input_shape, [row_shape(shape, owner) for shape in parts(input_shape)])


def first_shape(input_shape: Any) -> Shape:
    """Return the shape of the first input, for a layer whose parameters depend on it alone."""
    return tuple(parts(input_shape)[0])


def require_drawn(owner: str, init: Any, use_bias: bool, b: Array | None) -> None:
    """Refuse, beside a `W` that is given, options of weights that are yet to be drawn.

    Raises
    ------
    ShapeError
        If `init` is not the default, or `use_bias` is False and there is a `b`.
    """
    if init != "he":
        raise ShapeError(f"{owner}: init={init!r} draws no W where one is given; leave out init or W")
    if b is not None and not use_bias:
        raise ShapeError(f"{owner}: use_bias=False, but b is given; leave out one of them")


def require_parameters(owner: str, **arrays: Array | None) -> None:
    """Check that given parameters are floating arrays of one library and device."""
    given = {key: value for key, value in arrays.items() if value is not None}
    for key, value in given.items():
        refuse_other_arithmetic([value], f"{owner}: {key}: ")
        if not is_array(value):
            raise TypeError(
                f"{owner}: {key} must be an array, got {type(value).__name__}; make one with xpdl.asarray(...)"
            )
    array_namespace(*given.values(), owner=owner)
    for key, value in given.items():
        if not is_floating(value):
            raise DTypeError(f"{owner}: {key} must be a floating array, got {dtype_name(value.dtype)}; pass floats")


def array_of_zero(b: Any, W: Array, axis: int, groups: int = 1) -> Array | None:
    """Return the bias `b`; where it is the number 0, as the book has it, zeros for all `groups` of that `axis` of `W`."""
    if isinstance(b, bool) or not isinstance(b, (int, float)) or b != 0 or not is_array(W) or W.ndim <= axis:
        return b
    xp = array_namespace(W)
    return xp.zeros((W.shape[axis] * groups,), dtype=W.dtype, device=device(W))


def row_size(shape: Shape) -> int:
    """Number of values in one row."""
    return math.prod(shape)
