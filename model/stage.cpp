#include "model/stage.h"

namespace cadre::model {

std::vector<StageSpan> stage_spans(const std::vector<int64_t>& layers_per_stage) {
  std::vector<StageSpan> spans;
  int64_t begin = 0;
  for (size_t stage = 0; stage < layers_per_stage.size(); ++stage) {
    const int64_t end = begin + layers_per_stage[stage];
    spans.push_back({begin, end, stage == 0, stage + 1 == layers_per_stage.size()});
    begin = end;
  }
  return spans;
}

}  // namespace cadre::model
