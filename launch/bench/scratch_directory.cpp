#include "launch/bench/scratch_directory.h"

#include <unistd.h>

#include "core/error.h"

namespace cadre::launch {

ScratchDirectory::ScratchDirectory() : path_("cadre-bench-" + std::to_string(getpid())) {
  std::error_code problem;
  std::filesystem::create_directory(path_, problem);
  if (problem) {
    throw ConfigError("cadre bench: cannot make the folder " + path_.string() + " here (" + problem.message() +
                      "), wanted a working directory that can be written");
  }
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace cadre::launch
