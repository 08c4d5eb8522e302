"""Recurrent layers step by step in place, into time-major memory (T, N, ...) that the results are views of.

What a step backward multiplies gradients with is computed for all steps at once, with 0 where the mask is False.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeAlias

import torch

from xpdl.backends.half_precision import serves_half
from xpdl.backends.registry import DECLINE, kernel
from xpdl.backends.torch.products import addmm, mm, repeated
from xpdl.backends.torch.tensors import Tensor, is_transformed, supports

Product: TypeAlias = Callable[[Tensor], Tensor]

# of a gradient and the output, in one pass over memory
_through_tanh, _through_sigmoid = torch.ops.aten.tanh_backward, torch.ops.aten.sigmoid_backward


@kernel("torch", "rnn")
@serves_half()
def rnn(x: Tensor, h: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """As `xpdl.ops.recurrent.rnn`."""
    if not _serves(x, h, Wx, Wh, b, mask=mask):
        return DECLINE
    y, counts = _inputs(x, Wx, b), _by_step(mask)
    add_product = _adding_product(Wh, y)
    for t, new in enumerate(y):
        add_product(new, h).tanh_()
        _keep(new, h, counts, t)
        h = new
    return y.transpose(0, 1)


@kernel("torch", "rnn_backward")
@serves_half()
def rnn_backward(
    dy: Tensor,
    x: Tensor,
    h: Tensor,
    Wx: Tensor,
    Wh: Tensor,
    y: Tensor,
    mask: Tensor | None = None,
    *,
    need_dW: bool = True,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """As `xpdl.ops.recurrent.rnn_backward`."""
    if not _serves(x, h, Wx, Wh, dy, y, mask=mask):
        return DECLINE
    dy, y, counts = dy.transpose(0, 1), _time_major(y), _by_step(mask)
    da, dh, product = torch.empty_like(y), torch.zeros_like(h), _product(Wh.T, y)
    for t in reversed(range(len(da))):
        dh += dy[t]
        _through_tanh.grad_input(dh, y[t], grad_input=da[t])
        if counts is not None:
            _counted(da[t], counts[t])
        dh = _passed_back(da[t], product, dh, counts, t)
    if not need_dW:
        return _inputs_alone(da, Wx), dh, None, None, None
    dx, dWx, db = _through_inputs(da, x, Wx)
    return dx, dh, dWx, _summed_products(_before(h, y), da), db


@kernel("torch", "lstm")
@serves_half()
def lstm(
    x: Tensor, h: Tensor, c: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """As `xpdl.ops.recurrent.lstm`."""
    if c.shape != h.shape or not _serves(x, h, Wx, Wh, c, b, mask=mask):
        return DECLINE
    gates, counts, units = _inputs(x, Wx, b), _by_step(mask), h.shape[1]
    y, cells = gates.new_empty((2, *gates.shape[:2], units))
    add_product = _adding_product(Wh, gates)
    for t, a in enumerate(gates):
        add_product(a, h)
        i, f, g, o = a.split(units, 1)
        a[:, : 2 * units].sigmoid_()
        g.tanh_()
        o.sigmoid_()
        torch.mul(f, c, out=cells[t]).addcmul_(i, g)
        torch.tanh(cells[t], out=y[t]).mul_(o)
        _keep(y[t], h, counts, t)
        _keep(cells[t], c, counts, t)
        h, c = y[t], cells[t]
    return y.transpose(0, 1), cells.transpose(0, 1), gates.transpose(0, 1)


@kernel("torch", "lstm_backward")
@serves_half()
def lstm_backward(
    dy: Tensor,
    x: Tensor,
    h: Tensor,
    c: Tensor,
    Wx: Tensor,
    Wh: Tensor,
    y: Tensor,
    cells: Tensor,
    gates: Tensor,
    mask: Tensor | None = None,
    *,
    need_dW: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """As `xpdl.ops.recurrent.lstm_backward`."""
    if c.shape != h.shape or not _serves(x, h, Wx, Wh, dy, c, y, cells, gates, mask=mask):
        return DECLINE
    dy, cells, counts = dy.transpose(0, 1), _time_major(cells), _by_step(mask)
    da, slopes, forget = _lstm_slopes(cells, _before(c, cells), _time_major(gates), counts)
    dh, dc, product = torch.zeros_like(h), torch.zeros_like(c), _product(Wh.T, cells)
    for t in reversed(range(len(da))):
        dh += dy[t]
        dc.addcmul_(dh, slopes[t])
        da[t, :, :3] *= dc.unsqueeze(1)
        da[t, :, 3] *= dh
        dc *= forget[t]
        dh = _passed_back(da[t].flatten(1), product, dh, counts, t)
    da = da.flatten(2)
    if not need_dW:
        return _inputs_alone(da, Wx), dh, dc, None, None, None
    dx, dWx, db = _through_inputs(da, x, Wx)
    return dx, dh, dc, dWx, _summed_products(_before(h, _time_major(y)), da), db


def _lstm_slopes(cells: Tensor, before: Tensor, gates: Tensor, counts: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Derivatives of the memory by three gates and of the state by the last (T, N, 4, H), of the state by the memory, and of
    the memory by the one before.
    """
    i, f, g, o = gates.split(cells.shape[2], 2)
    tanh_c, of_gates = torch.tanh(cells), gates.new_empty((*cells.shape[:2], 4, cells.shape[2]))
    _through_sigmoid.grad_input(g, i, grad_input=of_gates[:, :, 0])
    _through_sigmoid.grad_input(before, f, grad_input=of_gates[:, :, 1])
    _through_tanh.grad_input(i, g, grad_input=of_gates[:, :, 2])
    _through_sigmoid.grad_input(tanh_c, o, grad_input=of_gates[:, :, 3])
    slopes = _through_tanh.default(o, tanh_c)
    if counts is None:
        return of_gates, slopes, f
    return _counted(of_gates, counts.unsqueeze(-1)), _counted(slopes, counts), torch.where(counts, f, 1.0)


@kernel("torch", "gru")
@serves_half()
def gru(
    x: Tensor, h: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor, bh: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """As `xpdl.ops.recurrent.gru`."""
    if not _serves(x, h, Wx, Wh, b, bh, mask=mask):
        return DECLINE
    inputs, counts, units = _inputs(x, Wx, b), _by_step(mask), h.shape[1]
    gates = inputs.new_empty((*inputs.shape[:2], 4 * units))
    gates[..., : 3 * units] = inputs
    y, product = inputs.new_empty((*inputs.shape[:2], units)), _product(Wh, inputs)
    for t, a in enumerate(gates):
        of_h = product(h)
        r, z, n, memory = a.split(units, 1)
        a[:, : 2 * units].add_(of_h[:, : 2 * units]).sigmoid_()
        torch.add(of_h[:, 2 * units :], bh, out=memory)
        n.addcmul_(r, memory).tanh_()
        torch.sub(h, n, out=y[t]).mul_(z).add_(n)
        _keep(y[t], h, counts, t)
        h = y[t]
    return y.transpose(0, 1), gates.transpose(0, 1)


@kernel("torch", "gru_backward")
@serves_half()
def gru_backward(
    dy: Tensor,
    x: Tensor,
    h: Tensor,
    Wx: Tensor,
    Wh: Tensor,
    y: Tensor,
    gates: Tensor,
    mask: Tensor | None = None,
    *,
    need_dW: bool = True,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """As `xpdl.ops.recurrent.gru_backward`."""
    if not _serves(x, h, Wx, Wh, dy, y, gates, mask=mask):
        return DECLINE
    dy, before, counts, units = dy.transpose(0, 1), _before(h, _time_major(y)), _by_step(mask), h.shape[1]
    r, z, n, memory = _time_major(gates).split(units, 2)
    dn = _counted(_through_tanh.default(1.0 - z, n), counts)
    of_h = dn.new_empty((*dn.shape[:2], 3, units))
    _through_sigmoid.grad_input(dn * memory, r, grad_input=of_h[:, :, 0])
    _counted(_through_sigmoid.grad_input(before - n, z, grad_input=of_h[:, :, 1]), counts)
    torch.mul(dn, r, out=of_h[:, :, 2])
    kept, dh = z if counts is None else torch.where(counts, z, 1.0), torch.zeros_like(h)
    product = _product(Wh.T, dn)
    for t in reversed(range(len(of_h))):
        dh = dh + dy[t]
        of_h[t] *= dh.unsqueeze(1)
        dn[t] *= dh
        dh = product(of_h[t].flatten(1)).addcmul_(dh, kept[t])
    of_h = of_h.flatten(2)
    of_x = torch.cat([of_h[..., : 2 * units], dn], 2)
    if not need_dW:
        return _inputs_alone(of_x, Wx), dh, None, None, None, None
    dx, dWx, db = _through_inputs(of_x, x, Wx)
    return dx, dh, dWx, _summed_products(before, of_h), db, of_h[..., 2 * units :].sum((0, 1))


def _serves(x: Tensor, h: Tensor, Wx: Tensor, Wh: Tensor, *others: Tensor, mask: Tensor | None) -> bool:
    """Return whether all are of one dtype and of the shapes of a layer, and nothing follows what is done in place."""
    if not supports(x, h, Wx, Wh, *others) or any(map(is_transformed, (x, h, Wx, Wh, *others))):
        return False
    if x.ndim != 3 or h.shape != (x.shape[0], Wh.shape[0]) or not h.numel():
        return False
    return mask is None or (mask.dtype == torch.bool and mask.device == x.device and mask.shape == x.shape[:2])


def _time_major(a: Tensor) -> Tensor:
    """(N, T, ...) as (T, N, ...), contiguous: a view of a result of these kernels, else a copy."""
    return a.transpose(0, 1).contiguous()


def _by_step(mask: Tensor | None) -> Tensor | None:
    """Flags (T, N, 1)."""
    return None if mask is None else _time_major(mask).unsqueeze(-1)


def _inputs(x: Tensor, Wx: Tensor, b: Tensor) -> Tensor:
    """``x_t Wx + b`` of all steps (T, N, ...), in one product."""
    rows = _time_major(x).flatten(0, 1)
    return addmm(b, rows, Wx).view(x.shape[1], x.shape[0], -1)


def _through_inputs(da: Tensor, x: Tensor, Wx: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``dx, dWx, db`` of `_inputs`."""
    return _inputs_alone(da, Wx), _summed_products(_time_major(x), da), da.sum((0, 1))


def _inputs_alone(da: Tensor, Wx: Tensor) -> Tensor:
    """``dx`` of `_inputs`."""
    return mm(da.flatten(0, 1), Wx.T).view(*da.shape[:2], -1).transpose(0, 1)


def _summed_products(a: Tensor, da: Tensor) -> Tensor:
    """The sum of ``a_t^T da_t`` over all steps."""
    return mm(a.flatten(0, 1).T, da.flatten(0, 1))


def _before(first: Tensor, states: Tensor) -> Tensor:
    """The states before each step."""
    return torch.cat([first.unsqueeze(0), states[:-1]])


def _keep(new: Tensor, old: Tensor, counts: Tensor | None, t: int) -> None:
    """Write `old` over `new` in sequences that do not count at step `t`."""
    if counts is not None:
        torch.where(counts[t], new, old, out=new)


def _counted(a: Tensor, counts: Tensor | None) -> Tensor:
    """`a` itself, with 0 written where steps do not count."""
    return a if counts is None else a.masked_fill_(~counts, 0.0)


def _product(W: Tensor, steps: Tensor) -> Product:
    """The function ``a -> a W`` for the states or gradients `a` of steps (T, N, ...)."""
    return repeated(W, steps.shape[1], len(steps)) or functools.partial(torch.mm, mat2=W)


def _adding_product(Wh: Tensor, steps: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The function that adds ``h Wh`` to one of the steps (T, N, ...), in place."""
    product = repeated(Wh, steps.shape[1], len(steps))
    if product is None:
        return lambda a, h: a.addmm_(h, Wh)
    return lambda a, h: a.add_(product(h))


def _passed_back(da: Tensor, product: Product, dh: Tensor, counts: Tensor | None, t: int) -> Tensor:
    """The gradient of the state before step `t`, through the product with `Wh` or, where it was kept, as it is."""
    if counts is None:
        return product(da)
    return dh.masked_fill_(counts[t], 0.0).add_(product(da))
