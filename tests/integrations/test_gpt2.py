"""State dicts of a GPT in PyTorch under the names of GPT-2, against that net itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import xpdl
from tests.harness import nonempty
from xpdl import GPT
from xpdl.integrations.gpt2 import to_gpt2

IDS = np.random.default_rng(0).integers(0, 11, (2, 6))


def gpt(dtype: str = "float64", **options: Any) -> GPT:
    """A net whose arrays are all random, also those that begin as ones or zeros."""
    with xpdl.use("numpy", dtype=dtype):
        model = GPT(11, 6, 8, 2, 3, **{"seed": 0, **options})
    rng = np.random.default_rng(1)
    for value in model.params.values():
        value += 0.3 * rng.standard_normal(value.shape)
    return model


@pytest.mark.needs("torch")
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("gelu", ["tanh", "none"])
class TestAgainstPyTorch:
    def test_a_state_dict_gives_the_same_logits(self, tied: bool, gelu: str, tmp_path: Path) -> None:
        import torch

        from tests.gpt_in_torch import peer

        model = gpt(tied=tied, gelu=gelu)
        torch.manual_seed(0)
        there = peer(model)
        with torch.no_grad():
            for parameter in there.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        save_file({name: value.numpy() for name, value in there.state_dict().items()}, tmp_path / "net.safetensors")
        assert xpdl.load_pytorch(model, tmp_path / "net.safetensors") == ([], [])
        expected = there(torch.tensor(IDS))[0].detach().numpy()
        np.testing.assert_allclose(model.predict(IDS), expected, rtol=0, atol=1e-12)

    def test_gradients_are_those_of_autograd(self, tied: bool, gelu: str, tmp_path: Path) -> None:
        import torch

        from tests.gpt_in_torch import peer

        model = gpt(tied=tied, gelu=gelu)
        xpdl.save_pytorch(model, tmp_path / "net.safetensors")
        there = peer(model)
        arrays = load_file(tmp_path / "net.safetensors")
        there.load_state_dict({name: torch.tensor(value) for name, value in arrays.items()})
        scores, _ = there(torch.tensor(IDS[:, :-1]))
        torch.nn.functional.cross_entropy(scores.transpose(1, 2), torch.tensor(IDS[:, 1:])).backward()
        there_grads = {name: value.grad.numpy() for name, value in there.named_parameters()}
        if tied:
            there_grads["lm_head.weight"] = there_grads["transformer.wte.weight"]
        here_grads = to_gpt2(model.gradient(IDS[:, :-1], IDS[:, 1:]), tied)
        assert here_grads.keys() == there_grads.keys()
        for name, value in nonempty(here_grads.items()):
            np.testing.assert_allclose(value, there_grads[name], rtol=0, atol=1e-12, err_msg=name)


def saved(model: GPT, path: Path) -> dict[str, Any]:
    xpdl.save_pytorch(model, path)
    return load_file(path)


def test_names_are_those_of_gpt2(tmp_path: Path) -> None:
    found = saved(gpt(), tmp_path / "net.safetensors")
    block = ["attn.c_attn", "attn.c_proj", "ln_1", "ln_2", "mlp.c_fc", "mlp.c_proj"]
    modules = ["transformer.ln_f", *(f"transformer.h.{k}.{name}" for k in range(3) for name in block)]
    tables = ["lm_head.weight", "transformer.wpe.weight", "transformer.wte.weight"]
    assert sorted(found) == sorted([*tables, *(f"{name}.{key}" for name in modules for key in ("weight", "bias"))])
    assert found["transformer.h.0.attn.c_attn.weight"].shape == (24, 8)
    assert found["transformer.h.0.mlp.c_fc.weight"].shape == (32, 8)


@pytest.mark.parametrize("options", [{}, {"tied": False}, {"rotary": True}])
def test_files_come_back(options: dict[str, Any], tmp_path: Path) -> None:
    model, other = gpt(**options), gpt(**options, seed=1)
    saved(model, tmp_path / "net.safetensors")
    xpdl.load_pytorch(other, tmp_path / "net.safetensors")
    for name, value in nonempty(model.params.items()):
        np.testing.assert_array_equal(other.params[name], value, err_msg=name)


def test_reads_files_with_weights_as_in_and_out_and_masks(tmp_path: Path) -> None:
    """The published files of GPT-2: no prefix, no head, weights (in, out), masks."""
    model, other = gpt(), gpt(seed=1)
    arrays = {name.removeprefix("transformer."): a for name, a in saved(model, tmp_path / "net").items()}
    del arrays["lm_head.weight"]
    arrays = {name: np.ascontiguousarray(a.T) if ".c_" in name else a for name, a in arrays.items()}
    arrays |= {f"h.{k}.attn.bias": np.ones((1, 1, 6, 6)) for k in range(3)}
    save_file(arrays, tmp_path / "gpt2.safetensors")
    assert xpdl.load_pytorch(other, tmp_path / "gpt2.safetensors") == ([], [])
    np.testing.assert_array_equal(other.predict(IDS), model.predict(IDS))


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    model, path = gpt(), tmp_path / "net.safetensors"
    before = {name: value.copy() for name, value in model.params.items()}
    arrays = saved(gpt(tied=False, seed=1), path)
    with pytest.raises(ValueError, match=r"lm_head\.weight is not wte\.weight; make the model with tied=False"):
        xpdl.load_pytorch(model, path)
    del arrays["lm_head.weight"]
    del arrays["transformer.ln_f.bias"]
    save_file({**arrays, "transformer.h.9.extra": np.ones(2)}, path)
    with pytest.raises(ValueError, match=r"missing norm\.beta \(8,\); unexpected h\.9\.extra \(2,\)"):
        xpdl.load_pytorch(model, path)
    assert all(np.array_equal(model.params[name], value) for name, value in before.items())
    found = xpdl.load_pytorch(model, path, strict=False)
    assert found == (["norm.beta"], ["h.9.extra"])
    with pytest.raises(ValueError, match="names: a GPT has those of GPT-2, got 'index'; leave it out"):
        xpdl.load_pytorch(model, path, "index")
    with pytest.raises(ValueError, match="names: a GPT has those of GPT-2, got 'index'"):
        xpdl.save_pytorch(model, path, "index")
