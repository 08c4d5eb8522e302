// One step of a rule over many parameters at once. The table of their addresses comes by value with the launch: nothing is
// copied to the device before it.

#define TENSORS 80
#define CHUNK 1024

struct Table {
  T* p[TENSORS];
  const T* g[TENSORS];
  A* first[TENSORS];   // slot variables of the rule, if any; of half precision in float
  A* second[TENSORS];
  int64 size[TENSORS];
  int64 blocks[TENSORS];  // of this tensor and all before it
};

struct Shared {
  const A* scale;  // of all gradients, where their norm is clipped, else null
  const bool* apply_if;  // nothing is done where it is false, or null
  double l1, l2, limit;  // limit of values, or 0
};

// by value, or in device memory
struct Number {
  double value;
  const double* at;
  __device__ operator double() const { return at ? *at : value; }
};

// what decay and limits need, as computed with
struct Options {
  A scale, l1, l2, limit;
};

// The new value of a parameter is f(p, g, first, second), which also updates the slot variables. One pack of them:
template <int WIDTH, class F>
__device__ inline void step_pack(const Table& table, const Options& options, int t, I i, F f) {
  Pack<WIDTH> p = loaded<WIDTH>(table.p[t] + i), g = loaded<WIDTH>(table.g[t] + i);
  Pack<WIDTH, A> first, second;
  if (table.first[t]) first = loaded<WIDTH>(table.first[t] + i);
  if (table.second[t]) second = loaded<WIDTH>(table.second[t] + i);
#pragma unroll
  for (int l = 0; l < WIDTH; ++l) {
    A value = p.v[l], slope = (A)g.v[l] * options.scale, limit = options.limit;
    if (options.l1 != 0) slope += options.l1 * A((value > 0) - (value < 0));
    if (options.l2 != 0) slope += options.l2 * value;
    value = f(value, slope, first.v[l], second.v[l]);
    if (limit > 0) value = value > limit ? limit : value < -limit ? -limit : value;
    p.v[l] = T(value);
  }
  store(table.p[t] + i, p);
  if (table.first[t]) store(table.first[t] + i, first);
  if (table.second[t]) store(table.second[t] + i, second);
}

// a block has a chunk of one tensor: packs, and what is left to its end one by one
template <class F>
__device__ inline void each_parameter(const Table& table, const Shared& shared, F f) {
  if (shared.apply_if && !shared.apply_if[0]) return;
  int t = 0;
  while ((int64)blockIdx.x >= table.blocks[t]) ++t;
  I start = (I)(blockIdx.x - (t ? table.blocks[t - 1] : 0)) * CHUNK;
  I end = start + CHUNK < (I)table.size[t] ? start + CHUNK : (I)table.size[t];
  Options options = {shared.scale ? shared.scale[0] : A(1), (A)shared.l1, (A)shared.l2, (A)shared.limit};
  bool aligned = is_aligned(table.p[t]) && is_aligned(table.g[t]) && is_aligned(table.first[t]) && is_aligned(table.second[t]);
  I rest = aligned ? start + (end - start) / LANES * LANES : start;
  for (I i = start + threadIdx.x * LANES; i < rest; i += blockDim.x * LANES) step_pack<LANES>(table, options, t, i, f);
  for (I i = rest + threadIdx.x; i < end; i += blockDim.x) step_pack<1>(table, options, t, i, f);
}

extern "C" __global__ void sgd_step(Table table, Shared shared, Number rate) {
  double lr = rate;
  each_parameter(table, shared, [&](A p, A g, A& first, A& second) { return p - (A)lr * g; });
}

extern "C" __global__ void momentum_step(Table table, Shared shared, Number rate, double momentum) {
  double lr = rate;
  each_parameter(table, shared, [&](A p, A g, A& first, A& second) {
    A v = (A)momentum * first - (A)lr * g;
    first = v;
    return p + v;
  });
}

extern "C" __global__ void nesterov_step(Table table, Shared shared, Number rate, double momentum) {
  double lr = rate;
  each_parameter(table, shared, [&](A p, A g, A& first, A& second) {
    A v = first;
    first = (A)momentum * v - (A)lr * g;
    return p + (A)(momentum * momentum) * v - (A)((1.0 + momentum) * lr) * g;
  });
}

extern "C" __global__ void ada_grad_step(Table table, Shared shared, Number rate, double eps) {
  double lr = rate;
  each_parameter(table, shared, [&](A p, A g, A& first, A& second) {
    A h = first + g * g;
    first = h;
    return p - (A)lr * (g / (sqrt(h) + (A)eps));
  });
}

extern "C" __global__ void rmsprop_step(Table table, Shared shared, Number rate, double decay_rate, double eps) {
  double lr = rate;
  each_parameter(table, shared, [&](A p, A g, A& first, A& second) {
    A h = (A)decay_rate * first + (A)(1.0 - decay_rate) * (g * g);
    first = h;
    return p - (A)lr * (g / (sqrt(h) + (A)eps));
  });
}

extern "C" __global__ void ada_delta_step(Table table, Shared shared, Number rate, double rho, double eps) {
  double lr = rate;
  each_parameter(table, shared, [&](A p, A g, A& first, A& second) {
    A s = second;
    A h = (A)rho * first + (A)(1.0 - rho) * (g * g);
    A d = sqrt(s + (A)eps) / sqrt(h + (A)eps) * g;
    first = h;
    second = (A)rho * s + (A)(1.0 - rho) * (d * d);
    return p - (A)lr * d;
  });
}

__device__ inline A adam(A p, A g, A& first, A& second, double lr, double beta1, double beta2, double eps) {
  A m = (A)beta1 * first + (A)(1.0 - beta1) * g;
  A v = (A)beta2 * second + (A)(1.0 - beta2) * (g * g);
  first = m;
  second = v;
  return p - (A)lr * (m / (sqrt(v) + (A)eps));
}

extern "C" __global__ void adam_step(Table table, Shared shared, Number rate, double beta1, double beta2, double eps) {
  double lr = rate;
  each_parameter(table, shared, [&](A p, A g, A& first, A& second) { return adam(p, g, first, second, lr, beta1, beta2, eps); });
}

extern "C" __global__ void adam_w_step(Table table, Shared shared, Number kept, Number rate, double beta1, double beta2,
                                       double eps) {
  double keep = kept, lr = rate;
  each_parameter(table, shared,
                 [&](A p, A g, A& first, A& second) { return adam((A)keep * p, g, first, second, lr, beta1, beta2, eps); });
}
