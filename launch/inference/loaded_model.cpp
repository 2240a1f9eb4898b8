#include "launch/inference/loaded_model.h"

#include <nlohmann/json.hpp>

#include "core/config/config.h"
#include "core/error.h"
#include "launch/checkpoint/reader.h"
#include "launch/checkpoint/resume.h"
#include "launch/trainer/train_state.h"

namespace cadre::launch {
namespace {

std::unique_ptr<data::Tokenizer> read_tokenizer(Session& session, CheckpointReader& reader, const Settings& settings) {
  const Shape shape = reader.tensor("/tokenizer").shape;
  const Tensor bytes = Tensor::empty(session.allocator(), Dtype::kU8, shape);
  reader.read("/tokenizer", bytes);
  const std::string text(reinterpret_cast<const char*>(bytes.data<uint8_t>()), bytes.bytes());
  return data::parse_tokenizer(text, reader.directory().string() + ":/tokenizer", settings.data.tokenizer.append_eod);
}

}  // namespace

Settings saved_settings(const std::filesystem::path& checkpoint, const std::string& config_text) {
  try {
    return config::parse_text<Settings>(checkpoint.string(), config_text);
  } catch (const ConfigError& failure) {
    throw CheckpointError(checkpoint.string() + ": its config cannot be read: " + failure.what());
  }
}

LoadedModel load_model(Session& session, const std::filesystem::path& path) {
  const std::filesystem::path nested = path / "checkpoints";
  const ResumeRequest request{ResumePolicy::kPath, std::filesystem::is_directory(nested) ? nested : path};
  const ResumeChoice choice = choose_checkpoint(request.path, request, session.world());
  for (const std::string& skipped : choice.skipped) session.logger().warning("skipped " + skipped);
  CheckpointReader reader(*choice.checkpoint);
  LoadedModel loaded;
  loaded.checkpoint = *choice.checkpoint;
  loaded.step = reader.manifest().header.step;
  loaded.settings = saved_settings(loaded.checkpoint, reader.manifest().header.state.value("config", ""));
  loaded.tokenizer = read_tokenizer(session, reader, loaded.settings);
  session.context().dtype = loaded.settings.precision.dtype();
  loaded.store = std::make_unique<autograd::ParameterStore>();
  loaded.model = std::make_unique<model::Transformer>(*loaded.store, loaded.settings.network());
  loaded.store->materialise(session.context(), 0, /*gradients=*/false);
  for (const StateEntry& entry : model_entries(*loaded.store)) reader.read(entry.name, entry.data);
  loaded.store->touch();
  return loaded;
}

}  // namespace cadre::launch
