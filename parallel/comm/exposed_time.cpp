#include "parallel/comm/exposed_time.h"

#include <chrono>

namespace cadre::parallel {

void wait_for(Work& work, ExposedTime* exposed) {
  const auto start = std::chrono::steady_clock::now();
  work.wait();
  if (exposed == nullptr) return;
  exposed->seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace cadre::parallel
