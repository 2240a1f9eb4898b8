#pragma once
// Held-out loss, for `cadre eval` and while training.

#include "autograd/context.h"
#include "data/held_out.h"
#include "model/transformer.h"
#include "parallel/mesh/mesh.h"

namespace cadre::launch {

struct Evaluation {
  int64_t tokens = 0;  // scored, each exactly once
  double loss = 0;     // nats per token
  double perplexity = 0;
  uint64_t source_bytes = 0;  // of the text behind the tokens; 0 when unknown
  double bits_per_byte = 0;   // the model's own size is not counted; 0 when unknown
};

struct EvaluationOptions {
  int64_t batch_size = 8;     // windows of one forward, at most
  uint64_t source_bytes = 0;  // behind the scored tokens; 0: unknown
};

// Collective; the same result on every rank. The data ranks of `mesh` take batches of windows in turn. Losses are
// summed in f64 by window, and windows in their order, so that the result depends on ranks and batch size only as far
// as the kernels' rows do: not at all in FP32, by rounding in FP64. Forward only, nothing is recorded, no capacity: the
// model's parameters, their gradients, and whatever else a training has are left alone. Throws DataError, on the rank
// that meets it, for a token outside of the vocabulary.
Evaluation evaluate(const autograd::Context& context, model::Transformer& model, const data::HeldOut& held_out,
                    const EvaluationOptions& options, const parallel::Mesh& mesh);

}  // namespace cadre::launch
