#pragma once
// A run of layers that a rank computes as one: a pipeline stage, or the whole model.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cadre::model {

struct StageSpan {
  int64_t begin = 0, end = 0;  // layers
  bool first = true;           // begins with the embedding
  bool last = true;            // ends with the final norm and the output layer

  static StageSpan whole(int64_t layers) { return {0, layers, true, true}; }
  bool operator==(const StageSpan&) const = default;
};

// All stages of a model, given how many layers each has.
std::vector<StageSpan> stage_spans(const std::vector<int64_t>& layers_per_stage);

}  // namespace cadre::model
