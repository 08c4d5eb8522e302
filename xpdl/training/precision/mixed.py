"""Training in half precision, with everything that needs more in float32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from xpdl.backends.dtypes import dtype_by_name
from xpdl.backends.namespaces import Array, array_namespace, dtype_name, is_floating, is_host, overflow_expected
from xpdl.data.structure import map_arrays
from xpdl.deprecation import warn_renamed
from xpdl.errors import DTypeError
from xpdl.layers.base import Layer
from xpdl.layers.losses import LossLayer
from xpdl.models.base import Model
from xpdl.optimizers import Optimizer
from xpdl.training.precision.loss_scale import LossScale, cast_all, unscale

_BITS = {"float16": 16, "bfloat16": 16, "float32": 32, "float64": 64}
# By default: of what gradients mostly are, none is lost below the smallest float16, and steps that overflow bring it down.
_FLOAT16_SCALE = 2.0**16
_GROWTH_INTERVAL = 2000

Owner = tuple[dict[str, Array], str]


class _OldNames:
    """Deprecated names of members of `MixedPrecision`, which work for one minor release."""

    skipped_steps: Any
    sync: Any

    @property
    def steps_left_out(self) -> int:
        """Return `skipped_steps`."""
        warn_renamed("MixedPrecision.steps_left_out", "skipped_steps")
        return int(self.skipped_steps)

    def settle(self, optimizer: Optimizer) -> None:
        """Call `sync`."""
        warn_renamed("MixedPrecision.settle", "sync")
        self.sync(optimizer)


class MixedPrecision(_OldNames):
    """Passes forward and back in float16 or bfloat16; parameters, loss, gradients and updates in float32 (arXiv:1710.03740).

    The model's parameters are the master weights of the paper: they stay in float32, and each step computes with copies that
    are rounded to `dtype`. An update smaller than half the distance between two neighbouring numbers of `dtype` is kept,
    where it would be lost in them. Activations take half the memory. Evaluation, prediction and files have float32.

    float16 has 5 bits of exponent, and gradients below 6e-8 become 0 in it. So the loss is multiplied by `scale` before the
    way back, and gradients are divided by it, in float32. Where one is not finite, the scale was too large: it is halved,
    and the update is skipped; after `growth_interval` good steps in a row it is doubled. On a device nothing is read for
    this: scale and counts are an array there, and so is the decision, with which new values are chosen from old ones.
    bfloat16 has the range of float32 and needs no scale.

    Parameters
    ----------
    dtype : {"float16", "bfloat16", "float32"}
        Of the passes, narrower than the parameters: ``"float32"`` is for a model in float64.
    scale : float, optional
        What the loss is multiplied by at first, at least 1. By default 65536 for float16, and for others 1, which means that
        nothing is scaled and no update skipped.
    growth_interval : int
        Good steps from one doubling to the next. It is refused where nothing is scaled.

    Attributes
    ----------
    scale : float
    skipped_steps : int
        As of the last `sync`, which a `Trainer` calls whenever it reads losses; always up to date on NumPy.

    Raises
    ------
    ValueError
        If `dtype` or `scale` is none of those, or `growth_interval` is that of a scale that there is not.

    Notes
    -----
    Layers with ``keep_fp32_params``, such as `BatchNormalization`, compute with parameters in float32. The paper's
    scale is constant; doubling and halving it is what its section 3.2 suggests at the end. It leaves open how a step that is
    skipped counts; here it does not: Adam's bias correction is that of the updates made.

    Examples
    --------
    >>> x, t = xpdl.data.moons(200, noise=0.1, seed=0)
    >>> net = Sequential(Affine(units=16), Relu(), Affine(units=2), loss=SoftmaxWithLoss, seed=0)
    >>> mixed = MixedPrecision("float16", scale=1024.0)
    >>> trainer = Trainer(net, x, t, x, t, 60, optimizer=Adam(lr=0.01), verbose=False, seed=0, precision=mixed)
    >>> trainer.train().test_acc_list[-1] > 0.9
    True
    >>> net.params["Affine1.W"].dtype, mixed.scale
    (dtype('float32'), 1024.0)

    In a loop of one's own:

    >>> grads = mixed.gradient(net, x, t)
    >>> mixed.update(trainer.optimizer, net.params, grads)
    """

    def __init__(
        self, dtype: str = "float16", *, scale: float | None = None, growth_interval: int = _GROWTH_INTERVAL
    ) -> None:
        owner = type(self).__name__
        if not _is_narrow(dtype):
            raise ValueError(f"{owner}: dtype must be 'float16', 'bfloat16' or 'float32', got {dtype!r}")
        self.dtype = dtype
        if scale is None:
            scale = _FLOAT16_SCALE if dtype == "float16" else 1.0
        self._passed = False
        self.loss_scale = LossScale(scale, growth_interval, owner)
        if growth_interval != _GROWTH_INTERVAL and not self.scales:
            raise ValueError(
                f"{owner}: growth_interval={growth_interval} for {dtype} without a scale, which does not grow; pass scale=, "
                "or leave it out"
            )

    @property
    def scale(self) -> float:
        return self.loss_scale.value

    @property
    def skipped_steps(self) -> int:
        return self.loss_scale.skipped_steps

    @property
    def scales(self) -> bool:
        """Return whether the loss is scaled, and updates may be skipped."""
        return self.loss_scale.at_start != 1.0

    def gradient(self, network: Model, x: Array, t: Array, *sample_weight: Array) -> dict[str, Array]:
        """``network.gradient`` with passes in half precision: gradients in the dtype of the parameters, not scaled.

        Where one is not finite, `update` sees it; ``network.last_loss`` is the loss, in the parameters' dtype.

        Raises
        ------
        TypeError
            If `network` is no `Sequential`, or its ``gradient`` goes another way.
        DTypeError
            If the parameters are not of a wider dtype than the passes, or their library lacks that.
        """
        if isinstance(network, Model):
            network.build_for(x)
        self.check(network)
        self._passed = False
        network.mixed_precision = self
        try:
            grads = network.gradient(x, t, *sample_weight)
        finally:
            network.mixed_precision = None
        if not self._passed:
            raise TypeError(
                f"MixedPrecision: {type(network).__name__}.gradient does not call Sequential's, which makes the passes"
            )
        return grads

    def update(self, optimizer: Optimizer, params: MutableMapping[str, Array], grads: Mapping[str, Array]) -> None:
        """Update the parameters, unless a gradient is not finite; then adjust the scale."""
        if self.scales:
            self.loss_scale.update(optimizer, params, grads)
        else:
            optimizer.update(params, grads)

    def sync(self, optimizer: Optimizer) -> None:
        """Read `scale` and `skipped_steps`, from a device if need be, and take the latter from the optimizer's count."""
        self.loss_scale.sync(optimizer)

    def check(self, network: Any) -> None:
        """Raise what `gradient` would for this network."""
        if not isinstance(network, Model):
            raise TypeError(
                "MixedPrecision: the network must be a Sequential, whose layers can be given rounded parameters, "
                f"got {type(network).__name__}"
            )
        first = next((owner[key] for _, owner, key in network.named_params()), None)
        if first is not None:
            if _BITS.get(dtype_name(first.dtype), 0) <= _BITS[self.dtype]:
                raise DTypeError(
                    f"MixedPrecision: parameters are {dtype_name(first.dtype)}, and passes in {self.dtype} need wider ones; "
                    'build the network with xpdl.use(..., dtype="float32")'
                )
            dtype_by_name(self.dtype, array_namespace(first))

    # called by `Model`

    def forward(self, network: Model, x: Array) -> Array:
        """Scores for the batch `x`, in the dtype of the parameters."""
        with self.parameters(network) as wide:
            scores = network.forward(self.rounded(x), True)
        self._passed = True
        return map_arrays(lambda one: _cast(one, wide), scores)

    def backward(self, network: Model, loss: LossLayer, factor: float) -> None:
        """Fill the layers' gradients, of the loss multiplied by `factor`, in the dtype of the parameters."""
        first = next(owner[key] for _, owner, key in network.named_params())
        scale: Any = None
        if self.scales:
            scale = self.loss_scale.on_device_of(first)[0]
        dout = loss.backward(factor if scale is None else factor * (float(scale) if is_host(first) else scale))
        with self.parameters(network) as wide:
            _backward(network, self.rounded(dout), scale, wide)

    @contextlib.contextmanager
    def parameters(self, network: Model) -> Iterator[str]:
        """Inside, the layers have parameters in half precision; gives the name of their own dtype."""
        narrowed = [layer.own("params") for layer in network.tree() if not layer.keep_fp32_params]
        entries = [(params, key) for params in narrowed for key in params]
        own = [owner[key] for owner, key in entries]
        if own:
            for (owner, key), rounded in zip(entries, cast_all(own, self.dtype), strict=True):
                owner[key] = rounded
        try:
            with overflow_expected():
                yield dtype_name((own or list(network.params.values()))[0].dtype)
        finally:
            for (owner, key), value in zip(entries, own, strict=True):
                owner[key] = value

    def rounded(self, x: Any) -> Any:
        """Floating `x`, or each array of a tuple or dict, in the dtype of the passes."""
        return map_arrays(lambda one: _cast(one, self.dtype) if one is not None and is_floating(one) else one, x)

    def __repr__(self) -> str:
        scale, interval = self.loss_scale.at_start, self.loss_scale.growth_interval
        return f"MixedPrecision({self.dtype!r}, scale={scale}, growth_interval={interval})"


def resolve_precision(precision: str | MixedPrecision | None, network: Any) -> MixedPrecision | None:
    """Return the `MixedPrecision` that a trainer was asked for, checked against its network."""
    if precision is None:
        return None
    if not (isinstance(precision, MixedPrecision) or _is_narrow(precision)):
        raise ValueError(
            "Trainer: precision must be 'float16', 'bfloat16', 'float32' for a model in float64, or a MixedPrecision, got "
            f"{precision!r}"
        )
    mixed = precision if isinstance(precision, MixedPrecision) else MixedPrecision(precision)
    mixed.check(network)
    return mixed


def _backward(network: Any, dout: Array, scale: Any, dtype: str) -> None:
    """Fill the layers' gradients, without the scale and in `dtype`, also those that ``after_backward`` is told of."""
    hook, done = getattr(network, "after_backward", None), set[tuple[int, str]]()

    def after_backward(name: str, layer: Layer) -> None:
        _unscale_grads(layer, scale, dtype, done)
        if hook is not None:
            hook(name, layer)

    if hook is not None:
        network.after_backward = after_backward
    try:
        network.backward_parameters(dout)
    finally:
        if hook is not None:
            network.after_backward = hook
    _unscale_grads(network, scale, dtype, done)


def _unscale_grads(layers: Layer, scale: Any, dtype: str, done: set[tuple[int, str]]) -> None:
    """Replace gradients by those of the loss without its scale, in `dtype`, and note them as `done`."""
    found: dict[Any, list[Owner]] = {}
    for _, owner, key in layers.named_grads():
        if (id(owner), key) not in done:
            found.setdefault(owner[key].dtype, []).append((owner, key))
    for entries in found.values():
        grads = unscale([owner[key] for owner, key in entries], scale, dtype)
        for (owner, key), grad in zip(entries, grads, strict=True):
            owner[key] = grad
        done.update((id(owner), key) for owner, key in entries)


def _is_narrow(dtype: Any) -> bool:
    return isinstance(dtype, str) and dtype in _BITS and dtype != "float64"


def _cast(x: Array, dtype: str) -> Array:
    if dtype_name(x.dtype) == dtype:
        return x
    xp = array_namespace(x)
    return xp.astype(x, dtype_by_name(dtype, xp))
