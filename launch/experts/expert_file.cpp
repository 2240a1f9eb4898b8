#include "launch/experts/expert_file.h"

#include <fmt/core.h>

#include <cstring>

#include "core/config/messages.h"
#include "core/error.h"

namespace cadre::launch {
namespace {

constexpr const char* kFormat = "cadre-expert";
constexpr const char* kMoments[] = {"exp_avg", "exp_avg_sq", "momentum"};
constexpr const char* kWeights[] = {"w1", "w2", "w3"};
constexpr const char* kRouterRows[] = {"weight", "noise.weight"};

// "/model/expert.w1" -> "w1", "/optimizer/router.weight/exp_avg" -> "router.weight/exp_avg".
std::string name_in_file(std::string_view name) {
  for (const std::string_view start : {"/model/", "/optimizer/"}) {
    if (name.starts_with(start)) name.remove_prefix(start.size());
  }
  if (name.starts_with("expert.")) name.remove_prefix(std::string_view("expert.").size());
  return std::string(name);
}

class Exporter {
 public:
  Exporter(CheckpointReader& reader, const model::LayerExperts& experts, const model::ExpertPlace& place)
      : reader_(reader), experts_(experts), place_(place) {}

  std::map<std::string, Tensor> collect() {
    const std::string expert = fmt::format("layers.{}.moe.experts.{}.", place_.layer, experts_.id_of(place_.expert));
    const std::string router = fmt::format("layers.{}.moe.router.", place_.layer);
    for (const char* weight : kWeights) add(expert + weight, weight, false);
    for (const char* row : kRouterRows) add(router + row, std::string("router.") + row, true);
    return std::move(tensors_);
  }
  int64_t steps() const { return steps_; }

 private:
  // A segment with its moments, whole or this expert's row of it.
  void add(const std::string& segment, const std::string& name, bool row) {
    if (!reader_.has("/model/" + segment)) return;
    read("/model/" + segment, name, row);
    for (const char* moment : kMoments) {
      const std::string there = "/optimizer/" + segment + "/" + moment;
      if (reader_.has(there)) read(there, name + "/" + moment, row);
    }
    if (!row) steps_ = reader_.scalars().at("segment_steps").value(segment, int64_t{0});
  }
  void read(const std::string& there, const std::string& name, bool row) {
    const ManifestTensor& tensor = reader_.tensor(there);
    const Tensor out = Tensor::empty(*allocator_, tensor.dtype, row ? tensor.shape.with(0, 1) : tensor.shape);
    if (row) {
      reader_.read(there, Shape{place_.expert, 0}, out);
    } else {
      reader_.read(there, out);
    }
    tensors_[name] = out;
  }

  CheckpointReader& reader_;
  const model::LayerExperts& experts_;
  model::ExpertPlace place_;
  std::shared_ptr<Allocator> allocator_ = make_host_allocator();
  std::map<std::string, Tensor> tensors_;
  int64_t steps_ = 0;
};

}  // namespace

void export_expert(CheckpointReader& reader, const Settings& settings, const model::ExpertPlace& place,
                   const std::filesystem::path& path) {
  const model::ExpertLayout layout(settings.network());
  const model::LayerExperts& experts = layout.layer(place.layer);
  const model::ExpertSet& set = experts.set_of(place.expert);
  if (!set.kind.computes()) throw ConfigError(fmt::format("{}: has no weights to export", name_of(place, layout)));
  Exporter exporter(reader, experts, place);
  const std::map<std::string, Tensor> tensors = exporter.collect();
  const CheckpointHeader& header = reader.manifest().header;
  write_safetensors(path, tensors,
                    {{"format", kFormat},
                     {"expert", name_of(place, layout)},
                     {"group", set.name},
                     {"activation", std::string(config::enum_name(set.kind.activation))},
                     {"ffn_hidden_size", std::to_string(set.kind.ffn_hidden_size)},
                     {"hidden_size", std::to_string(settings.model.hidden_size)},
                     {"run_id", header.run_id},
                     {"step", std::to_string(header.step)},
                     {"updates", std::to_string(exporter.steps())}});
}

ExpertFile::ExpertFile(const std::filesystem::path& path) : path_(path.string()), file_(path) {
  const TextMap& metadata = file_.metadata();
  const auto format = metadata.find("format");
  if (format == metadata.end() || format->second != kFormat)
    throw CheckpointError(path_ + ": holds no expert; wanted a file that cadre experts export wrote");
  try {
    const int64_t steps = std::stoll(metadata.at("updates"));
    for (const char* weight : kWeights) scalars_["segment_steps"][std::string("expert.") + weight] = steps;
    const model::ExpertKind own = kind();
    if (!(entry_of("w1").shape == Shape{own.ffn_hidden_size, hidden_size()}) ||
        !(entry_of("w2").shape == Shape{hidden_size(), own.ffn_hidden_size}))
      throw CheckpointError(path_ + ": its weights have other shapes than its metadata say");
  } catch (const std::logic_error& failure) {
    throw CheckpointError(path_ + ": its metadata are not those of an expert");
  }
}

int64_t ExpertFile::hidden_size() const { return std::stoll(file_.metadata().at("hidden_size")); }

model::ExpertKind ExpertFile::kind() const {
  model::ExpertKind kind;
  kind.ffn_hidden_size = std::stoll(file_.metadata().at("ffn_hidden_size"));
  const std::string& name = file_.metadata().at("activation");
  bool known = false;
  for (const auto& [value, text] : config::EnumNames<kernels::Activation>::values) {
    if (text == name) kind.activation = value, known = true;
  }
  if (!known) throw CheckpointError(fmt::format("{}: has an unknown activation {}", path_, config::in_quotes(name)));
  return kind;
}

bool ExpertFile::has_router(int64_t columns) const {
  return has("/model/router.weight") && shape_of("/model/router.weight").cols() == columns;
}

const SafetensorsFile::Entry& ExpertFile::entry_of(const std::string& name) const {
  const auto found = file_.entries().find(name_in_file(name));
  if (found == file_.entries().end()) throw CheckpointError(fmt::format("{}: has no {}", path_, name_in_file(name)));
  return found->second;
}

bool ExpertFile::has(const std::string& name) const { return file_.entries().contains(name_in_file(name)); }
Shape ExpertFile::shape_of(const std::string& name) const { return entry_of(name).shape; }
Dtype ExpertFile::dtype_of(const std::string& name) const { return entry_of(name).dtype; }

void ExpertFile::read(const std::string& name, TensorView out) {
  if (!out.contiguous() || !(out.shape == shape_of(name)))
    throw CheckpointError(fmt::format("{}: {} is {}", path_, name_in_file(name), shape_of(name).to_string()));
  read_flat(name, 0, out);
}

void ExpertFile::read_flat(const std::string& name, int64_t begin, TensorView out) {
  const SafetensorsFile::Entry& entry = entry_of(name);
  if (entry.dtype != out.dtype || begin + out.shape.elements() > entry.shape.elements())
    throw CheckpointError(
        fmt::format("{}: {} is {} of {}", path_, name_in_file(name), entry.shape.to_string(), name_of(entry.dtype)));
  const Bytes data = file_.data_of(entry);
  std::memcpy(out.data, data.data() + static_cast<size_t>(begin) * size_of(out.dtype),
              static_cast<size_t>(out.shape.elements()) * size_of(out.dtype));
}

}  // namespace cadre::launch
