#include "launch/trainer/train_state.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "launch/trainer/isolation_scalars.h"

namespace cadre::launch {
namespace {

// The parameters must be materialised between the model's declarations and the optimizer's construction.
autograd::ParameterStore& materialised(autograd::ParameterStore& store, const autograd::Context& context, uint64_t seed,
                                       int zero) {
  store.materialise(context, seed, /*gradients=*/zero < 2);
  return store;
}

optim::OptimizerShard shard_for(const ModelShard& shard, const autograd::ParameterStore& store,
                                optim::NormScope& norm) {
  optim::OptimizerShard result{shard.zero(), {}, &norm};
  for (const auto& parameter : store.parameters()) {
    for (const autograd::Segment& segment : parameter->segments) {
      result.owned.push_back(shard.owned_range(shard.segment(segment.name)));
    }
  }
  return result;
}

std::string moment_name(const optim::SegmentState& segment, const optim::MomentTensor& moment) {
  return "/optimizer/" + segment.name + "/" + moment.name;
}

using model::LayerControls;

nlohmann::json json_of(const std::vector<LayerControls>& controls, Tensor LayerControls::*which) {
  nlohmann::json layers = nlohmann::json::array();
  for (const LayerControls& layer : controls) {
    const Tensor& tensor = layer.*which;
    layers.push_back(tensor ? std::vector<double>(tensor.data<double>(), tensor.data<double>() + tensor.elements())
                            : std::vector<double>());
  }
  return layers;
}

// A layer that has none, because its router was another one, keeps what it has.
void read_controls(const nlohmann::json& layers, std::vector<LayerControls>& controls, Tensor LayerControls::*which) {
  for (size_t i = 0; i < controls.size(); ++i) {
    const auto values = layers.at(i).get<std::vector<double>>();
    const Tensor& tensor = controls[i].*which;
    if (!tensor || values.empty()) continue;
    if (static_cast<int64_t>(values.size()) != tensor.elements())
      throw CheckpointError("the numbers of experts differ");
    std::copy(values.begin(), values.end(), tensor.data<double>());
  }
}

// Elements [begin, begin + count) of flat storage.
TensorView flat_part(const Tensor& flat, int64_t begin, int64_t count) { return flat.flat_slice(begin, Shape{count}); }

std::optional<optim::ExpertIsolation> isolation_of(const model::NetworkSettings& network,
                                                   const model::ExpertLayout& layout,
                                                   const optim::OptimizerSettings& optimizer) {
  if (!network.moe.isolation) return std::nullopt;
  return optim::ExpertIsolation(*network.moe.isolation, layout, optimizer.clip_norm);
}

void read_tensor(CheckpointReader& reader, const optim::SegmentState& segment, const optim::MomentTensor& tensor) {
  reader.read_flat(moment_name(segment, tensor), segment.kept.begin,
                   flat_part(tensor.tensor, segment.offset_in(tensor), segment.kept.count()));
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

TrainState::TrainState(const autograd::Context& context, const model::NetworkSettings& network, const ModelShard& shard,
                       const optim::OptimizerSettings& optimizer, uint64_t seed)
    : context_(context),
      shard_(shard),
      seed_(seed),
      norm_(shard, context.allocator),
      model_(store_, network, shard.experts(), shard.stages()),
      history_(model_.experts()),
      rules_(network.moe.rules, model_.experts()),
      optimizer_(context, materialised(store_, context, seed, shard.zero()), optimizer, shard_for(shard, store_, norm_),
                 rules_, isolation_of(network, model_.experts(), optimizer)) {
  controls = model::first_controls(context.allocator, model_.experts(), network.moe.router);
  share_biases();
}

void TrainState::share_biases() {
  std::vector<Tensor> biases;
  for (const model::LayerControls& layer : controls) biases.push_back(layer.bias);
  model_.set_biases(std::move(biases));
}

std::vector<StateEntry> TrainState::entries_to_save() const {
  std::vector<StateEntry> entries;
  const auto add = [&](const std::string& name, const optim::SegmentState& segment, const Tensor& flat, int64_t begin) {
    const TensorView part = flat_part(flat, begin, segment.owned.count());
    for (StateEntry& entry : flat_entries(name, segment.shape, segment.owned.begin, part)) {
      entries.push_back(std::move(entry));
    }
  };
  for (const optim::SegmentState& segment : optimizer_.segments()) {
    add("/model/" + segment.name, segment, store_.values(), segment.offset + segment.owned.begin);
  }
  for (const optim::SegmentState& segment : optimizer_.segments()) {
    for (const optim::MomentTensor& moment : optimizer_.state_tensors()) {
      if (!segment.has(moment)) continue;
      add(moment_name(segment, moment), segment, moment.tensor,
          segment.offset_in(moment) + segment.owned.begin - segment.kept.begin);
    }
  }
  return entries;
}

nlohmann::json TrainState::scalars() {
  std::vector<double> taken;
  for (const optim::SegmentState& segment : optimizer_.segments()) taken.push_back(static_cast<double>(segment.steps));
  const Tensor all = norm_.gather(optimizer_.segments(), taken);
  nlohmann::json steps = nlohmann::json::object();
  for (size_t i = 0; i < shard_.segments().size(); ++i) {
    steps[shard_.segments()[i].name] = static_cast<int64_t>(all.data<double>()[i]);
  }
  nlohmann::json scalars = {{"step", step},
                            {"segment_steps", steps},
                            {"expert_fractions", json_of(controls, &LayerControls::fractions)},
                            {"expert_loads", json_of(controls, &LayerControls::loads)},
                            {"expert_smooth_loads", json_of(controls, &LayerControls::smooth_loads)},
                            {"expert_biases", json_of(controls, &LayerControls::bias)}};
  history_.save(scalars);
  if (optimizer_.isolated() != nullptr) {
    scalars["isolation"] = isolation_scalars(optimizer_.isolated()->isolation(), snapshot_steps());
  }
  return scalars;
}

// By isolated expert. Its segments are updated together.
std::vector<int64_t> TrainState::snapshot_steps() {
  const optim::ExpertIsolation& isolation = optimizer_.isolated()->isolation();
  if (!isolation.settings().quarantine) return {};
  std::vector<double> here;
  for (const optim::SegmentState& segment : optimizer_.segments()) {
    here.push_back(static_cast<double>(segment.snapshot_steps));
  }
  const Tensor all = norm_.gather(optimizer_.segments(), here);
  std::vector<int64_t> steps(isolation.experts().size());
  for (size_t i = 0; i < shard_.segments().size(); ++i) {
    const GlobalSegment& segment = shard_.segments()[i];
    const int place = segment.expert < 0 ? -1 : isolation.index_of(segment.layer, segment.expert);
    if (place >= 0) steps[static_cast<size_t>(place)] = static_cast<int64_t>(all.data<double>()[i]);
  }
  return steps;
}

void read_biases(const nlohmann::json& scalars, const autograd::Context& context, model::Transformer& model) {
  std::vector<LayerControls> controls =
      model::first_controls(context.allocator, model.experts(), model.settings().moe.router);
  if (scalars.contains("expert_biases")) read_controls(scalars["expert_biases"], controls, &LayerControls::bias);
  std::vector<Tensor> biases;
  for (const LayerControls& layer : controls) biases.push_back(layer.bias);
  model.set_biases(std::move(biases));
}

void TrainState::restore(CheckpointReader& reader) {
  for (const StateEntry& entry : model_entries(store_)) reader.read(entry.name, entry.data);
  for (const optim::SegmentState& segment : optimizer_.segments()) {
    for (const optim::MomentTensor& moment : optimizer_.moments()) read_tensor(reader, segment, moment);
  }
  restore_scalars(reader.manifest().header.state, reader.directory().string());
  if (optimizer_.isolated() != nullptr) restore_isolated(reader);
  store_.touch();
}

void TrainState::restore_isolated(CheckpointReader& reader) {
  optimizer_.isolated()->start_anew(optimizer_.segments());
  for (const optim::SegmentState& segment : optimizer_.segments()) {
    if (segment.isolated < 0) continue;
    for (const optim::MomentTensor& tensor : optimizer_.isolated()->tensors()) {
      if (reader.has(moment_name(segment, tensor))) read_tensor(reader, segment, tensor);
    }
  }
}

void TrainState::restore_scalars(const nlohmann::json& scalars, const std::string& where) {
  try {
    step = scalars.at("step").get<int64_t>();
    for (optim::SegmentState& segment : optimizer_.segments()) {
      segment.steps = scalars.at("segment_steps").at(segment.name).get<int64_t>();
    }
    const auto read = [&](const char* name, Tensor LayerControls::*which) {
      if (scalars.contains(name)) read_controls(scalars[name], controls, which);
    };
    read("expert_fractions", &LayerControls::fractions);
    read("expert_loads", &LayerControls::loads);
    read("expert_smooth_loads", &LayerControls::smooth_loads);
    read("expert_biases", &LayerControls::bias);
    share_biases();
    history_.restore(scalars);
    if (optimizer_.isolated() == nullptr) return;
    const std::vector<int64_t> snapshot_steps =
        restore_isolation(scalars.value("isolation", nlohmann::json::object()), optimizer_.isolated()->isolation());
    for (optim::SegmentState& segment : optimizer_.segments()) {
      const int64_t steps = segment.isolated < 0 ? -1 : snapshot_steps[static_cast<size_t>(segment.isolated)];
      segment.snapshot_steps = steps < 0 ? segment.steps : steps;
    }
  } catch (const nlohmann::json::exception& failure) {
    throw CheckpointError(where + ": its run state does not fit this model: " + failure.what());
  }
}

}  // namespace cadre::launch
