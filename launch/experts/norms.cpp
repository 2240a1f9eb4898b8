#include "launch/experts/norms.h"

#include <cmath>
#include <span>

#include "kernels/optimizer.h"
#include "launch/experts/choice.h"
namespace cadre::launch {

std::vector<std::vector<double>> expert_norms(const kernels::Exec& exec, TrainState& state, parallel::Mesh& mesh) {
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
  for (const optim::SegmentState& segment : state.optimizer().segments()) {
    if (segment.expert < 0 || layout.layer(segment.layer).is_shared(segment.expert)) continue;
    double square = 0;
    const kernels::FlatRange owned{segment.offset + segment.owned.begin, segment.owned.count()};
    kernels::squared_norms(exec, std::span(&owned, 1), state.store().values(), std::span(&square, 1));
    norms[layout.moe_index(segment.layer)][static_cast<size_t>(segment.expert)] += square;
  }
  each([](double norm, double& packed) { packed = norm; });
  for (const parallel::Axis axis : {parallel::Axis::kData, parallel::Axis::kPipeline}) {
    mesh.along(axis).all_reduce(squares, parallel::Reduction::kSum, {"norms of experts"})->wait();
  }
  each([](double& norm, double packed) { norm = std::sqrt(packed); });
  divide_by_means(norms);
  return norms;
}

}  // namespace cadre::launch
