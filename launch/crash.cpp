#include "launch/crash.h"

#include <execinfo.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstring>

namespace cadre::launch {
namespace {

struct Crash {
  int signal;
  const char* name;
};
constexpr std::array<Crash, 5> kCrashes = {{{SIGSEGV, "SIGSEGV, an invalid memory access"},
                                            {SIGBUS, "SIGBUS, memory that cannot be had"},
                                            {SIGFPE, "SIGFPE, an arithmetic error"},
                                            {SIGILL, "SIGILL, an unknown instruction"},
                                            {SIGABRT, "SIGABRT"}}};
constexpr int kFrames = 64;
constexpr size_t kStackBytes = size_t{64} << 10;  // a stack that overflowed cannot run its own handler

// AddressSanitizer reports crashes itself.
#ifdef __SANITIZE_ADDRESS__
constexpr bool kReportedAnyway = true;
#else
constexpr bool kReportedAnyway = false;
#endif

char who[32] = "cadre: ";
alignas(16) char handler_stack[kStackBytes];

void print(const char* text) {
  if (write(STDERR_FILENO, text, std::strlen(text)) < 0) return;
}

// Only async-signal-safe calls.
extern "C" void crashed(int signal) {
  print(who);
  print("crashed: ");
  for (const Crash& crash : kCrashes) {
    if (crash.signal == signal) print(crash.name);
  }
  print("; stack trace:\n");
  void* frames[kFrames];
  backtrace_symbols_fd(frames, backtrace(frames, kFrames), STDERR_FILENO);
  // Taken when this returns; or at once by the instruction that is tried again.
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  sigaction(signal, &action, nullptr);
  raise(signal);
}

}  // namespace

void install_crash_handler(int rank) {
  if (kReportedAnyway) return;
  if (rank >= 0) std::snprintf(who, sizeof(who), "cadre: [rank %d] ", rank);
  void* frame[1];
  backtrace(frame, 1);  // loads what it needs: a handler must not
  stack_t stack{};
  stack.ss_sp = handler_stack;
  stack.ss_size = kStackBytes;
  sigaltstack(&stack, nullptr);
  struct sigaction action {};
  action.sa_handler = crashed;
  action.sa_flags = SA_ONSTACK;
  for (const Crash& crash : kCrashes) sigaction(crash.signal, &action, nullptr);
}

}  // namespace cadre::launch
