#include "kernels/embedding.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "core/error.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/elementwise.h"
#include "kernels/reference/embedding.h"

namespace cadre::kernels {
namespace {

constexpr int64_t kGrain = 8192;
constexpr int64_t kColumnGrain = 16;  // one cache line of floats, so that workers do not share lines

void check(const char* op, const TensorView& ids, const TensorView& table, const TensorView& rows) {
  require(ids.shape.elements() == rows.rows() && ids.contiguous() && table.cols() == rows.cols(), op,
          {ids, table, rows});
  const int32_t* id = ids.as<int32_t>();
  const int64_t tokens = rows.rows();
  const int64_t vocabulary = table.rows();
  for (int64_t t = 0; t < tokens; ++t) {
    if (id[t] < 0 || id[t] >= vocabulary) {
      throw InternalError(std::string(op) + ": token id " + std::to_string(id[t]) + " at position " +
                          std::to_string(t) + ", wanted 0.." + std::to_string(vocabulary - 1));
    }
  }
}

}  // namespace

void embedding_forward(const Exec& exec, TensorView ids, TensorView table, TensorView out) {
  check("embedding_forward", ids, table, out);
  if (exec.dry) return;
  if (wants_reference("embedding_forward", {table, out})) return reference::embedding_forward(ids, table, out);
  const int32_t* id = ids.as<int32_t>();
  const float* from = table.as<float>();
  float* to = out.as<float>();
  const int64_t cols = out.cols();
  parallel_for(exec.threads, out.rows(), std::max<int64_t>(1, kGrain / std::max<int64_t>(1, cols)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t t = begin; t < end; ++t) {
                   std::memcpy(to + t * out.row_stride, from + id[t] * table.row_stride,
                               static_cast<size_t>(cols) * sizeof(float));
                 }
               });
}

// Each worker owns a range of columns: no row is shared, however often one token occurs.
void embedding_backward(const Exec& exec, TensorView ids, TensorView dout, TensorView dtable, Write write) {
  check("embedding_backward", ids, dtable, dout);
  if (exec.dry) return;
  if (wants_reference("embedding_backward", {dout, dtable})) {
    return reference::embedding_backward(ids, dout, dtable, write == Write::kAccumulate);
  }
  const cpu::ElementwiseTable& elementwise = CADRE_SIMD_SELECT(exec.isa, kElementwiseTable);
  const int32_t* id = ids.as<int32_t>();
  const float* from = dout.as<float>();
  float* into = dtable.as<float>();
  if (write == Write::kOverwrite) fill(exec, dtable, 0);
  parallel_for(exec.threads, dout.rows() > 0 ? dout.cols() : 0, kColumnGrain, [&](int64_t begin, int64_t end) {
    for (int64_t t = 0; t < dout.rows(); ++t) {
      float* row = into + id[t] * dtable.row_stride + begin;
      elementwise.add(row, from + t * dout.row_stride + begin, row, end - begin);
    }
  });
}

}  // namespace cadre::kernels
