"""What every optimizer does: check, clip, decay, and apply its rule to each parameter."""

from __future__ import annotations

import functools
from collections.abc import Mapping, MutableMapping
from typing import Any, ClassVar, TypedDict

from xpdl.backends import asnumpy
from xpdl.backends.namespaces import Array, array_namespace, device, on_device_of, wide_dtype, widened, write
from xpdl.optimizers.checks import are_numbers, check_update, checked_state, copied, is_number, require_mapping
from xpdl.optimizers.clipping import clip_scale
from xpdl.optimizers.hyper import Hyper, hypers
from xpdl.optimizers.together import Rule, adjusted_step, flush_denormals, step_together

# Updates from one flush of denormals to the next: Adam's mean of gradients loses a factor of 800 meanwhile.
_UPDATES_BETWEEN_FLUSHES = 64


class Options(TypedDict, total=False):
    """The keyword options that all optimizers share; see `Optimizer`."""

    weight_decay: Mapping[str, float] | None
    max_norm: float | None
    clip_norm: float | None


class Optimizer:
    """Changes parameters by their gradients; a subclass gives its `rule` and `numbers`, or else a `step`.

    Parameters
    ----------
    weight_decay : mapping, optional
        ``{"l1": a, "l2": b}``, one or both: adds ``a sign(p) + b p`` to the gradient of every parameter, biases too.
    max_norm : float, optional
        L-infinity constraint: after each step every value is clipped to ``[-max_norm, max_norm]``.
    clip_norm : float, optional
        When the L2 norm of all gradients together exceeds this, all are scaled down to it (arXiv:1211.5063). It comes
        before weight decay.

    Attributes
    ----------
    lr, l1, l2, max_norm, clip_norm, and those of the rule : float
        May be assigned between steps.
    iter : int
        Number of updates so far.

    Raises
    ------
    ValueError
        If a hyper-parameter is out of its bounds, here or when it is assigned later.

    Notes
    -----
    Parameters in half precision (float16, bfloat16) are updated in float32, with float32 state, and rounded once at the end.
    A step below half the distance to the next number of their dtype is lost in that rounding, however many follow. Long
    trainings keep float32 parameters and compute passes in half precision: ``Trainer(..., precision="float16")``.
    """

    #: whether `step` computes each element from the elements at the same place alone, and so may be given pieces of arrays
    elementwise: ClassVar[bool] = False
    #: the op that is the rule, ``rule(p, g, *memory, **numbers)``
    rule: ClassVar[Any] = None
    #: attributes that hold one array per parameter, as dicts by its name, in the order `step` takes and returns them
    memory: ClassVar[tuple[str, ...]] = ()

    #: the training that its state belongs to, which a `Trainer` sets
    run: Any = None

    lr = Hyper("at least 0")
    l1 = Hyper("at least 0")
    l2 = Hyper("at least 0")
    max_norm = Hyper("positive", optional=True)
    clip_norm = Hyper("positive", optional=True)

    def __init__(
        self,
        *,
        weight_decay: Mapping[str, float] | None = None,
        max_norm: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        decay: Any = {} if weight_decay is None else weight_decay
        if not isinstance(decay, Mapping) or not set(decay) <= {"l1", "l2"}:
            raise ValueError(
                f"{type(self).__name__}: weight_decay must be a dict with the keys 'l1' and 'l2' or one of them, such "
                f"as {{'l2': 0.0001}}, got {weight_decay!r}"
            )
        self.l1, self.l2 = decay.get("l1", 0.0), decay.get("l2", 0.0)
        self.max_norm, self.clip_norm = max_norm, clip_norm
        self.iter = 0
        self._left_out: Array | None = None
        for kind in self.memory:
            setattr(self, kind, {})

    def __init_subclass__(cls) -> None:
        # a rule of its own is not taken for elementwise because its parent's is
        if "step" in cls.__dict__ and "elementwise" not in cls.__dict__:
            cls.elementwise = False

    def step(self, p: Array, g: Array, *memory: Array) -> tuple[Array, ...]:
        """New values of a parameter and of what is remembered of it, from its gradient; all of one shape and dtype.

        They are float32 where the parameter is stored in half precision.

        It calls one op of the rule, so that a kernel can compute the whole step. `p` and `memory` are given up to it: a
        kernel may write the results into them and return them. `g` belongs to the caller.
        """
        if self.rule is None:
            raise NotImplementedError(f"{type(self).__name__} has neither a rule nor a step")
        new: tuple[Array, ...] = self.rule(p, g, *memory, **self.numbers())
        return new

    def numbers(self) -> dict[str, Any]:
        """What `rule` takes besides arrays, for the current update: floats, or arrays () on the parameters' device."""
        return {}

    def known_numbers(self) -> dict[str, float]:
        """Compute `numbers` as if no update had been left out, and what a device makes them of: ``rate`` and ``updates``."""
        left_out, self._left_out = self._left_out, None
        try:
            return {**self.numbers(), "rate": float(self.lr), "updates": float(self.iter)}
        finally:
            self._left_out = left_out

    def update(
        self,
        params: MutableMapping[str, Array],
        grads: Mapping[str, Array],
        *,
        only_if: Array | None = None,
        left_out: Array | None = None,
    ) -> None:
        """Change every parameter by the gradient of the same name.

        Arrays are written in place where their library can, so whoever shares them sees the new values; where it cannot
        (JAX, read-only NumPy arrays), the entries of `params` are rebound. Nothing is read back to the host.

        Parameters
        ----------
        params : mutable mapping of str to floating array
            A dict, or the ``params`` of a model or layer. Python numbers, as in the book's ch. 6.1, are replaced by floats.
        grads : mapping of str to floating array
            Never modified. What `params` has not is passed over; another floating dtype is cast to the parameter's.
        only_if : boolean array (), optional
            On the parameters' device, and not read there: where it is False, parameters and what is remembered of them keep
            their values, though `iter` counts the update.
        left_out : floating array (), optional
            How many updates that `iter` counts were left out so before this one.

        Raises
        ------
        KeyError
            If a parameter has no gradient.
        ShapeError, DTypeError, MixedArraysError
            If a gradient, or what is remembered from earlier updates, does not fit its parameter, or the parameters
            are of several libraries or devices. Whatever is raised, nothing has been changed.
        """
        owner = type(self).__name__
        require_mapping(params, "params", owner)
        require_mapping(grads, "grads", owner)
        # looked up once: a model's view goes through its layers each time
        arrays = dict(params)
        if are_numbers(arrays):
            _update_numbers(self, params, grads)
            return
        memory: dict[str, dict[str, Array]] = {kind: getattr(self, kind) for kind in self.memory}
        check_update(arrays, grads, memory, owner)
        before = self.iter, self._left_out
        self.iter, self._left_out = self.iter + 1, left_out
        try:
            with on_device_of(next(iter(arrays.values()), None)):
                _update(self, params, arrays, [grads[name] for name in arrays], memory, only_if)
        except BaseException:
            self.iter, self._left_out = before
            raise

    def rule_name(self) -> str:
        """The op that `step` calls; empty when it is not the step of this class but one written over it."""
        own = getattr(self.step, "__func__", None) is Optimizer.step
        return self.rule.__name__ if own and self.rule is not None else ""

    def state_dict(self) -> dict[str, Any]:
        """All that a later run needs to go on with the same bits.

        Returns
        -------
        dict
            ``"optimizer"`` the class's name, ``"iter"``, each hyper-parameter as a number or None, and for each name in
            `memory` a dict from parameter names to copies of arrays.
        """
        state: dict[str, Any] = {"optimizer": type(self).__name__, "iter": self.iter}
        state.update((name, getattr(self, name)) for name in hypers(type(self)))
        state.update((kind, {name: copied(a) for name, a in getattr(self, kind).items()}) for kind in self.memory)
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned; arrays are copied and stay in the library they come in.

        Raises
        ------
        ValueError, ShapeError, DTypeError, MixedArraysError
            If anything is missing, too much, or does not fit; the optimizer is then as it was.
        """
        for name, value in checked_state(state, type(self).__name__, hypers(type(self)), self.memory).items():
            setattr(self, name, value)
        self.run = None

    def __repr__(self) -> str:
        values = [(name, getattr(self, name)) for name in hypers(type(self))]
        shown = ", ".join(f"{name}={value}" for name, value in values if name == "lr" or value)
        return f"{type(self).__name__}({shown})"


def _update(
    optimizer: Optimizer,
    params: MutableMapping[str, Array],
    arrays: dict[str, Array],
    grads: list[Array],
    memory: dict[str, dict[str, Array]],
    only_if: Array | None,
) -> None:
    """Change all parameters after the checks: compute first, then write."""
    if not arrays:
        return
    scale = None if optimizer.clip_norm is None else clip_scale(grads, optimizer.clip_norm)
    owned = [tuple(_remembered(kept, name, p) for kept in memory.values()) for name, p in arrays.items()]
    rule = Rule(
        optimizer.rule_name(),
        optimizer.numbers(),
        scale,
        optimizer.l1,
        optimizer.l2,
        optimizer.max_norm,
        optimizer.elementwise,
        only_if,
    )
    step = functools.partial(adjusted_step, optimizer.step, rule)
    # all of them before the first is written, so that a step that fails leaves nothing half done
    stepped = list(step_together(list(arrays.values()), grads, owned, step, rule))
    for name, new in zip(arrays, stepped, strict=True):
        if len(new) != 1 + len(memory):
            raise ValueError(
                f"{type(optimizer).__name__}.step: must return the parameter and one array for each of memory = "
                f"{optimizer.memory}, got {len(new)} in all for parameter {name!r}"
            )
    for (name, p), (new, *remembered) in zip(arrays.items(), stepped, strict=True):
        # a kernel has written into `p` itself
        written = p if new is p else write(p, new)
        # asarray, as NumPy computes scalars from arrays of no axes
        if written is not p:
            params[name] = array_namespace(p).asarray(written)
        for kept, array in zip(memory.values(), remembered, strict=True):
            if array is not kept.get(name):
                kept[name] = array_namespace(p).asarray(array)
    if optimizer.iter % _UPDATES_BETWEEN_FLUSHES == 0:
        for kept in memory.values():
            for name in arrays:
                kept[name] = flush_denormals(kept[name])


def _remembered(kept: dict[str, Array], name: str, p: Array) -> Array:
    """What is kept of a parameter, in float32 where that is in half precision; zeros at first."""
    if name in kept:
        return widened(kept[name])
    return array_namespace(p).zeros(p.shape, dtype=wide_dtype(p), device=device(p))


def _update_numbers(optimizer: Optimizer, params: MutableMapping[str, Any], grads: Mapping[str, Any]) -> None:
    # in float64 on the host; new floats each time, as whoever draws the path keeps the old ones
    arrays = {name: asnumpy(float(p)) for name, p in params.items()}
    optimizer.update(arrays, {name: asnumpy(float(g)) if is_number(g) else g for name, g in grads.items()})
    params.update({name: float(p) for name, p in arrays.items()})
