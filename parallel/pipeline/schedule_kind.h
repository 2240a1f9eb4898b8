#pragma once
// The pipeline schedules that a config can ask for.

#include "core/config/fields.h"

namespace cadre::parallel {

enum class ScheduleKind {
  kGPipe,        // all forwards, then all backwards (Huang et al., "GPipe", NeurIPS 2019)
  k1F1B,         // PipeDream-Flush (Narayanan et al., "Memory-efficient pipeline-parallel DNN training", ICML 2021)
  kInterleaved,  // several stages on a rank (Narayanan et al., "Efficient large-scale language model training", SC
                 // 2021)
  kZeroBubble,   // ZB-H1 (Qi et al., "Zero bubble pipeline parallelism", ICLR 2024): backward in two parts
};

}  // namespace cadre::parallel

template <>
struct cadre::config::EnumNames<cadre::parallel::ScheduleKind> {
  using enum cadre::parallel::ScheduleKind;
  static constexpr EnumName<cadre::parallel::ScheduleKind> values[] = {
      {kGPipe, "gpipe"}, {k1F1B, "1f1b"}, {kInterleaved, "interleaved"}, {kZeroBubble, "zero_bubble"}};
};
