#include "launch/experts/norms.h"

#include <cmath>
#include <numeric>

namespace cadre::launch {

std::vector<std::vector<double>> expert_norms(TrainState& state, parallel::Mesh& mesh) {
  const model::ExpertLayout& layout = state.model().experts();
  std::vector<std::vector<double>> norms;
  int64_t experts = 0;
  for (const int64_t layer : layout.moe_layers()) {
    norms.emplace_back(static_cast<size_t>(layout.layer(layer).experts()), 0.0);
    experts += layout.layer(layer).experts();
  }
  const std::shared_ptr<Allocator> allocator = make_host_allocator();
  const Tensor squares = Tensor::zeros(*allocator, Dtype::kF64, Shape{experts});
  const auto each = [&](const auto& visit) {
    double* at = squares.data<double>();
    for (std::vector<double>& layer : norms) {
      for (double& norm : layer) visit(norm, *at++);
    }
  };
  const Tensor& values = state.store().values();
  for (const optim::SegmentState& segment : state.optimizer().segments()) {
    if (segment.expert < 0 || layout.layer(segment.layer).is_shared(segment.expert)) continue;
    double& sum = norms[layout.moe_index(segment.layer)][static_cast<size_t>(segment.expert)];
    for (int64_t i = segment.offset + segment.owned.begin; i < segment.offset + segment.owned.end; ++i) {
      const double value = values.dtype() == Dtype::kF64 ? values.data<double>()[i] : values.data<float>()[i];
      sum += value * value;
    }
  }
  each([](double norm, double& packed) { packed = norm; });
  for (const parallel::Axis axis : {parallel::Axis::kData, parallel::Axis::kPipeline}) {
    mesh.along(axis).all_reduce(squares, parallel::Reduction::kSum, {"norms of experts"})->wait();
  }
  each([](double& norm, double packed) { norm = std::sqrt(packed); });
  for (std::vector<double>& layer : norms) {
    const double mean = std::accumulate(layer.begin(), layer.end(), 0.0) / static_cast<double>(layer.size());
    for (double& norm : layer) norm /= mean > 0 ? mean : 1;
  }
  return norms;
}

}  // namespace cadre::launch
