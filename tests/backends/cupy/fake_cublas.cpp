// A stand-in for libcublas: it notes each call and computes products on the host. As cuBLAS does, it starts its work on a
// stream, by a function that fake_cublas.py gives, takes its workspace away when a stream is set, and computes in an order
// that depends on the workspace; it writes into all of that.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <vector>

namespace {

struct Handle {
  int number;
  void* stream = nullptr;
  void* workspace = nullptr;
  size_t bytes = 0;
  int math = 0;
};

struct Matrix {
  char* at;
  int kind, step, turned;
  long long between;
};

struct Product {
  Matrix a, b, c;
  int m, n, k, count, compute;
  double alpha, beta;
  void* workspace;
  size_t bytes;
};

std::string text;
std::map<std::string, int> refused;
int (*start)(void*, const Product*) = nullptr;
int handles = 0;

template <class... X>
void note(const char* format, X... values) {
  char line[512];
  std::snprintf(line, sizeof line, format, values...);
  text += line;
  text += "\n";
}

int refusal(const char* function) {
  auto found = refused.find(function);
  return found == refused.end() ? 0 : found->second;
}

double half(uint16_t bits) {
  _Float16 v;
  std::memcpy(&v, &bits, 2);
  return double(v);
}

float single(uint32_t bits) {
  float v;
  std::memcpy(&v, &bits, 4);
  return v;
}

uint32_t bits_of(float v) {
  uint32_t bits;
  std::memcpy(&bits, &v, 4);
  return bits;
}

// to nearest, ties to even, as far as `dropped` bits are lost
uint32_t rounded(uint32_t bits, int dropped) {
  return (bits + (1u << (dropped - 1)) - 1 + ((bits >> dropped) & 1)) >> dropped << dropped;
}

double value(const Matrix& x, int matrix, int row, int column, bool coarse) {
  long long at = matrix * x.between + (x.turned ? column + (long long)row * x.step : row + (long long)column * x.step);
  if (x.kind == 1) return ((double*)x.at)[at];
  if (x.kind == 2) return half(((uint16_t*)x.at)[at]);
  if (x.kind == 14) return single(uint32_t(((uint16_t*)x.at)[at]) << 16);
  uint32_t bits = ((uint32_t*)x.at)[at];
  return single(coarse ? rounded(bits, 13) : bits);
}

void put(const Matrix& x, int matrix, int row, int column, double v) {
  long long at = matrix * x.between + row + (long long)column * x.step;
  if (x.kind == 1) ((double*)x.at)[at] = v;
  if (x.kind == 0) ((float*)x.at)[at] = float(v);
  if (x.kind == 2) ((_Float16*)x.at)[at] = _Float16(float(v));
  if (x.kind == 14) ((uint16_t*)x.at)[at] = uint16_t(rounded(bits_of(float(v)), 16) >> 16);
}

template <class A>
void multiply(const Product& p) {
  bool coarse = p.compute == 77;
  for (int matrix = 0; matrix < p.count; ++matrix)
    for (int row = 0; row < p.m; ++row)
      for (int column = 0; column < p.n; ++column) {
        A sum = 0;
        for (int i = 0; i < p.k; ++i) {
          int l = p.bytes ? i : p.k - 1 - i;
          sum += A(value(p.a, matrix, row, l, coarse)) * A(value(p.b, matrix, l, column, coarse));
        }
        double before = p.beta == 0 ? 0 : value(p.c, matrix, row, column, false);
        put(p.c, matrix, row, column, double(A(p.alpha) * sum) + p.beta * before);
      }
}

double scalar(int compute, const void* at) { return compute == 70 ? *(const double*)at : *(const float*)at; }

int product(Handle* h, const Product& p) {
  if (p.a.step < (p.a.turned ? p.k : p.m) || p.b.step < (p.b.turned ? p.n : p.k) || p.c.step < p.m) return 7;
  return start(h->stream, &p);
}

}  // namespace

extern "C" {

const char* fake_text() { return text.c_str(); }
void fake_clear() { text.clear(); }
void fake_refuse(const char* function, int status) {
  if (status) refused[function] = status;
  else refused.erase(function);
}
void fake_start(int (*function)(void*, const Product*)) { start = function; }
size_t fake_size() { return sizeof(Product); }
void fake_compute(const Product* p) {
  if (p->workspace) std::memset(p->workspace, 0x7f, p->bytes);
  p->compute == 70 ? multiply<double>(*p) : multiply<float>(*p);
}

// as hostcuda describes a kernel
int fake_run(const unsigned*, void** args, unsigned) {
  fake_compute((const Product*)args[0]);
  return 0;
}
const char* fake_words() { return "struct "; }
struct {
  const char* name = "fake_product";
  size_t count = 1;
  const size_t* sizes;
  const bool* pointers;
  int (*run)(const unsigned*, void**, unsigned) = fake_run;
  const char* (*words)() = fake_words;
} kernel;
void* fake_kernel() {
  static const size_t sizes[] = {sizeof(Product), 0};
  static const bool pointers[] = {false, false};
  kernel.sizes = sizes;
  kernel.pointers = pointers;
  return &kernel;
}

int cublasCreate_v2(Handle** to) {
  if (int status = refusal("cublasCreate_v2")) return status;
  *to = new Handle{++handles};
  note("create %d", handles);
  return 0;
}
int cublasSetMathMode(Handle* h, int mode) {
  note("math %d %d", h->number, mode);
  h->math = mode;
  return 0;
}
int cublasSetStream_v2(Handle* h, void* stream) {
  note("stream %d %lld", h->number, (long long)stream);
  h->stream = stream;
  h->workspace = nullptr;
  h->bytes = 0;
  return 0;
}
int cublasSetWorkspace_v2(Handle* h, void* workspace, size_t bytes) {
  if (int status = refusal("cublasSetWorkspace_v2")) return status;
  note("workspace %d %lld %zu", h->number, (long long)((uintptr_t)workspace % 256), bytes);
  h->workspace = workspace;
  h->bytes = bytes;
  return 0;
}

int cublasGemmStridedBatchedEx(Handle* h, int opa, int opb, int m, int n, int k, const void* alpha, char* a, int kind_a,
                               int lda, long long step_a, char* b, int kind_b, int ldb, long long step_b, const void* beta,
                               char* c, int kind_c, int ldc, long long step_c, int count, int compute, int algorithm) {
  if (int status = refusal("cublasGemmStridedBatchedEx")) return status;
  note("batched %d ops %d %d sizes %d %d %d kinds %d %d %d steps %d %d %d between %lld %lld %lld count %d as %d %d", h->number,
       opa, opb, m, n, k, kind_a, kind_b, kind_c, lda, ldb, ldc, step_a, step_b, step_c, count, compute, algorithm);
  return product(h, {{a, kind_a, lda, opa, step_a},
                     {b, kind_b, ldb, opb, step_b},
                     {c, kind_c, ldc, 0, step_c},
                     m, n, k, count, compute, scalar(compute, alpha), scalar(compute, beta), h->workspace, h->bytes});
}

int cublasGemmEx(Handle* h, int opa, int opb, int m, int n, int k, const void* alpha, char* a, int kind_a, int lda, char* b,
                 int kind_b, int ldb, const void* beta, char* c, int kind_c, int ldc, int compute, int algorithm) {
  if (int status = refusal("cublasGemmEx")) return status;
  note("gemm %d ops %d %d sizes %d %d %d kinds %d %d %d steps %d %d %d as %d %d", h->number, opa, opb, m, n, k, kind_a, kind_b,
       kind_c, lda, ldb, ldc, compute, algorithm);
  return product(h, {{a, kind_a, lda, opa, 0},
                     {b, kind_b, ldb, opb, 0},
                     {c, kind_c, ldc, 0, 0},
                     m, n, k, 1, compute, scalar(compute, alpha), scalar(compute, beta), h->workspace, h->bytes});
}

}  // extern "C"
