"""Kernels of rows, among them attention, embeddings and losses: their launches, and bits that memory does not change."""

import numpy as np
import pytest

from tests.backends.cupy.every_kernel import ATTENTION, GROUP, LAYER, RMS, compare_attention
from xpdl.backends.cupy import attention as kernels
from xpdl.backends.cupy import trace
from xpdl.ops import activations, attention, embedding, gelu, losses

pytestmark = [pytest.mark.backends("cupy"), pytest.mark.backends("current")]


def layer(dy, x, gamma, beta):
    y, *statistics = LAYER[0](x, gamma, beta, 1e-3)
    return y, *LAYER[1](dy, x, gamma, *statistics)


def rms(dy, x, gamma, beta):
    y, root = RMS[0](x, gamma, 1e-3)
    return y, *RMS[1](dy, x, gamma, root)


def group(dy, x, gamma, beta):
    dy, x = (a.reshape(4, 16, 3) for a in (dy, x))
    y, *statistics = GROUP[0](x, gamma, beta, 4, 1e-3)
    return y, *GROUP[1](dy, x, gamma, 4, *statistics)


def softmax(dy, x, gamma, beta):
    y = activations.softmax(x)
    return y, activations.softmax_backward(dy, y)


def units(dy, x, gamma, beta):
    y = gelu.gelu(x)
    return y, gelu.gelu_backward(dy, x)


def attended(dy, x, gamma, beta):
    dy, x = (a.reshape(2, 2, 3, 16) for a in (dy, x))
    results = attention.attention(x, x, x, causal=True)
    return *results, *attention.attention_backward(dy, x, x, x, *results, causal=True)


def weighted(dy, x, gamma, beta):
    t = (8 * x[:, 0]).astype("int64") % 16
    loss, y = losses.softmax_with_loss(x, t, sample_weight=dy[:, 0])
    return loss, y, losses.softmax_with_loss_backward(y, t, sample_weight=dy[:, 0])


def words(dy, x, gamma, beta):
    ids = (8 * x[:, 0]).astype("int64") % 12
    return embedding.embedding(x, ids), embedding.embedding_backward(dy, ids, 12)


#: passes over (12, 16) -> kernels of xpdl in order, and products of matrices
LAUNCHES = {
    layer: (["row_normalization", "row_normalization_backward", "row_products"], 0),
    rms: (["row_normalization", "row_normalization_backward", "row_products"], 0),
    group: (["row_normalization", "row_normalization_backward", "plane_products", "channel_totals"], 0),
    softmax: (["softmax", "softmax_backward"], 0),
    units: (["gelu", "gelu_backward"], 0),
    weighted: (["softmax_with_loss", "mean_loss", "total_weight", "softmax_with_loss_backward"], 0),
    words: (["embedding", "sort_runs", "segment_sums"], 0),
    # results lie as the layer has them, heads side by side
    attended: (["softmax", "heads_beside", "heads_apart", "softmax_backward", "heads_beside"], 2 + 5),
}


def given(place):
    rng = np.random.default_rng(0)
    rows, columns = rng.normal(size=(2, 12, 16)), rng.normal(size=(2, 16))
    return [place(a.astype("float32")) for a in (*rows, *columns)]


@pytest.fixture(params=LAUNCHES, ids=lambda passes: passes.__name__)
def passes(request):
    return request.param


def test_a_pass_has_no_more_launches(gpu, passes):
    arrays = given(gpu.array)
    with gpu.rules(), trace.traced() as calls:
        passes(*arrays)
    names, products = LAUNCHES[passes]
    own = [call.name for call in calls if call.name not in ("gemm", "matmul")]
    assert own == names and len(calls) - len(own) == products


def test_unaligned_memory_and_another_run_give_the_same_bits(gpu, passes):
    wanted = [a.get().tobytes() for a in passes(*given(gpu.array))]
    for place in (gpu.array, gpu.unaligned):
        # memory that has been right before would hide what is not written
        gpu.cupy.get_default_memory_pool().free_all_blocks()
        assert [a.get().tobytes() for a in passes(*given(place))] == wanted


@pytest.mark.parametrize("most", [1, 40])
@pytest.mark.parametrize("sizes, masked, options", ATTENTION)
def test_blocks_of_long_sequences_have_few_scores(gpu, monkeypatch, most, sizes, masked, options):
    monkeypatch.setattr(kernels, "_SCORES", most)
    monkeypatch.setattr(kernels, "_QUERIES", 1)
    with trace.traced() as calls:
        compare_attention(gpu, "float32", [(sizes, masked, {**options, "block": 9})])
    n, heads, queries, keys, _ = sizes
    scores = [call.args.x.size for call in calls if call.name == "softmax"]
    in_block = max(1, most // (n * heads * keys))
    # forward by itself, and before backward
    assert len(scores) == 2 * -(-queries // in_block) and max(scores) <= max(most, n * heads * keys)


def test_ids_beyond_the_table_are_nan_and_have_no_gradient(gpu):
    around = gpu.array(np.ones((9, 4), "float32"))
    ids = np.array([-1, 0, 3, 2, 1 << 40, -(1 << 40), 2])
    rows = embedding.embedding(around[3:6], gpu.array(ids)).get()
    np.testing.assert_array_equal(rows, np.where(((ids >= 0) & (ids < 3))[:, None], np.ones((7, 4)), np.nan))
    sums = embedding.embedding_backward(gpu.array(np.ones((7, 4), "float32")), gpu.array(ids), 3).get()
    np.testing.assert_array_equal(sums, np.array([[1.0], [0.0], [2.0]]) * np.ones(4))
