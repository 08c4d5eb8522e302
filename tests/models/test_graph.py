"""Graphs beside torch's autograd, their wiring, shapes and errors."""

from __future__ import annotations

import copy
import pickle
import weakref
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import Backend, nonempty
from xpdl import (
    Add,
    Affine,
    BatchNormalization,
    Concatenate,
    Convolution,
    Dropout,
    Graph,
    IdentityWithLoss,
    Input,
    Multiply,
    Pooling,
    Relu,
    Reshape,
    Sequential,
    ShapeError,
    Sigmoid,
    Slice,
    SoftmaxWithLoss,
    Tanh,
    check_gradients,
)
from xpdl.errors import MixedArraysError

_rng = np.random.default_rng(26)
X = _rng.standard_normal((5, 4))
T = np.asarray([0, 1, 2, 1, 0])


def branched(**options: Any) -> Graph:
    """Two branches that meet, of which one goes around the other."""
    x = Input((4,))
    h = Relu()(Affine(units=6)(x))
    both = Concatenate()(Tanh()(Affine(units=3)(h)), x)
    return Graph(x, Affine(units=3)(both), loss=SoftmaxWithLoss, seed=0, **options)


def siamese(**options: Any) -> Graph:
    """Two inputs through one net with the same weights, and two outputs."""
    left, right = Input((4,), "left"), Input((4,), "right")
    half = Sequential(Affine(units=5), Relu(), Affine(units=4))
    u, v = half(left, name="half"), half(right)
    outputs = {"same": Affine(units=1)(Multiply()(u, v)), "class": Affine(units=3)(u)}
    losses = {"same": IdentityWithLoss, "class": SoftmaxWithLoss}
    return Graph([left, right], outputs, loss=losses, loss_weights={"same": 0.5, "class": 2.0}, seed=1, **options)


def siamese_data() -> tuple[Any, Any]:
    return {"left": X, "right": X[::-1].copy()}, {"same": X[:, :1], "class": T}


# --- values and gradients


def random_graph(seed: int) -> tuple[Graph, Any, Any]:
    """A graph of affine layers, activations, sums, products and joins, some layers used again; its inputs, and torch's."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    inputs = [Input((int(rng.integers(1, 4)),), f"in{k}") for k in range(rng.integers(1, 4))]
    nodes: list[Any] = list(inputs)
    plan: list[Any] = []  # of torch: a function of the values so far
    weights: list[Any] = []
    shared: list[Any] = []

    def take(width: int | None = None) -> int:
        fitting = [k for k, node in enumerate(nodes) if width is None or node.shape == (width,)]
        return int(rng.choice(fitting[-4:])) if rng.random() < 0.7 else int(rng.choice(fitting))

    for _ in range(rng.integers(4, 12)):
        kind, k = rng.integers(6), take()
        width = nodes[k].shape[0]
        if kind == 0:
            W, b = rng.standard_normal((width, int(rng.integers(1, 4)))), rng.standard_normal(())
            layer = Affine(W, np.full(W.shape[1], b))
            weights.append(layer)
            shared.append((layer, width))
            nodes.append(layer(nodes[k]))
            last = len(weights) - 1
            plan.append(lambda v, p, k=k, i=last: v[k] @ p[i][0] + p[i][1])
        elif kind == 1 and shared:
            layer, width = shared[int(rng.integers(len(shared)))]
            k, i = take(width), weights.index(layer)
            nodes.append(layer(nodes[k]))
            plan.append(lambda v, p, k=k, i=i: v[k] @ p[i][0] + p[i][1])
        elif kind == 2:
            other = take(width)
            nodes.append(Add()(nodes[k], nodes[other]))
            plan.append(lambda v, p, k=k, j=other: v[k] + v[j])
        elif kind == 3:
            other = take(width)
            nodes.append(Multiply()(nodes[k], nodes[other]))
            plan.append(lambda v, p, k=k, j=other: v[k] * v[j])
        elif kind == 4:
            other = take()
            nodes.append(Concatenate()(nodes[k], nodes[other]))
            plan.append(lambda v, p, k=k, j=other: torch.cat([v[k], v[j]], 1))
        else:
            layer, function = ((Tanh, torch.tanh), (Sigmoid, torch.sigmoid))[rng.integers(2)]
            nodes.append(layer()(nodes[k]))
            plan.append(lambda v, p, k=k, f=function: f(v[k]))
    used = {one for node in nodes if node.call for one in node.call.inputs}
    ends = [k for k, node in enumerate(nodes) if node not in used]
    net = Graph(inputs, [nodes[k] for k in ends])

    def in_torch(xs: Any, douts: Any) -> tuple[Any, Any, Any]:
        values = [torch.tensor(x, requires_grad=True) for x in xs]
        leaves, params = list(values), [[torch.tensor(a, requires_grad=True) for a in (w.W, w.b)] for w in weights]
        for step in plan:
            values.append(step(values, params))
        total = sum((values[k] * torch.tensor(d)).sum() for k, d in zip(ends, douts, strict=True))
        total.backward()
        got = lambda a: np.zeros(a.shape) if a.grad is None else a.grad.numpy()  # noqa: E731
        outputs = [values[k].detach().numpy() for k in ends]
        return (
            outputs,
            [got(a) for a in leaves],
            {id(w): [got(a) for a in p] for w, p in zip(weights, params, strict=True)},
        )

    return net, in_torch, [rng.standard_normal((3, *node.shape)) for node in inputs]


@pytest.mark.needs("torch")
@pytest.mark.parametrize("block", range(5))
def test_random_graphs_agree_with_autograd(block: int) -> None:
    """Outputs, gradients of inputs and of weights, for 100 graphs, at random upstream gradients."""
    reused = 0
    for seed in range(20 * block, 20 * block + 20):
        net, in_torch, xs = random_graph(seed)
        x = tuple(xs) if len(xs) > 1 else xs[0]
        outputs = net.forward(x)
        douts = [np.random.default_rng(seed).standard_normal(y.shape) for y in outputs]
        dx = net.backward(tuple(douts))
        want, want_dx, want_grads = in_torch(xs, douts)
        for got, one in zip((*outputs, *(dx if len(xs) > 1 else (dx,))), (*want, *want_dx), strict=True):
            np.testing.assert_allclose(got, one, rtol=1e-9, atol=1e-9)
        for layer in net.layers.values():
            if any(layer.params):
                for got, one in zip((layer.dW, layer.db), want_grads[id(layer)], strict=True):
                    np.testing.assert_allclose(got, one, rtol=1e-9, atol=1e-9)
        names = [name for name, _, _ in net.uses]
        reused += len(names) > len(set(names))
    assert reused > 3


@pytest.mark.parametrize("fuse", [True, False])
def test_gradients_agree_with_differences(fuse: bool) -> None:
    assert check_gradients(branched(fuse=fuse), X, T).passed
    assert {"x['left']", "half.Affine1.W"} <= check_gradients(siamese(fuse=fuse), *siamese_data()).errors.keys()


def image_net(**options: Any) -> Graph:
    x = Input((2, 6, 6))
    a = Relu()(BatchNormalization()(Convolution(filters=3, size=3, pad=1)(x)))
    b = Relu()(Convolution(filters=3, size=1)(x))
    joined = Pooling(2, 2, 2)(Relu()(Add()(a, b)))
    gate = Sigmoid()(Reshape((3, 1, 1))(Affine(units=3)(joined)))
    y = Affine(units=3)(Multiply()(joined, gate))
    return Graph(x, y, loss=SoftmaxWithLoss, seed=3, **options)


def test_fused_layers_of_branches_give_the_same() -> None:
    x = _rng.standard_normal((5, 2, 6, 6))
    fused, plain = image_net(), image_net(fuse=False)
    got, want = (net.gradient(x, T) for net in (fused, plain))
    assert sum(len(getattr(step.layer, "layers", [0])) > 1 for step in fused.steps()) == 3
    assert len(fused.steps()) == len(plain.steps()) - 4
    for name, value in nonempty(want.items()):
        np.testing.assert_allclose(got[name], value, rtol=1e-6, atol=1e-7)


def test_a_layer_whose_output_two_layers_take_is_not_fused() -> None:
    x = Input((4,))
    h = Affine(units=3)(x)
    net = Graph(x, Add()(Relu()(h), h), seed=0)
    assert [type(step.layer) for step in net.steps()] == [Affine, Relu, Add]


@pytest.mark.parametrize("fuse", [True, False])
def test_a_chain_equals_a_sequential(fuse: bool) -> None:
    layers = lambda: [Convolution(filters=2, size=3), BatchNormalization(), Relu(), Dropout(0.3), Affine(units=3)]  # noqa: E731
    x = node = Input((1, 5, 5))
    for layer in layers():
        node = layer(node)
    net, row = (
        made(fuse=fuse, loss=SoftmaxWithLoss, seed=4)
        for made in (lambda **o: Graph(x, node, **o), lambda **o: Sequential(*layers(), **o))
    )
    images = _rng.standard_normal((5, 1, 5, 5))
    got, want = net.gradient(images, T), row.gradient(images, T)
    assert list(got) == list(want)
    for name in want:
        np.testing.assert_array_equal(got[name], want[name])
    np.testing.assert_array_equal(net.predict(images), row.predict(images))


# --- shared weights


def test_gradients_of_a_layer_used_twice_add_up() -> None:
    W = _rng.standard_normal((4, 4))
    shared, x = Affine(W), Input((4,))
    net = Graph(x, shared(Tanh()(shared(x))))
    y, dout = net.forward(X), _rng.standard_normal((5, 4))
    net.backward(dout)
    h = np.tanh(X @ W)
    dh = (dout @ W.T) * (1 - h * h)
    np.testing.assert_allclose(y, h @ W)
    np.testing.assert_allclose(shared.dW, h.T @ dout + X.T @ dh)


def test_batch_normalization_used_twice_sees_both_batches() -> None:
    left, right, norm = Input((4,)), Input((4,)), BatchNormalization(momentum=0.5)
    net = Graph([left, right], [norm(left), norm(right)])
    net.forward((X, X + 8), True)
    np.testing.assert_allclose(norm.running_mean, 0.25 * X.mean(0) + 0.5 * (X.mean(0) + 8))


def test_dropout_used_twice_draws_two_masks() -> None:
    x, drop = Input((50,)), Dropout(0.5)
    net = Graph(x, [drop(x), drop(x)], seed=0)
    ones = np.ones((2, 50))
    first, second = net.forward(ones, True)
    assert (first != second).any()
    dx = net.backward((ones, 10 * ones))
    np.testing.assert_allclose(dx, first + 10 * second)


def test_a_block_of_fused_layers_may_be_used_twice() -> None:
    net, plain = siamese(), siamese(fuse=False)
    plain.layers["half"].fuse = False
    x, t = siamese_data()
    got, want = net.gradient(x, t), plain.gradient(x, t)
    for name, value in nonempty(want.items()):
        np.testing.assert_allclose(got[name], value, rtol=1e-6, atol=1e-7)


# --- what is not needed, and what is done with


class Watcher(xpdl.Layer):
    """Passes its input on and notes its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def forward(self, x: Any) -> Any:
        self.calls.append("forward")
        return x

    def backward(self, dout: Any) -> Any:
        self.calls.append("backward")
        return dout


def test_a_gradient_that_nobody_needs_is_not_computed() -> None:
    x, before, beside = Input((4,)), Watcher(), Watcher()
    h = Affine(units=3)(before(x))
    net = Graph(x, Affine(units=3)(Concatenate()(h, beside(x))), loss=SoftmaxWithLoss)
    net.gradient(X, T)
    assert before.calls == beside.calls == ["forward"]
    net.forward(X)
    net.backward(np.ones((5, 3)))
    assert before.calls == beside.calls == ["forward", "forward", "backward"]


def test_an_output_without_a_gradient_has_no_part() -> None:
    x, watcher = Input((4,)), Watcher()
    net = Graph(x, [Affine(units=3)(x), watcher(Affine(units=2)(x))])
    net.forward(X)
    net.backward((np.ones((5, 3)), None))
    assert watcher.calls == ["forward"]
    assert net.layers["Affine1"].grads
    assert not net.layers["Affine2"].grads


class Keeper(xpdl.Layer):
    """Hands out arrays that can be watched, and saves nothing."""

    made: list[Any] = []  # noqa: RUF012

    def forward(self, x: Any) -> Any:
        y = x + 1
        Keeper.made.append(weakref.ref(y))
        return y

    def backward(self, dout: Any) -> Any:
        dx = dout * 2
        Keeper.made.append(weakref.ref(dx))
        return dx


class Counter(Keeper):
    """Counts how many of the arrays of other layers are alive."""

    alive: list[int] = []  # noqa: RUF012

    def forward(self, x: Any) -> Any:
        Counter.alive.append(sum(one() is not None for one in Keeper.made))
        return x + 1

    def backward(self, dout: Any) -> Any:
        Counter.alive.append(sum(one() is not None for one in Keeper.made))
        return dout * 2


def test_values_and_gradients_are_dropped_once_used() -> None:
    Keeper.made, Counter.alive = [], []
    x = Input((4,))
    node = x
    for _ in range(5):
        node = Keeper()(node)
    net = Graph(x, Counter()(node))
    net.forward(X)
    net.backward(np.ones((5, 4)))
    assert Counter.alive == [1, 0]
    Keeper.made, Counter.alive = [], []
    node = Counter()(x)
    for _ in range(5):
        node = Keeper()(node)
    net = Graph(x, node)
    net.forward(X)
    net.backward(np.ones((5, 4)))
    assert Counter.alive == [0, 1]


# --- nets in nets


def test_a_graph_of_several_inputs_and_outputs_is_a_layer() -> None:
    left, right = Input((4,)), Input((4,))
    inner = Graph([left, right], {"sum": Add()(left, right), "first": Affine(units=3)(left)})
    a, b = Input((4,)), Input((2,))
    nodes = inner(Affine(units=4)(b), a)
    net = Graph([a, b], Concatenate()(nodes["sum"], nodes["first"]), loss=SoftmaxWithLoss, seed=0)
    assert net.build() == (7,)
    assert list(net.params) == ["Affine1.W", "Affine1.b", "Graph1.Affine1.W", "Graph1.Affine1.b"]
    assert check_gradients(net, (X, X[:, :2].copy()), T).passed


def test_a_layer_of_ones_own_with_layers_inside_has_no_shape_before_it_is_built() -> None:
    class Own(xpdl.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Affine(units=3)

        def forward(self, x: Any) -> Any:
            return self.inner(x)

        def backward(self, dout: Any) -> Any:
            return self.inner.backward(dout)

    x = Input((4,))
    node = Own()(x)
    assert node.shape is None
    net = Graph(x, Affine(units=2)(node), seed=0)
    assert net.build() == (2,)
    assert net.params["Affine1.W"].shape == (3, 2)


def test_names_are_those_of_calls_or_classes() -> None:
    x = Input((4,))
    y = Affine(units=2)(Affine(units=3)(Affine(units=3)(x), name="hidden"))
    net = Graph(x, Concatenate()(y, Affine(units=1)(x), x), seed=0)
    assert list(net.layers) == ["Affine1", "hidden", "Affine2", "Affine3", "Concatenate1"]
    assert net.layers["hidden"].name == "hidden"


@pytest.mark.parametrize(("form", "kind"), [("array", np.ndarray), ("tuple", tuple), ("dict", dict)])
def test_outputs_come_as_they_were_given(form: str, kind: type) -> None:
    x = Input((4,))
    y = Relu()(x)
    net = Graph(x, {"array": y, "tuple": [y], "dict": {"relu": y}}[form])
    assert net.form == form
    assert type(net.forward(X)) is kind
    assert type(net.predict(X)) is kind
    assert type(net.output_shape((4,))) is (dict if form == "dict" else tuple)


@pytest.mark.exhaustive  # the table of layers has a graph, too
@pytest.mark.backends("eager")
def test_works_on_every_backend(backend: Backend) -> None:
    net = siamese()
    x, t = siamese_data()
    xs = {name: backend.asarray(a, "float32") for name, a in x.items()}
    ts = {"same": backend.asarray(t["same"], "float32"), "class": backend.asarray(t["class"], "int32")}
    grads, plain = net.gradient(xs, ts), siamese()
    want = plain.gradient(
        {name: a.astype("float32") for name, a in x.items()}, {**t, "same": t["same"].astype("float32")}
    )
    for name, value in nonempty(want.items()):
        backend.check(grads[name], value, rtol=1e-4, atol=1e-5)


# --- several losses


def test_the_loss_is_the_weighted_sum() -> None:
    net = siamese()
    x, t = siamese_data()
    total = net.loss(x, t)
    outputs = net.predict(x)
    same, kind = IdentityWithLoss(), SoftmaxWithLoss()
    parts = same.forward(outputs["same"], t["same"]), kind.forward(outputs["class"], t["class"])
    np.testing.assert_allclose(total, 0.5 * parts[0] + 2 * parts[1])
    np.testing.assert_allclose(list(net.last_layer.values.values()), parts)


def test_rows_may_have_weights() -> None:
    net = siamese()
    x, t = siamese_data()
    rows = np.asarray([1.0, 0.0, 1.0, 1.0, 0.0])
    kept = rows > 0
    few = ({name: a[kept] for name, a in data.items()} for data in (x, t))
    np.testing.assert_allclose(net.loss(x, t, sample_weight=rows), net.loss(*few), rtol=1e-6)


def test_one_loss_of_ones_own_takes_all_outputs() -> None:
    def loss(y: Any, t: Any) -> Any:
        return float((y[0] * t).sum() + y[1].sum()), (t * np.ones_like(y[0]), np.ones_like(y[1]))

    class Own(xpdl.layers.LossLayer):
        def forward(self, x: Any, t: Any = None, sample_weight: Any = None) -> Any:
            self.loss, self.dy = loss(x, t)
            self.weight = len(t)
            return np.asarray(self.loss)

        def backward(self, dout: Any = 1.0) -> Any:
            return tuple(dout * dy for dy in self.dy)

    x = Input((4,))
    net = Graph(x, [Affine(units=2)(x), Affine(units=1)(x)], loss=Own, seed=0)
    grads = net.gradient(X, X[:, :2])
    np.testing.assert_allclose(grads["Affine2.W"], X.sum(0)[:, None], rtol=1e-6)


def test_predict_joins_batches_of_all_outputs() -> None:
    net = siamese()
    x, _ = siamese_data()
    whole, parts = net.predict(x), net.predict(x, batch_size=2)
    for name, value in nonempty(whole.items()):
        np.testing.assert_allclose(parts[name], value, rtol=1e-6)


# --- copies


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["deepcopy", "pickle"]
)
def test_copies_are_independent_and_equal(duplicate: Any) -> None:
    net = siamese()
    x, t = siamese_data()
    want = net.gradient(x, t)
    other = duplicate(net)
    assert other.layers["half"] is not net.layers["half"]
    got = other.gradient(x, t)
    for name in want:
        np.testing.assert_array_equal(got[name], want[name])
    other.params["Affine1.W"] = 0 * other.params["Affine1.W"]
    assert net.params["Affine1.W"].any()


def test_a_deep_graph_can_be_copied_and_pickled() -> None:
    x = node = Input((2,))
    for _ in range(2000):
        node = Add()(Tanh()(node), node)
    net = pickle.loads(pickle.dumps(copy.deepcopy(Graph(x, node))))
    assert net.forward(np.ones((1, 2))).shape == (1, 2)
    assert len(net.uses) == 4000


# --- errors


def test_shapes_are_checked_where_a_layer_is_called() -> None:
    x = Input((4,), "features")
    h = Affine(units=3)(x)
    with pytest.raises(
        ShapeError, match=r"Add: .* got \(3,\) and \(4,\); called with <output of Affine \(3,\)>, <input \(4,\)"
    ):
        Add()(h, x)
    with pytest.raises(ShapeError, match=r"Concatenate: .*\(2, 2\).*called with"):
        Concatenate()(Reshape((2, 2))(x), x)
    with pytest.raises(ShapeError, match=r"Convolution: .*called with <input \(4,\)>"):
        Convolution(filters=2, size=3)(x)


def test_shapes_that_are_known_late_name_the_layer() -> None:
    class Halves(xpdl.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Affine(units=3)

        def forward(self, x: Any) -> Any:
            return self.inner(x)

        def backward(self, dout: Any) -> Any:
            return self.inner.backward(dout)

    x = Input((4,))
    net = Graph(x, Add()(Halves()(x), x, name="meeting"))
    with pytest.raises(ShapeError, match=r"^meeting: .*\(3,\) and \(4,\)"):
        net.build()


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda x, y: Relu()(x, y), TypeError, "Relu: takes 1 input, got 2 nodes"),
        (lambda x, y: Add()(x, X), TypeError, "Add: expected nodes alone or arrays alone, got a ndarray"),
        (lambda x, y: branched()(x, y), TypeError, "Graph: takes 1 input, got 2 nodes"),
        (lambda x, y: siamese()(x), TypeError, "Graph: takes 2 inputs, got 1 nodes"),
        (lambda x, y: Relu()(X, name="x"), TypeError, "name='x' is for a layer that is called with nodes"),
        (
            lambda x, y: Graph(x, Add()(x, y)),
            ValueError,
            r"Graph: outputs depend on an input that is none of the inputs",
        ),
        (lambda x, y: Graph(x, y), ValueError, r"Graph: outputs depend on an input that is none of the inputs"),
        (
            lambda x, y: Graph([x, y], Relu()(x)),
            ValueError,
            "Graph: an output must depend on each input, got none for 'x2'",
        ),
        (lambda x, y: Graph([x, x], Relu()(x)), ValueError, "Graph: inputs must be different ones"),
        (lambda x, y: Graph(x, [Relu()(x, name="a"), Tanh()(x, name="a")]), ValueError, "got 'a' twice"),
        (lambda x, y: Graph([x, y], [Relu()(x), Relu()(y)], loss=SoftmaxWithLoss()), None, ""),
        (
            lambda x, y: Graph(x, [x, Relu()(x)], loss=[SoftmaxWithLoss]),
            ValueError,
            r"one for each output \(x, Relu1\)",
        ),
        (lambda x, y: Graph(x, [x, Relu()(x)], loss=[SoftmaxWithLoss, None]), TypeError, "one for each output"),
        (
            lambda x, y: Graph(x, [x, x], loss=[SoftmaxWithLoss] * 2, loss_weights=[0, 0]),
            ValueError,
            "loss_weights are all 0",
        ),
    ],
)
def test_wiring_errors_say_what_is_wrong(make: Any, error: Any, match: str) -> None:
    x, y = Input((4,)), Input((4,))
    if error is None:
        assert make(x, y).last_layer is not None
        return
    with pytest.raises(error, match=match):
        make(x, y)


def test_a_cycle_is_refused() -> None:
    x = Input((4,))
    first = Relu()(x)
    second = Tanh()(first)
    first.call.inputs = (second,)  # by hand, as calls cannot make one
    with pytest.raises(ValueError, match="needs its own output; a graph has no cycles"):
        Graph(x, second)


def test_a_layer_in_two_places_of_the_tree_is_refused() -> None:
    x, shared = Input((4,)), Affine(units=4)
    with pytest.raises(ValueError, match=r"this layer is also Graph\.Affine1"):
        Graph(x, Sequential(shared, Relu())(shared(x)))


@pytest.mark.parametrize(
    ("x", "error", "match"),
    [
        (X, TypeError, r"inputs must be a tuple or dict of 2 \('left', 'right'\), got ndarray"),
        ((X, X, X), ValueError, r"inputs must be 2 \('left', 'right'\), got 3"),
        ({"left": X}, ValueError, "inputs must be a dict of 'left', 'right', got one of 'left'"),
        ((X, X[:, :3]), ShapeError, r"the input 'right' has rows of shape \(4,\), got \(3,\)"),
        ((X, X[:3]), ShapeError, r"the same number of rows, got \[5, 3\]"),
        ((X, "text"), TypeError, "expected arrays, got str"),
    ],
)
def test_wrong_inputs_are_refused(x: Any, error: type[Exception], match: str) -> None:
    net = siamese()
    net.build()
    with pytest.raises(error, match=match):
        net.forward(x)


def test_inputs_of_two_libraries_are_refused(torch: Any) -> None:
    with pytest.raises(MixedArraysError, match="numpy and torch are mixed"):
        siamese().forward((X, torch.asarray(X)))


def test_backward_checks_every_gradient() -> None:
    net = siamese()
    net.forward(siamese_data()[0])
    with pytest.raises(ShapeError, match=r"dout must have the shape of the output, \(5, 1\), got \(5, 3\)"):
        net.backward({"same": np.ones((5, 3)), "class": np.ones((5, 3))})
    assert len(net.backward((np.ones((5, 1)), np.ones((5, 3))))) == 2
    with pytest.raises(RuntimeError, match="used up what the last forward saved"):
        net.backward((np.ones((5, 1)), np.ones((5, 3))))


def test_slices_split_what_layers_of_two_outputs_give_as_one() -> None:
    """As a variational encoder has it: one affine layer for mean and deviation."""
    x = Input((4,))
    both = Affine(units=6)(x)
    net = Graph(x, [Slice(0, 3)(both), Slice(3)(both)], seed=0)
    mean, deviation = net.forward(X)
    assert mean.shape == deviation.shape == (5, 3)
    assert check_gradients(net, X).passed
