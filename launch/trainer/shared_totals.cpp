#include "launch/trainer/shared_totals.h"

namespace cadre::launch {
namespace {

using parallel::Axis;

std::vector<double> values_of(const std::vector<TreeSum>& sums) {
  std::vector<double> values;
  for (const TreeSum& sum : sums) values.push_back(sum.value());
  return values;
}

// This rank's row of the matrix; the others are zero.
std::vector<double> rows_of(const parallel::Mesh& mesh) {
  const auto width = static_cast<size_t>(mesh.layout().expert);
  std::vector<double> rows(static_cast<size_t>(mesh.layout().data) * width, 0.0);
  const std::vector<int64_t>& mine = mesh.dispatched_rows();
  std::copy(mine.begin(), mine.end(), rows.begin() + static_cast<ptrdiff_t>(width) * mesh.here().data);
  return rows;
}

// Numbers that are summed together, wherever they are.
class Slots {
 public:
  void add(double& value) { slots_.push_back(&value); }
  void add(std::vector<double>& values) {
    for (double& value : values) add(value);
  }
  void add(std::vector<std::vector<double>>& layers) {
    for (std::vector<double>& layer : layers) add(layer);
  }
  // Along data in the tree that completes those of the ranks' micro-batches; along the pipeline each number of a layer
  // is one stage's.
  void sum(const parallel::Mesh& mesh, Allocator& allocator) {
    Tensor packed = Tensor::empty(allocator, Dtype::kF64, Shape{static_cast<int64_t>(slots_.size())});
    for (size_t i = 0; i < slots_.size(); ++i) packed.data<double>()[i] = *slots_[i];
    for (const Axis axis : {Axis::kData, Axis::kPipeline}) {
      mesh.along(axis).all_reduce(packed, parallel::Reduction::kSum, {"step_statistics"})->wait();
    }
    for (size_t i = 0; i < slots_.size(); ++i) *slots_[i] = packed.data<double>()[i];
  }

 private:
  std::vector<double*> slots_;
};

}  // namespace

SharedTotals share_totals(const parallel::Mesh& mesh, Allocator& allocator, const StepTotals& totals, const Votes& mine,
                          const ShareOptions& options) {
  SharedTotals shared;
  shared.loss = totals.loss.value();
  shared.balance_loss = values_of(totals.balance_loss);
  shared.z_loss = values_of(totals.z_loss);
  shared.counts = totals.counts;
  for (const std::vector<TreeSum>& layer : totals.loads) shared.loads.push_back(values_of(layer));
  for (const std::vector<TreeSum>& layer : totals.lowest) shared.lowest.push_back(values_of(layer));
  shared.tokens.global_targets = options.global_target_tokens;
  shared.tokens.kept = totals.kept;
  if (options.isolated) shared.tokens.faults = totals.faults;
  if (options.experts) shared.score_totals = totals.score_totals;
  if (options.experts && mesh.layout().expert > 1) shared.rows = rows_of(mesh);
  shared.joules = options.joules;
  double stop = mine.stop ? 1 : 0, unwritten = mine.checkpoint_written ? 0 : 1;
  Slots slots;
  slots.add(shared.loss);
  slots.add(stop);
  slots.add(unwritten);
  slots.add(shared.joules);
  slots.add(shared.balance_loss);
  slots.add(shared.z_loss);
  slots.add(shared.counts);
  if (options.loads) slots.add(shared.loads);
  if (options.lowest) slots.add(shared.lowest);
  slots.add(shared.tokens.kept);
  slots.add(shared.tokens.faults);
  slots.add(shared.score_totals);
  slots.add(shared.rows);
  slots.sum(mesh, allocator);
  shared.votes = {stop > 0, unwritten == 0};
  return shared;
}

}  // namespace cadre::launch
