#pragma once
// SIGTERM, SIGINT and SIGUSR1 ask the run to save and stop.

namespace cadre::launch {

// Installs handlers that only set a flag. A signal handler can reach nothing but static storage; the flag is the one
// exception to "no globals".
void watch_stop_signals();
bool stop_requested();

}  // namespace cadre::launch
