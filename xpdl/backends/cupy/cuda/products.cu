// Matrix products for steps that are captured, which CuPy keeps cuBLAS out of. A block has a tile of the product, and a
// thread of it OWN x OWN values, SIDE rows and columns apart. Where tiles alone would leave most of a GPU idle, K is cut
// into parts, which are added up afterwards. Sums are in an order that sizes decide: equal runs give equal bits.

#define TILE 64
#define DEPTH 16
#define SIDE 16
#define OWN 4

// of a stack of products (M, K) (K, N): sizes, and from one matrix, row and column to the next
struct Stack {
  int64 M, N, K;
  int64 a, a_row, a_column;
  int64 b, b_row, b_column;
  int64 parts, depth;  // of K, and of how much of it each
};

// part[k][i] is the value at row start + i and column `from` + k of a matrix, 0 beyond its ends
__device__ inline void load(A part[DEPTH][TILE + 1], const T* matrix, I start, I rows, I row, I from, I columns, I column) {
  for (int e = threadIdx.y * SIDE + threadIdx.x; e < TILE * DEPTH; e += BLOCK) {
    // threads side by side read what lies side by side
    int i = column == 1 ? e / DEPTH : e % TILE, k = column == 1 ? e % DEPTH : e / TILE;
    bool inside = start + i < rows && from + k < columns;
    part[k][i] = inside ? (A)matrix[(start + i) * row + (from + k) * column] : A(0);
  }
}

// into c, or where K is cut, into sums (matrices, parts, M, N)
extern "C" __global__ void matmul(const T* a, const T* b, T* c, A* sums, Stack s) {
  __shared__ A left[DEPTH][TILE + 1], right[DEPTH][TILE + 1];
  I tiles = ((I)s.N + TILE - 1) / TILE;
  I top = (I)blockIdx.x / tiles * TILE, side = (I)blockIdx.x % tiles * TILE;
  I matrix = (I)blockIdx.y / (I)s.parts, first = (I)blockIdx.y % (I)s.parts * (I)s.depth;
  I end = first + (I)s.depth < (I)s.K ? first + (I)s.depth : (I)s.K;
  a += matrix * (I)s.a;
  b += matrix * (I)s.b;
  A sum[OWN][OWN] = {};
  for (I k = first; k < end; k += DEPTH) {
    load(left, a, top, (I)s.M, (I)s.a_row, k, end, (I)s.a_column);
    load(right, b, side, (I)s.N, (I)s.b_column, k, end, (I)s.b_row);
    __syncthreads();
#pragma unroll
    for (int d = 0; d < DEPTH; ++d)
#pragma unroll
      for (int i = 0; i < OWN; ++i)
#pragma unroll
        for (int j = 0; j < OWN; ++j) sum[i][j] += left[d][threadIdx.y + i * SIDE] * right[d][threadIdx.x + j * SIDE];
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < OWN; ++i)
#pragma unroll
    for (int j = 0; j < OWN; ++j) {
      I m = top + threadIdx.y + i * SIDE, n = side + threadIdx.x + j * SIDE;
      if (m >= (I)s.M || n >= (I)s.N) continue;
      I at = ((I)blockIdx.y * (I)s.M + m) * (I)s.N + n;
      if (sums) sums[at] = sum[i][j];
      else c[at] = T(sum[i][j]);
    }
}

extern "C" __global__ void add_parts(const A* sums, T* c, int64 parts, int64 values, int64 n) {
  EACH(i, n) {
    I matrix = i / (I)values;
    A sum = 0;
    for (I part = 0; part < (I)parts; ++part) sum += sums[(matrix * (I)parts + part) * (I)values + i % (I)values];
    c[i] = T(sum);
  }
}
