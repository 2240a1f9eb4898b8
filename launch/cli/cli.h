#pragma once
// The command line.

namespace cadre::launch {

// Parses, runs, and returns the exit code. Errors of commands are thrown; errors of the command line are printed.
int run_command_line(int argc, char** argv);

}  // namespace cadre::launch
