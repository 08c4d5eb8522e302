// Softmax and cross entropy of (N, K) in one kernel, on rows as in rows.cuh, whose columns are classes. Targets are labels, or
// weights over the classes; the pointer of the other is null. So is that of the weights of rows, `of_rows`, where each counts 1.

extern "C" __global__ void softmax_with_loss(const T* x, const int64* labels, const T* weights, const A* of_rows, T* y,
                                             A* losses, int64 rows, int64 classes) {
  __shared__ Tile<T> scores, targets;
  Rows r = rows_of_block(rows, classes);
  bool inside = threadIdx.y < r.own;
  int64 label = labels && inside ? labels[r.row()] : -1;
  A top = -1 / A(0), sum = 0, loss = 0;
  for (I c = 0; c < r.columns; c += r.chunk) {
    r.load(scores, x, c);
    const T* values = scores.place(r.start(c));
    r.each(c, [&](I k, int at) { top = larger(values[at], top); });
  }
  top = over_lanes(top, larger);
  for (I c = 0; c < r.columns; c += r.chunk) {
    r.load(scores, x, c, true);
    const T* values = scores.place(r.start(c));
    r.each(c, [&](I k, int at) { sum += exp((A)values[at] - top); });
  }
  A log_sum = log(over_lanes(sum, plus));
  for (I c = 0; c < r.columns; c += r.chunk) {
    r.load(scores, x, c, true);
    if (weights) r.load(targets, weights, c);
    T* values = scores.place(r.start(c));
    const T* wanted = targets.place(r.start(c));
    r.each(c, [&](I k, int at) {
      A log_y = (A)values[at] - top - log_sum, w = labels ? A(label == k) : (A)wanted[at];
      values[at] = T(exp(log_y));
      // a zero weight takes nothing from an infinite value
      if (w != 0) loss -= w * log_y;
    });
    r.store(scores, y, c);
  }
  loss = over_lanes(loss, plus);
  if (!inside || threadIdx.x > 0) return;
  A weight = of_rows ? of_rows[r.row()] : A(1);
  losses[r.row()] = weight != 0 ? weight * loss : A(0);
}

// a sum over all rows, by one block
__device__ inline A over_all(const A* values, int64 rows) {
  A sum = 0;
  for (I i = threadIdx.x; i < (I)rows; i += blockDim.x) sum += values[i];
  return over_lanes(sum, plus);
}

extern "C" __global__ void mean_loss(const A* losses, const A* of_rows, A* loss, int64 rows) {
  A sum = over_all(losses, rows), total = of_rows ? over_all(of_rows, rows) : (A)rows;
  if (threadIdx.x == 0) loss[0] = of_rows && total == 0 ? A(0) : sum / total;
}

extern "C" __global__ void total_weight(const A* of_rows, A* total, int64 rows) {
  A sum = over_all(of_rows, rows);
  if (threadIdx.x == 0) total[0] = sum;
}

// `dout` is a null pointer where it is the number `scale`; `total_of_rows` is the sum of `of_rows`
extern "C" __global__ void softmax_with_loss_backward(const T* y, const int64* labels, const T* weights, const A* of_rows,
                                                      const A* total_of_rows, const A* dout, double scale, T* dx, int64 rows,
                                                      int64 classes) {
  __shared__ Tile<T> probabilities, targets;
  Rows r = rows_of_block(rows, classes);
  bool inside = threadIdx.y < r.own;
  int64 label = labels && inside ? labels[r.row()] : -1;
  A total = 0;
  for (I c = 0; weights && c < r.columns; c += r.chunk) {
    r.load(targets, weights, c);
    const T* wanted = targets.place(r.start(c));
    r.each(c, [&](I k, int at) { total += (A)wanted[at]; });
  }
  total = weights ? over_lanes(total, plus) : A(1);
  A factor = dout ? dout[0] : (A)scale;
  bool counts = !of_rows || (inside && of_rows[r.row()] != 0);
  if (!of_rows) factor /= (A)rows;
  else factor = total_of_rows[0] != 0 && inside ? factor / total_of_rows[0] * of_rows[r.row()] : A(0);
  for (I c = 0; c < r.columns; c += r.chunk) {
    r.load(probabilities, y, c);
    if (weights) r.load(targets, weights, c, true);
    T* values = probabilities.place(r.start(c));
    const T* wanted = targets.place(r.start(c));
    r.each(c, [&](I k, int at) {
      A slope = (A)values[at] * total - (labels ? A(label == k) : (A)wanted[at]);
      // a row of weight 0 takes nothing from a probability that is NaN
      values[at] = counts ? T(slope * factor) : T(0);
    });
    r.store(probabilities, dx, c);
  }
}
