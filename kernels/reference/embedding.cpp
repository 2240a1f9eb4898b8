#include "kernels/reference/embedding.h"

#include <algorithm>

#include "kernels/reference/elementwise.h"

namespace cadre::reference {

void embedding_forward(TensorView ids, TensorView table, TensorView out) {
  for (int64_t t = 0; t < out.rows(); ++t) std::copy_n(row(table, ids.as<int32_t>()[t]), out.cols(), row(out, t));
}

void embedding_backward(TensorView ids, TensorView dout, TensorView dtable, bool accumulate) {
  for (int64_t v = 0; v < dtable.rows() && !accumulate; ++v) std::fill_n(row(dtable, v), dtable.cols(), 0.0);
  for (int64_t t = 0; t < dout.rows(); ++t) {
    double* into = row(dtable, ids.as<int32_t>()[t]);
    for (int64_t c = 0; c < dout.cols(); ++c) into[c] += row(dout, t)[c];
  }
}

}  // namespace cadre::reference
