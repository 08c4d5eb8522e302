// Normalization of each row by itself, on rows as in rows.cuh: over the last axis, or of a group of channels over its channels and
// positions. Column k of row r has the parameters at ((r % groups) columns + k) / positions. Statistics are one a row; without
// `mean`, a null pointer, rows are divided by the root of their mean square.

__device__ inline I parameter(I row, I column, int64 columns, int64 groups, int64 positions, int64 of_positions) {
  return divided((row % (I)groups) * (I)columns + column, positions, of_positions);
}

extern "C" __global__ void row_normalization(const T* x, const A* gamma, const A* beta, double eps, T* y, A* mean, A* std,
                                             int64 rows, int64 columns, int64 groups, int64 positions, int64 of_positions) {
  __shared__ Tile<T> tile;
  Rows r = rows_of_block(rows, columns);
  A sum = 0, squares = 0;
  for (I c = 0; mean && c < r.columns; c += r.chunk) {
    r.load(tile, x, c);
    const T* values = tile.place(r.start(c));
    r.each(c, [&](I k, int at) { sum += (A)values[at]; });
  }
  A centre = mean ? over_lanes(sum, plus) / (A)columns : A(0);
  for (I c = 0; c < r.columns; c += r.chunk) {
    r.load(tile, x, c, mean);
    const T* values = tile.place(r.start(c));
    r.each(c, [&](I k, int at) {
      A off = (A)values[at] - centre;
      squares += off * off;
    });
  }
  A root = sqrt(over_lanes(squares, plus) / (A)columns + (A)eps);
  for (I c = 0; c < r.columns; c += r.chunk) {
    r.load(tile, x, c, true);
    T* values = tile.place(r.start(c));
    r.each(c, [&](I k, int at) {
      I p = parameter(r.row(), k, columns, groups, positions, of_positions);
      values[at] = T(((A)values[at] - centre) / root * gamma[p] + (beta ? beta[p] : A(0)));
    });
    r.store(tile, y, c);
  }
  if (threadIdx.y >= r.own || threadIdx.x > 0) return;
  if (mean) mean[r.row()] = centre;
  std[r.row()] = root;
}

extern "C" __global__ void row_normalization_backward(const T* dy, const T* x, const A* gamma, const A* mean, const A* std,
                                                      T* dx, int64 rows, int64 columns, int64 groups, int64 positions,
                                                      int64 of_positions) {
  __shared__ Tile<T> inputs, gradients;
  Rows r = rows_of_block(rows, columns);
  bool inside = threadIdx.y < r.own;
  A centre = mean && inside ? mean[r.row()] : A(0), root = inside ? std[r.row()] : A(1), sum = 0, product = 0;
  // use(place, x hat, gradient of that) for the chunk from column c on
  auto each = [&](I c, bool again, auto use) {
    r.load(inputs, x, c, again);
    r.load(gradients, dy, c, again);
    const T* values = inputs.place(r.start(c));
    T* upstream = gradients.place(r.start(c));
    r.each(c, [&](I k, int at) {
      I p = parameter(r.row(), k, columns, groups, positions, of_positions);
      use(upstream + at, ((A)values[at] - centre) / root, (A)upstream[at] * gamma[p]);
    });
  };
  for (I c = 0; c < r.columns; c += r.chunk)
    each(c, false, [&](T* at, A hat, A d) { sum += d, product += d * hat; });
  sum = mean ? over_lanes(sum, plus) / (A)columns : A(0);
  product = over_lanes(product, plus) / (A)columns;
  for (I c = 0; c < r.columns; c += r.chunk) {
    each(c, true, [&](T* at, A hat, A d) { *at = T((d - sum - hat * product) / root); });
    r.store(gradients, dx, c);
  }
}

// of the parameters of some columns
template <int WIDTH>
struct Gradients {
  A product[WIDTH], sum[WIDTH];
};

// Partial gradients (parts, 2, columns) of scale and shift, of the rows of the gridDim.y blocks; one parameter a column.
extern "C" __global__ void row_products(const T* dy, const T* x, const A* mean, const A* std, A* sums, int64 rows,
                                        int64 columns) {
  auto add_up = [&](auto width) {
    constexpr int WIDTH = decltype(width)::value;
    I c = ((I)blockIdx.x * blockDim.x + threadIdx.x) * WIDTH, stride = (I)gridDim.y * blockDim.y;
    bool inside = c < (I)columns;
    Gradients<WIDTH> own = {};
#pragma unroll 2
    for (I row = (I)blockIdx.y * blockDim.y + threadIdx.y; inside && row < (I)rows; row += stride) {
      Pack<WIDTH> d = loaded<WIDTH>(dy + row * (I)columns + c), values = loaded<WIDTH>(x + row * (I)columns + c);
      A centre = mean ? mean[row] : A(0), root = std[row];
#pragma unroll
      for (int l = 0; l < WIDTH; ++l) {
        own.product[l] += (A)d.v[l] * (((A)values.v[l] - centre) / root);
        own.sum[l] += (A)d.v[l];
      }
    }
    own = over_rows(own, [](const Gradients<WIDTH>& a, const Gradients<WIDTH>& b) {
      Gradients<WIDTH> both;
#pragma unroll
      for (int l = 0; l < WIDTH; ++l) both.product[l] = a.product[l] + b.product[l], both.sum[l] = a.sum[l] + b.sum[l];
      return both;
    });
    if (!inside || threadIdx.y > 0) return;
    A* to = sums + 2 * (I)blockIdx.y * (I)columns + c;
#pragma unroll
    for (int l = 0; l < WIDTH; ++l) to[l] = own.product[l], to[(I)columns + l] = own.sum[l];
  };
  if (columns % LANES == 0 && is_aligned(dy) && is_aligned(x)) add_up(Width<LANES>());
  else add_up(Width<1>());
}

// The same (images, 2, channels) of each plane, a row here, one parameter a plane; `channels` divide into groups of `in_group`,
// which have one mean and one standard deviation.
extern "C" __global__ void plane_products(const T* dy, const T* x, const A* mean, const A* std, A* sums, int64 planes,
                                          int64 positions, int64 channels, int64 in_group) {
  __shared__ Tile<T> inputs, gradients;
  Rows r = rows_of_block(planes, positions);
  bool inside = threadIdx.y < r.own;
  I group = inside ? r.row() / (I)in_group : 0;
  A centre = mean[group], root = std[group], sum = 0, product = 0;
  for (I c = 0; c < r.columns; c += r.chunk) {
    r.load(inputs, x, c);
    r.load(gradients, dy, c);
    const T *values = inputs.place(r.start(c)), *upstream = gradients.place(r.start(c));
    r.each(c, [&](I k, int at) {
      sum += (A)upstream[at];
      product += (A)upstream[at] * (((A)values[at] - centre) / root);
    });
  }
  sum = over_lanes(sum, plus);
  product = over_lanes(product, plus);
  if (!inside || threadIdx.x > 0) return;
  I image = r.row() / (I)channels, channel = r.row() % (I)channels;
  sums[2 * image * (I)channels + channel] = product;
  sums[(2 * image + 1) * (I)channels + channel] = sum;
}
