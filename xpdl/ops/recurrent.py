"""Recurrent layers over whole sequences: a simple one, LSTM and GRU, and their backpropagation through time.

Inputs are multiplied by ``Wx`` for all steps at once; what is left for each step is one product of the state with ``Wh``,
for all gates together. Where a mask is False, a step keeps the state as it was. Half precision is computed with in float32.

Shapes: sequences ``x`` (N, T, F), states (N, H), outputs (N, T, H), masks (N, T) of booleans.
"""

from __future__ import annotations

from collections.abc import Sequence

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.errors import ShapeError
from xpdl.ops.activations import sigmoid
from xpdl.ops.precision import in_float32


@op
@in_float32
def rnn(x: Array, h: Array, Wx: Array, Wh: Array, b: Array, mask: Array | None = None) -> Array:
    """Compute ``h_t = tanh(x_t Wx + h_{t-1} Wh + b)``.

    Parameters
    ----------
    x : array (N, T, F)
    h : array (N, H)
        The state before the first step.
    Wx, Wh, b : arrays (F, H), (H, H), (H,)
    mask : array (N, T) of booleans, optional

    Returns
    -------
    array (N, T, H)
        The states.
    """
    xp = array_namespace(x, h, Wx, Wh, b, mask)
    _require_shapes(x, Wh, mask, "rnn", h=h)
    inputs, states = _products(x, Wx) + b, []
    for t in range(x.shape[1]):
        h = _kept(xp.tanh(inputs[:, t, :] + xp.matmul(h, Wh)), h, mask, t)
        states.append(h)
    return xp.stack(states, axis=1)


@op
@in_float32
def rnn_backward(
    dy: Array,
    x: Array,
    h: Array,
    Wx: Array,
    Wh: Array,
    y: Array,
    mask: Array | None = None,
    *,
    need_dW: bool = True,
) -> tuple[Array, Array, Array | None, Array | None, Array | None]:
    """Compute ``dx, dh, dWx, dWh, db`` of `rnn` for `dy` (N, T, H), whose output was `y`.

    Without `need_dW`, as in a layer that is frozen, the last three are None.
    """
    _require_shapes(x, Wh, mask, "rnn_backward", h=h)
    xp, steps = array_namespace(dy, x, h, y), []
    dh = xp.zeros_like(h)
    for t in reversed(range(x.shape[1])):
        passed, dh = _parted(dh + dy[:, t, :], mask, t)
        da = passed * (1.0 - y[:, t, :] * y[:, t, :])
        dh = dh + xp.matmul(da, Wh.T)
        steps.append(da)
    da = xp.stack(steps[::-1], axis=1)
    if not need_dW:
        return _products(da, Wx.T), dh, None, None, None
    dx, dWx, db = _through_products(da, x, Wx)
    return dx, dh, dWx, _summed_products(_before(h, y), da), db


@op
@in_float32
def lstm(
    x: Array, h: Array, c: Array, Wx: Array, Wh: Array, b: Array, mask: Array | None = None
) -> tuple[Array, Array, Array]:
    """Compute long short-term memory: ``c_t = f c_{t-1} + i g`` and ``h_t = o tanh(c_t)``.

    Parameters
    ----------
    x : array (N, T, F)
    h, c : arrays (N, H)
        State and memory before the first step.
    Wx, Wh, b : arrays (F, 4 H), (H, 4 H), (4 H,)
        Of the gates in the order input i, forget f, cell g, output o: ``sigmoid sigmoid tanh sigmoid`` of
        ``x_t Wx + h_{t-1} Wh + b``.
    mask : array (N, T) of booleans, optional

    Returns
    -------
    y, cells : arrays (N, T, H)
        States and memories.
    gates : array (N, T, 4 H)
        For the backward pass.
    """
    xp = array_namespace(x, h, c, Wx, Wh, b, mask)
    _require_shapes(x, Wh, mask, "lstm", h=h, c=c)
    inputs, steps = _products(x, Wx) + b, []
    for t in range(x.shape[1]):
        a = _cut(inputs[:, t, :] + xp.matmul(h, Wh), 4)
        i, f, g, o = sigmoid(a[0]), sigmoid(a[1]), xp.tanh(a[2]), sigmoid(a[3])
        new = f * c + i * g
        h, c = _kept(o * xp.tanh(new), h, mask, t), _kept(new, c, mask, t)
        steps.append((h, c, xp.concat([i, f, g, o], axis=-1)))
    y, cells, gates = (xp.stack(list(one), axis=1) for one in zip(*steps, strict=True))
    return y, cells, gates


@op
@in_float32
def lstm_backward(
    dy: Array,
    x: Array,
    h: Array,
    c: Array,
    Wx: Array,
    Wh: Array,
    y: Array,
    cells: Array,
    gates: Array,
    mask: Array | None = None,
    *,
    need_dW: bool = True,
) -> tuple[Array, Array, Array, Array | None, Array | None, Array | None]:
    """Compute ``dx, dh, dc, dWx, dWh, db`` of `lstm` for `dy` (N, T, H), whose results were `y`, `cells` and `gates`.

    Without `need_dW` the last three are None.
    """
    _require_shapes(x, Wh, mask, "lstm_backward", h=h, c=c)
    xp, steps = array_namespace(dy, x, h, c, y), []
    dh, dc = xp.zeros_like(h), xp.zeros_like(c)
    for t in reversed(range(x.shape[1])):
        i, f, g, o = _cut(gates[:, t, :], 4)
        before, tanh_c = (cells[:, t - 1, :] if t else c), xp.tanh(cells[:, t, :])
        passed, dh = _parted(dh + dy[:, t, :], mask, t)
        dnew, dc = _parted(dc, mask, t)
        dnew = dnew + passed * o * (1.0 - tanh_c * tanh_c)
        slopes = (
            dnew * g * i * (1.0 - i),
            dnew * before * f * (1.0 - f),
            dnew * i * (1.0 - g * g),
            passed * tanh_c * o * (1.0 - o),
        )
        da = xp.concat(list(slopes), axis=-1)
        dh, dc = dh + xp.matmul(da, Wh.T), dc + dnew * f
        steps.append(da)
    da = xp.stack(steps[::-1], axis=1)
    if not need_dW:
        return _products(da, Wx.T), dh, dc, None, None, None
    dx, dWx, db = _through_products(da, x, Wx)
    return dx, dh, dc, dWx, _summed_products(_before(h, y), da), db


@op
@in_float32
def gru(
    x: Array, h: Array, Wx: Array, Wh: Array, b: Array, bh: Array, mask: Array | None = None
) -> tuple[Array, Array]:
    """Compute gated recurrent units: ``h_t = (1 - z) n + z h_{t-1}``.

    Parameters
    ----------
    x : array (N, T, F)
    h : array (N, H)
        The state before the first step.
    Wx, Wh, b : arrays (F, 3 H), (H, 3 H), (3 H,)
        Of the gates in the order reset r, update z, new n: r and z are the sigmoid of ``x_t Wx + h_{t-1} Wh + b``, and
        ``n = tanh(x_t Wx + b + r (h_{t-1} Wh + bh))``.
    bh : array (H,)
    mask : array (N, T) of booleans, optional

    Returns
    -------
    y : array (N, T, H)
        The states.
    gates : array (N, T, 4 H)
        For the backward pass: r, z, n and what r was multiplied with.
    """
    xp = array_namespace(x, h, Wx, Wh, b, bh, mask)
    _require_shapes(x, Wh, mask, "gru", h=h)
    inputs, steps = _products(x, Wx) + b, []
    for t in range(x.shape[1]):
        of_x, of_h = _cut(inputs[:, t, :], 3), _cut(xp.matmul(h, Wh), 3)
        r, z, memory = sigmoid(of_x[0] + of_h[0]), sigmoid(of_x[1] + of_h[1]), of_h[2] + bh
        n = xp.tanh(of_x[2] + r * memory)
        h = _kept(n + z * (h - n), h, mask, t)
        steps.append((h, xp.concat([r, z, n, memory], axis=-1)))
    y, gates = (xp.stack(list(one), axis=1) for one in zip(*steps, strict=True))
    return y, gates


@op
@in_float32
def gru_backward(
    dy: Array,
    x: Array,
    h: Array,
    Wx: Array,
    Wh: Array,
    y: Array,
    gates: Array,
    mask: Array | None = None,
    *,
    need_dW: bool = True,
) -> tuple[Array, Array, Array | None, Array | None, Array | None, Array | None]:
    """Compute ``dx, dh, dWx, dWh, db, dbh`` of `gru` for `dy` (N, T, H), whose results were `y` and `gates`.

    Without `need_dW` the last four are None.
    """
    _require_shapes(x, Wh, mask, "gru_backward", h=h)
    xp, steps = array_namespace(dy, x, h, y), []
    dh = xp.zeros_like(h)
    for t in reversed(range(x.shape[1])):
        r, z, n, memory = _cut(gates[:, t, :], 4)
        passed, dh = _parted(dh + dy[:, t, :], mask, t)
        dn = passed * (1.0 - z) * (1.0 - n * n)
        dz = passed * ((y[:, t - 1, :] if t else h) - n) * z * (1.0 - z)
        dr = dn * memory * r * (1.0 - r)
        of_h = xp.concat([dr, dz, dn * r], axis=-1)
        dh = dh + passed * z + xp.matmul(of_h, Wh.T)
        steps.append((xp.concat([dr, dz, dn], axis=-1), of_h))
    of_x, of_h = (xp.stack(list(one)[::-1], axis=1) for one in zip(*steps, strict=True))
    if not need_dW:
        return _products(of_x, Wx.T), dh, None, None, None, None
    dx, dWx, db = _through_products(of_x, x, Wx)
    return dx, dh, dWx, _summed_products(_before(h, y), of_h), db, xp.sum(_cut(of_h, 3)[2], axis=(0, 1))


def _require_shapes(x: Array, Wh: Array, mask: Array | None, owner: str, **states: Array) -> None:
    """Require one state for each sequence, and one value of a mask for each step."""
    if mask is not None and tuple(mask.shape) != tuple(x.shape[:2]):
        raise ShapeError(
            f"{owner}: mask must have the shape (N, T), here {tuple(x.shape[:2])}, got {tuple(mask.shape)}"
        )
    for name, state in states.items():
        if tuple(state.shape) != (x.shape[0], Wh.shape[0]):
            raise ShapeError(
                f"{owner}: {name} must have the shape (N, H), here {(x.shape[0], Wh.shape[0])}, one state for each "
                f"sequence, got {tuple(state.shape)}"
            )


def _rows(a: Array) -> Array:
    """(N, T, F) as (N T, F)."""
    return array_namespace(a).reshape(a, (a.shape[0] * a.shape[1], a.shape[2]))


def _products(x: Array, W: Array) -> Array:
    """``x W`` for all steps, in one product."""
    xp = array_namespace(x, W)
    return xp.reshape(xp.matmul(_rows(x), W), (*x.shape[:2], W.shape[1]))


def _summed_products(x: Array, da: Array) -> Array:
    """``dW`` of `_products`."""
    return array_namespace(x, da).matmul(_rows(x).T, _rows(da))


def _through_products(da: Array, x: Array, W: Array) -> tuple[Array, Array, Array]:
    """``dx, dW`` of `_products`, and the gradient of a bias."""
    return _products(da, W.T), _summed_products(x, da), array_namespace(da).sum(da, axis=(0, 1))


def _cut(a: Array, count: int) -> Sequence[Array]:
    """Parts of equal length along the last axis."""
    size = a.shape[-1] // count
    return [a[..., k * size : (k + 1) * size] for k in range(count)]


def _before(h: Array, y: Array) -> Array:
    """The states before each step."""
    xp = array_namespace(h, y)
    return xp.concat([xp.expand_dims(h, axis=1), y[:, :-1, :]], axis=1)


def _kept(new: Array, old: Array, mask: Array | None, t: int) -> Array:
    """`new` where step `t` counts, else `old`."""
    return new if mask is None else array_namespace(new, old, mask).where(mask[:, t : t + 1], new, old)


def _parted(d: Array, mask: Array | None, t: int) -> tuple[Array, Array]:
    """The gradient of what step `t` computed, and that of what it kept."""
    xp = array_namespace(d, mask)
    if mask is None:
        return d, xp.zeros_like(d)
    counts = mask[:, t : t + 1]
    return xp.where(counts, d, 0.0), xp.where(counts, 0.0, d)
