#include "launch/signals.h"

#include <csignal>
#include <initializer_list>

namespace cadre::launch {
namespace {

volatile std::sig_atomic_t stop_flag = 0;

extern "C" void request_stop(int) { stop_flag = 1; }

}  // namespace

void watch_stop_signals() {
  struct sigaction action {};
  action.sa_handler = request_stop;
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) sigaction(signal, &action, nullptr);
}

bool stop_requested() { return stop_flag != 0; }

}  // namespace cadre::launch
