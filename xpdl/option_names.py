"""Options under the names that other libraries have for them: one error that gives the name, or the place, of this one."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
Cures = Mapping[str, str] | Mapping[str, tuple[str, ...]]

_OF_OPTIMIZER = "it belongs to the optimizer: optimizer=xpdl.Adam({}), or optimizer_param={{{!r}: ...}}"
_OF_LOSS = "it belongs to the loss of the network: loss=xpdl.SoftmaxWithLoss({}=...)"
#: name of an option elsewhere -> the cure; what is one word is the name here
OF_TRAINER: Mapping[str, str] = {
    **dict.fromkeys(("lr", "learning_rate", "rate"), _OF_OPTIMIZER.format("lr=0.001", "lr")),
    "momentum": "it belongs to the optimizer: optimizer=xpdl.Momentum(momentum=0.9)",
    **{name: _OF_OPTIMIZER.format(f"{name}=...", name) for name in ("weight_decay", "clip_norm", "max_norm")},
    **dict.fromkeys(("class_weight", "class_weights"), _OF_LOSS.format("class_weights")),
    "label_smoothing": _OF_LOSS.format("label_smoothing"),
    **dict.fromkeys(("loss", "loss_fn", "criterion"), "it belongs to the network: xpdl.Sequential(..., loss=...)"),
    **dict.fromkeys(("batch_size", "batch", "minibatch_size"), "mini_batch_size"),
    **dict.fromkeys(("n_epochs", "num_epochs", "max_epochs", "iterations"), "epochs"),
    **dict.fromkeys(
        ("accumulation_steps", "gradient_accumulation_steps", "accum_steps", "accumulate_grads"),
        "accumulate_grad_batches",
    ),
    **dict.fromkeys(("model", "net"), "network"),
    **dict.fromkeys(("x", "X", "train_data", "train_loader", "dataset", "data"), "x_train"),
    **dict.fromkeys(("y", "t", "y_train", "labels", "targets"), "t_train"),
    **dict.fromkeys(("y_test",), "t_test"),
    **dict.fromkeys(
        ("x_val", "t_val", "y_val", "val_data", "val_loader", "validation"), "it is validation_data=(x_val, t_val)"
    ),
    **dict.fromkeys(("random_state", "random_seed"), "seed"),
    **dict.fromkeys(("scheduler", "lr_scheduler"), "schedules are callbacks: callbacks=[xpdl.CosineLR()]"),
    **dict.fromkeys(("patience", "early_stopping"), "it is a callback: callbacks=[xpdl.EarlyStopping(patience=3)]"),
    "shuffle": "rows are shuffled by seed; batches in their own order are passed as x_train",
    "device": "it is that of the network: net.to(...), or xpdl.use(...) before it is made",
    "dtype": "it is that of the network; precision='float16' computes the passes in half precision",
}
OF_OPTIMIZER: Mapping[str, str] = {
    **dict.fromkeys(("learning_rate", "rate", "alpha", "eta"), "lr"),
    "betas": "they are beta1 and beta2",
    "epsilon": "eps",
    **dict.fromkeys(("clipnorm", "grad_clip", "max_grad_norm", "gradient_clip_norm"), "clip_norm"),
    **dict.fromkeys(("l1", "l2"), "it is set by weight_decay"),
}


_OF_INPUT = "its size is taken from the first input; leave it out"
_SEVERAL = "a layer is one; put several in a row"
_OF_TRAINING = "it belongs to the training: xpdl.Trainer(net, x, t, optimizer=xpdl.Adam(lr=0.001))"
#: Of layers and nets: cures in the order in which they are tried; what is one word helps the classes with that option alone.
OF_LAYER: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("out_features", "output_dim"), ("units",)),
    **dict.fromkeys(
        ("hidden_size", "hidden_dim", "num_units", "hidden", "n_hidden"), ("units", "hidden_size", "width")
    ),
    **dict.fromkeys(("embedding_dim", "embed_dim"), ("wordvec_size", "width", "units", _OF_INPUT)),
    **dict.fromkeys(("n_embd", "d_model", "hidden_units"), ("width", "units", _OF_INPUT)),
    "out_channels": ("filters",),
    **dict.fromkeys(("kernel_size", "pool_size", "filter_size"), ("size",)),
    "padding": ("pad",),
    "strides": ("stride",),
    "dilation_rate": ("dilation",),
    "output_padding": ("output_pad",),
    "num_groups": ("groups",),
    **dict.fromkeys(("scale_factor", "upscale_factor"), ("scale",)),
    "bias": ("use_bias", "b"),
    **dict.fromkeys(("weight", "weights"), ("W", "class_weights", "loss_weights", "gamma")),
    "class_weight": ("class_weights",),
    **dict.fromkeys(("kernel_initializer", "weight_init", "initializer"), ("init", "weight_init_std")),
    "epsilon": ("eps",),
    "dim": ("axis",),
    **dict.fromkeys(("p", "rate"), ("dropout_ratio", "dropout")),
    "dropout": ("dropout_ratio", "dropout_ration", "it is a layer of its own: xpdl.Dropout(0.5)"),
    **dict.fromkeys(("negative_slope", "alpha"), ("slope",)),
    **dict.fromkeys(("num_embeddings", "vocab_size", "n_vocab", "num_tokens"), ("count", "vocab", "vocab_size")),
    **dict.fromkeys(("block_size", "n_positions", "max_len", "max_length", "seq_len"), ("context", "length")),
    **dict.fromkeys(("num_heads", "n_heads", "n_head", "nhead"), ("heads",)),
    **dict.fromkeys(("num_layers", "n_layers", "n_layer"), ("depth", _SEVERAL)),
    "is_causal": ("causal",),
    "ignore_index": ("ignore_label",),
    **dict.fromkeys(("loss_fn", "criterion"), ("loss",)),
    "random_state": ("seed",),
    **dict.fromkeys(("in_features", "in_channels", "num_features", "normalized_shape"), (_OF_INPUT,)),
    **dict.fromkeys(("input_size", "input_dim", "input_shape", "num_channels"), ("input_dim", "input_size", _OF_INPUT)),
    "batch_first": ("rows are the first axis of every input; leave it out",),
    "bidirectional": ("it is a layer around this one: xpdl.Bidirectional(xpdl.LSTM(units=8))",),
    "return_state": ("the last step alone is return_sequences=False; Seq2seq shows a decoder that begins with states",),
    "activation": ("it is a layer behind this one: xpdl.Relu()",),
    "inplace": ("no layer changes its input; leave it out",),
    "device": ("parameters are made by the backend in use: xpdl.use(...); net.to(...) moves them",),
    "dtype": ("parameters have the dtype of xpdl.use(name, dtype=...)",),
    "name": ("a Sequential takes pairs: ('name', layer)",),
    **dict.fromkeys(("lr", "learning_rate", "optimizer", "epochs", "batch_size"), (_OF_TRAINING,)),
}


def known_options(cures: Cures) -> Callable[[Function], Function]:
    """Let a constructor refuse keyword options that it does not have by an error with the right name.

    Parameters
    ----------
    cures : mapping
        Of common names, see `OF_TRAINER` and `OF_LAYER`.

    Raises
    ------
    TypeError
        By the constructor, also where a subclass passes on to it what it does not know.
    """

    def decorate(function: Function) -> Function:
        own = inspect.signature(function).parameters
        if inspect.Parameter.VAR_KEYWORD in [parameter.kind for parameter in own.values()]:
            return function  # refused by the function that it passes them on to

        @functools.wraps(function)
        def wrapper(self: Any, *args: Any, **options: Any) -> Any:
            for name in options:
                if name not in own:
                    known = {**inspect.signature(type(self)).parameters, **own}
                    raise TypeError(f"{type(self).__name__}: there is no option {name!r}; {_cure(name, known, cures)}")
            return function(self, *args, **options)

        return wrapper  # type: ignore[return-value]

    return decorate


def _cure(name: str, known: Mapping[str, inspect.Parameter], cures: Cures) -> str:
    found = cures.get(name, ())
    for cure in (found,) if isinstance(found, str) else found:
        if " " in cure:
            return cure
        if cure in known:
            return f"it is called {cure}"
    names = [one for one, parameter in known.items() if one != "self" and parameter.kind not in _VARIABLE]
    near = difflib.get_close_matches(name, names, n=1)
    return f"the nearest is {near[0]}" if near else f"there are {', '.join(names) or 'none'}"
