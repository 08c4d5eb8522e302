"""Rows, targets and weights as scikit-learn's users pass them, checked, and as a net takes them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import _check_sample_weight, check_array, validate_data

from xpdl.backends import Backend, asnumpy, get_backend
from xpdl.backends.namespaces import Array, array_namespace, device, dtype_name, is_array, is_host, library_name
from xpdl.backends.rows import rows_at
from xpdl.backends.tables import columns_of, is_table
from xpdl.integrations.scikit_learn.sparse import dense
from xpdl.ops.targets import check_finite

# Integers become the first.
_FLOATS = ["float32", "float64"]


def is_foreign(a: Any) -> bool:
    """Return whether `a` is an array of another library than NumPy."""
    return is_array(a) and not is_host(a)


def on_host(a: Any) -> Any:
    """Arrays of other libraries as NumPy arrays; anything else as it is."""
    return asnumpy(a) if is_foreign(a) else a


def features(estimator: Any, X: Any, *, reset: bool) -> Any:
    """Check rows (N, F) of floats: a NumPy array, a sparse matrix, or an array of another library.

    Pictures (N, *input_shape) become rows. `reset` sets ``n_features_in_`` and ``feature_names_in_``.

    Raises
    ------
    ValueError
        As scikit-learn's estimators do; if the features do not fill `input_shape`.
    """
    shape = estimator.input_shape
    if shape is not None and getattr(X, "ndim", 2) > 2 and tuple(X.shape[1:]) == tuple(shape):
        X = X.reshape(X.shape[0], -1) if not is_foreign(X) else array_namespace(X).reshape(X, (X.shape[0], -1))
    if text := _columns_of_text(X):
        validate_data(estimator, X, reset=reset, skip_check_array=True)  # other columns than in fit come first
        raise ValueError(
            f"{type(estimator).__name__}: the columns {', '.join(text)} of X hold no numbers; encode them, by a "
            "OneHotEncoder in a ColumnTransformer, for example"
        )
    if is_foreign(X):
        X = _foreign(estimator, X)
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    else:
        X = validate_data(estimator, X, reset=reset, dtype=_FLOATS, accept_sparse="csr")
    if shape is not None and math.prod(shape) != X.shape[1]:
        raise ValueError(
            f"{type(estimator).__name__}: input_shape={tuple(shape)} has {math.prod(shape)} values, but rows of X have "
            f"{X.shape[1]} features; a picture is (channels, height, width)"
        )
    return X


def _columns_of_text(X: Any) -> list[str]:
    """Return the columns of a DataFrame that are no numbers: text, dates, or categories of these."""
    if not (is_table(X) and hasattr(X, "columns")):
        return []
    return [f"{name!r} ({one.dtype})" for name, one in columns_of(X) if not _is_numbers(one.to_frame(), one.dtype)]


def _is_numbers(column: Any, dtype: Any) -> bool:
    """Return whether the only column of a table is numbers, perhaps as objects or categories, and with some missing."""
    kind = getattr(dtype, "kind", "O")
    if kind != "O":
        return kind in "biuf"  # dates could become numbers, which mean none
    try:
        check_array(column, dtype=_FLOATS, ensure_all_finite=False)
    except (TypeError, ValueError):
        return False
    return True


def _foreign(estimator: Any, X: Array) -> Array:
    owner = f"{type(estimator).__name__}: X"
    if X.ndim != 2:
        raise ValueError(f"{owner} must be rows (N, F), got shape {tuple(X.shape)}; for pictures give input_shape")
    if X.shape[0] == 0 or X.shape[1] == 0:
        raise ValueError(f"{owner} must have at least one row and one feature, got shape {tuple(X.shape)}")
    backend = backend_of(X)
    X = backend.asarray(X, backend.dtype)
    check_finite(X, owner)
    return X


def backend_of(X: Any) -> Backend:
    """Return where to train on `X`: its library and device, for NumPy arrays the backend in use; in its dtype.

    That is float64 for float64, where the library has it there, and else float32.
    """
    if is_foreign(X):
        xp = array_namespace(X)
        backend = Backend(library_name(xp), xp, device(X), "float32")
    else:
        backend = get_backend()
    wide = dtype_name(X.dtype) == "float64" and "float64" in backend.xp.__array_namespace_info__().dtypes()
    return dataclasses.replace(backend, dtype="float64" if wide else "float32")


def taken(a: Any, rows: Any) -> Any:
    """Return the rows of these numbers, an array of integers on the host."""
    if not is_foreign(a):
        return a[rows]
    backend = backend_of(a)
    return rows_at(a, backend.asarray(rows))


def targets(y: Any, *, numeric: bool, owner: str) -> Any:
    """Check targets (N,) or (N, K), without NaN; of any library."""
    y = on_host(y)
    if y is None:
        raise ValueError(f"{owner} requires y to be passed, but the target y is None")
    options: dict[str, Any] = {"ensure_2d": False, "dtype": _FLOATS if numeric else None, "input_name": "y"}
    return dense(check_array(y, accept_sparse="csr", **options))


def weights(sample_weight: Any, y: Any, class_weight: Any = None) -> Any:
    """Return the weight of each row of targets `y`, that of its class included, or None where all count alike."""
    found = None
    if sample_weight is not None:
        found = _check_sample_weight(on_host(sample_weight), y, dtype="float64", ensure_non_negative=True)
    if class_weight is not None:
        if found is not None and isinstance(class_weight, str) and class_weight == "balanced" and y.ndim == 1:
            class_weight = _balanced(y, found)
        of_classes = compute_sample_weight(class_weight, y)
        found = of_classes if found is None else found * of_classes
    if found is not None and not found.any():
        raise ValueError("all rows have the weight 0, which leaves nothing to train with; raise some")
    return found


def _balanced(y: Any, weights: Any) -> dict[Any, float]:
    """Return the factor of each class for which the weights of its rows add up alike."""
    totals = {label: float(weights[y == label].sum()) for label in dict.fromkeys(y.tolist())}
    share = sum(totals.values()) / sum(total > 0 for total in totals.values())
    return {label: share / total if total else 0.0 for label, total in totals.items()}
