#pragma once
// The one MPI session of the test program.

#include "parallel/comm/mpi.h"

namespace cadre::parallel::testing {

inline MpiSession*& session_slot() {
  static MpiSession* session = nullptr;
  return session;
}
inline MpiSession& session() { return *session_slot(); }

}  // namespace cadre::parallel::testing
