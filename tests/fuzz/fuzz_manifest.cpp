// The manifest reader: any text is read or refused with CheckpointError; what was read is written as a text that reads
// back to itself. Every input is tried twice: as a file, and as a body with a hash that fits it, for otherwise the hash
// would hide the parser.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/error.h"
#include "launch/checkpoint/manifest.h"

namespace {

void read(std::string_view text) {
  std::string written;
  try {
    written = cadre::launch::write_manifest(cadre::launch::parse_manifest(text));
  } catch (const cadre::CheckpointError&) {
    return;
  }
  if (cadre::launch::write_manifest(cadre::launch::parse_manifest(written)) != written) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  read(text);
  read(cadre::launch::seal_manifest(text));
  return 0;
}
