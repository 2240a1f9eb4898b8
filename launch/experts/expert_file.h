#pragma once
// One expert in a file of its own: its weights and optimizer state, the router's row for it, and where it comes from.
//
// A safetensors file with the tensors w1, w2 [, w3], router.weight [1, hidden] and so on, moments as w1/exp_avg; its
// metadata are in docs/formats.md.

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "core/io/safetensors.h"
#include "launch/checkpoint/reader.h"
#include "launch/settings.h"
#include "model/expert_selector.h"

namespace cadre::launch {

// Throws CheckpointError.
void export_expert(CheckpointReader& reader, const Settings& settings, const model::ExpertPlace& place,
                   const std::filesystem::path& path);

// As a state that recipes can name: segments "expert.w1", router rows "router.weight".
class ExpertFile final : public StateSource {
 public:
  explicit ExpertFile(const std::filesystem::path& path);

  int64_t hidden_size() const;
  model::ExpertKind kind() const;  // init_std is not known
  const TextMap& provenance() const { return file_.metadata(); }
  bool has_router(int64_t columns) const;  // whose row is so long

  std::string where() const override { return path_; }
  const nlohmann::json& scalars() const override { return scalars_; }
  bool has(const std::string& name) const override;
  Shape shape_of(const std::string& name) const override;
  Dtype dtype_of(const std::string& name) const override;
  void read(const std::string& name, TensorView out) override;
  void read_flat(const std::string& name, int64_t begin, TensorView out) override;

 private:
  // Throws CheckpointError.
  const SafetensorsFile::Entry& entry_of(const std::string& name) const;

  std::string path_;
  SafetensorsFile file_;
  nlohmann::json scalars_;
};

}  // namespace cadre::launch
