// What the kernels of batch normalization share: sums over the threads of a block, and what becomes of one value.

// the join of what the threads of a column have, for each threadIdx.x; V is a value or a structure of several
template <class V, class Join>
__device__ inline V over_rows(V value, Join join) {
  __shared__ V part[BLOCK];
  int at = threadIdx.y * blockDim.x + threadIdx.x;
  part[at] = value;
  __syncthreads();
  for (int half = blockDim.y / 2; half > 0; half /= 2) {
    if (threadIdx.y < half) part[at] = join(part[at], part[at + half * blockDim.x]);
    __syncthreads();
  }
  V total = part[threadIdx.x];
  __syncthreads();
  return total;
}

__device__ inline A added(A a, A b) { return a + b; }

// of some values their number, their sum, and the sum of their squared differences from their mean
struct Moments {
  A count, sum, squares;
};

__device__ inline Moments joined(Moments a, Moments b) {
  if (a.count == 0 || b.count == 0) return a.count == 0 ? b : a;
  A count = a.count + b.count, between = b.sum / b.count - a.sum / a.count;
  return {count, a.sum + b.sum, a.squares + b.squares + between * between * a.count * b.count / count};
}

// with what follows: the sum with an residual, unless that is null, and relu, in which NaN stays NaN
__device__ inline A output(A value, int64 relu, const T* residual, T added) {
  if (residual) value += (A)added;
  return relu && value < 0 ? A(0) : value;
}

// without a relu `y` is null
__device__ inline A passed(T dy, bool relu, T y) { return !relu || (A)y > 0 ? (A)dy : A(0); }

// packs of what backward passes read
template <int WIDTH>
struct Upstream {
  Pack<WIDTH> dy, x, y;
};

template <int WIDTH>
__device__ inline Upstream<WIDTH> upstream(const T* dy, const T* x, const T* y, I i) {
  return {loaded<WIDTH>(dy + i), loaded<WIDTH>(x + i), loaded<WIDTH>((y ? y : dy) + i)};
}

// one value for each of the neighbouring channels that a thread has
template <int WIDTH>
struct Each {
  A v[WIDTH];
};

template <int WIDTH>
struct EachMoments {
  Moments v[WIDTH];
};

