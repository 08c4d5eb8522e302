"""The scale of the loss in mixed precision, and what is computed with many arrays at once there."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from xpdl.backends import asnumpy
from xpdl.backends.dispatch import op
from xpdl.backends.dtypes import dtype_by_name
from xpdl.backends.namespaces import Array, array_namespace, device, dtype_name, is_array, is_host, overflow_expected
from xpdl.ops.checks import number, positive_int
from xpdl.optimizers import Optimizer

# Gradients of zero would let the scale grow for ever, and infinity times zero is NaN.
_MOST = 2.0**32


@op
def cast_all(arrays: list[Array], dtype: str) -> list[Array]:
    """`arrays`, all of one dtype, rounded to the floating dtype of that name."""
    xp = array_namespace(*arrays)
    kind = dtype_by_name(dtype, xp)
    return [xp.astype(a, kind) for a in arrays]


@op
def unscale(grads: list[Array], scale: Array | None, dtype: str) -> list[Array]:
    """Gradients of a loss that was multiplied by `scale`, an array () of `dtype`, in that wider dtype and divided by it.

    None stands for a scale of 1.
    """
    xp = array_namespace(*grads)
    kind = dtype_by_name(dtype, xp)
    wide = [g if dtype_name(g.dtype) == dtype else xp.astype(g, kind) for g in grads]
    return wide if scale is None else [g / scale for g in wide]


@op
def all_finite(arrays: list[Array]) -> Array:
    """Compute whether no value is NaN or infinite: a boolean array () on their device, not read on the host."""
    xp = array_namespace(*arrays)
    return xp.all(xp.stack([xp.all(xp.isfinite(a)) for a in arrays]))


@op
def update_loss_scale(state: Array, finite: Array, growth_interval: int, most: float) -> Array:
    """The state of dynamic loss scaling after a step whose gradients were finite, or were not.

    Parameters
    ----------
    state : floating array (3,)
        The scale; good steps since it last changed; skipped steps so far.
    finite : boolean array ()
    growth_interval : int
        After so many good steps in a row the scale doubles. After a bad one it halves.
    most : float
        It grows no further.
    """
    xp = array_namespace(state, finite)
    scale, good, skipped_steps = state[0], state[1] + 1.0, state[2]
    grows = good >= growth_interval
    grown = xp.where(grows, xp.minimum(scale * 2.0, most), scale)
    after = [
        xp.where(finite, grown, scale * 0.5),
        xp.where(finite & ~grows, good, 0.0),
        xp.where(finite, skipped_steps, skipped_steps + 1.0),
    ]
    return xp.stack(after)


class LossScale:
    """The factor of the loss before the backward pass: halved after an overflow, doubled after many steps without.

    Parameters
    ----------
    value : float
        At first; at least 1.
    growth_interval : int
    owner : str
        Whose arguments they are, for messages.

    Attributes
    ----------
    value : float
    skipped_steps : int
        As of the last `sync`.
    """

    def __init__(self, value: float, growth_interval: int, owner: str) -> None:
        self.value = self.at_start = number(value, "scale", owner, "positive")
        if self.value < 1:
            raise ValueError(f"{owner}: scale must be at least 1, got {value!r}")
        self.growth_interval = positive_int(growth_interval, "growth_interval", owner)
        self.skipped_steps = 0
        self._good_steps = 0
        self.device_state: Array | None = None

    def on_device_of(self, p: Array) -> Array:
        """The scale, good steps, and skipped updates since `sync`, as an array (3,) where `p` is, in its dtype."""
        if self.device_state is None:
            state = [self.value, float(self._good_steps), 0.0]
            self.device_state = array_namespace(p).asarray(state, dtype=p.dtype, device=device(p))
        return self.device_state

    def entry(self, p: Array) -> tuple[dict[str, Any], str, Array]:
        """Return the place of the array that `on_device_of` gives: the dict that owns it, its key there, and the array."""
        return vars(self), "device_state", self.on_device_of(p)

    def update(
        self,
        optimizer: Optimizer,
        params: MutableMapping[str, Array],
        grads: Mapping[str, Array],
        is_finite: bool | None = None,
    ) -> None:
        """Update the parameters, unless a gradient is not finite; then adjust the scale.

        `is_finite` says so where these are not all gradients.
        """
        arrays = [g for g in grads.values() if is_array(g)]
        if not arrays:
            optimizer.update(params, grads)
            return
        state = self.on_device_of(arrays[0])
        finite = (
            all_finite(arrays) if is_finite is None else array_namespace(state).asarray(is_finite, device=device(state))
        )
        self.device_state = update_loss_scale(state, finite, self.growth_interval, _MOST)
        if not is_host(finite):
            with overflow_expected():
                optimizer.update(params, grads, apply_if=finite, skipped_steps=state[2])
            return
        if bool(finite):
            optimizer.update(params, grads)
        self.sync(optimizer)

    def sync(self, optimizer: Optimizer) -> None:
        """Read the scale and the count, and subtract the updates that a device skipped from the optimizer's count."""
        if self.device_state is None:
            return
        value, good, skipped = map(float, asnumpy(self.device_state))
        if not is_host(self.device_state):
            optimizer.iter -= int(skipped)
        self.value, self._good_steps = value, int(good)
        self.skipped_steps += int(skipped)
        self.device_state = None

    def state_dict(self) -> dict[str, float]:
        """Return what a run resumes with, as of the last `sync`."""
        return {"scale": self.value, "good_steps": self._good_steps, "skipped_steps": self.skipped_steps}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Take back what `state_dict` gave, also that of 0.1.0."""
        self.value, self._good_steps = float(state["scale"]), int(state["good_steps"])
        skipped = state["skipped_steps"] if "skipped_steps" in state else state["steps_left_out"]
        self.skipped_steps, self.device_state = int(skipped), None
