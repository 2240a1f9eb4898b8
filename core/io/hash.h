#pragma once
// XXH3-128 (xxHash 0.8, https://github.com/Cyan4973/xxHash): finds accidental damage, not forgery. Memory speed.

#include <filesystem>
#include <memory>
#include <string>

#include "core/io/file.h"

namespace cadre {

// As 32 lower-case hexadecimal digits, most significant first (what `xxhsum -H2` prints).
std::string xxh3_128(Bytes bytes);

// The hash of a whole file, read in pieces: memory stays small and a file that shrinks meanwhile is an error, not a
// crash. Throws CheckpointError naming the path.
std::string xxh3_128_of_file(const std::filesystem::path& path);

}  // namespace cadre
