#include "launch/trainer/stored_config.h"

#include "core/config/config.h"
#include "core/error.h"

namespace cadre::launch {

std::string StoredConfig::warning(const std::string& checkpoint) const {
  if (unknown.empty()) return {};
  constexpr size_t kShown = 8;
  std::string names;
  for (size_t i = 0; i < unknown.size() && i < kShown; ++i) names += (i > 0 ? ", " : "") + unknown[i];
  if (unknown.size() > kShown) names += " and " + std::to_string(unknown.size() - kShown) + " more";
  return checkpoint + ": its config has keys that this version does not know, ignored: " + names;
}

StoredConfig read_stored_config(const std::string& checkpoint, const std::string& text) {
  StoredConfig stored;
  try {
    stored.settings = config::parse<Settings>(config::parse_document(checkpoint, text), &stored.unknown);
  } catch (const ConfigError& failure) {
    throw CheckpointError(checkpoint + ": its config cannot be read: " + failure.what());
  }
  return stored;
}

}  // namespace cadre::launch
