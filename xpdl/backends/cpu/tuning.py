"""Thresholds of the CPU kernels: sizes at which another algorithm, a further task or compiled code is faster.

`tests/backends/cpu/test_tuning.py` checks that kernels have no thresholds of their own. Numbers that become part of compiled
code, and those that a cache line or the reference counts of CPython decide, are no tuning and stay where they are used.

"Swept" figures are the processor time at 1/4, 1/2, 2 and 4 times a threshold in ratio to that at it, float32, on one
thread of an EPYC with AVX-512 and NumPy 2.4.6 (2026-11-30, medians of 9 alternating rounds; 3 % are noise). Convolutions
are forward and back.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator


@dataclasses.dataclass(slots=True)
class Tuning:
    """The thresholds; products are multiplications, sizes are elements where nothing else is said."""

    # --- all kernels
    # Below, a pass over memory takes less time than a look at the memory order of the arrays.
    small_array: int = 1 << 13
    # Elements of a task of element-wise functions: with fewer, threads wait for each other longer than they work.
    elementwise_task: int = 1 << 18
    # Zeros that stay in the cache, to compare with.
    elementwise_zeros: int = 1 << 17
    # Elements that are compared with zeros in less time than with the number: 5,000 in 1.3 us instead of 4.2, 1,000 as long.
    compared_zeros: int = 1 << 10
    # Elements of an array of which three or four stay in the second-level cache, through the some 15 passes of a gelu.
    rows_cached: int = 1 << 15
    # Bytes: smaller results come from pages that the process has already.
    buffer_pool_smallest: int = 1 << 17
    # Bytes of blocks that are kept for later.
    buffer_pool_kept: int = 256 << 20

    # --- matrix products
    # Products that OpenBLAS computes on matrices as they lie, without packing them. On a Xeon with AVX-512, 16 filters
    # of 144 weights and 1600 columns cut to that take 125 instead of 76 GFLOP/s. Swept for 100 x 16 x 28 x 28 and 32
    # filters 5x5: 0.96, 0.98, 1.01, 0.99 by NumPy's functions, 1.00, 1.01, 1.00, 0.84 compiled: an EPYC would have it
    # larger.
    gemm_unpacked_products: int = 1_000_000
    # Fewer columns, or as many filters, are multiplied faster if they are packed. Swept as above, columns: 1.09, 1.11, 0.99,
    # 0.99; filters: within 1 %.
    gemm_few_columns: int = 96
    gemm_many_filters: int = 64
    # Weights of a filter that are worth a transposed copy of what they are summed for.
    gemm_transposed_weights: int = 32

    # --- affine
    # So few products BLAS computes in one thread anyway; holding it to that takes longer than they do.
    affine_tiny_products: int = 1 << 18
    # Products in a task, at the least: fewer, some 70 us, are not worth a hand-over between threads.
    affine_task_products: int = 1 << 23
    # Each doubling of the tasks costs 5 to 8 % on two cores, as each copies all rows into the order that BLAS multiplies in:
    # two tasks, or with so many products four or eight, which is worth it for machines with more cores.
    affine_four_tasks: int = 1 << 28
    affine_eight_tasks: int = 1 << 30
    # Values that stay in the cache between two passes over them. Swept for 1000 x 784 times 784 x 1024: within 1 %.
    affine_cached: int = 1 << 16

    # --- recurrent layers
    # Products of a step, over all sequences, that are worth sharing between threads, and sequences that are worth two tasks
    # or four. Each task copies all weights into the order that BLAS multiplies in: for 256 units, products of 32 sequences
    # at a time take 20 % longer than those of 128, and of 64 6 %; for 650 units, those of 10 take twice as long as of 20.
    recurrent_shared_products: int = 1 << 22
    recurrent_two_tasks: int = 64
    recurrent_four_tasks: int = 256
    # Steps that are worth packing the weights: for 256 units it takes 0.1 to 0.2 ms, and a product of 20 sequences then
    # 0.06 ms less.
    recurrent_packed_steps: int = 8
    # Columns of a panel of packed weights in NumPy's products, where BLAS multiplies as they lie: at most, and fewer are not
    # worth a panel. Of 20 rows by weights (256, 1024), panels of 16, 32, 64 and 128 columns take 62, 46, 43 and 56 us,
    # and packing all of them 121 each time; by (650, 2600), of 26, 52 and 65 columns 630, 390 and 300 us, and packing 490.
    # Of 64 rows by (256, 1024), panels take 154 us instead of 210; of 128 rows as long as all columns do.
    recurrent_panel_rows: int = 64
    recurrent_columns: int = 72
    recurrent_few_columns: int = 32
    # Units of a panel where BLAS then multiplies as they lie: products of 20 sequences and 256 units take 57 us instead of
    # 118 in panels of 128 columns. For more sequences there are two panels, of which each thread packs one.
    recurrent_panel: int = 32

    # --- attention
    # Scores of a block, which stay in the second-level cache; queries of one at the least, and at most where a causal one
    # is better cut, so that fewer products belong to keys that no query sees. In two threads, 16 sequences of 128 positions
    # take 4.4 ms forward and back instead of 6.6 with causal blocks of 64, whose calls are too short to share; in one 5.4
    # instead of 5.1.
    attention_scores: int = 1 << 16
    attention_queries: int = 32
    attention_causal_queries: int = 128
    # Products of a task, at the least.
    attention_task: int = 1 << 22

    # --- convolution, image by image
    # Images from which on it is faster to have them innermost: by NumPy's functions, and in compiled code.
    small_batch_images: int = 4
    small_batch_compiled_images: int = 8
    # Bytes of copied windows in one task. Swept for forward of 1 x 64 x 56 x 56, 64 filters 3x3: 1.17, 1.09, 1.02, 1.02.
    small_batch_task_bytes: int = 1 << 20
    # Products of a batch that are worth waking a thread for.
    small_batch_shared_products: int = 1 << 23
    # Columns of one product of compiled code, at the least.
    small_batch_columns: int = 64

    # --- convolution, row by row, by NumPy's functions
    # Products that are worth sharing between threads.
    rows_shared_products: int = 1 << 22
    # Bytes of copied windows, and images, in one task. Swept for 100 x 16 x 28 x 28 and 32 filters 5x5: bytes 1.31,
    # 1.21, 1.00, 1.00; images 1.04, 1.01, 1.00, 0.99.
    rows_task_bytes: int = 5 << 19
    rows_task_images: int = 256
    # Columns, images counted, that are enough for fast products. Swept as above: 1.07, 1.01, 1.14, 1.17.
    rows_task_columns: int = 400

    # --- convolution, row by row, in compiled code
    # Loops over fewer images are not worth their start, and the windows of more do not stay in the cache.
    compiled_rows_fewest_images: int = 8
    compiled_rows_most_images: int = 1024
    # Bytes of copied windows in one task, and the tasks that threads share.
    compiled_rows_task_bytes: int = 1 << 20
    compiled_rows_tasks: int = 8

    # --- convolution, Winograd along W
    # A third of the products is saved for each pair of channels, and sums are to be paid for each channel: the algorithm is
    # faster from so many channels on each side, in the harmonic mean, halved, and so many columns of the output.
    winograd_1d_channels: int = 10
    winograd_1d_width: int = 4
    # Bytes of sums and products in one task: more than the cache of a core holds, but every call of a task may have to
    # wait for the GIL, which costs more. Images of a task. Swept for 100 x 32 x 14 x 14 and 32 filters 3x3: bytes 1.11,
    # 1.02, 1.01, 0.99; images 1.07, 0.99, 1.00, 0.99.
    winograd_1d_task_bytes: int = 1 << 23
    winograd_1d_task_images: int = 256
    # Columns of a product: so few are not worth multiplying as they lie, and so many are enough where BLAS packs them.
    # Swept as above: 1.02, 1.02, 1.01, 0.99 and 1.02, 1.00, 1.00, 0.99.
    winograd_1d_few_columns: int = 150
    winograd_1d_packed_columns: int = 400

    # --- convolution, Winograd along H and W, compiled
    # Channels as above; the sums take less there.
    winograd_2d_channels: int = 6
    # Images: loops over fewer are not worth their start; those of one task.
    winograd_2d_fewest_images: int = 8
    winograd_2d_task_images: int = 256
    # Columns of one product, each an image of a tile: all sums and products of so many stay in the cache of a core; fewer
    # from so many channels on.
    winograd_2d_columns: int = 400
    winograd_2d_fewer_columns: int = 200
    winograd_2d_many_channels: int = 96
    # Tasks by rows, for threads to share.
    winograd_2d_tasks: int = 8

    # --- pooling
    # Elements of a task's images, by NumPy's functions and in compiled code: with fewer, threads wait for each other longer
    # than they work.
    pooling_task: int = 1 << 19
    compiled_pooling_task: int = 1 << 18
    # Values next to each other in memory from which loops over them are faster than NumPy's functions; for a maximum of so
    # few values, any number.
    compiled_pooling_neighbours: int = 2
    compiled_pooling_neighbours_backward: int = 24
    compiled_pooling_few: int = 1 << 14

    # --- batch normalization
    # Elements of a task of images, and of rows. Swept for 100 x 16 x 32 x 32 in training: 1.11, 1.13, 0.93, 0.88; larger
    # tasks leave threads without work.
    batch_norm_task: int = 1 << 17
    batch_norm_2d_task: int = 1 << 17
    # Elements that stay in the cache of a core, in two arrays. Swept for 100 x 16 x 32 x 32 in evaluation: 1.66, 1.31,
    # 1.04, 0.99.
    batch_norm_cached: int = 1 << 16
    # Elements of NumPy's buffer: forward of (100, 16, 32, 32) takes 2.2 ms with the default of 8192, and 1.6 ms with this.
    batch_norm_ufunc_buffer: int = 512

    # Elements of a task of rows that are normalised by themselves, in compiled code.
    row_normalization_task: int = 1 << 17

    # --- losses and dropout
    # So few classes are reduced in columns, many rows at a time: 1000 rows of 10 scores take 28 us instead of 95, of 1000 a
    # third more.
    loss_few_classes: int = 64
    # Elements of a task of rows of scores, and from which on the softmax is compiled.
    loss_task: int = 1 << 17
    # Elements of a task; there are some twenty passes over them, each long enough beside its start.
    dropout_mask_task: int = 1 << 17

    # --- optimizers
    # Elements of a task: all that a rule touches of so many fits the second-level cache, and one pass over them, about
    # 13 us, is long beside the hand-over of the GIL between threads that ends it. Adam on 1.05M float32, two cores: 2.0 ms
    # with 2^15, 1.5 with 2^16, 1.1 with 2^17, 1.1 with 2^18, 1.4 with 2^19; one core: 1.7, 1.6, 1.6, 1.9, 2.7. The generic
    # rule, whose temporaries go through memory, takes 6.7.
    optimizer_task: int = 1 << 17
    # Parameters above which optimizers are compiled: in the half second that loading Numba takes, small networks make many
    # steps.
    compiled_parameters: int = 1 << 17
    # Parameters above which compiled optimizers use threads, which wait for each other for about 0.1 ms.
    shared_parameters: int = 1 << 19


TUNING = Tuning()


@contextlib.contextmanager
def tuned(**thresholds: int) -> Iterator[None]:
    """Inside, the process uses these thresholds; for tests and measurements.

    Raises
    ------
    TypeError
        For a name that `Tuning` does not have.
    """
    before, inside = dataclasses.replace(TUNING), dataclasses.replace(TUNING, **thresholds)
    _set(inside)
    try:
        yield
    finally:
        _set(before)


def _set(tuning: Tuning) -> None:
    for field in dataclasses.fields(Tuning):
        setattr(TUNING, field.name, getattr(tuning, field.name))
