// Softmax and cross entropy of (N, K) in one kernel, on rows as in rows.cuh, whose columns are classes. Targets are labels, or
// weights over the classes; the pointer of the other is null.

extern "C" __global__ void softmax_with_loss(const T* x, const int64* labels, const T* weights, T* y, A* losses, int64 rows,
                                             int64 classes) {
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
  if (inside && threadIdx.x == 0) losses[r.row()] = loss;
}

// one block
extern "C" __global__ void mean_loss(const A* losses, A* loss, int64 rows) {
  A sum = 0;
  for (I i = threadIdx.x; i < (I)rows; i += blockDim.x) sum += losses[i];
  sum = over_lanes(sum, plus);
  if (threadIdx.x == 0) loss[0] = sum / (A)rows;
}

// `dout` is a null pointer where it is the number `scale`
extern "C" __global__ void softmax_with_loss_backward(const T* y, const int64* labels, const T* weights, const A* dout,
                                                      double scale, T* dx, int64 rows, int64 classes) {
  __shared__ Tile<T> probabilities, targets;
  Rows r = rows_of_block(rows, classes);
  int64 label = labels && threadIdx.y < r.own ? labels[r.row()] : -1;
  A total = 0;
  for (I c = 0; weights && c < r.columns; c += r.chunk) {
    r.load(targets, weights, c);
    const T* wanted = targets.place(r.start(c));
    r.each(c, [&](I k, int at) { total += (A)wanted[at]; });
  }
  total = weights ? over_lanes(total, plus) : A(1);
  A factor = (dout ? dout[0] : (A)scale) / (A)rows;
  for (I c = 0; c < r.columns; c += r.chunk) {
    r.load(probabilities, y, c);
    if (weights) r.load(targets, weights, c, true);
    T* values = probabilities.place(r.start(c));
    const T* wanted = targets.place(r.start(c));
    r.each(c, [&](I k, int at) {
      values[at] = T(((A)values[at] * total - (labels ? A(label == k) : (A)wanted[at])) * factor);
    });
    r.store(probabilities, dx, c);
  }
}
