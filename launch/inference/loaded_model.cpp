#include "launch/inference/loaded_model.h"

#include <nlohmann/json.hpp>

#include "launch/checkpoint/reader.h"
#include "launch/checkpoint/resume.h"
#include "launch/trainer/stored_config.h"
#include "launch/trainer/train_state.h"
#include "parallel/comm/agreement.h"

namespace cadre::launch {
namespace {

std::unique_ptr<data::Tokenizer> read_tokenizer(Session& session, CheckpointReader& reader, const Settings& settings) {
  const Shape shape = reader.tensor("/tokenizer").shape;
  const Tensor bytes = Tensor::empty(session.allocator(), Dtype::kU8, shape);
  reader.read("/tokenizer", bytes);
  const std::string text(reinterpret_cast<const char*>(bytes.data<uint8_t>()), bytes.bytes());
  return data::parse_tokenizer(text, reader.directory().string() + ":/tokenizer", settings.data.tokenizer.append_eod);
}

void read_model(Session& session, LoadedModel& loaded) {
  const std::string name = loaded.checkpoint.string();
  CheckpointReader reader(loaded.checkpoint);
  loaded.step = reader.manifest().header.step;
  StoredConfig stored = read_stored_config(name, reader.manifest().header.state.value("config", ""));
  if (session.rank() == 0 && !stored.unknown.empty()) session.logger().warning(stored.warning(name));
  loaded.settings = std::move(stored.settings);
  loaded.tokenizer = read_tokenizer(session, reader, loaded.settings);
  session.context().dtype = loaded.settings.precision.dtype();
  loaded.store = std::make_unique<autograd::ParameterStore>();
  loaded.model = std::make_unique<model::Transformer>(*loaded.store, loaded.settings.network());
  loaded.store->materialise(session.context(), 0, /*gradients=*/false);
  for (const StateEntry& entry : model_entries(*loaded.store)) reader.read(entry.name, entry.data);
  read_choice(reader.manifest().header.state, session.context(), *loaded.model);
  loaded.store->touch();
}

}  // namespace

LoadedModel load_model(Session& session, const std::filesystem::path& path) {
  const std::filesystem::path nested = path / "checkpoints";
  const ResumeRequest request{ResumePolicy::kPath, std::filesystem::is_directory(nested) ? nested : path};
  const ResumeChoice choice = choose_checkpoint(request.path, request, session.world());
  for (const std::string& skipped : choice.skipped) {
    if (session.rank() == 0) session.logger().warning(skipped);
  }
  LoadedModel loaded;
  loaded.checkpoint = *choice.checkpoint;
  parallel::all_ok_after(session.world(), [&] { read_model(session, loaded); });
  return loaded;
}

}  // namespace cadre::launch
