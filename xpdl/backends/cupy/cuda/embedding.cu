// Rows of a table by their numbers, and sums of gradients over equal numbers: ids are sorted, which makes segments of them, and
// each row of the table adds up its own, in the order of their places. Nothing is atomic: equal runs give equal bits.

// of a run that one block sorts
#define RUN 1024

// a row of the table for each id; NaN for what is no row
extern "C" __global__ void embedding(const T* table, const int64* ids, T* y, int64 count, int64 units, int64 of_units,
                                     int64 n) {
  bool wide = units % LANES == 0 && is_aligned(table);
  auto load = [&](auto width, I i) {
    constexpr int WIDTH = decltype(width)::value;
    I place = divided(i, units, of_units);
    int64 id = ids[place];
    if (id >= 0 && id < count) return loaded<WIDTH>(table + (I)id * (I)units + i - place * (I)units);
    Pack<WIDTH> none;
#pragma unroll
    for (int l = 0; l < WIDTH; ++l) none.v[l] = T(A(0) / A(0));
    return none;
  };
  in_packs(n, wide, load, [&](auto width, I i, auto pack) { store(y + i, pack); });
}

// Sort runs of RUN ids: a key has an id above its place, so that no two are equal. An id that is no row sorts behind all.
extern "C" __global__ void sort_runs(const int64* ids, int64* keys, int64 count, int64 n) {
  __shared__ int64 run[RUN];
  I start = (I)blockIdx.x * RUN;
  int own = (I)n - start < RUN ? (int)((I)n - start) : RUN;
  for (int k = threadIdx.x; k < own; k += BLOCK) {
    int64 id = ids[start + k];
    run[k] = (id >= 0 && id < count ? id : count) << 32 | (int64)(start + k);
  }
  __syncthreads();
  for (int k = threadIdx.x; k < own; k += BLOCK) {
    int before = 0;
    for (int j = 0; j < own; ++j) before += run[j] < run[k];
    keys[start + before] = run[k];
  }
}

// how many of the sorted keys are below one
__device__ inline I below(const int64* sorted, I count, int64 one) {
  I first = 0;
  while (count > 0) {
    I half = count / 2;
    bool more = sorted[first + half] < one;
    first = more ? first + half + 1 : first;
    count = more ? count - half - 1 : half;
  }
  return first;
}

// Merge each two runs of `length` keys: a key goes behind those below it in its own run and in the other.
extern "C" __global__ void merge_runs(const int64* keys, int64* merged, int64 length, int64 n) {
  EACH(i, n) {
    I run = i / (I)length, pair = run / 2 * 2 * (I)length, other = (run ^ 1) * (I)length;
    I left = other < (I)n ? (I)n - other : 0;
    I before = below(keys + other, left < (I)length ? left : (I)length, keys[i]);
    merged[pair + i - run * (I)length + before] = keys[i];
  }
}

// The sum of the gradients of one row of the table: a block has (columns, shares of a segment).
extern "C" __global__ void segment_sums(const T* dy, const int64* keys, T* sums, int64 units, int64 n) {
  int64 row = blockIdx.x;
  I start = below(keys, (I)n, row << 32), end = below(keys, (I)n, (row + 1) << 32);
  auto add_up = [&](auto width) {
    constexpr int WIDTH = decltype(width)::value;
    I c = ((I)blockIdx.y * blockDim.x + threadIdx.x) * WIDTH;
    bool inside = c < (I)units;
    Pack<WIDTH, A> sum = {};
#pragma unroll 4
    for (I k = start + threadIdx.y; inside && k < end; k += blockDim.y) {
      Pack<WIDTH> pack = loaded<WIDTH>(dy + (I)(keys[k] & 0xffffffff) * (I)units + c);
#pragma unroll
      for (int l = 0; l < WIDTH; ++l) sum.v[l] += (A)pack.v[l];
    }
    sum = over_rows(sum, [](const Pack<WIDTH, A>& a, const Pack<WIDTH, A>& b) {
      Pack<WIDTH, A> both;
#pragma unroll
      for (int l = 0; l < WIDTH; ++l) both.v[l] = a.v[l] + b.v[l];
      return both;
    });
    if (!inside || threadIdx.y > 0) return;
    Pack<WIDTH> total;
#pragma unroll
    for (int l = 0; l < WIDTH; ++l) total.v[l] = T(sum.v[l]);
    store(sums + (I)row * (I)units + c, total);
  };
  if (units % LANES == 0 && is_aligned(dy)) add_up(Width<LANES>());
  else add_up(Width<1>());
}
