#pragma once
// Token embeddings. table [vocabulary, h], ids i32 [tokens], out [tokens, h].

#include "core/tensor.h"
#include "kernels/exec.h"

namespace cadre::kernels {

void embedding_forward(const Exec& exec, TensorView ids, TensorView table, TensorView out);
// dtable[ids[t]] += dout[t], in token order for each row, whatever the threads. kOverwrite zeroes the table first.
void embedding_backward(const Exec& exec, TensorView ids, TensorView dout, TensorView dtable, Write write);

}  // namespace cadre::kernels
