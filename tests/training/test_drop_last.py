"""The last batch of an epoch, which has fewer rows: trained with, dropped, or refused where it has no variance."""

import numpy as np
import pytest

from tests.training.runs import T, X, trainer, weights
from xpdl import ShapeError
from xpdl.backends import plans
from xpdl.layers import Affine, BatchNormalization, Convolution, GlobalAveragePooling, Relu, Residual, SoftmaxWithLoss
from xpdl.models import Sequential
from xpdl.training import Trainer


class Rows:
    """Records the rows of each step."""

    def __init__(self):
        self.sizes = []

    def on_batch_end(self, run, step):
        self.sizes.append(len(run.network.last_layer.y))


@pytest.mark.parametrize(
    ("drop_last", "accumulate", "sizes", "updates"),
    [(False, 1, [25, 25, 10], 3), (True, 1, [25, 25], 2), (True, 3, [25, 25], 1), (False, 2, [25, 25, 10], 2)],
)
def test_an_epoch_has_full_batches_alone(drop_last, accumulate, sizes, updates):
    run = trainer(
        mini_batch_size=25, drop_last=drop_last, accumulate_grad_batches=accumulate, callbacks=[rows := Rows()]
    )
    history = run.train()
    assert rows.sizes == 3 * sizes and run.iter_per_epoch == len(sizes) and run.optimizer.iter == 3 * updates
    assert len(history.train_loss_list) == 3 * len(sizes) and len(history.train_acc_list) == 3


@pytest.mark.parametrize(("batch_size", "planned"), [(25, [(25, 10)]), (59, [(59, 1)]), (20, []), (60, [])])
def test_a_smaller_last_batch_is_planned_once(batch_size, planned, monkeypatch):
    seen = []
    monkeypatch.setattr(plans, "plan_batches", lambda backend, *rows: seen.append(rows))
    network = Sequential(Relu(), loss=SoftmaxWithLoss)
    Trainer(network, X[:60], T[:60], epochs=1, mini_batch_size=batch_size, verbose=False).train()
    assert seen == planned


def test_other_rows_are_dropped_in_each_epoch():
    run = trainer(mini_batch_size=25, drop_last=True)
    seen = [{float(x[0]) for batch, _ in run.batches for x in batch} for _ in range(2)]
    assert len(seen[0]) == len(seen[1]) == 50 and seen[0] != seen[1]


def test_goes_on_from_a_checkpoint(tmp_path):
    options = {"mini_batch_size": 25, "drop_last": True}
    whole = trainer(**options)
    whole.train()
    trainer(**options, epochs=2, checkpoint=tmp_path / "run").train()
    with pytest.raises(ValueError, match="drop_last True there, False here"):
        trainer(mini_batch_size=25, checkpoint=tmp_path / "run").train()
    resumed = trainer(**options, checkpoint=tmp_path / "run")
    resumed.train()
    assert resumed.train_loss_list == whole.train_loss_list
    for name, value in weights(whole.network).items():
        np.testing.assert_array_equal(weights(resumed.network)[name], value)


def test_of_a_mapped_file_too(tmp_path):
    np.save(tmp_path / "x.npy", X[:60])
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    network = Sequential(Affine(units=2), loss=SoftmaxWithLoss, seed=0)
    run = Trainer(
        network, mapped, T[:60], X, T, 2, 25, verbose=False, seed=0, drop_last=True, callbacks=[rows := Rows()]
    )
    run.train()
    assert rows.sizes == [25, 25, 25, 25]


def test_rows_that_do_not_fill_a_batch_are_refused():
    with pytest.raises(ShapeError, match="60 rows do not fill one batch of 61"):
        trainer(mini_batch_size=61, drop_last=True)


def flat(*layers):
    return Sequential(Affine(units=4), *layers, Affine(units=2), loss=SoftmaxWithLoss, seed=0)


class TestOneRow:
    """A single row has one value for each feature, and no variance."""

    @pytest.mark.parametrize("layer", [BatchNormalization, lambda: Residual(BatchNormalization())])
    @pytest.mark.parametrize("size", [59, 1])
    def test_is_refused_before_the_first_step(self, layer, size):
        with pytest.raises(
            ShapeError, match=rf"Trainer: the last of the batches of {size} .* 60 rows .*drop_last=True"
        ):
            trainer(flat(layer()), mini_batch_size=size)

    @pytest.mark.parametrize("options", [{"mini_batch_size": 58}, {"mini_batch_size": 59, "drop_last": True}])
    def test_is_not_there_with_other_batches(self, options):
        run = trainer(flat(BatchNormalization()), **options)
        run.train()
        assert run.current_epoch == 3

    def test_does_for_layers_that_need_no_variance(self):
        run = trainer(flat(Relu()), mini_batch_size=59)
        run.train()
        assert run.current_iter == 6

    @pytest.mark.parametrize(("size", "fits"), [(3, True), (4, False)])
    def test_of_images_has_a_value_at_each_position(self, size, fits):
        """Of the images of 4 by 4, filters of 3 leave two by two positions, and filters of 4 one."""
        layers = [Convolution(filters=3, size=size), BatchNormalization(), GlobalAveragePooling(), Affine(units=2)]
        x, t = np.random.default_rng(0).normal(size=(9, 1, 4, 4)), np.arange(9) % 2
        network = Sequential(*layers, loss=SoftmaxWithLoss, seed=0)
        if fits:
            Trainer(network, x, t, x, t, 2, 8, verbose=False, seed=0).train()
            assert np.all(np.isfinite(network.buffers["BatchNormalization1.running_var"]))
            return
        with pytest.raises(ShapeError, match=r"one row, which has no variance for BatchNormalization1"):
            Trainer(network, x, t, x, t, 2, 8, verbose=False, seed=0)
