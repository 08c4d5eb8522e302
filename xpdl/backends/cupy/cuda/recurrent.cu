// One step of a recurrent layer: what follows the product of the states (N, H) with Wh, for all gates at once. Inputs and
// results of all steps are (N, steps, gates H), contiguous; the kernels read and write those of one step. A thread has one
// pack of neighbouring units of one sequence. Where the mask is false, a step keeps the state as it was.

// the units of a thread, from unit `k` of sequence `row` on
struct Place {
  I row, k, now, units;  // `now` counts steps of all sequences before

  // of the gate `gate` among `gates` that lie side by side, in arrays of one step and of all steps
  __device__ inline I in_step(int gates = 1, int gate = 0) const { return (row * gates + gate) * units + k; }
  __device__ inline I in_all(int gates = 1, int gate = 0) const { return (now * gates + gate) * units + k; }
  // the state before the step: of all steps, or where there is none before, of the first states
  __device__ inline const T* before(const T* first, const T* all, int64 step) const {
    return step ? all + (now - 1) * units + k : first + row * units + k;
  }
};

// use(width, place) for all units of N sequences, n in all; `aligned` says whether packs of LANES are
template <class Use>
__device__ inline void each_place(int64 step, int64 steps, int64 units, int64 of_units, int64 n, bool aligned, Use use) {
  auto place = [&](I i) {
    I row = divided(i, units, of_units);
    return Place{row, i - row * (I)units, row * (I)steps + (I)step, (I)units};
  };
  if (aligned && units % LANES == 0) EACH(i, n / LANES) use(Width<LANES>(), place(i * LANES));
  else EACH(i, n) use(Width<1>(), place(i));
}

// one for each of the units of a thread
template <int WIDTH>
using Values = Pack<WIDTH, A>;

template <int WIDTH>
__device__ inline Values<WIDTH> values(const T* from) {
  Pack<WIDTH> pack = loaded<WIDTH>(from);
  Values<WIDTH> computed;
#pragma unroll
  for (int l = 0; l < WIDTH; ++l) computed.v[l] = pack.v[l];
  return computed;
}

template <int WIDTH>
__device__ inline Values<WIDTH> values_or_0(const T* array, I i) {
  return array ? values<WIDTH>(array + i) : Values<WIDTH>{};
}

template <int WIDTH>
__device__ inline void write(T* to, const Values<WIDTH>& computed) {
  Pack<WIDTH> pack;
#pragma unroll
  for (int l = 0; l < WIDTH; ++l) pack.v[l] = T(computed.v[l]);
  store(to, pack);
}

__device__ inline A logistic(A v) {
  A e = exp(v > 0 ? -v : v);
  return (v >= 0 ? A(1) : e) / (A(1) + e);
}

// products of inputs and of states, and the bias
template <int WIDTH>
__device__ inline Values<WIDTH> added(const T* of_x, const T* of_h, const T* b) {
  Values<WIDTH> x = values<WIDTH>(of_x), h = values<WIDTH>(of_h), bias = values<WIDTH>(b);
#pragma unroll
  for (int l = 0; l < WIDTH; ++l) x.v[l] = x.v[l] + bias.v[l] + h.v[l];
  return x;
}

// y holds the products of the inputs before, and the states after
extern "C" __global__ void rnn_step(const T* of_h, const T* b, const T* h, const bool* mask, T* y, int64 step, int64 steps,
                                    int64 units, int64 of_units, int64 n) {
  bool aligned = is_aligned(of_h) && is_aligned(b) && is_aligned(h) && is_aligned(y);
  each_place(step, steps, units, of_units, n, aligned, [&](auto width, Place at) {
    constexpr int WIDTH = decltype(width)::value;
    Values<WIDTH> state = added<WIDTH>(y + at.in_all(), of_h + at.in_step(), b + at.k);
    Values<WIDTH> old = values<WIDTH>(at.before(h, y, step));
    bool counts = !mask || mask[at.now];
#pragma unroll
    for (int l = 0; l < WIDTH; ++l) state.v[l] = counts ? tanh(state.v[l]) : old.v[l];
    write(y + at.in_all(), state);
  });
}

// Backward, `dh` is the product with Wh of the step after; `kept`, what went past it where it did not count. Both are null
// in the last step. Afterwards, `kept` is what goes past this one.
extern "C" __global__ void rnn_step_backward(const T* dy, const T* dh, const T* y, const bool* mask, T* kept, T* da,
                                             int64 step, int64 steps, int64 units, int64 of_units, int64 n) {
  bool aligned = is_aligned(dy) && is_aligned(y);
  each_place(step, steps, units, of_units, n, aligned, [&](auto width, Place at) {
    constexpr int WIDTH = decltype(width)::value;
    Values<WIDTH> d = values<WIDTH>(dy + at.in_all()), past = values_or_0<WIDTH>(dh, at.in_step());
    Values<WIDTH> other = values_or_0<WIDTH>(dh && kept ? kept : 0, at.in_step()), state = values<WIDTH>(y + at.in_all());
    bool counts = !mask || mask[at.now];
#pragma unroll
    for (int l = 0; l < WIDTH; ++l) {
      A whole = d.v[l] + past.v[l] + other.v[l];
      other.v[l] = counts ? A(0) : whole;
      d.v[l] = counts ? whole * (A(1) - state.v[l] * state.v[l]) : A(0);
    }
    if (kept) write(kept + at.in_step(), other);
    write(da + at.in_all(), d);
  });
}

// gates hold the products of the inputs before, and i, f, g, o after
extern "C" __global__ void lstm_step(const T* of_h, const T* b, const T* h, const T* c, const bool* mask, T* gates, T* y,
                                     T* cells, int64 step, int64 steps, int64 units, int64 of_units, int64 n) {
  bool aligned = is_aligned(of_h) && is_aligned(b) && is_aligned(h) && is_aligned(c);
  each_place(step, steps, units, of_units, n, aligned && is_aligned(gates), [&](auto width, Place at) {
    constexpr int WIDTH = decltype(width)::value;
    Values<WIDTH> a[4];
#pragma unroll
    for (int gate = 0; gate < 4; ++gate)
      a[gate] = added<WIDTH>(gates + at.in_all(4, gate), of_h + at.in_step(4, gate), b + gate * at.units + at.k);
    Values<WIDTH> cell = values<WIDTH>(at.before(c, cells, step)), state = {};
    bool counts = !mask || mask[at.now];
    if (!counts) state = values<WIDTH>(at.before(h, y, step));
#pragma unroll
    for (int l = 0; l < WIDTH; ++l) {
      A i = logistic(a[0].v[l]), f = logistic(a[1].v[l]), g = tanh(a[2].v[l]), o = logistic(a[3].v[l]);
      a[0].v[l] = i, a[1].v[l] = f, a[2].v[l] = g, a[3].v[l] = o;
      if (!counts) continue;
      cell.v[l] = f * cell.v[l] + i * g;
      state.v[l] = o * tanh(cell.v[l]);
    }
#pragma unroll
    for (int gate = 0; gate < 4; ++gate) write(gates + at.in_all(4, gate), a[gate]);
    write(cells + at.in_all(), cell);
    write(y + at.in_all(), state);
  });
}

// `dc` is the gradient of the memory after the step, and then of that before it; `dh` and `kept` are as for rnn_step_backward
extern "C" __global__ void lstm_step_backward(const T* dy, const T* dh, const T* c, const T* cells, const T* gates,
                                              const bool* mask, T* kept, T* dc, T* da, int64 step, int64 steps, int64 units,
                                              int64 of_units, int64 n) {
  bool aligned = is_aligned(dy) && is_aligned(c) && is_aligned(cells) && is_aligned(gates);
  each_place(step, steps, units, of_units, n, aligned, [&](auto width, Place at) {
    constexpr int WIDTH = decltype(width)::value;
    Values<WIDTH> d = values<WIDTH>(dy + at.in_all()), past = values_or_0<WIDTH>(dh, at.in_step());
    Values<WIDTH> other = values_or_0<WIDTH>(dh && kept ? kept : 0, at.in_step());
    Values<WIDTH> memory = values_or_0<WIDTH>(dh ? dc : 0, at.in_step()), before = values<WIDTH>(at.before(c, cells, step));
    Values<WIDTH> cell = values<WIDTH>(cells + at.in_all()), a[4];
#pragma unroll
    for (int gate = 0; gate < 4; ++gate) a[gate] = values<WIDTH>(gates + at.in_all(4, gate));
    bool counts = !mask || mask[at.now];
#pragma unroll
    for (int l = 0; l < WIDTH; ++l) {
      A whole = d.v[l] + past.v[l] + other.v[l], i = a[0].v[l], f = a[1].v[l], g = a[2].v[l], o = a[3].v[l];
      A tanh_c = tanh(cell.v[l]), of_cell = memory.v[l] + whole * o * (A(1) - tanh_c * tanh_c);
      other.v[l] = counts ? A(0) : whole;
      a[0].v[l] = counts ? of_cell * g * i * (A(1) - i) : A(0);
      a[1].v[l] = counts ? of_cell * before.v[l] * f * (A(1) - f) : A(0);
      a[2].v[l] = counts ? of_cell * i * (A(1) - g * g) : A(0);
      a[3].v[l] = counts ? whole * tanh_c * o * (A(1) - o) : A(0);
      if (counts) memory.v[l] = of_cell * f;
    }
    if (kept) write(kept + at.in_step(), other);
    write(dc + at.in_step(), memory);
#pragma unroll
    for (int gate = 0; gate < 4; ++gate) write(da + at.in_all(4, gate), a[gate]);
  });
}

// gates become r, z, n and what r is multiplied with
extern "C" __global__ void gru_step(const T* of_x, const T* of_h, const T* b, const T* bh, const T* h, const bool* mask,
                                    T* gates, T* y, int64 step, int64 steps, int64 units, int64 of_units, int64 n) {
  bool aligned = is_aligned(of_x) && is_aligned(of_h) && is_aligned(b) && is_aligned(bh) && is_aligned(h);
  each_place(step, steps, units, of_units, n, aligned, [&](auto width, Place at) {
    constexpr int WIDTH = decltype(width)::value;
    Values<WIDTH> r, z, state, memory, old = values<WIDTH>(at.before(h, y, step)), bias = values<WIDTH>(b + 2 * at.units + at.k);
    r = added<WIDTH>(of_x + at.in_all(3), of_h + at.in_step(3), b + at.k);
    z = added<WIDTH>(of_x + at.in_all(3, 1), of_h + at.in_step(3, 1), b + at.units + at.k);
    state = values<WIDTH>(of_x + at.in_all(3, 2));
    memory = values<WIDTH>(of_h + at.in_step(3, 2));
    Values<WIDTH> of_memory = values<WIDTH>(bh + at.k);
    bool counts = !mask || mask[at.now];
#pragma unroll
    for (int l = 0; l < WIDTH; ++l) {
      r.v[l] = logistic(r.v[l]), z.v[l] = logistic(z.v[l]), memory.v[l] += of_memory.v[l];
      A fresh = tanh(state.v[l] + bias.v[l] + r.v[l] * memory.v[l]);
      bias.v[l] = fresh;
      state.v[l] = counts ? fresh + z.v[l] * (old.v[l] - fresh) : old.v[l];
    }
    write(gates + at.in_all(4), r);
    write(gates + at.in_all(4, 1), z);
    write(gates + at.in_all(4, 2), bias);
    write(gates + at.in_all(4, 3), memory);
    write(y + at.in_all(), state);
  });
}

// `kept` is also what goes through z
extern "C" __global__ void gru_step_backward(const T* dy, const T* dh, const T* h, const T* y, const T* gates,
                                             const bool* mask, T* kept, T* of_x, T* of_h, int64 step, int64 steps,
                                             int64 units, int64 of_units, int64 n) {
  bool aligned = is_aligned(dy) && is_aligned(h) && is_aligned(y) && is_aligned(gates);
  each_place(step, steps, units, of_units, n, aligned, [&](auto width, Place at) {
    constexpr int WIDTH = decltype(width)::value;
    Values<WIDTH> d = values<WIDTH>(dy + at.in_all()), past = values_or_0<WIDTH>(dh, at.in_step());
    Values<WIDTH> other = values_or_0<WIDTH>(dh ? kept : 0, at.in_step()), before = values<WIDTH>(at.before(h, y, step));
    Values<WIDTH> a[4], through_r;
#pragma unroll
    for (int gate = 0; gate < 4; ++gate) a[gate] = values<WIDTH>(gates + at.in_all(4, gate));
    bool counts = !mask || mask[at.now];
#pragma unroll
    for (int l = 0; l < WIDTH; ++l) {
      A whole = d.v[l] + past.v[l] + other.v[l], r = a[0].v[l], z = a[1].v[l], fresh = a[2].v[l], memory = a[3].v[l];
      A dn = counts ? whole * (A(1) - z) * (A(1) - fresh * fresh) : A(0);
      other.v[l] = counts ? whole * z : whole;
      a[0].v[l] = counts ? dn * memory * r * (A(1) - r) : A(0);
      a[1].v[l] = counts ? whole * (before.v[l] - fresh) * z * (A(1) - z) : A(0);
      a[2].v[l] = dn;
      through_r.v[l] = counts ? dn * r : A(0);
    }
    write(kept + at.in_step(), other);
#pragma unroll
    for (int gate = 0; gate < 3; ++gate) {
      write(of_x + at.in_all(3, gate), a[gate]);
      write(of_h + at.in_all(3, gate), gate < 2 ? a[gate] : through_r);
    }
  });
}
