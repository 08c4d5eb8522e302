"""The training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from xpdl import optimizers
from xpdl.backends import Backend, get_backend
from xpdl.backends.namespaces import Array, is_array, on_device_of
from xpdl.backends.random import checked_seed
from xpdl.data.structure import map_arrays
from xpdl.deprecation import renamed_options
from xpdl.distributed import Communicator
from xpdl.models.base import Model
from xpdl.ops.checks import flag, positive_int
from xpdl.option_names import OF_TRAINER, known_options
from xpdl.training import inputs, loop, measures, notebook, own_optimizer
from xpdl.training.batch_source import is_source, require_passes
from xpdl.training.callbacks.base import Callbacks
from xpdl.training.checkpoint.checkpointer import MAX_CHECKPOINTS, Checkpoint, Checkpointer
from xpdl.training.checkpoint.fingerprint import identity
from xpdl.training.conversion import as_arrays, check_outputs
from xpdl.training.evaluate import Evaluator
from xpdl.training.history import History
from xpdl.training.precision.mixed import MixedPrecision, resolve_precision
from xpdl.training.run_state import Owner, Run, RunState, in_state
from xpdl.training.steps import new_step
from xpdl.training.streamed_data import StreamedData, streamed
from xpdl.training.training_data import TrainingData

_OF_THE_RUN = ("evaluate_sample_num_per_epoch", "drop_last", "accumulate_grad_batches", "compile", "seed")


class Trainer:
    """Train a network by mini-batches and record how it goes (the book's ``common/trainer.py``).

    Parameters
    ----------
    network
        A model of xpdl, or any object with ``params``, ``gradient(x, t)``, ``loss(x, t)`` and, for classification,
        ``accuracy(x, t)``, such as the networks written out in the book. A `Sequential` that has no parameters yet is
        built for the rows of `x_train`.
    x_train, x_test : array (N, ...) of any library, list, DataFrame, tuple or dict of such, or batches; `x_test` is optional
        Moved once to the network's library, device and dtype. A file mapped into memory (`numpy.memmap`) stays where it
        is: its rows are read and moved batch by batch, those to train with ahead of time; so are rows that would take more
        than half of what a GPU has free. A network of several inputs gets a tuple or dict whole, with the rows of a batch
        of each array. Batches (x, t) or (x, t, sample_weight) come, without `t_train`, from anything that can be iterated
        over in each epoch, such as a loader of PyTorch or `Batches`, or from a function that returns it, which gets the
        number of the epoch if it takes one. They are not measured after an epoch; those of a test set are read once. Several
        ranks share each of these batches; a function of the epoch, the rank and the number of ranks gives this rank's rows.
    t_train, t_test : array (N,) of labels, or (N, K) one-hot rows, shares of classes from 0 to 1, or targets
        Or a list, Series, DataFrame, tuple or dict. Labels are integers, or strings or booleans: their names, sorted or in
        the order of categories, become `class_names` of the network, unless it has some.
    epochs : int
        Passes over all rows of `x_train`.
    mini_batch_size : int, optional
        Rows of a step, by default 100; the last one of an epoch has what is left, see `drop_last`. Not for batches.
    optimizer : str, class, Optimizer, or an object with ``update(params, grads)``
        See `xpdl.optimizers.get`. One that another training has used is refused: its state belongs to other parameters.
    optimizer_param : mapping, optional
        The optimizer's arguments, such as ``{"lr": 0.1}``; an instance takes none. Adam has the book's 0.01 without them.
    evaluate_sample_num_per_epoch : int, optional
        After an epoch, measure on so many first rows of each set, `metrics` and validation included, instead of on all.
    verbose : bool
        Print one line per epoch, and show a bar on a terminal or in a notebook, else a line every ten seconds.
    callbacks : iterable
        Such as `EarlyStopping`, `CosineLR` or `CSVLogger`, or any objects with some of the methods of `Callback`, called in
        this order. One that an earlier trainer had begins as if it were new, see `Callback`.
    seed : int, optional
        Of the order of the rows and of `augment`; by default they follow `xpdl.seed`.
    augment : callable or sequence of them, optional
        The ``transform`` of `xpdl.data.Batches` for training rows, such as ``[augment.Shift(2), augment.Rotate(10)]``.
    validation_split : float
        Share of the rows of `x_train`, drawn at random by `seed`, that are kept from training and measured after each epoch,
        for choices that must not look at the test set.
    validation_data : pair (x, t) of arrays, or batches, optional
        Such rows where they are a data set of their own.
    metrics : iterable
        What else to measure after each epoch, on each data set: ``"top_5_accuracy"``, ``"precision"``, ``"recall"``,
        ``"f1"`` (of class 1 where there are two, else the mean over classes; ``"f1_micro"`` or ``"f1_weighted"`` says
        otherwise), ``"roc_auc"``, ``"mse"``, ``"mae"``, ``"r2"``: see `xpdl.metrics`. Or functions ``f(y, t)`` of all
        outputs, probabilities in classification, and targets, as NumPy arrays; or a dict of names and such functions. They
        are in ``history.metrics`` under ``"val_f1"`` and so on; callbacks can monitor those, a function if it has an
        attribute ``greater_is_better``.
    sample_weight : array (N,), optional
        Weights, 0 or more, of the rows of `x_train` in the loss, not in what is measured. With 0 a target may be NaN.
    drop_last : bool
        Train on full mini-batches alone: an epoch skips the rows, others each time, that do not fill one.
    accumulate_grad_batches : int
        Add up the gradients of so many mini-batches before each update, as one batch of all their rows would give them (but
        for batch normalisation, which sees each mini-batch alone). The last update of an epoch takes what is left.
    checkpoint : path, optional
        A file written after each epoch. Where it exists when `train` begins, the run resumes from it, bitwise identical
        to one that was not interrupted (on NumPy; as far as the library repeats itself elsewhere). That takes a `seed`.
        Callbacks with ``state_dict()`` and ``load_state_dict(state)`` are written and restored as well: numbers, strings,
        arrays, lists and dicts of them. In an epoch that goes on, they see no second ``on_epoch_begin``. A run that one has
        stopped is finished. Network, data, options, and the callbacks that change the training must be those that the run
        began with; only `epochs` may be more, unless a schedule spans them all.
    checkpoint_every : int, optional
        Write it after so many steps instead, and at the end. It takes a `checkpoint`, as `max_checkpoints` does.
    precision : str or MixedPrecision, optional
        Of the passes, ``"float16"`` or ``"bfloat16"``; updates are made in float32, see `xpdl.training.MixedPrecision`.
    compile : bool
        With CuPy or JAX, compile the step on a full batch as a whole, see `xpdl.training.cuda_graph.GraphedStep`.
    max_checkpoints : int
        So many are kept, those before the newest as ``PATH.1``, ``PATH.2`` and so on.
    communicator : Communicator, optional
        What `xpdl.distributed.mpi` returns: the ranks share the rows of every batch, see the page on more than one machine.
    check_ranks_every : int, optional
        Compare the parameters of all ranks, bitwise, after so many steps: a `RankError` where they differ.
    shard_optimizer : bool
        Each rank keeps its share of the optimizer's state, and updates that share of the parameters for all ranks.

    Attributes
    ----------
    history : History
        Its ``train_loss_list``, ``train_acc_list`` and ``test_acc_list`` are also attributes of the trainer.
    optimizer : Optimizer
    class_names : list of str or None
        In the order of the outputs, where labels are names.
    iter_per_epoch, current_epoch, current_iter : int

    Raises
    ------
    ShapeError
        If rows do not fit together or do not fit the network.
    LabelError
        If a label is missing or not one of the classes, or a target of yes or no is not in [0, 1].
    TypeError
        If something is neither an array nor a list or table of numbers, or an option does not go with batches.
    ValueError
        If an array in memory holds NaN or infinity, in the dtype of the network; names the array and the row. In x of sets
        that are only measured, it is a warning. In a mapped file and in batches, NaN is found in the training, see `train`.

    Notes
    -----
    Unlike the book's: an epoch is one pass over all rows, shuffled without replacement, and exactly `epochs` are made;
    losses, which the gradient computes on its way, are read from the device in blocks.

    Examples
    --------
    >>> x, t = xpdl.data.moons(200, noise=0.1, seed=0)
    >>> net = Sequential(Affine(units=16), Relu(), Affine(units=2), loss=SoftmaxWithLoss, seed=0)
    >>> trainer = Trainer(net, x, t, x, t, 60, optimizer=Adam(lr=0.01), verbose=False, seed=0)
    >>> trainer.train().test_acc_list[-1] > 0.9
    True
    """

    @renamed_options("Trainer", accumulate="accumulate_grad_batches", capture="compile", keep="max_checkpoints")
    @known_options(OF_TRAINER)
    def __init__(
        self,
        network: Any,
        x_train: Any,
        t_train: Any = None,
        x_test: Any = None,
        t_test: Any = None,
        epochs: int = 20,
        mini_batch_size: int | None = None,
        optimizer: Any = "SGD",
        optimizer_param: Mapping[str, Any] | None = None,
        evaluate_sample_num_per_epoch: int | None = None,
        verbose: bool = True,
        *,
        callbacks: Iterable[Any] = (),
        seed: int | None = None,
        augment: Callable[..., Array] | Sequence[Callable[..., Array]] | None = None,
        validation_split: float = 0.0,
        validation_data: tuple[Any, Any] | None = None,
        metrics: Iterable[Any] = (),
        sample_weight: Any = None,
        drop_last: bool = False,
        accumulate_grad_batches: int = 1,
        precision: str | MixedPrecision | None = None,
        compile: bool = False,
        checkpoint: Checkpoint | None = None,
        checkpoint_every: int | None = None,
        max_checkpoints: int = MAX_CHECKPOINTS,
        communicator: Communicator | None = None,
        check_ranks_every: int | None = None,
        shard_optimizer: bool = False,
    ) -> None:
        inputs.check_network(network, optimizer, optimizer_param)
        self.communicator = ranks = inputs.checked_communicator(communicator)
        self.network = network
        self.epochs = positive_int(epochs, "epochs", "Trainer")
        size = 100 if mini_batch_size is None else mini_batch_size
        self.batch_size = positive_int(size, "mini_batch_size", "Trainer")
        self.accumulate_grad_batches = positive_int(accumulate_grad_batches, "accumulate_grad_batches", "Trainer")
        self.drop_last = flag(drop_last, "drop_last", "Trainer")
        self.evaluate_sample_num_per_epoch = inputs.checked_sample(evaluate_sample_num_per_epoch)
        self.optimizer = optimizers.get(optimizer, **inputs.optimizer_options(optimizer, optimizer_param))
        self.optimizer_at_start = own_optimizer.described(self.optimizer)
        self.verbose = flag(verbose, "verbose", "Trainer") and ranks.is_first
        self.callbacks = Callbacks(callbacks, ranks.rank)
        of_rows = {"drop_last": self.drop_last, "sample_weight": sample_weight, "validation_split": validation_split}
        not_for_batches = {**of_rows, "mini_batch_size": mini_batch_size}
        source, sets = None, inputs.held_out_sets(x_test, t_test, validation_data, validation_split, network)
        if is_source(x_train, t_train, "x_train", "t_train"):
            source = streamed(x_train, network, seed, augment, not_for_batches, ranks)
            require_passes(source, self.epochs)
        else:
            sets = {"train": (x_train, t_train), **sets}
        sets, self.class_names = as_arrays(sets, network, getattr(source, "class_names", None))
        for which, (x, t) in sets.items():
            inputs.check_rows(which, x, t)
        if isinstance(network, Model) and not network.built:
            x = sets["train"][0] if source is None else source.first_inputs()
            network.build(map_arrays(lambda a: tuple(a.shape[1:]), x))
        check_outputs(network, self.class_names)
        self.precision = resolve_precision(precision, network)
        first = next(filter(is_array, network.params.values()), None)
        self.backend = backend = get_backend() if first is None else Backend.of(first)
        keeps = checkpoint is not None or ranks.size > 1
        own_optimizer.check(self.optimizer, backend, checkpoint=keeps, precision=self.precision is not None)
        self.state, self.owner, self.compile = RunState(), Owner(), flag(compile, "compile", "Trainer")
        self.seed = None if seed is None else checked_seed(seed, "Trainer")
        if source is None:
            rows = {"batch_size": self.batch_size, "seed": self.seed, "augment": augment, **of_rows}
            self.data: Any = TrainingData(sets, network, backend, communicator=ranks, **rows)
        else:
            source.backend = backend
            self.data = StreamedData(source, sets, network, inputs.entered)
        (self.x_train, self.t_train), (self.x_val, self.t_val) = self.data.of("train"), self.data.of("val")
        self.x_test, self.t_test = self.data.of("test")
        self.batches, self.augment = self.data.batches, self.data.augment
        self.step = new_step(self, check_ranks_every, shard_optimizer, has_communicator=communicator is not None)
        self.checkpointer = Checkpointer(checkpoint, checkpoint_every, max_checkpoints, seed, ranks)
        if self.class_names is not None:
            network.class_names = self.class_names
        asked = measures.resolve(metrics, network)
        self.evaluator = Evaluator(network, self.data.sets, asked, evaluate_sample_num_per_epoch, ranks)
        #: options that change the training, as a checkpoint keeps them
        self._options = {
            **self.data.settings(),
            **({} if self.class_names is None else {"class names": self.class_names}),
            "metrics": [one.name for one in asked],
            "batch size": self.batch_size,
            "precision": None if self.precision is None else repr(self.precision),
            **{name: getattr(self, name) for name in _OF_THE_RUN},
        }

    iter_per_epoch = property(
        lambda self: self.data.steps_per_epoch, doc="Steps of an epoch; None where batches come without a length."
    )
    __repr__, _repr_html_ = notebook.trainer_line, notebook.trainer_html
    history = in_state("history")
    current_epoch = in_state("epoch")
    current_iter = in_state("step")
    stop_training = in_state("stopped")
    train_loss_list = in_state("history.train_loss_list")
    train_acc_list = in_state("history.train_acc_list")
    test_acc_list = in_state("history.test_acc_list")

    def train(self, epochs: int | None = None) -> History:
        """Train up to the `epochs` of this trainer, or for so many more, and return the history.

        Epochs that earlier calls completed count, and an epoch that one broke off goes on from its last step, bitwise
        identical to a training that was not interrupted: from the checkpoint, or else from memory. Only where an error came
        in the middle of a step, as of NaN, is the epoch made again from the weights as they are.

        In the main thread, ctrl-C or the button of a notebook ends the step and then raises `KeyboardInterrupt`; with a
        checkpoint, which is written before, so does SIGTERM. A second one stops at once.

        Parameters
        ----------
        epochs : int, optional
            Go on for so many, an epoch that was broken off included: two calls make the run that one over all of the epochs
            would be. Beyond `epochs`, which grows with it, schedules that span the whole training are those of the longer
            one from there on, which is a warning; give them a length, such as ``CosineLR(epochs=20)``, to let them end.

        Raises
        ------
        FloatingPointError
            If the loss or a gradient becomes NaN or infinite; the message names the first layer where that is seen, and
            whether going forward or back. On a device, where losses are read together, gradients are looked at as often.
        OutOfMemoryError
            If a GPU has not enough for a step; the message says what batch size would fit.
        OSError
            If the checkpoint cannot be written, or another run is using it, before the training begins.
        ValueError
            If the checkpoint is of another run, or no checkpoint, or damaged with none before it; if a callback monitors
            what is not measured; or if another training has used the optimizer, or a callback since the last call.
        """
        more = None if epochs is None else positive_int(epochs, "epochs", "Trainer.train")
        # for callbacks and the network's own code, too
        with on_device_of(next(filter(is_array, self.network.params.values()), None)):
            return loop.train(self, more)

    def as_run(self) -> Run:
        """Return the objects and settings of this trainer that a checkpoint needs besides its `state`."""
        callbacks = self.callbacks.callbacks
        sizes = self.epochs, self.iter_per_epoch, self.batch_size, self.data.last_batch_size, self.communicator

        def fingerprint() -> dict[str, Any]:
            return identity(self.network, self.optimizer_at_start, callbacks, self.epochs, self._options)

        objects = self.owner, self.network, self.optimizer, self.precision, callbacks, self.backend
        return Run(*objects, *sizes, fingerprint, getattr(self.step, "sharded", None), self.data.span)
