#include "launch/trainer/train_state.h"

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace cadre::launch {
namespace {

// The parameters must be materialised between the model's declarations and the optimizer's construction.
autograd::ParameterStore& materialised(autograd::ParameterStore& store, const autograd::Context& context,
                                       uint64_t seed) {
  store.materialise(context, seed);
  return store;
}

}  // namespace

std::vector<StateEntry> model_entries(const autograd::ParameterStore& store) {
  std::vector<StateEntry> entries;
  for (const auto& parameter : store.parameters()) {
    for (const autograd::Segment& segment : parameter->segments) {
      const Tensor value = store.values().flat_slice(parameter->offset + segment.offset, segment.shape);
      entries.push_back(whole_entry("/model/" + segment.name, value));
    }
  }
  return entries;
}

TrainState::TrainState(const autograd::Context& context, const model::NetworkSettings& network,
                       const optim::OptimizerSettings& optimizer, uint64_t seed)
    : context_(context), model_(store_, network), optimizer_(context, materialised(store_, context, seed), optimizer) {
  for (int64_t layer = 0; layer < model_.moe_layers(); ++layer) {
    Tensor uniform = Tensor::empty(context.allocator, Dtype::kF64, Shape{network.moe.num_experts});
    std::fill_n(uniform.data<double>(), uniform.elements(), 1.0 / static_cast<double>(uniform.elements()));
    fractions.push_back(std::move(uniform));
  }
}

std::vector<StateEntry> TrainState::entries() const {
  std::vector<StateEntry> entries = model_entries(store_);
  for (const optim::SegmentState& segment : optimizer_.segments()) {
    for (const optim::MomentTensor& moment : optimizer_.moments()) {
      entries.push_back(whole_entry("/optimizer/" + segment.name + "/" + moment.name,
                                    moment.tensor.flat_slice(segment.offset, segment.shape)));
    }
  }
  return entries;
}

nlohmann::json TrainState::scalars() const {
  nlohmann::json steps = nlohmann::json::object();
  for (const optim::SegmentState& segment : optimizer_.segments()) steps[segment.name] = segment.steps;
  nlohmann::json layers = nlohmann::json::array();
  for (const Tensor& tensor : fractions) {
    layers.push_back(std::vector<double>(tensor.data<double>(), tensor.data<double>() + tensor.elements()));
  }
  return {{"step", step}, {"segment_steps", steps}, {"expert_fractions", layers}};
}

void TrainState::restore(CheckpointReader& reader) {
  for (const StateEntry& entry : entries()) reader.read(entry.name, entry.data);
  restore_scalars(reader.manifest().header.state, reader.directory().string());
  store_.touch();
}

void TrainState::restore_scalars(const nlohmann::json& scalars, const std::string& where) {
  try {
    step = scalars.at("step").get<int64_t>();
    for (optim::SegmentState& segment : optimizer_.segments()) {
      segment.steps = scalars.at("segment_steps").at(segment.name).get<int64_t>();
    }
    const auto& layers = scalars.at("expert_fractions");
    for (size_t i = 0; i < fractions.size(); ++i) {
      const auto values = layers.at(i).get<std::vector<double>>();
      if (static_cast<int64_t>(values.size()) != fractions[i].elements()) throw CheckpointError("expert_fractions");
      std::copy(values.begin(), values.end(), fractions[i].data<double>());
    }
  } catch (const nlohmann::json::exception& failure) {
    throw CheckpointError(where + ": its run state does not fit this model: " + failure.what());
  }
}

}  // namespace cadre::launch
