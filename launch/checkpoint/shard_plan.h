#pragma once
// Which entries a rank packs into which of its shard files.

#include <vector>

#include "launch/checkpoint/state.h"

namespace cadre::launch {

// A shard's entries, in file order. Entries keep their order over the shards; one that is larger than a shard is cut by
// rows of its first axis. Every image stays within `shard_bytes`, unless a single row is larger. Deterministic. Empty
// blocks of tensors that are not empty are left out.
std::vector<std::vector<StateEntry>> plan_shards(const std::vector<StateEntry>& entries, uint64_t shard_bytes);

}  // namespace cadre::launch
