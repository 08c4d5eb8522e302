"""Learning rates against numbers worked out apart, and in a training."""

import math
from types import SimpleNamespace

import pytest

from tests.training.runs import trainer
from xpdl.training import (
    CosineLR,
    ExponentialLR,
    History,
    LearningRateSchedule,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
    WarmupLR,
)


def rates(schedule, epochs=4, lr=0.8, measured=None):
    """The rate of each step; three steps make an epoch."""
    seen = []

    class Record:
        def on_batch_end(self, trainer, step):
            seen.append(trainer.optimizer.lr)

    callbacks = [*([Measured(measured)] if measured else []), schedule, Record()]
    trainer(epochs=epochs, optimizer="sgd", optimizer_param={"lr": lr}, callbacks=callbacks).train()
    return seen


def test_step():
    assert rates(StepLR(2, 0.5), epochs=5) == pytest.approx([0.8] * 6 + [0.4] * 6 + [0.2] * 3)


def test_exponential():
    assert rates(ExponentialLR(0.5), epochs=3) == pytest.approx([0.8] * 3 + [0.4] * 3 + [0.2] * 3)


def test_cosine():
    expected = [0.8 * (0.1 + 0.9 * (1 + math.cos(math.pi * step / 12)) / 2) for step in range(12)]
    assert rates(CosineLR(final=0.1)) == pytest.approx(expected)
    assert rates(CosineLR(epochs=2)) == pytest.approx(
        [0.8 * (1 + math.cos(math.pi * step / 6)) / 2 for step in range(6)] + [0.0] * 6
    )


def test_warm_up_and_what_comes_after():
    assert rates(WarmupLR(1), epochs=2) == pytest.approx([0.0, 0.8 / 3, 1.6 / 3] + [0.8] * 3)
    assert rates(WarmupLR(2 / 3, start=0.5), epochs=1) == pytest.approx([0.4, 0.6, 0.8])
    expected = [0.0, 0.8 / 3, 1.6 / 3] + [0.8] * 3 + [0.4] * 3
    assert rates(WarmupLR(1, StepLR(1, 0.5)), epochs=3) == pytest.approx(expected)
    # the cosine takes the rest of the training
    after = [0.8 * (1 + math.cos(math.pi * step / 9)) / 2 for step in range(9)]
    assert rates(WarmupLR(1, CosineLR()))[3:] == pytest.approx(after)


def test_one_cycle():
    found = rates(OneCycleLR(rise=0.25, start=0.1, final=0.01))
    up = [0.1 + 0.9 * (1 - math.cos(math.pi * step / 3)) / 2 for step in range(3)]
    down = [0.01 + 0.99 * (1 + math.cos(math.pi * step / 9)) / 2 for step in range(9)]
    assert found == pytest.approx([0.8 * factor for factor in up + down])


def test_one_cycle_rises_to_the_whole_rate_in_three_tenths():
    cycle = OneCycleLR(10)
    assert [cycle.factor(position) for position in (0.0, 1.5, 3.0, 10.0, 99.0)] == pytest.approx(
        [0.04, 0.52, 1.0, 4e-6, 4e-6], rel=1e-12
    )
    assert rates(OneCycleLR(2), epochs=3)[6:] == pytest.approx([0.8 * 4e-6] * 3, rel=1e-9)


def test_one_cycle_may_begin_with_the_whole_rate():
    assert OneCycleLR(4, rise=0.0).factor(0.0) == 1.0


def test_the_part_of_a_warm_up_ends_with_it():
    """The following schedule starts at its own position 0."""
    schedule = WarmupLR(2, LearningRateSchedule(lambda position: 0.5 - position), start=0.5)
    assert [schedule.factor(position) for position in (0.0, 1.0, 2.0, 2.25)] == [0.5, 0.75, 0.5, 0.25]


def test_a_cosine_after_a_warm_up_has_at_least_an_epoch():
    """Of half an epoch that is left it takes the first half."""
    assert rates(WarmupLR(2.5, CosineLR()), epochs=3)[8] == pytest.approx(0.8 * (1 + math.cos(math.pi / 6)) / 2)


def test_a_cosine_after_part_of_an_epoch_ends_with_the_training():
    found = rates(WarmupLR(1.5, CosineLR(final=0.1)), epochs=3)[5:]
    places = [(step / 3 - 1.5) / 1.5 for step in range(5, 9)]
    assert found == pytest.approx([0.8 * (0.1 + 0.9 * (1 + math.cos(math.pi * place)) / 2) for place in places])


@pytest.mark.parametrize("schedule", [StepLR(1, 0.5), ExponentialLR(0.5)], ids=repr)
def test_steps_after_a_warm_up_fall_at_the_end_of_an_epoch(schedule):
    """Though 1.9 - 0.9 is 0.9999999999999999."""
    for tenths in range(1, 40):
        warm = WarmupLR(tenths / 10, schedule)
        found = [warm.factor(step / 10) for step in range(tenths, tenths + 40)]
        assert found == [0.5 ** (step // 10) for step in range(40)]


def test_by_default_a_step_is_a_tenth():
    assert [StepLR(2).factor(position) for position in (1.9, 2.0, 4.0)] == pytest.approx([1.0, 0.1, 0.01])


@pytest.mark.parametrize("schedule", [CosineLR(), OneCycleLR(rise=0.0, final=0.0)])
def test_before_a_training_is_known_its_length_is_an_epoch(schedule):
    assert [schedule.factor(position) for position in (0.5, 1.0)] == pytest.approx([0.5, 0.0])


def test_a_second_call_goes_on_from_the_rate_at_the_start():
    schedule = StepLR(1, 0.5)
    run = trainer(epochs=2, optimizer="sgd", optimizer_param={"lr": 0.8}, callbacks=[schedule])
    run.train()
    run.epochs = 4
    run.train()
    assert run.optimizer.lr == pytest.approx(0.8 / 8)


def test_any_function():
    found = rates(LearningRateSchedule(lambda position: 1 + position), epochs=1)
    assert found == pytest.approx([0.8, 0.8 * 4 / 3, 0.8 * 5 / 3])


class Measured:
    """Puts numbers of its own into the history, as if they had been measured."""

    def __init__(self, values):
        self.values = values

    def on_epoch_end(self, trainer, epoch):
        trainer.history.test_acc_list[-1] = self.values[epoch - 1]


def test_plateau_falls_after_epochs_without_improvement():
    schedule = ReduceLROnPlateau("test_acc", gamma=0.5, patience=2, min_lr=0.15)
    # best at the second epoch; two later the rate falls, and so on each second epoch
    values = [0.5, 0.6, 0.6, 0.5, 0.5, 0.4, 0.3, 0.2, 0.1]
    seen = []

    class Record:
        def on_batch_end(self, trainer, step):
            seen.append(trainer.optimizer.lr)

    options = {"epochs": 9, "optimizer": "sgd", "optimizer_param": {"lr": 0.8}}
    trainer(**options, callbacks=[Measured(values), schedule, Record()]).train()
    assert seen[::3] == pytest.approx([0.8] * 4 + [0.4] * 2 + [0.2] * 2 + [0.15])


def after_epochs(schedule, values):
    """The factor of the rate after each of some epochs with these accuracies on the test set."""
    found = []
    for epoch in range(1, len(values) + 1):
        schedule.on_epoch_end(SimpleNamespace(history=History(test_acc_list=values[:epoch])), epoch)
        found.append(schedule.factor(float(epoch)))
    return found


def test_plateau_by_default_falls_to_a_tenth_after_five_epochs_without_any_improvement():
    assert after_epochs(ReduceLROnPlateau(), [0.5] * 11) == pytest.approx([1.0] * 5 + [0.1] * 5 + [0.01])
    assert after_epochs(ReduceLROnPlateau(), [0.5 + epoch * 1e-9 for epoch in range(9)]) == [1.0] * 9


def test_plateau_an_improvement_is_more_than_was_asked_for():
    schedule = ReduceLROnPlateau("test_acc", gamma=0.5, patience=1, min_delta=0.25)
    assert after_epochs(schedule, [0.25, 0.5, 0.75, 0.75]) == [1.0, 0.5, 0.5, 0.25]
    assert schedule.best == 0.75


@pytest.mark.parametrize(("min_lr", "lowest"), [(0.0, 0.008), (0.05, 0.05), (5.0, 0.8)])
def test_plateau_falls_to_the_lowest_rate_and_never_raises_it(min_lr, lowest):
    schedule = ReduceLROnPlateau("test_acc", patience=1, **({"min_lr": min_lr} if min_lr else {}))
    found = rates(schedule, epochs=4, measured=[0.5, 0.5, 0.5, 0.5])
    assert found[::3] == pytest.approx([0.8, 0.8, max(0.08, lowest), lowest])


def test_plateau_never_raises_a_rate_of_nothing():
    assert rates(ReduceLROnPlateau(min_lr=0.1), epochs=1, lr=0.0) == [0.0] * 3


def test_plateau_waits_on_where_it_was():
    first = ReduceLROnPlateau(gamma=0.5, patience=2)
    first.lr = 0.8
    after_epochs(first, [0.5, 0.5, 0.5, 0.5])
    second = ReduceLROnPlateau(gamma=0.5, patience=2)
    second.load_state_dict(first.state_dict())
    assert (second.lr, second.best, second.waited, second.reductions) == (0.8, 0.5, 1, 1)
    assert second.monitor.name == "test_acc"
    assert after_epochs(second, [0.5, 0.5]) == [0.25, 0.25]


def test_rate_at_the_start_is_that_of_the_run_and_not_of_the_resumed_one():
    schedule = StepLR(1, 0.5)
    run = trainer(optimizer="sgd", optimizer_param={"lr": 0.8}, epochs=2, callbacks=[schedule])
    run.train()
    again = StepLR(1, 0.5)
    again.load_state_dict(schedule.state_dict())
    assert run.optimizer.lr == pytest.approx(0.4) and again.lr == 0.8


def _half_cosine(place):
    return (1 + math.cos(math.pi * min(1.0, place))) / 2


# of each: what makes it, and its factors at positions in epochs, written out
FACTORS = {
    "StepLR": (lambda: StepLR(2, 0.5), lambda p: 0.5 ** math.floor(p / 2)),
    "ExponentialLR": (lambda: ExponentialLR(0.9), lambda p: 0.9 ** math.floor(p)),
    "CosineLR": (lambda: CosineLR(), lambda p: _half_cosine(p / 6)),
    "WarmupLR": (lambda: WarmupLR(2), lambda p: min(1.0, p / 2)),
    "OneCycleLR": (
        lambda: OneCycleLR(rise=0.5, start=0.0, final=0.0),
        lambda p: 1 - _half_cosine(p / 3) if p < 3 else _half_cosine((p - 3) / 3),
    ),
    "LearningRateSchedule": (lambda: LearningRateSchedule(lambda p: 1 / (1 + p)), lambda p: 1 / (1 + p)),
    # nothing improves after the first epoch
    "ReduceLROnPlateau": (
        lambda: ReduceLROnPlateau("loss", gamma=0.5, patience=1, min_delta=100.0),
        lambda p: 0.5 ** max(0, math.floor(p) - 1),
    ),
}


def composed(*schedules, **options):
    seen = []

    class Record:
        def on_batch_end(self, trainer, step):
            seen.append(trainer.optimizer.lr)

    run = trainer(epochs=6, optimizer="sgd", optimizer_param={"lr": 0.8}, callbacks=[*schedules, Record()], **options)
    run.train()
    return seen


@pytest.mark.parametrize(("one", "other"), [(a, b) for a in FACTORS for b in FACTORS])
def test_two_schedules_of_a_training_act_together(one, other):
    (make_one, of_one), (make_other, of_other) = FACTORS[one], FACTORS[other]
    found = composed(make_one(), make_other())
    assert found == pytest.approx([0.8 * of_one(step / 3) * of_other(step / 3) for step in range(18)], abs=1e-12)


def test_three_go_on_from_a_checkpoint_with_the_same_rates(tmp_path):
    def schedules():
        return [WarmupLR(1), StepLR(2, 0.5), ReduceLROnPlateau("loss", gamma=0.5, patience=1, min_delta=100.0)]

    class Fails:
        def on_batch_end(self, trainer, step):
            if step == 10:
                raise RuntimeError("fails on purpose")

    whole = composed(*schedules())
    with pytest.raises(RuntimeError, match="on purpose"):
        composed(*schedules(), Fails(), checkpoint=tmp_path / "run")
    assert composed(*schedules(), checkpoint=tmp_path / "run") == whole[9:]


def test_the_lowest_rate_of_a_plateau_leaves_a_warm_up_alone():
    plateau = ReduceLROnPlateau("loss", gamma=0.1, patience=1, min_delta=100.0, min_lr=0.2)
    expected = [0.8 * step / 6 * (1.0 if step < 6 else 0.0) for step in range(6)] + [0.2] * 12
    found = composed(WarmupLR(2), plateau)
    assert found == pytest.approx(expected) and min(found[6:]) >= 0.2


def test_one_schedule_after_a_warm_up_and_beside_it_spans_what_each_spans():
    cosine = CosineLR()
    found = composed(WarmupLR(2, cosine), cosine)
    expected = [
        _half_cosine(step / 18) * (step / 6 if step < 6 else _half_cosine((step - 6) / 12)) for step in range(18)
    ]
    assert found == pytest.approx([0.8 * factor for factor in expected], abs=1e-12)


@pytest.mark.parametrize("first", [math.nan, math.inf])
def test_plateau_takes_no_nan_or_infinite_loss_for_the_best(first):
    plateau, run = (
        ReduceLROnPlateau("loss", gamma=0.5, patience=2),
        SimpleNamespace(iter_per_epoch=1, history=History()),
    )
    found = []
    for epoch, loss in enumerate([first, 2.0, math.nan, 1.0, 1.5, math.nan], 1):
        run.history.epoch_loss_list.append(loss)
        plateau.on_epoch_end(run, epoch)
        found.append((plateau.best, plateau.factor(epoch)))
    assert found == [(None, 1.0), (2.0, 1.0), (2.0, 1.0), (1.0, 1.0), (1.0, 1.0), (1.0, 0.5)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StepLR(0), "StepLR: step_size must be an int of at least 1"),
        (lambda: ExponentialLR(-1), "ExponentialLR: gamma must be a finite number positive"),
        (lambda: CosineLR(epochs=1.5), "CosineLR: epochs must be an int"),
        (lambda: WarmupLR(1, after=lambda x: x), "WarmupLR: after must be a schedule"),
        (lambda: WarmupLR(1, after=ReduceLROnPlateau()), "WarmupLR: after must be a schedule"),
        (lambda: OneCycleLR(rise=1.0), r"OneCycleLR: rise must be a finite number in \[0, 1\)"),
        (lambda: ReduceLROnPlateau("accuracy"), "ReduceLROnPlateau: monitor must be one of loss, val_acc"),
        (lambda: LearningRateSchedule(0.5), "LearningRateSchedule: factor must be a function"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
