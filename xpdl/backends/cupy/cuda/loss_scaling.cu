// Mixed precision: many arrays at once to half precision and back, and the scale of the loss. The table of addresses comes by
// value with the launch, as in optimizers.cu.

#define TENSORS 48
#define CHUNK 1024

struct Table {
  int64 from[TENSORS];
  int64 to[TENSORS];
  int64 size[TENSORS];
  int64 blocks[TENSORS];  // of this tensor and all before it
  // `to` has matrices of so many that are transposed in `from`: filters in the order of axes and channels-last; 0 without
  int64 rows[TENSORS];
  int64 columns[TENSORS];
};

// use(width, tensor, place): a block has a chunk of one tensor, packs and what is left to its end one by one
template <class From, class To, class Use>
__device__ inline void each_place(const Table& table, Use use) {
  int t = 0;
  while ((int64)blockIdx.x >= table.blocks[t]) ++t;
  I start = (I)(blockIdx.x - (t ? table.blocks[t - 1] : 0)) * CHUNK;
  I end = start + CHUNK < (I)table.size[t] ? start + CHUNK : (I)table.size[t];
  bool aligned = is_aligned((const From*)table.from[t]) && is_aligned((const To*)table.to[t]) && !table.rows[t];
  I rest = aligned ? start + (end - start) / LANES * LANES : start;
  for (I i = start + threadIdx.x * LANES; i < rest; i += blockDim.x * LANES) use(Width<LANES>(), t, i);
  for (I i = rest + threadIdx.x; i < end; i += blockDim.x) use(Width<1>(), t, i);
}

// where place i of `to` is in `from`
__device__ inline I source_of(const Table& table, int t, I i) {
  I rows = (I)table.rows[t], columns = (I)table.columns[t];
  if (!rows) return i;
  I row = i / columns % rows;
  return (i / (rows * columns) * columns + i % columns) * rows + row;
}

// to = f(from)
template <class From, class To, class F>
__device__ inline void each_converted(const Table& table, F f) {
  each_place<From, To>(table, [&](auto width, int t, I i) {
    constexpr int WIDTH = decltype(width)::value;
    Pack<WIDTH, From> values = loaded<WIDTH>((const From*)table.from[t] + (WIDTH == 1 ? source_of(table, t, i) : i));
    Pack<WIDTH, To> results;
#pragma unroll
    for (int l = 0; l < WIDTH; ++l) results.v[l] = To(f((A)values.v[l]));
    store((To*)table.to[t] + i, results);
  });
}

extern "C" __global__ void cast_all(Table table) {
  each_converted<A, T>(table, [](A v) { return v; });
}

extern "C" __global__ void unscale(Table table, const A* scale) {
  A divisor = scale ? scale[0] : A(1);
  each_converted<T, A>(table, [=](A v) { return v / divisor; });
}

// `finite` is true before; all who write it write the same
extern "C" __global__ void all_finite(Table table, bool* finite) {
  each_place<T, T>(table, [&](auto width, int t, I i) {
    constexpr int WIDTH = decltype(width)::value;
    Pack<WIDTH> values = loaded<WIDTH>((const T*)table.from[t] + i);
#pragma unroll
    for (int l = 0; l < WIDTH; ++l) {
      A v = values.v[l];
      if (v - v != 0) finite[0] = false;
    }
  });
}

__device__ inline double one_minus_power(double beta, double t) { return beta != 0 ? -expm1(t * log(beta)) : 1.0; }

// Adam's rate at an update whose number the device alone knows. While a step is recorded, numbers of the host are in device
// memory; else the pointers to them are null. One thread.
extern "C" __global__ void corrected_rate(const A* skipped_steps, double rate, double updates, const double* device_rate,
                                          const double* device_updates, double beta1, double beta2, A* corrected) {
  double lr = device_rate ? *device_rate : rate, t = (device_updates ? *device_updates : updates) - (double)skipped_steps[0];
  corrected[0] = (A)(lr * sqrt(one_minus_power(beta2, t)) / one_minus_power(beta1, t));
}

// one thread
extern "C" __global__ void update_loss_scale(const A* state, const bool* finite, double growth_interval, double most, A* after) {
  bool good = finite[0], grows = good && state[1] + 1 >= (A)growth_interval;
  A twice = state[0] * 2 > (A)most ? (A)most : state[0] * 2;
  after[0] = grows ? twice : good ? state[0] : state[0] / 2;
  after[1] = good && !grows ? state[1] + 1 : A(0);
  after[2] = good ? state[2] : state[2] + 1;
}
