#pragma once
// The config that a checkpoint carries. A user's file is read strictly; what another version of the program stored is
// not: keys that have been renamed or removed since, or that are yet to come, must not make a checkpoint unreadable.

#include <string>
#include <vector>

#include "launch/settings.h"

namespace cadre::launch {

struct StoredConfig {
  Settings settings;
  std::vector<std::string> unknown;  // full names of the keys that this program does not know; their values are lost

  // One line for the log; empty when nothing is unknown.
  std::string warning(const std::string& checkpoint) const;
};

// `text` is the state's "config" of the checkpoint's manifest. Anything wrong but unknown keys is a CheckpointError.
StoredConfig read_stored_config(const std::string& checkpoint, const std::string& text);

}  // namespace cadre::launch
