// One step of a rule over many parameters at once. The table of their addresses comes by value with the launch: nothing is
// copied to the device before it.

#define TENSORS 80
#define CHUNK 1024

struct Table {
  T* p[TENSORS];
  const T* g[TENSORS];
  A* first[TENSORS];   // what the rule remembers, as far as it does; of half precision in float
  A* second[TENSORS];
  int64 size[TENSORS];
  int64 blocks[TENSORS];  // of this tensor and all before it
};

struct Shared {
  const A* scale;  // of all gradients, where their norm is clipped, else null
  const bool* only_if;  // nothing is done where it is false, or null
  double l1, l2, limit;  // limit of values, or 0
};

// by value, or in device memory
struct Number {
  double value;
  const double* at;
  __device__ operator double() const { return at ? *at : value; }
};

// new value = f(p, g, tensor, place)
template <class F>
__device__ inline void each_parameter(const Table& table, const Shared& shared, F f) {
  if (shared.only_if && !shared.only_if[0]) return;
  int t = 0;
  while ((int64)blockIdx.x >= table.blocks[t]) ++t;
  I start = (I)(blockIdx.x - (t ? table.blocks[t - 1] : 0)) * CHUNK;
  I end = start + CHUNK < (I)table.size[t] ? start + CHUNK : (I)table.size[t];
  A limit = (A)shared.limit, l1 = (A)shared.l1, l2 = (A)shared.l2;
  for (I i = start + threadIdx.x; i < end; i += blockDim.x) {
    A p = table.p[t][i], g = table.g[t][i];
    if (shared.scale) g *= shared.scale[0];
    if (l1 != 0) g += l1 * A((p > 0) - (p < 0));
    if (l2 != 0) g += l2 * p;
    p = f(p, g, t, i);
    if (limit > 0) p = p > limit ? limit : p < -limit ? -limit : p;
    table.p[t][i] = T(p);
  }
}

extern "C" __global__ void sgd_step(Table table, Shared shared, Number rate) {
  double lr = rate;
  each_parameter(table, shared, [&](A p, A g, int t, I i) { return p - (A)lr * g; });
}

extern "C" __global__ void momentum_step(Table table, Shared shared, Number rate, double momentum) {
  double lr = rate;
  each_parameter(table, shared, [&](A p, A g, int t, I i) {
    A v = (A)momentum * table.first[t][i] - (A)lr * g;
    table.first[t][i] = v;
    return p + v;
  });
}

extern "C" __global__ void nesterov_step(Table table, Shared shared, Number rate, double momentum) {
  double lr = rate;
  each_parameter(table, shared, [&](A p, A g, int t, I i) {
    A v = table.first[t][i];
    table.first[t][i] = (A)momentum * v - (A)lr * g;
    return p + (A)(momentum * momentum) * v - (A)((1.0 + momentum) * lr) * g;
  });
}

extern "C" __global__ void ada_grad_step(Table table, Shared shared, Number rate, double eps) {
  double lr = rate;
  each_parameter(table, shared, [&](A p, A g, int t, I i) {
    A h = table.first[t][i] + g * g;
    table.first[t][i] = h;
    return p - (A)lr * (g / (sqrt(h) + (A)eps));
  });
}

extern "C" __global__ void rmsprop_step(Table table, Shared shared, Number rate, double decay_rate, double eps) {
  double lr = rate;
  each_parameter(table, shared, [&](A p, A g, int t, I i) {
    A h = (A)decay_rate * table.first[t][i] + (A)(1.0 - decay_rate) * (g * g);
    table.first[t][i] = h;
    return p - (A)lr * (g / (sqrt(h) + (A)eps));
  });
}

extern "C" __global__ void ada_delta_step(Table table, Shared shared, Number rate, double rho, double eps) {
  double lr = rate;
  each_parameter(table, shared, [&](A p, A g, int t, I i) {
    A s = table.second[t][i];
    A h = (A)rho * table.first[t][i] + (A)(1.0 - rho) * (g * g);
    A d = sqrt(s + (A)eps) / sqrt(h + (A)eps) * g;
    table.first[t][i] = h;
    table.second[t][i] = (A)rho * s + (A)(1.0 - rho) * (d * d);
    return p - (A)lr * d;
  });
}

__device__ inline A adam(const Table& table, A p, A g, int t, I i, double lr, double beta1, double beta2, double eps) {
  A m = (A)beta1 * table.first[t][i] + (A)(1.0 - beta1) * g;
  A v = (A)beta2 * table.second[t][i] + (A)(1.0 - beta2) * (g * g);
  table.first[t][i] = m;
  table.second[t][i] = v;
  return p - (A)lr * (m / (sqrt(v) + (A)eps));
}

extern "C" __global__ void adam_step(Table table, Shared shared, Number rate, double beta1, double beta2, double eps) {
  double lr = rate;
  each_parameter(table, shared, [&](A p, A g, int t, I i) { return adam(table, p, g, t, i, lr, beta1, beta2, eps); });
}

extern "C" __global__ void adam_w_step(Table table, Shared shared, Number kept, Number rate, double beta1, double beta2,
                                       double eps) {
  double keep = kept, lr = rate;
  each_parameter(table, shared,
                 [&](A p, A g, int t, I i) { return adam(table, (A)keep * p, g, t, i, lr, beta1, beta2, eps); });
}
