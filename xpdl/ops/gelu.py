"""Gelu, the input times the normal distribution function at it, exact or by its tanh approximation (arXiv:1606.08415).

The array API has no error function. ``erfc(z) = t exp(-z^2 + P(t))`` with ``t = 2 / (2 + z)``, where the polynomial P is
computed from its Chebyshev series, is accurate to some units in the last place of float64 for any z of at least 0.
"""

from __future__ import annotations

import math

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.ops.precision import in_float32

# Chebyshev coefficients of log(erfc(z) exp(z^2) / t) as a function of 2 t - 1 on [-1, 1], for t = 2 / (2 + z); those that
# follow are below 3e-18. Computed in 40 digits by interpolation at 80 Chebyshev nodes.
_SERIES = (
    -0.65132685989085472,
    0.64196979235649026,
    0.019476473204185836,
    -0.0095615147868086316,
    -0.00094659534448203687,
    0.00036683949785276145,
    0.000042523324806907772,
    -0.000020278578112534243,
    -1.6242900046470255e-6,
    1.3036558355805232e-6,
    1.5626441722066143e-8,
    -8.5238095914926543e-8,
    6.5290544390988515e-9,
    5.0593434955514689e-9,
    -9.9136415649303309e-10,
    -2.2736512229318359e-10,
    9.6467911020155268e-11,
    2.3940380830391147e-12,
    -6.8860275264975534e-12,
    8.9448792730907257e-13,
    3.1309213993429581e-13,
    -1.1270822361367252e-13,
    3.8109052551892321e-16,
    7.1060976136092370e-15,
    -1.5230282014571043e-15,
    -9.4574945712912340e-17,
    1.2102371892242790e-16,
    -2.8166630877471770e-17,
)
_SCALE, _CUBIC = math.sqrt(2.0 / math.pi), 0.044715
# the distribution function is 0 or 1 beyond, in float64 too, and nothing overflows on the way there
_FAR, _FAR_TANH = 40.0, 12.0


@op
@in_float32
def gelu(x: Array, approximate: str = "none") -> Array:
    """``x * Phi(x)``, with the distribution function Phi of the standard normal distribution.

    Parameters
    ----------
    x : array
    approximate : {"none", "tanh"}
        "tanh": ``Phi(x)`` is taken as ``(1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2``.

    Returns
    -------
    array of the shape of `x`
    """
    # minus infinity times 0 would be NaN
    above = array_namespace(x).maximum(x, -_FAR)
    return above * (_normal_cdf(x) if approximate == "none" else _logistic_cdf(x)[0])


@op
@in_float32
def gelu_backward(dy: Array, x: Array, approximate: str = "none") -> Array:
    """``dy * (Phi(x) + x Phi'(x))``."""
    xp = array_namespace(dy, x)
    if approximate == "none":
        near = _clipped(x, _FAR)
        return dy * (_normal_cdf(x) + near * xp.exp(-0.5 * near * near) / math.sqrt(2.0 * math.pi))
    cdf, near = _logistic_cdf(x)
    # Phi' = Phi (1 - Phi) times twice the slope inside the tanh
    return dy * (cdf + near * 2.0 * cdf * (1.0 - cdf) * _SCALE * (1.0 + 3.0 * _CUBIC * near * near))


def _clipped(x: Array, limit: float) -> Array:
    xp = array_namespace(x)
    return xp.minimum(xp.maximum(x, -limit), limit)


def _normal_cdf(x: Array) -> Array:
    """``erfc(-x / sqrt(2)) / 2``, from that of ``|x|``, which loses no digits in the tails."""
    xp = array_namespace(x)
    z = xp.abs(_clipped(x, _FAR)) / math.sqrt(2.0)
    t = 2.0 / (2.0 + z)
    twice = 2.0 * (2.0 * t - 1.0)
    # Clenshaw's recurrence
    b, before = xp.zeros_like(z), xp.zeros_like(z)
    for coefficient in _SERIES[:0:-1]:
        b, before = twice * b - before + coefficient, b
    tail = 0.5 * t * xp.exp(-z * z + 0.5 * twice * b - before + _SERIES[0])
    return xp.where(x > 0, 1.0 - tail, tail)


def _logistic_cdf(x: Array) -> tuple[Array, Array]:
    """The tanh approximation of the distribution function, and `x` as far as it makes a difference to that."""
    xp = array_namespace(x)
    near = _clipped(x, _FAR_TANH)
    return 0.5 * (1.0 + xp.tanh(_SCALE * (near + _CUBIC * near * near * near))), near
