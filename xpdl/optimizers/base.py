"""The base of all optimizers: check, clip, decay, and apply a rule to each parameter."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any, ClassVar, TypedDict

from xpdl.backends import asnumpy
from xpdl.backends.graphs import detached, is_tracing, no_graph, require_one_trace
from xpdl.backends.namespaces import Array, copied, on_device_of
from xpdl.deprecation import renamed_options
from xpdl.optimizers.checks import are_numbers, check_update, checked_state, is_number, require_mapping
from xpdl.optimizers.groups import Decay, checked_decay, checked_lr_groups, checked_weight_decay
from xpdl.optimizers.hyper_parameter import HyperParameter, set_hyper_parameters
from xpdl.optimizers.identity import Reference, reference
from xpdl.optimizers.old_names import OldNames
from xpdl.optimizers.update import update_arrays
from xpdl.option_names import OF_OPTIMIZER, known_options


class Options(TypedDict, total=False):
    """The keyword options that all optimizers share; see `Optimizer`."""

    weight_decay: Mapping[str, float] | None
    decay: Decay | None
    lr_groups: Mapping[str, float] | None
    max_norm: float | None
    clip_norm: float | None


class Optimizer(OldNames):
    """Changes parameters by their gradients; a subclass gives its `rule` and `scalars`, or else a `step`.

    Parameters
    ----------
    weight_decay : mapping, optional
        ``{"l1": a, "l2": b}``, one or both: adds ``a sign(p) + b p`` to the gradient of every parameter, biases too, unless
        `decay` says otherwise.
    decay : str, iterable of str, or callable, optional
        The parameters that weight decay applies to: names, with wildcards as in ``"*.W"``; ``"weights"`` for those of two
        axes and more, which spares biases, gamma and beta; or a function of a name. By default all. Needs `weight_decay`.
    lr_groups : mapping of str to float, optional
        Factors of the learning rate of some parameters, by name or wildcard: ``{"Convolution*": 0.1}``. The first that
        matches counts. Schedules change `lr`, so the factors stay.
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

    #: True if `step` is elementwise, and so may be given pieces of arrays
    elementwise: ClassVar[bool] = False
    #: the op that is the rule, ``rule(p, g, *state, **scalars)``
    rule: ClassVar[Any] = None
    #: attributes that hold one array per parameter, as dicts by its name, in the order `step` takes and returns them
    state_names: ClassVar[tuple[str, ...]] = ()

    #: the hyper-parameters of weight decay
    decay_names: ClassVar[tuple[str, ...]] = ("l1", "l2")

    #: the training that its state belongs to, which a `Trainer` sets
    run: Any = None
    updated: Reference | None = None  # one of the arrays that its state belongs to

    lr = HyperParameter("at least 0")
    l1 = HyperParameter("at least 0")
    l2 = HyperParameter("at least 0")
    max_norm = HyperParameter("positive", optional=True)
    clip_norm = HyperParameter("positive", optional=True)

    @known_options(OF_OPTIMIZER)
    def __init__(
        self,
        *,
        weight_decay: Mapping[str, float] | None = None,
        decay: Decay | None = None,
        lr_groups: Mapping[str, float] | None = None,
        max_norm: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        strengths = checked_weight_decay(weight_decay, type(self).__name__)
        self.l1, self.l2 = strengths.get("l1", 0.0), strengths.get("l2", 0.0)
        self.decay = checked_decay(decay, weight_decay, type(self).__name__)
        self.lr_groups = checked_lr_groups(lr_groups, type(self).__name__)
        self.max_norm, self.clip_norm, self.iter = max_norm, clip_norm, 0
        self._skipped_steps: Array | None = None
        #: True inside a function that JAX traces, with the optimizer state
        self._is_traced = is_tracing()
        for kind in self.state_names:
            setattr(self, kind, {})

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # a rule of its own is not taken for elementwise because its parent's is
        if "step" in cls.__dict__ and "elementwise" not in cls.__dict__:
            cls.elementwise = False

    def step(self, p: Array, g: Array, *state: Array) -> tuple[Array, ...]:
        """Return the new values of a parameter and its slot variables, from its gradient; all of one shape and dtype.

        They are float32 where the parameter is stored in half precision.

        It calls one op of the rule, so that a kernel can compute the whole step. `p` and `state` are given up to it: a
        kernel may write the results into them and return them. `g` belongs to the caller.
        """
        if self.rule is None:
            raise NotImplementedError(f"{type(self).__name__} has neither a rule nor a step")
        new: tuple[Array, ...] = self.rule(p, g, *state, **self.scalars())
        return new

    def scalars(self) -> dict[str, Any]:
        """Arguments of `rule` besides arrays, for the current update: floats, or arrays () on the parameters' device."""
        return {}

    def known_scalars(self) -> dict[str, float]:
        """Compute `scalars` as if no update had been skipped, and what a device makes them of: ``rate`` and ``updates``."""
        skipped_steps, self._skipped_steps = self._skipped_steps, None
        try:
            return {**self.scalars(), "rate": float(self.lr), "updates": float(self.iter)}
        finally:
            self._skipped_steps = skipped_steps

    @renamed_options("update", only_if="apply_if", left_out="skipped_steps")
    def update(
        self,
        params: MutableMapping[str, Array],
        grads: Mapping[str, Array],
        *,
        apply_if: Array | None = None,
        skipped_steps: Array | None = None,
    ) -> None:
        """Change every parameter by the gradient of the same name.

        Arrays are written in place where their library can, so that shared references see the new values; where it cannot
        (JAX, read-only NumPy arrays), the entries of `params` are rebound. Nothing is read back to the host.

        Parameters
        ----------
        params : mutable mapping of str to floating array
            A dict, or the ``params`` of a model or layer. Python numbers, as in the book's ch. 6.1, are replaced by floats.
        grads : mapping of str to floating array
            Never modified. What `params` has not is passed over; another floating dtype is cast to the parameter's.
        apply_if : boolean array (), optional
            On the parameters' device, and not read there: where it is False, parameters and their slot variables keep
            their values, though `iter` counts the update.
        skipped_steps : floating array (), optional
            The number of updates that `iter` counts and that were skipped so before this one.

        Raises
        ------
        KeyError
            If a parameter has no gradient.
        ShapeError, DTypeError, MixedArraysError
            If a gradient, or a slot variable of earlier updates, does not fit its parameter, or the parameters
            are of several libraries or devices. Whatever is raised, nothing has been changed.
        """
        owner = type(self).__name__
        require_mapping(params, "params", owner)
        require_mapping(grads, "grads", owner)
        params = getattr(params, "trained", params)  # of a model's, without frozen ones
        # looked up once: a model's view goes through its layers each time
        arrays = dict(params)
        if are_numbers(arrays):
            _update_numbers(self, params, grads)
            return
        state: dict[str, dict[str, Array]] = {kind: getattr(self, kind) for kind in self.state_names}
        check_update(arrays, grads, state, owner)
        require_one_trace(arrays, grads, state, owner, getattr(self, "_is_traced", False))
        before = self.iter, self._skipped_steps
        self.iter, self._skipped_steps = self.iter + 1, skipped_steps
        try:
            first = next(iter(arrays.values()), None)
            with on_device_of(first), no_graph(first):
                update_arrays(self, params, arrays, {name: detached(grads[name]) for name in arrays}, state, apply_if)
        except BaseException:
            self.iter, self._skipped_steps = before
            raise
        self.updated = self.updated or reference(params, arrays)

    def rule_name(self) -> str:
        """The op that `step` calls; empty when it is not the step of this class but one written over it."""
        own = getattr(self.step, "__func__", None) is Optimizer.step
        return self.rule.__name__ if own and self.rule is not None else ""

    def state_dict(self) -> dict[str, Any]:
        """Return all that a later run needs to resume bitwise identically.

        Returns
        -------
        dict
            ``"optimizer"`` the class's name, ``"iter"``, each hyper-parameter as a number or None, and for each name in
            `state_names` a dict from parameter names to copies of arrays.
        """
        state: dict[str, Any] = {"optimizer": type(self).__name__, "iter": self.iter}
        state.update((name, getattr(self, name)) for name in set_hyper_parameters(self))
        state.update((kind, {name: copied(a) for name, a in getattr(self, kind).items()}) for kind in self.state_names)
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned; arrays are copied and stay in the library they come in.

        Raises
        ------
        ValueError, ShapeError, DTypeError, MixedArraysError
            If anything is missing, too much, or does not fit; the optimizer is then as it was.
        """
        for name, value in checked_state(
            state, type(self).__name__, set_hyper_parameters(self), self.state_names
        ).items():
            setattr(self, name, value)
        self.run = self.updated = None

    def __repr__(self) -> str:
        values = [(name, getattr(self, name)) for name in set_hyper_parameters(self)]
        shown = [f"{name}={value}" for name, value in values if name == "lr" or value]
        shown += [f"decay={getattr(self.decay, '__qualname__', repr(self.decay))}"] if self.decay is not None else []
        shown += [f"lr_groups={self.lr_groups}"] if self.lr_groups else []
        return f"{type(self).__name__}({', '.join(shown)})"


def _update_numbers(optimizer: Optimizer, params: MutableMapping[str, Any], grads: Mapping[str, Any]) -> None:
    # in float64 on the host; new floats each time, as a plot of the path keeps the old ones
    arrays = {name: asnumpy(float(p)) for name, p in params.items()}
    optimizer.update(arrays, {name: asnumpy(float(g)) if is_number(g) else g for name, g in grads.items()})
    params.update({name: float(p) for name, p in arrays.items()})
