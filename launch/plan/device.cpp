#include "launch/plan/device.h"

#include <unistd.h>

#include <algorithm>

#include "core/config/messages.h"
#include "core/error.h"

namespace cadre::launch {
namespace {

using autograd::OpTime;
using autograd::Phase;

// Communication, whose time is that of its traffic.
constexpr const char* kExchanges[] = {"start_dispatch", "await_dispatch", "start_combine", "await_combine",
                                      "pass_rows"};

bool is_exchange(const std::string& op) {
  return std::any_of(std::begin(kExchanges), std::end(kExchanges),
                     [&](const char* name) { return op.starts_with(name); });
}

bool is_expert_product(const std::string& op) { return op.starts_with("grouped_linear"); }

const OpTime* measured_op(const Device& device, BlockKind kind, const std::string& op, int64_t ordinal) {
  if (device.measured.empty()) return nullptr;
  const size_t last = device.measured.size() - 1;
  const BlockProfile* block = device.measured[std::min<size_t>(static_cast<size_t>(ordinal), last)].find(kind);
  if (block == nullptr) return nullptr;
  const auto found = block->work.find(op);
  return found == block->work.end() ? nullptr : &found->second;
}

double op_seconds(const Device& device, BlockKind kind, const std::string& op, const OpTime& work, int64_t ordinal) {
  if (is_exchange(op)) return 0;
  const OpTime* measured = measured_op(device, kind, op, ordinal);
  if (measured != nullptr && measured->flops > 0) return measured->seconds * work.flops / measured->flops;
  if (measured != nullptr && measured->bytes > 0) return measured->seconds * work.bytes / measured->bytes;
  const double products = work.flops / (device.peak_flops * device.product_share);
  const double memory = work.bytes / (device.bytes_per_second * device.memory_share);
  return std::max(products, memory) + device.call_seconds * static_cast<double>(work.calls);
}

// Data sheets of the SXM parts: dense FLOP/s in FP32 and FP64 (tensor cores), HBM, NVLink one way, and a 400 Gbit/s
// port for each GPU.
struct Gpu {
  const char* name;
  double memory_gb, memory_rate, fp32, fp64, nvlink;
};
constexpr Gpu kGpus[] = {
    {"h100", 80e9, 3.35e12, 67e12, 67e12, 450e9},
    {"h200", 141e9, 4.8e12, 67e12, 67e12, 450e9},
    {"b200", 180e9, 7.7e12, 75e12, 37e12, 900e9},
};
constexpr int kGpusOfNode = 8;
constexpr double kPort = 50e9;

}  // namespace

BlockSeconds seconds_of(const Device& device, const BlockProfile& block, int64_t ordinal) {
  BlockSeconds seconds;
  for (const auto& [op, work] : block.work) {
    const double time = op_seconds(device, block.kind, op, work, ordinal);
    switch (work.phase) {
      case Phase::kForward:
        seconds.forward += time;
        if (is_expert_product(op)) seconds.experts_forward += time;
        break;
      case Phase::kInputGradients:
      case Phase::kRecompute:
        seconds.backward_inputs += time;
        if (is_expert_product(op)) seconds.experts_backward += time;
        break;
      case Phase::kParameterGradients: seconds.backward_weights += time; break;
    }
  }
  return seconds;
}

double update_seconds(const Device& device, double elements, Dtype dtype) {
  constexpr double kTouched = 8;
  const double bytes = elements * static_cast<double>(size_of(dtype));
  if (device.update_seconds_per_byte > 0) return bytes * device.update_seconds_per_byte;
  return kTouched * bytes / (device.bytes_per_second * device.memory_share);
}

Device device_named(const std::string& name, Dtype dtype) {
  std::vector<std::string> names{"cpu"};
  for (const Gpu& gpu : kGpus) {
    names.emplace_back(gpu.name);
    if (gpu.name != name) continue;
    Device device;
    device.name = name;
    device.memory_bytes = gpu.memory_gb;
    device.peak_flops = dtype == Dtype::kF64 ? gpu.fp64 : gpu.fp32;
    device.bytes_per_second = gpu.memory_rate;
    device.product_share = 0.7;
    device.memory_share = 0.8;
    device.call_seconds = 5e-6;
    device.overlaps = true;
    device.node_ranks = kGpusOfNode;
    device.near = {0.8 * gpu.nvlink, 10e-6};
    device.far = {0.8 * kPort, 20e-6};
    return device;
  }
  throw ConfigError("--device: no such device: " + config::in_quotes(name) + config::suggestion(name, names));
}

double machine_memory_bytes() {
  return static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
}

Device nominal_cpu(int threads, int node_ranks, double memory_bytes) {
  constexpr double kFlopsOfCore = 100e9, kRateOfCore = 10e9;
  Device device;
  device.name = "cpu";
  device.memory_bytes = memory_bytes;
  device.peak_flops = kFlopsOfCore * threads;
  device.bytes_per_second = kRateOfCore * threads;
  device.product_share = 0.8;
  device.call_seconds = 5e-6;
  device.packs_weights = true;
  device.node_ranks = node_ranks;
  device.near = {kRateOfCore / 2, 20e-6};
  device.far = {1e9, 50e-6};
  return device;
}

}  // namespace cadre::launch
