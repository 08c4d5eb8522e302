"""Batches that come ready made: loaders, lists, generator functions."""

import itertools
import warnings

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from tests.training.runs import T, X, net, weights
from xpdl.data import Batches, ChunkedBatches, Prefetch
from xpdl.data.structure import concat_rows, map_arrays
from xpdl.errors import ShapeError
from xpdl.training import CosineLR, Diagnostics, StepLR, Trainer

ROWS, LABELS = X[:60], T[:60]
OPTIONS = {"epochs": 3, "optimizer": "adam", "seed": 0, "verbose": False}


def made(epoch):
    """The batches of an epoch in an order of its own."""
    return list(Batches(ROWS, LABELS, 20, seed=epoch))


class Loader:
    """Another order in each pass, that depends on how many there were."""

    def __init__(self):
        self.passes = 0

    def __len__(self):
        return 3

    def __iter__(self):
        self.passes += 1
        return iter(made(self.passes - 1))


def passes():
    """A generator function without a parameter, another order each time."""
    loader = Loader()

    def give():
        yield from loader

    return give


SOURCES = {
    "loader": Loader,
    "generator function": passes,
    "function of the epoch": lambda: made,
    "function of epoch and rank": lambda: lambda epoch, rank, ranks: made(epoch)[rank::ranks],
    "lists in the place of pairs": lambda: lambda epoch: [list(batch) for batch in made(epoch)],
    "rows as lists": lambda: lambda epoch: [(x.tolist(), t.tolist()) for x, t in made(epoch)],
}


def run(source, *test, network=None, **options):
    return Trainer(network or net(), source, None, *test, **{**OPTIONS, **options})


def by_hand(epochs=3, accumulate=1):
    network, rule = net(), xpdl.Adam(lr=0.01)
    network.build((2,))
    for epoch in range(epochs):
        for x, t in made(epoch):
            rule.update(network.params, network.gradient(x.astype("float32"), t))
    return weights(network)


def same_weights(network, expected):
    for name, value in nonempty(weights(network).items()):
        np.testing.assert_array_equal(value, expected[name])


@pytest.mark.parametrize("kind", SOURCES)
class TestSources:
    def test_make_the_steps_of_their_batches(self, kind):
        trainer = run(SOURCES[kind]())
        trainer.train()
        same_weights(trainer.network, by_hand())
        assert trainer.current_iter == 9 and trainer.history.train_acc_list == []
        assert trainer.iter_per_epoch == (3 if kind == "loader" else None)

    def test_measure_test_and_validation_rows(self, kind):
        trainer = run(SOURCES[kind](), X[60:], T[60:], validation_data=(X[:10], T[:10]), metrics=["f1"])
        history = trainer.train()
        assert len(history.test_acc_list) == len(history.val_acc_list) == len(history.metrics["test_f1"]) == 3
        assert history.test_acc_list[-1] == trainer.network.accuracy(X[60:], T[60:])

    @pytest.mark.parametrize("step", [2, 3, 5])
    @pytest.mark.parametrize("event", ["on_batch_begin", "on_batch_end"])
    def test_go_on_after_an_interruption(self, kind, event, step):
        """Without another pass, whose order would be another."""

        class Once:
            count = 0

        def interrupt(trainer, number):
            if number == step and not Once.count:
                Once.count = 1
                raise KeyboardInterrupt

        once = Once()
        setattr(once, event, interrupt)
        trainer = run(SOURCES[kind](), callbacks=[once])
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
        trainer.train()
        same_weights(trainer.network, by_hand())

    def test_go_on_in_several_calls(self, kind):
        trainer = run(SOURCES[kind](), epochs=1)
        trainer.train()
        trainer.train(2)
        same_weights(trainer.network, by_hand())

    def test_accumulate_what_is_left_too(self, kind):
        trainer, expected = run(SOURCES[kind](), accumulate_grad_batches=2), Loader()
        updates = []
        update = trainer.optimizer.update
        trainer.optimizer.update = lambda params, grads: (updates.append(trainer.current_iter), update(params, grads))
        trainer.train()
        assert len(updates) == 6 and expected.passes == 0

    def test_are_transformed_by_augment(self, kind):
        seen = []

        def shift(x, stream):
            seen.append(stream.generator("shift").integers(1000))
            return x + 1

        trainer = run(SOURCES[kind](), augment=shift)
        trainer.train()
        assert len(seen) == 9 and len(set(seen)) > 6

    def test_go_in_half_precision(self, kind):
        trainer = run(SOURCES[kind](), precision="float16")
        trainer.train()
        assert trainer.current_iter == 9

    def test_build_the_network_without_losing_a_batch(self, kind):
        trainer = run(itertools.chain(made(0)), epochs=1)
        assert trainer.network.built
        trainer.train()
        same_weights(trainer.network, by_hand(1))


def test_a_checkpoint_goes_on_where_the_order_is_a_function_of_the_epoch(tmp_path):
    run(made, epochs=1, checkpoint=tmp_path / "run").train()
    trainer = run(made, checkpoint=tmp_path / "run", checkpoint_every=2)
    trainer.train()
    same_weights(trainer.network, by_hand())


def test_a_checkpoint_in_the_middle_of_an_epoch_leaves_out_what_is_done(tmp_path):
    class Stop:
        def on_batch_end(self, trainer, step):
            if step == 5:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        run(made, checkpoint=tmp_path / "run", checkpoint_every=1, callbacks=[Stop()]).train()
    trainer = run(made, checkpoint=tmp_path / "run")
    trainer.train()
    assert trainer.current_iter == 9
    same_weights(trainer.network, by_hand())


def test_a_source_that_counts_epochs_itself_is_passed_over_to_where_it_was(tmp_path):
    class Counting:
        epoch = 0

        def __iter__(self):
            return iter(made(0))

    class Stop:
        def on_batch_end(self, trainer, step):
            if step == 2:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        run(Counting(), epochs=1, checkpoint=tmp_path / "run", checkpoint_every=1, callbacks=[Stop()]).train()
    trainer = run(source := Counting(), epochs=1, checkpoint=tmp_path / "run")
    trainer.train()
    assert trainer.current_iter == 3 and not hasattr(source, "first_batch")
    same_weights(trainer.network, by_hand(1))


OURS = {
    "Batches": lambda: Batches(ROWS, LABELS, 20, seed=4),
    "Prefetch": lambda: Prefetch(Batches(ROWS, LABELS, 20, seed=4)),
    "ChunkedBatches": lambda: ChunkedBatches([(ROWS[:35], LABELS[:35]), (ROWS[35:], LABELS[35:])], 20, seed=4),
}


@pytest.mark.parametrize("kind", OURS)
def test_batches_of_xpdl_begin_at_the_epoch(kind, tmp_path):
    whole = run(OURS[kind]())
    whole.train()
    run(OURS[kind](), epochs=1, checkpoint=tmp_path / "run").train()
    resumed = run(OURS[kind](), checkpoint=tmp_path / "run")
    resumed.train()
    same_weights(resumed.network, weights(whole.network))


def test_batches_of_several_lengths_make_epochs_of_several_lengths():
    def give(epoch):
        return made(epoch)[: epoch + 1]

    trainer = run(give)
    history = trainer.train()
    assert trainer.current_iter == 1 + 2 + 3 == len(history.train_loss_list)
    assert len(history.epoch_loss_list) == 3


@pytest.mark.needs("torch")
def test_a_loader_of_pytorch():
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    data = TensorDataset(torch.asarray(ROWS.astype("float32")), torch.asarray(LABELS))
    loader = DataLoader(data, batch_size=20, shuffle=True, generator=torch.Generator().manual_seed(0))
    test = DataLoader(TensorDataset(torch.asarray(X[60:].astype("float32")), torch.asarray(T[60:])), batch_size=7)
    trainer = run(loader, test, validation_data=test, epochs=12)
    history = trainer.train()
    assert trainer.iter_per_epoch == 3 and isinstance(trainer.network.params["Affine1.W"], np.ndarray)
    assert history.epoch_loss_list[-1] < history.epoch_loss_list[0]
    assert history.test_acc_list == history.val_acc_list
    assert history.test_acc_list[-1] == trainer.network.accuracy(X[60:], T[60:])


def test_weights_of_rows_come_with_the_batch():
    def give(epoch):
        return [(x, t, np.ones(len(t))) for x, t in made(epoch)]

    trainer = run(give)
    trainer.train()
    same_weights(trainer.network, by_hand())


def test_names_are_those_of_the_network():
    words = np.array(["no", "yes"])
    network = net()
    network.class_names = ["no", "yes"]
    trainer = run(lambda epoch: [(x, words[t]) for x, t in made(epoch)], network=network)
    trainer.train()
    same_weights(trainer.network, by_hand())


WORDS = np.array(["no", "yes"])
NAMED = {
    "arrays of strings": lambda t: WORDS[t],
    "lists": lambda t: WORDS[t].tolist(),
    "tuples, as loaders collect them": lambda t: tuple(WORDS[t].tolist()),
    "booleans": lambda t: t == 1,
    "a column": lambda t: WORDS[t][:, None],
}


@pytest.mark.parametrize("named", NAMED)
def test_names_are_learned_as_those_of_arrays_are(named):
    def give(epoch):
        return [(x, NAMED[named](t)) for x, t in made(epoch)]

    trainer = run(give, validation_data=(give(k)[0] for k in range(3)))
    names = ["False", "True"] if named == "booleans" else ["no", "yes"]
    assert trainer.class_names == trainer.network.class_names == names
    trainer.train()
    same_weights(trainer.network, by_hand())
    x, t = (np.concatenate(parts) for parts in zip(*(made(k)[0] for k in range(3)), strict=True))
    assert trainer.history.val_acc_list[-1] == trainer.network.accuracy(x, t)


def test_names_of_all_batches_count_and_of_rows_to_measure_with():
    def give(epoch):
        return [(x, WORDS[t]) for x, t in ((ROWS[k == LABELS], LABELS[k == LABELS]) for k in (1, 0))]

    assert run(give).class_names == ["no", "yes"]
    # of a set of batches beside arrays
    trainer = Trainer(net(), ROWS, WORDS[LABELS], give, **OPTIONS)
    trainer.train()
    assert trainer.class_names == ["no", "yes"] and trainer.history.test_acc_list[-1] > 0.5


def test_names_of_what_gives_its_batches_once_are_set_before():
    def generator():
        return ((x, WORDS[t]) for x, t in made(0))

    with pytest.raises(
        xpdl.LabelError, match=r"batch 1: t has names, and generator gives its batches once; set class_names"
    ):
        run(generator(), epochs=1)
    network = net()
    network.class_names = ["no", "yes"]
    run(generator(), network=network, epochs=1).train()
    assert float(network.accuracy(ROWS, WORDS[LABELS])) > 0.5


def test_names_and_numbers_do_not_mix():
    mixed = [(ROWS[:20], LABELS[:20]), (ROWS[20:], WORDS[LABELS[20:]])]
    with pytest.raises(xpdl.LabelError, match=r"batch 2: labels are names, and those of the first batch are none"):
        run(mixed).train()
    with pytest.raises(xpdl.LabelError, match=r"batch 2: t: row 0, \d, is no string as others are"):
        run(mixed[::-1])


def test_booleans_of_yes_or_no_stay_numbers():
    network = xpdl.Sequential(xpdl.Affine(units=1), loss=xpdl.SigmoidWithLoss, seed=0)
    trainer = run([(ROWS, LABELS[:, None] == 1)], network=network)
    trainer.train()
    assert trainer.class_names is None and network.accuracy(ROWS, LABELS) > 0.5


@pytest.mark.needs("torch")
def test_names_of_a_loader_of_pytorch():
    from torch.utils.data import DataLoader

    pairs = list(zip(ROWS, WORDS[LABELS].tolist(), strict=True))
    trainer = run(DataLoader(pairs, batch_size=20))
    trainer.train()
    assert trainer.class_names == ["no", "yes"]
    other = run(list(Batches(ROWS, LABELS, 20, shuffle=False)))
    other.train()
    same_weights(trainer.network, weights(other.network))


def test_nothing_is_asked_of_a_source_that_cannot_give_it():
    class Counts(Loader):
        asked = 0

        def __iter__(self):
            type(self).asked += 1
            return super().__iter__()

    network = net()
    network.build((2,))
    run(Counts(), network=network).train()
    assert Counts.asked == 3


ONCE = {
    "generator": lambda: (batch for batch in made(0)),
    "iterator": lambda: iter(made(0)),
    "map": lambda: map(tuple, made(0)),
}


@pytest.mark.parametrize("kind", ONCE)
def test_what_can_be_read_once_is_refused_for_several_epochs(kind):
    with pytest.raises(TypeError, match=r"is a \w+, which gives its batches once, but 3 epochs are asked for; pass"):
        run(ONCE[kind]())
    trainer = run(ONCE[kind](), epochs=1)
    trainer.train()
    same_weights(trainer.network, by_hand(1))
    with pytest.raises(ValueError, match="x_train gave no batch in epoch 2; an iterator gives its batches once"):
        trainer.train(epochs=1)


def test_a_function_of_two_arguments_is_refused():
    with pytest.raises(
        TypeError, match="take nothing, the epoch, or the epoch, the rank and the number of ranks, got one of 2"
    ):
        run(lambda epoch, rank: made(epoch)).train()


REFUSED = {
    "validation_split": {"validation_split": 0.1},
    "sample_weight": {"sample_weight": np.ones(60)},
    "drop_last": {"drop_last": True},
}


@pytest.mark.parametrize("option", REFUSED)
def test_options_that_need_rows_say_so(option):
    with pytest.raises(TypeError, match=f"{option} needs rows, and x_train gives batches"):
        run(Loader(), **REFUSED[option])


@pytest.mark.parametrize("callback", [lambda: CosineLR(), lambda: StepLR(1), lambda: Diagnostics(X[:5])])
def test_callbacks_that_need_the_length_of_an_epoch(callback):
    loader = run(Loader(), callbacks=[callback()])
    loader.train()
    assert loader.current_epoch == 3
    with pytest.raises(TypeError, match="needs the number of batches of an epoch, which x_train does not know"):
        run(passes(), callbacks=[callback()]).train()


WRONG = {
    "no pairs": (lambda: [X[:5], X[5:10]], TypeError, r"x_train, batch 1: expected a pair \(x, t\)"),
    "four": (lambda: [(1, 2, 3, 4)], TypeError, r"expected a pair.*got tuple of 4"),
    "dicts": (lambda: [{"x": ROWS, "t": LABELS}], TypeError, r"expected a pair.*got dict of 2"),
    "nothing": (list, ValueError, "x_train gives no batch"),
    "lengths": (
        lambda: [(ROWS, LABELS[:3])],
        xpdl.ShapeError,
        "batch 1: x and t must have the same number of rows",
    ),
    "function of nothing": (lambda: lambda: 3, TypeError, "the function must return an iterable of batches, got int"),
    "words": (lambda: [(["a"] * 3, [0, 1, 0])], TypeError, "x_train, batch 1: x must be numbers"),
    "a string": (lambda: "batches", TypeError, "x_train must be an array of rows, a list, or a table"),
    "a number": (lambda: 3, TypeError, "x_train must be an array of rows"),
    "a label": (lambda: [(ROWS, LABELS + 5)], xpdl.LabelError, "not one of"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_batch_is_one_error(case):
    source, error, says = WRONG[case]
    with pytest.raises(error, match=says), warnings.catch_warnings():
        run(source()).train()


def test_validation_batches_are_no_pair_of_arrays():
    trainer = run(Loader(), validation_data=[made(0)[0], made(0)[1], made(0)[2]])
    trainer.train()
    assert len(trainer.history.val_acc_list) == 3 and len(trainer.t_val) == 60


class WithoutLength:
    """A loader whose length is an error of some kind, as that of PyTorch for an `IterableDataset`."""

    def __init__(self, error):
        self.error = error

    def __iter__(self):
        return iter(made(0))

    def __len__(self):
        raise self.error("no length")


def stream_of_torch():
    torch = pytest.importorskip("torch", reason="torch is not installed")

    class Rows(torch.utils.data.IterableDataset):
        def __iter__(self):
            return ((x.astype("float32"), int(t)) for x, t in zip(ROWS, LABELS, strict=True))

    return torch.utils.data.DataLoader(Rows(), batch_size=20)


LENGTHLESS = {
    "TypeError": lambda: WithoutLength(TypeError),
    "NotImplementedError": lambda: WithoutLength(NotImplementedError),
    "prefetched": lambda: Prefetch(WithoutLength(TypeError)),
    "prefetched pieces": lambda: Prefetch(ChunkedBatches([(ROWS[:25], LABELS[:25]), (ROWS[25:], LABELS[25:])], 20)),
    "prefetched function of an iterator": lambda: lambda: Prefetch(iter(made(0))),
    "loader of PyTorch": pytest.param(stream_of_torch, marks=pytest.mark.needs("torch")),
}


@pytest.mark.parametrize("make", list(LENGTHLESS.values()))
def test_source_without_a_length_is_trained_on(make):
    trainer = run(make(), accumulate_grad_batches=2)
    assert trainer.iter_per_epoch is None
    assert len(trainer.train().train_loss_list) == 9 and len(trainer.history.epoch_loss_list) == 3


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (("a", "b"), ("a",), r"a tuple of 2 and a tuple of 1 do not go together"),
        (("a", "b"), {"a": "a"}, r"a tuple of 2 and a dict of 'a' do not go together"),
        ({"a": "a"}, {"b": "a"}, r"a dict of 'a' and a dict of 'b' do not go together"),
        ("a", ("a",), r"an array and a tuple of 1 do not go together"),
    ],
)
def test_rows_of_different_forms_are_refused_together(first, second, message):
    values = [map_arrays(lambda _: ROWS, value) for value in (first, second)]
    with pytest.raises(ShapeError, match=rf"x_test: {message}"):
        concat_rows(values, "x_test")


def test_parts_of_a_dict_are_joined_by_their_names():
    joined = concat_rows([{"a": ROWS, "b": LABELS}, {"b": LABELS + 1, "a": 2 * ROWS}], "x_test")
    np.testing.assert_array_equal(joined["a"], np.concatenate([ROWS, 2 * ROWS]))
    np.testing.assert_array_equal(joined["b"], np.concatenate([LABELS, LABELS + 1]))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_list_of_batches_to_validate_with_may_have_any_length(count):
    given = made(0)[:count]
    whole = tuple(np.concatenate(column) for column in zip(*given, strict=True))
    runs = [run(Loader(), validation_data=value) for value in (given, whole, list(whole))]
    measured = [one.train().val_loss_list for one in runs]
    assert measured[0] == measured[1] == measured[2]
