"""Moving averages of weights."""

import numpy as np
import pytest

from tests.harness import nonempty
from tests.training.runs import X, net, trainer, weights
from xpdl.training import EMA, Diagnostics


class Steps:
    """Weights after each step, before an average takes their place."""

    def __init__(self):
        self.seen = []

    def on_batch_end(self, trainer, step):
        self.seen.append(weights(trainer.network))


def test_is_the_recursion_over_all_steps():
    network = net()
    network.build((2,))
    start, steps, ema = weights(network), Steps(), EMA(0.7)
    run = trainer(network, callbacks=[steps, ema])
    run.train()
    average = start
    for step, now in enumerate(steps.seen, 1):
        d = min(0.7, (1 + step) / (10 + step))
        average = {name: d * average[name] + (1 - d) * now[name] for name in now}
    found = weights(network)
    for name, value in nonempty(average.items()):
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)


def test_training_goes_on_with_the_weights_as_they_are():
    plain, averaged = Steps(), Steps()
    trainer(callbacks=[plain]).train()
    run = trainer(callbacks=[averaged, EMA(0.9)])
    run.train()
    for a, b in zip(plain.seen, averaged.seen, strict=True):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])
    assert not all(np.array_equal(averaged.seen[-1][name], value) for name, value in weights(run.network).items())


@pytest.mark.parametrize("rows", [20, 60], ids=["three steps an epoch", "one step an epoch"])
def test_order_among_callbacks_does_not_matter(rows):
    """Other callbacks see the weights in a step and the averages after an epoch, in any order of the list."""

    class Ends:
        def __init__(self):
            self.seen = []

        def on_epoch_end(self, trainer, epoch):
            self.seen.append(weights(trainer.network))

    def seen(*order):
        watching = {"ema": EMA(0.9), "steps": Steps(), "ends": Ends(), "layers": Diagnostics(X[:10])}
        trainer(mini_batch_size=rows, callbacks=[watching[name] for name in order]).train()
        return watching["steps"].seen, watching["ends"].seen, watching["layers"].history

    first, last = seen("ema", "steps", "ends", "layers"), seen("steps", "ends", "layers", "ema")
    assert first[2] == last[2] and all(ratio[0] > 0 for ratio in first[2]["update_ratio"].values())
    for kind in (0, 1):
        for a, b in zip(first[kind], last[kind], strict=True):
            for name in a:
                np.testing.assert_array_equal(a[name], b[name])


def test_accuracy_is_that_of_the_averages():
    run = trainer(callbacks=[EMA(0.9)])
    history = run.train()
    assert history.test_acc_list[-1] == run.network.accuracy(run.x_test, run.t_test)


def test_arrays_stay_those_of_the_network():
    network = net()
    network.build((2,))
    held = network.layers["Affine1"].W
    trainer(network, callbacks=[EMA()]).train()
    assert network.layers["Affine1"].W is held


def test_state_goes_on_elsewhere():
    first, second = EMA(0.5), EMA(0.5)
    trainer(callbacks=[first]).train()
    second.load_state_dict(first.state_dict())
    other = trainer(net(seed=5))
    other.network.build((2,))
    second.on_train_begin(other)
    for kept, loaded in ((first.average, second.average), (first._weights, second._weights)):
        assert kept and kept.keys() == loaded.keys()
        assert all(np.array_equal(kept[name], loaded[name]) for name in kept)


def test_a_second_call_goes_on_with_the_averages():
    whole, parts = EMA(0.9), EMA(0.9)
    trainer(callbacks=[whole]).train()
    run = trainer(epochs=1, callbacks=[parts])
    run.train()
    run.epochs = 3
    run.train()
    for name, value in nonempty(whole.average.items()):
        np.testing.assert_array_equal(parts.average[name], value)


def test_weights_are_kept_between_epochs_only():
    """An epoch that is broken off and made again begins with the weights as they are, not with those of its first time."""
    kept = []

    class Looks:
        def on_batch_begin(self, trainer, step):
            kept.append(any(name.startswith("weights.") for name in ema.state_dict()))

        def on_epoch_end(self, trainer, epoch):
            kept.append(any(name.startswith("weights.") for name in ema.state_dict()))

    ema = EMA()
    trainer(epochs=2, callbacks=[ema, Looks()]).train()
    assert kept == [False, False, False, True] * 2


def test_by_default_a_thousandth_is_new():
    assert EMA().decay == 0.999 and EMA(0.0).decay == 0.0


@pytest.mark.parametrize("decay", [1.0, -0.1, "x"])
def test_decay_is_checked(decay):
    with pytest.raises(ValueError, match="EMA: decay must be a finite number in"):
        EMA(decay)
