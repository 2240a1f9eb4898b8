#pragma once
// Token embeddings in double; the contracts stand in kernels/embedding.h.

#include "core/tensor.h"

namespace cadre::reference {

void embedding_forward(TensorView ids, TensorView table, TensorView out);
void embedding_backward(TensorView ids, TensorView dout, TensorView dtable, bool accumulate);

}  // namespace cadre::reference
