"""Names and layouts of GPT-2 in PyTorch, for the arrays of a `GPT`.

=======================================  ===========================================
here                                     there, all after ``transformer.``
=======================================  ===========================================
``tokens.W``                             ``wte.weight``
``positions.W``                          ``wpe.weight``
``block1.attention.body.norm``           ``h.0.ln_1``
``block1.attention.body.attention``      ``h.0.attn.c_attn`` (q, k, v), ``h.0.attn.c_proj``
``block1.mlp.body.norm``                 ``h.0.ln_2``
``block1.mlp.body.expand``, ``project``  ``h.0.mlp.c_fc``, ``h.0.mlp.c_proj``
``norm``                                 ``ln_f``
``head.W``                               ``lm_head.weight``, without ``transformer.``
=======================================  ===========================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from xpdl.backends.arrays import NDArray

_PREFIX = "transformer."
_HEAD = "lm_head.weight"
_MODULES = {
    "tokens": "wte",
    "positions": "wpe",
    "attention.body.norm": "ln_1",
    "mlp.body.norm": "ln_2",
    "mlp.body.expand": "mlp.c_fc",
    "mlp.body.project": "mlp.c_proj",
    "norm": "ln_f",
}
_KEYS = {"W": "weight", "b": "bias", "gamma": "weight", "beta": "bias"}
_PARTS = "qkv"
# masks, which some files keep beside the weights
_MASK = re.compile(r"h\.\d+\.attn\.(masked_)?bias")


def to_gpt2(state: Mapping[str, NDArray], tied: bool) -> dict[str, NDArray]:
    """Return the arrays of a `GPT` under the names of GPT-2, weights of linear layers as (out, in).

    Parameters
    ----------
    state : mapping of str to array
    tied : bool
        Whether the head is the table of the tokens, which then stands under both names.
    """
    found = {}
    for name, array in state.items():
        module, _, key = name.rpartition(".")
        if name == "head.W":
            found[_HEAD] = array.T
        elif not module.endswith(".body.attention"):
            block, inner = _block_of(module)
            there = f"{_PREFIX}{block}{_MODULES[inner]}.{_KEYS[key]}"
            found[there] = array.T if _is_linear(there) and array.ndim == 2 else array
    for module in {name.rpartition(".")[0]: None for name in state if name.endswith("body.attention.Wq")}:
        block, _ = _block_of(module)
        for key, there in (("W", "weight"), ("b", "bias")):
            parts = [state[f"{module}.{key}{part}"].T for part in _PARTS]
            found[f"{_PREFIX}{block}attn.c_attn.{there}"] = np.concatenate(parts)
            found[f"{_PREFIX}{block}attn.c_proj.{there}"] = state[f"{module}.{key}o"].T
    return {**found, _HEAD: found[f"{_PREFIX}wte.weight"]} if tied else found


def from_gpt2(arrays: Mapping[str, NDArray], tied: bool, source: str) -> dict[str, NDArray]:
    """Return the arrays of a file under the names of a `GPT`; those it does not know keep theirs.

    Weights of linear layers may be (out, in), as of ``nn.Linear``, or (in, out), as of the files of the GPT-2 of OpenAI, of
    which names also go without ``transformer.``; masks among them are skipped.

    Raises
    ------
    ValueError
        If there is a head beside the tokens, and the `GPT` is tied.
    """
    there = {name.removeprefix(_PREFIX): array for name, array in arrays.items()}
    if tied and _HEAD in there:
        head, table = there.pop(_HEAD), there.get("wte.weight")
        if table is None or table.shape != head.shape or not np.array_equal(table, head):
            raise ValueError(f"{source}: {_HEAD} is not wte.weight; make the model with tied=False")
    is_transposed = not any(
        name.endswith("attn.c_attn.weight") and array.ndim == 2 and array.shape[1] > array.shape[0]
        for name, array in there.items()
    )
    modules = {module: name for name, module in _MODULES.items()}
    found: dict[str, NDArray] = {}
    for name, array in there.items():
        if _MASK.fullmatch(name):
            continue
        if array.ndim == 2 and (name == _HEAD or (_is_linear(name) and is_transposed)):
            array = array.T
        found |= _here(name, array, modules)
    return found


def _here(name: str, array: NDArray, modules: Mapping[str, str]) -> dict[str, NDArray]:
    """Return an array of a file, weights as (in, out), by its name here, or q, k and v by theirs."""
    if name == _HEAD:
        return {"head.W": array}
    module, _, key = name.rpartition(".")
    match = re.fullmatch(r"h\.(\d+)\.(.+)", module)
    block, inner = (f"block{int(match[1]) + 1}.", match[2]) if match else ("", module)
    short = {"weight": "W", "bias": "b"}.get(key)
    if short and match and inner == "attn.c_attn" and array.shape[-1] % len(_PARTS) == 0:
        parts = np.split(array, len(_PARTS), axis=-1)
        return {f"{block}attention.body.attention.{short}{one}": a for one, a in zip(_PARTS, parts, strict=True)}
    if short and match and inner == "attn.c_proj":
        return {f"{block}attention.body.attention.{short}o": array}
    if short is None or inner not in modules:
        return {name: array}
    if inner.startswith("ln"):
        short = {"W": "gamma", "b": "beta"}[short]
    return {f"{block}{modules[inner]}.{short}": array}


def _is_linear(name: str) -> bool:
    return ".c_" in name


def _block_of(module: str) -> tuple[str, str]:
    """``"h.0."`` and the rest for a module in block1; nothing and the module for others."""
    match = re.fullmatch(r"block(\d+)\.(.+)", module)
    return (f"h.{int(match[1]) - 1}.", match[2]) if match else ("", module)
