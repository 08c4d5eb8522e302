"""Memory-bound kernels load and store 16 bytes at a time, and several before they wait: read from NVRTC's machine code.

An H200 has to have 22 KB in flight on each multiprocessor to reach its bandwidth (4.8 TB/s, 132 of them, about 600 ns): two
loads of 16 bytes by each of 700 threads.
"""

from __future__ import annotations

import functools

import pytest

from tests.backends.cupy import nvrtc, sass
from xpdl.backends.cupy import sources

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
pytestmark = pytest.mark.slow

_PROBES = """
struct alignas(8) Two { unsigned v[2]; };
struct alignas(16) Four { unsigned v[4]; };
struct alignas(32) Eight { unsigned v[8]; };
#define COPY(name, X) extern "C" __global__ void name(const X* a, X* b) { b[threadIdx.x] = a[threadIdx.x]; }
COPY(copy_8, unsigned char)
COPY(copy_16, unsigned short)
COPY(copy_32, float)
COPY(copy_64, Two)
COPY(copy_128, Four)
COPY(copy_256, Eight)
extern "C" __global__ void fill(Four* b) { b[threadIdx.x] = Four{1, 2, 3, 4}; }
extern "C" __global__ void independent(const Four* a, Four* b, int n) {
  Four p = a[threadIdx.x], q = a[threadIdx.x + n], r = a[threadIdx.x + 2 * n], s = a[threadIdx.x + 3 * n];
  for (int k = 0; k < 4; ++k) p.v[k] += q.v[k] + r.v[k] + s.v[k];
  b[threadIdx.x] = p;
}
extern "C" __global__ void dependent(const Four* a, Four* b) { b[threadIdx.x] = a[a[a[threadIdx.x].v[3]].v[2]]; }
extern "C" __global__ void apart(const Four* a, unsigned* b, int n) {
  for (int i = 0; i < n; ++i) {
    Four p = a[i * n + threadIdx.x];
    b[i * n + threadIdx.x] = p.v[0] * p.v[1] + p.v[2] * p.v[3];
    __syncthreads();
  }
}
"""


@functools.cache
def code_of(architecture: str, text: str) -> dict[str, list[sass.Instruction]]:
    cubin, log = nvrtc.compile_for(architecture, text)
    assert cubin is not None, log
    return sass.kernels(cubin)


@pytest.mark.parametrize("architecture", ("sm_75", *ARCHITECTURES))
class TestDecoder:
    @pytest.mark.parametrize("bits", [8, 16, 32, 64, 128])
    def test_a_copy_is_one_load_and_one_store(self, architecture: str, bits: int) -> None:
        code = code_of(architecture, _PROBES)[f"copy_{bits}"]
        assert sass.loads(code) == sass.stores(code) == [bits]

    def test_32_bytes_are_one_instruction_since_blackwell(self, architecture: str) -> None:
        code = code_of(architecture, _PROBES)["copy_256"]
        expected = [256] if architecture == "sm_100" else [128, 128]
        assert sass.loads(code) == sass.stores(code) == expected

    def test_what_loads_nothing_has_stores_alone(self, architecture: str) -> None:
        code = code_of(architecture, _PROBES)["fill"]
        assert (sass.loads(code), sass.stores(code)) == ([], [128])

    @pytest.mark.parametrize("name, count", [("independent", 4), ("dependent", 1), ("copy_128", 1), ("copy_64", 0)])
    def test_loads_in_flight_are_those_before_a_use(self, architecture: str, name: str, count: int) -> None:
        assert sass.wide_loads_in_flight(code_of(architecture, _PROBES)[name]) == count

    def test_loads_of_several_rounds_are_not_in_flight_together(self, architecture: str) -> None:
        code = code_of(architecture, _PROBES)["apart"]
        assert sass.wide_loads_in_flight(code) == 1 < sass.loads(code).count(128)


#: file -> loads of 16 bytes in flight, of kernels that store what they load, and of those that reduce it
KERNELS = {
    "elementwise": (
        2,
        [
            *("relu", "relu_backward", "sigmoid", "sigmoid_backward", "tanh_backward", "add_bias", "dropout", "add"),
            *("leaky_relu", "leaky_relu_backward", "elu", "elu_backward", "silu", "silu_backward"),
            *("softplus", "softplus_backward", "gelu", "gelu_backward"),
        ],
        [],
    ),
    "normalization": (
        2,
        ["batch_normalization", "normalize", "batch_normalization_backward"],
        ["channel_sums", "channel_moments", "channel_products"],
    ),
    "normalization_rows": (
        2,
        ["batch_normalization_of_rows", "normalize_of_rows", "batch_normalization_backward_of_rows"],
        ["channel_sums_of_rows", "channel_moments_of_rows", "channel_products_of_rows"],
    ),
    "pooling_channels_last": (
        1,
        [
            "max_pooling_channels_last",
            "gradient_to_taps_channels_last",
            "average_pooling_channels_last",
            "average_pooling_backward_channels_last",
        ],
        [],
    ),
    "optimizers": (
        2,
        [
            "sgd_step",
            "momentum_step",
            "nesterov_step",
            "ada_grad_step",
            "rmsprop_step",
            "ada_delta_step",
            "adam_step",
            "adam_w_step",
        ],
        [],
    ),
    "pooling": (
        2,
        ["max_pooling", "average_pooling", "max_pooling_backward", "gradient_to_taps", "average_pooling_backward"],
        [],
    ),
    "windows": (2, ["im2col", "images_of_rows", "rows_of_images"], []),
    "losses": (2, ["softmax_with_loss", "softmax_with_loss_backward"], []),
    "row_normalization": (
        2,
        ["row_normalization", "row_normalization_backward"],
        ["row_products", "plane_products"],
    ),
    "embedding": (1, ["embedding"], ["segment_sums"]),
    "softmax": (2, ["softmax", "softmax_backward"], []),
    "recurrent": (
        2,
        ["rnn_step", "rnn_step_backward", "lstm_step", "lstm_step_backward", "gru_step", "gru_step_backward"],
        [],
    ),
    "loss_scaling": (1, ["cast_all", "unscale"], ["all_finite"]),
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", sources.TYPES)
@pytest.mark.parametrize("file", KERNELS)
def test_kernels_load_and_store_sixteen_bytes(file: str, dtype: str, architecture: str) -> None:
    code = code_of(architecture, sources.source(file, dtype, False))
    least, storing, reducing = KERNELS[file]
    for name in (*storing, *reducing):
        assert sass.wide_loads_in_flight(code[name]) >= least, name
    for name in storing:
        assert max(sass.stores(code[name])) >= 128, name
