#pragma once
// The command line of `cadre experts`.

#include <CLI/CLI.hpp>
#include <functional>

namespace cadre::launch {

// `action` becomes what the command does, once it is chosen.
void add_experts(CLI::App& app, std::function<int()>& action);

}  // namespace cadre::launch
