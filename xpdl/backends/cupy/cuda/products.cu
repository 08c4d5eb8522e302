// Matrix products for steps that are captured, which CuPy keeps cuBLAS out of. A block has a tile of the product, and a
// thread of it OWN x OWN values, SIDE rows and columns apart. Sums are in the order of k: equal runs give equal bits.

#define TILE 64
#define DEPTH 16
#define SIDE 16
#define OWN 4

// of a stack of products (M, K) (K, N): sizes, and from one matrix, row and column to the next
struct Stack {
  int64 M, N, K;
  int64 a, a_row, a_column;
  int64 b, b_row, b_column;
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

extern "C" __global__ void matmul(const T* a, const T* b, T* c, Stack s) {
  __shared__ A left[DEPTH][TILE + 1], right[DEPTH][TILE + 1];
  I tiles = ((I)s.N + TILE - 1) / TILE;
  I top = (I)blockIdx.x / tiles * TILE, side = (I)blockIdx.x % tiles * TILE, matrix = (I)blockIdx.y;
  a += matrix * (I)s.a;
  b += matrix * (I)s.b;
  A sum[OWN][OWN] = {};
  for (I k = 0; k < (I)s.K; k += DEPTH) {
    load(left, a, top, (I)s.M, (I)s.a_row, k, (I)s.K, (I)s.a_column);
    load(right, b, side, (I)s.N, (I)s.b_column, k, (I)s.K, (I)s.b_row);
    __syncthreads();
    for (int d = 0; d < DEPTH; ++d)
      for (int i = 0; i < OWN; ++i)
        for (int j = 0; j < OWN; ++j) sum[i][j] += left[d][threadIdx.y + i * SIDE] * right[d][threadIdx.x + j * SIDE];
    __syncthreads();
  }
  for (int i = 0; i < OWN; ++i)
    for (int j = 0; j < OWN; ++j) {
      I m = top + threadIdx.y + i * SIDE, n = side + threadIdx.x + j * SIDE;
      if (m < (I)s.M && n < (I)s.N) c[(matrix * (I)s.M + m) * (I)s.N + n] = T(sum[i][j]);
    }
}
