"""The same net in PyTorch, with the same weights."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

from xpdl.backends import asnumpy
from xpdl.bench.torch_sequences import attention_seq2seq, sequence_layer
from xpdl.layers import (
    Affine,
    BatchNormalization,
    Chain,
    Convolution,
    Dropout,
    Flatten,
    GlobalAveragePooling,
    Identity,
    Layer,
    Pooling,
    Relu,
    Residual,
    SoftmaxWithLoss,
)
from xpdl.models import AttentionSeq2seq, Sequential


def peer(network: Sequential | AttentionSeq2seq, threads: int, channels_last: bool = False) -> Any:
    """A ``torch.nn.Module`` that computes what `network` does; Adam and cross entropy go with it in `step` and `predict`.

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    TypeError
        If the net has a layer that is not known here.
    """
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise ImportError(f"comparing with PyTorch needs it: pip install 'torch>=2.6' ({error})") from error
    torch.set_num_threads(threads)
    if isinstance(network, AttentionSeq2seq):
        return attention_seq2seq(torch, network)
    if type(network.last_layer) is not SoftmaxWithLoss or repr(network.last_layer) != "SoftmaxWithLoss()":
        raise TypeError(f"bench: only nets with a plain SoftmaxWithLoss are compared, got {network.last_layer!r}")
    module = _chain(torch, network)
    return module.to(memory_format=torch.channels_last) if channels_last else module


def is_installed() -> bool:
    return importlib.util.find_spec("torch") is not None


def stepper(module: Any, x: Any, t: Any, channels_last: bool = False, half: str | None = None) -> Callable[[], Any]:
    """A training step with Adam on arrays `x` and `t`, which are moved to where the module is; fused Adam on a GPU.

    `half`, ``"float16"`` or ``"bfloat16"``, is the dtype of PyTorch's autocast; float16 goes with its gradient scaler.
    """
    torch = importlib.import_module("torch")
    device = next(module.parameters()).device
    rows, labels = _rows(torch, x, channels_last, device), torch.tensor(asnumpy(t)).to(device)
    step = half_stepper(module, half) if half else row_stepper(module)
    return lambda: step(rows, labels)


def row_stepper(module: Any) -> Callable[[Any, Any], None]:
    """A training step as that of `stepper`, on tensors."""
    torch = importlib.import_module("torch")
    fused = True if next(module.parameters()).device.type == "cuda" else None
    optimizer, criterion = torch.optim.Adam(module.parameters(), fused=fused), torch.nn.CrossEntropyLoss()

    def step(rows: Any, labels: Any) -> None:
        optimizer.zero_grad()
        # of sequences, the positions are rows
        criterion(module(rows).flatten(0, -2), labels.flatten()).backward()
        optimizer.step()

    return step


def half_stepper(module: Any, dtype: str = "float16") -> Callable[[Any, Any], None]:
    """As `row_stepper`, in half precision with float32 parameters."""
    torch = importlib.import_module("torch")
    device = next(module.parameters()).device.type
    optimizer = torch.optim.Adam(module.parameters(), fused=True if device == "cuda" else None)
    criterion = torch.nn.CrossEntropyLoss()
    scaler = torch.amp.GradScaler(device, enabled=dtype == "float16")

    def step(rows: Any, labels: Any) -> None:
        optimizer.zero_grad()
        with torch.autocast(device, dtype=getattr(torch, dtype)):
            loss = criterion(module(rows), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def shuffled(x: Any, t: Any, batch_size: int) -> Iterator[tuple[Any, Any]]:
    """Batches of host rows and labels as tensors, in random order."""
    torch = importlib.import_module("torch")
    rows, labels = torch.tensor(asnumpy(x)), torch.tensor(asnumpy(t)).long()
    for part in torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).split(batch_size):
        yield rows[part], labels[part]


def to_device(module: Any, precision: str, compiled: bool) -> Any:
    """`module` on the GPU, where PyTorch has one, and PyTorch told to compute in the precision of `xpdl.numerics`."""
    torch = importlib.import_module("torch")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    module = module.to("cuda" if torch.cuda.is_available() else "cpu")
    return torch.compile(module, mode="reduce-overhead") if compiled else module


def predictor(module: Any, x: Any, channels_last: bool = False) -> Callable[[], Any]:
    """Scores of host rows `x`, without gradients."""
    torch = importlib.import_module("torch")
    rows = _rows(torch, x, channels_last)
    module.eval()

    def predict() -> Any:
        with torch.inference_mode():
            return module(rows)

    return predict


def _rows(torch: Any, x: Any, channels_last: bool, device: Any = "cpu") -> Any:
    if isinstance(x, tuple):
        return tuple(_rows(torch, one, channels_last, device) for one in x)
    rows = torch.tensor(asnumpy(x)).to(device)
    return rows.to(memory_format=torch.channels_last) if channels_last else rows


def _layer(torch: Any, layer: Layer) -> Any:
    nn = torch.nn
    match layer:
        case Affine():
            linear = nn.Linear(*layer.W.shape, bias=layer.b is not None)
            _fill(torch, linear, layer.W.T, layer.b)
            return linear if layer.axis == -1 else nn.Sequential(nn.Flatten(), linear)
        case Convolution():
            filters, depth, *_ = layer.W.shape
            options = {name: getattr(layer, name) for name in ("stride", "dilation", "groups")}
            conv = nn.Conv2d(
                depth * layer.groups, filters, layer.size, padding=layer.pad, bias=layer.b is not None, **options
            )
            _fill(torch, conv, layer.W, layer.b)
            return conv
        case BatchNormalization():
            kind = nn.BatchNorm1d if len(layer.gamma.shape) == 0 else nn.BatchNorm2d
            norm = kind(layer.gamma.shape[0], eps=layer.eps, momentum=1 - layer.momentum)
            _fill(torch, norm, layer.gamma, layer.beta)
            return norm
        case Relu():
            return nn.ReLU()
        case Pooling():
            return nn.MaxPool2d(layer.size, layer.stride, layer.pad)
        case GlobalAveragePooling():
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        case Flatten():
            return nn.Flatten()
        case Dropout():
            return nn.Dropout(layer.dropout_ratio)
        case Identity():
            return nn.Identity()
        case Chain():
            return _chain(torch, layer)
        case Residual():
            return _sum(torch, _chain(torch, layer.body), _chain(torch, layer.shortcut))
    if (module := sequence_layer(torch, layer)) is not None:
        return module
    raise TypeError(f"bench: {type(layer).__name__} has no counterpart here in PyTorch")


def _fill(torch: Any, module: Any, weight: Any, bias: Any) -> None:
    with torch.no_grad():
        module.weight.copy_(torch.tensor(asnumpy(weight)))
        if bias is not None:
            module.bias.copy_(torch.tensor(asnumpy(bias)))


def _chain(torch: Any, chain: Chain) -> Any:
    return torch.nn.Sequential(*(_layer(torch, layer) for layer in chain.layers.values()))


def _sum(torch: Any, body: Any, shortcut: Any) -> Any:
    class Sum(torch.nn.Module):  # type: ignore[misc]
        """``body(x) + shortcut(x)``."""

        def __init__(self) -> None:
            super().__init__()
            self.body, self.shortcut = body, shortcut

        def forward(self, x: Any) -> Any:
            return self.body(x) + self.shortcut(x)

    return Sum()
