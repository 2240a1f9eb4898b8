#include <algorithm>
#include <array>
#include <functional>
#include <thread>
#include <vector>

#include "kernels/elementwise.h"
#include "kernels/optimizer.h"
#include "kernels/peak.h"
#include "launch/bench/timing.h"
#include "launch/plan/device.h"
#include "model/expert_layout.h"

namespace cadre::launch {
namespace {

constexpr double kMostFlops = 30e9;   // of one micro-batch through all blocks
constexpr double kMostBytes = 1.5e9;  // that it uses
constexpr int kRounds = 7;
constexpr int64_t kElements = 4 << 20;  // of tensors out of the caches
constexpr double kSeconds = 0.3;        // for each of the other measurements

struct Need {
  double flops = 0, bytes = 0;
};

Need need_of(const ModelProfile& profile, Dtype dtype) {
  Need need;
  for (const BlockProfile& block : profile.blocks) {
    for (const auto& [op, work] : block.work) need.flops += work.flops;
    const int64_t elements = block.parameters + block.expert_parameters;
    need.bytes += 2.0 * static_cast<double>(elements) * static_cast<double>(size_of(dtype));
    need.bytes += static_cast<double>(block.packed + block.kept + block.backward_peak);
  }
  return need;
}

// Experts of one kind, as many and as wide as those of the first layer that has any are on average: rates are wanted.
void make_plain(model::NetworkSettings& network) {
  if (network.moe.groups.empty() && network.moe.layers.empty() && network.moe.edited_layers.empty()) return;
  const model::ExpertLayout layout(network);
  network.moe.groups.clear();
  network.moe.layers.clear();
  network.moe.edited_layers.clear();
  if (layout.moe_layers().empty()) return;
  const model::LayerExperts& layer = layout.layer(layout.moe_layers().front());
  int64_t width = 0;
  for (const model::ExpertSet& set : layer.routed) width += set.count * set.kind.ffn_hidden_size;
  network.moe.num_experts = layer.computing();
  network.moe.top_k = std::min(layer.top_k, layer.computing());
  network.moe.ffn_hidden_size = std::max<int64_t>(1, width / layer.computing());
}

// Halves what is largest until a run is short: rates hardly depend on sizes that are still large.
void shrink(model::NetworkSettings& network, ProfileShape& shape, const kernels::Exec& exec) {
  make_plain(network);
  for (;;) {
    const Need need = need_of(profile_model(network, shape, exec), shape.dtype);
    if (need.flops <= kMostFlops && need.bytes <= kMostBytes) return;
    model::ModelSettings& model = network.model;
    if (shape.sequences > 1) {
      shape.sequences = (shape.sequences + 1) / 2;
    } else if (network.moe.num_experts > std::max<int64_t>(8, 2 * network.moe.top_k)) {
      network.moe.num_experts = (network.moe.num_experts + 1) / 2;
    } else if (*model.vocab_size.value > 8192) {
      model.vocab_size = *model.vocab_size.value / 2;
    } else if (shape.seq_length > 1024) {
      shape.seq_length /= 2;
    } else if (model.num_heads % 2 == 0 && model.kv_heads() % 2 == 0) {
      const int64_t head = model.head_size(), dense = model.dense_ffn(), expert = network.expert_ffn();
      model.head_dim = head;
      model.num_kv_heads = model.kv_heads() / 2;
      model.num_heads /= 2;
      model.hidden_size = (model.hidden_size + 1) / 2;
      model.ffn_hidden_size = (dense + 1) / 2;
      network.moe.ffn_hidden_size = (expert + 1) / 2;
    } else {
      return;
    }
  }
}

// Ranks share memory, caches and power with the others of their machine, which do the same as they: so a measurement is
// made while as many others repeat it.
class Neighbours {
 public:
  Neighbours(int count, const kernels::Exec& exec, const std::function<void(const kernels::Exec&)>& work) {
    for (int i = 0; i < count; ++i) {
      threads_.emplace_back([threads = exec.threads.size(), isa = exec.isa, work](const std::stop_token& stop) {
        ThreadPool pool(threads);
        while (!stop.stop_requested()) work({pool, isa});
      });
    }
  }

 private:
  std::vector<std::jthread> threads_;
};

// Values, gradients and moments.
class FlatTensors {
 public:
  explicit FlatTensors(Dtype dtype) {
    for (Tensor& tensor : flat_) tensor = Tensor::zeros(*allocator_, dtype, Shape{kElements});
  }
  // Seconds of a copy, and of an update with its norm.
  std::vector<double> time(const kernels::Exec& exec) {
    kernels::AdamWSegment segment;
    segment.place.count = kElements;
    segment.lr = 1e-3;
    const kernels::FlatRange range{0, kElements};
    double square = 0;
    return alternate(kSeconds, {[&] { kernels::copy(exec, flat_[0], flat_[1]); },
                                [&] {
                                  kernels::squared_norms(exec, {&range, 1}, flat_[1], {&square, 1});
                                  kernels::adamw(exec, {&segment, 1}, flat_[0], flat_[1], flat_[2], flat_[3]);
                                }});
  }

 private:
  std::shared_ptr<Allocator> allocator_ = make_host_allocator();
  std::array<Tensor, 4> flat_;
};

}  // namespace

Device measured_cpu(const model::NetworkSettings& network, const ProfileShape& shape, const kernels::Exec& exec,
                    int node_ranks, double memory_bytes) {
  Device device = nominal_cpu(exec.threads.size(), node_ranks, memory_bytes);
  model::NetworkSettings smaller = network;
  ProfileShape shorter = shape;
  shorter.placements.clear();
  shrink(smaller, shorter, exec);
  {
    const Neighbours busy(node_ranks - 1, exec,
                          [&](const kernels::Exec& mine) { time_model(smaller, shorter, mine, 1); });
    device.measured = time_model(smaller, shorter, exec, kRounds);
    device.peak_flops = kernels::measure_peak_flops(exec);
  }
  const std::vector<double> seconds = [&] {
    const Neighbours busy(node_ranks - 1, exec,
                          [&](const kernels::Exec& mine) { FlatTensors(shape.dtype).time(mine); });
    return FlatTensors(shape.dtype).time(exec);
  }();
  const double bytes = static_cast<double>(kElements) * static_cast<double>(size_of(shape.dtype));
  // What a rank sends is copied into shared memory by it and out of it by another, which does the same meanwhile.
  device.near.bytes_per_second = bytes / seconds[0] / 2;
  device.bytes_per_second = 2 * bytes / seconds[0];
  device.memory_share = 1;
  device.update_seconds_per_byte = seconds[1] / bytes;
  return device;
}

}  // namespace cadre::launch
