// Transposes of matrices, by tiles in shared memory: neighbouring threads read neighbours, and write neighbours.

#define TILE 32

// y (N, columns, rows) of x (N, rows, columns); a block (TILE, .) has one tile
extern "C" __global__ void transpose(const T* x, T* y, int64 rows, int64 columns) {
  __shared__ T tile[TILE][TILE + 1];  // whose columns lie in different banks
  I across = ((I)columns + TILE - 1) / TILE, down = ((I)rows + TILE - 1) / TILE;
  I column = (I)blockIdx.x % across * TILE, row = (I)blockIdx.x / across % down * TILE;
  I matrix = (I)blockIdx.x / (across * down) * (I)rows * (I)columns;
  for (I k = threadIdx.y; k < TILE; k += blockDim.y)
    if (row + k < (I)rows && column + threadIdx.x < (I)columns)
      tile[k][threadIdx.x] = x[matrix + (row + k) * (I)columns + column + threadIdx.x];
  __syncthreads();
  for (I k = threadIdx.y; k < TILE; k += blockDim.y)
    if (column + k < (I)columns && row + threadIdx.x < (I)rows)
      y[matrix + (column + k) * (I)rows + row + threadIdx.x] = tile[threadIdx.x][k];
}
