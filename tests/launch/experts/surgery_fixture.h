#pragma once
// A small model on one rank that has trained a little, and the same after an edit of its experts.

#include <filesystem>
#include <memory>

#include "launch/checkpoint/reader.h"
#include "launch/experts/edited_source.h"
#include "launch/trainer/local_rank.h"
#include "parallel/comm/self.h"
#include "tests/core/io/temporary_directory.h"

namespace cadre::launch::testing {

// Two layers of four experts, FP64.
model::NetworkSettings small_network();

// A training of one rank.
class TrainedModel {
 public:
  explicit TrainedModel(const model::NetworkSettings& network);

  void train(int64_t steps);
  // Writes a checkpoint, and returns where.
  std::filesystem::path save(const std::filesystem::path& root);
  // [tokens, vocabulary], of tokens that are always the same.
  std::vector<double> logits();

  TrainState& state() { return rank_->state(); }
  const model::ExpertLayout& layout() { return state().model().experts(); }
  // "/model/..." or "/optimizer/...".
  std::vector<double> tensor(const std::string& name);

 private:
  model::NetworkSettings network_;
  std::unique_ptr<parallel::Communicator> world_ = parallel::make_self_communicator();
  std::unique_ptr<LocalRank> rank_;
};

// What `from` becomes by the edit; read from a checkpoint of it.
std::unique_ptr<TrainedModel> edited(TrainedModel& from, const model::NetworkSettings& network, const ExpertEdit& edit);

// All experts of `selector`.
ExpertEdit plan(const model::NetworkSettings& network, const model::ExpertOperationSettings& operation,
                const ExpertLoadTable& loads = {});

double largest_difference(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace cadre::launch::testing
