#pragma once
// What one rank computes with, in figures that predict time.

#include <string>
#include <vector>

#include "launch/plan/profile.h"

namespace cadre::launch {

struct Link {
  double bytes_per_second = 1;  // that a rank sends
  double seconds = 0;           // before the first byte
};

struct Device {
  std::string name;
  double memory_bytes = 0;      // of one rank
  double peak_flops = 1;        // in the run's number type
  double bytes_per_second = 1;  // of its memory
  double product_share = 1;     // of the peak, in matrix products and attention
  double memory_share = 1;      // of the memory's rate, in everything else
  double call_seconds = 0;      // to start an op
  bool packs_weights = false;   // as the CPU's matrix products do
  bool overlaps = false;        // whether gradients are reduced under computation at no cost to it
  int node_ranks = 1;           // neighbours that reach each other by the near link
  Link near{}, far{};
  double update_seconds_per_byte = 0;    // of parameters, by the optimizer and the norm; 0: by bytes_per_second
  std::vector<ModelProfile> measured{};  // by time_model(); where it has an op, that counts
};

// Of one micro-batch, the `ordinal`-th of a step.
struct BlockSeconds {
  double forward = 0, backward_inputs = 0, backward_weights = 0;
  double experts_forward = 0, experts_backward = 0;  // of them, the experts' own products
  double total() const { return forward + backward_inputs + backward_weights; }
};
BlockSeconds seconds_of(const Device& device, const BlockProfile& block, int64_t ordinal);
// AdamW reads four values and writes three for each element; the norm reads one.
double update_seconds(const Device& device, double elements, Dtype dtype);

// One GPU a rank, from NVIDIA's data sheets, eight to a node: "h100", "h200", "b200". Throws ConfigError naming the
// nearest for another name.
Device device_named(const std::string& name, Dtype dtype);
// A CPU of which nothing is known but its cores, so that every machine decides alike.
Device nominal_cpu(int threads, int node_ranks, double memory_bytes);
double machine_memory_bytes();
// This machine, while as many ranks as share it do the same: the config's blocks, made smaller until a round takes a
Device measured_cpu(const model::NetworkSettings& network, const ProfileShape& shape, const kernels::Exec& exec,
                    int node_ranks, double memory_bytes);

}  // namespace cadre::launch
