// Encodings of positions.

// Of arrays (N, heads, steps, 2 half), whose values of a step are contiguous, the strides of both, in values.
struct Rotation {
  int64 heads, steps, half, x_n, x_head, x_step, y_n, y_head, y_step;
};

// Value d of a step and value half + d are rotated by (step + first) exp(d slope); sign -1 rotates backwards.
extern "C" __global__ void rotary(const T* x, T* y, double slope, int64 first, double sign, Rotation s, int64 pairs) {
  EACH(i, pairs) {
    I d = i % (I)s.half, row = i / (I)s.half;
    I step = row % (I)s.steps, head = row / (I)s.steps % (I)s.heads, n = row / ((I)s.steps * (I)s.heads);
    const T* from = x + n * (I)s.x_n + head * (I)s.x_head + step * (I)s.x_step + d;
    T* to = y + n * (I)s.y_n + head * (I)s.y_head + step * (I)s.y_step + d;
    A angle = (A)(step + first) * exp((A)d * (A)slope);
    A along = cos(angle), across = sin(angle) * (A)sign, a = from[0], b = from[(I)s.half];
    to[0] = T(a * along - b * across);
    to[(I)s.half] = T(a * across + b * along);
  }
}

// y is x (..., steps, size), and the sine of step exp(d slope) is added to value 2 d, the cosine to value 2 d + 1
extern "C" __global__ void sinusoidal_positions(const T* x, T* y, double slope, int64 steps, int64 size, int64 n) {
  EACH(i, n) {
    I column = i % (I)size, step = i / (I)size % (I)steps;
    A angle = (A)step * exp((A)(column / 2) * (A)slope);
    y[i] = T((A)x[i] + (column % 2 ? cos(angle) : sin(angle)));
  }
}
