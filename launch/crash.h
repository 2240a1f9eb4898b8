#pragma once
// A crash says where: which rank, which signal, and the stack.

namespace cadre::launch {

// Installs handlers for SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT that print a stack trace to standard error, naming
// the rank (none where it is negative), and then let the signal end the process. To be called when MPI is up, which
// installs handlers of its own. Addresses that have no name are for addr2line. Does nothing in a build with
// AddressSanitizer, which tells more. The rank and the handlers' stack are static storage, which is all that a signal
// handler can reach.
void install_crash_handler(int rank);

}  // namespace cadre::launch
