#pragma once
// A whole training run: resolve, resume, loop, save.

#include <memory>
#include <vector>

#include "launch/checkpoint/resume.h"
#include "launch/checkpoint/writer.h"
#include "launch/monitor/observer.h"
#include "launch/session.h"
#include "launch/settings.h"

namespace cadre::launch {

enum class RunEnd {
  kFinished,
  kStopAfter,
  kStopped,  // by a signal, or run.time_limit_seconds
};

struct RunRequest {
  Settings settings;
  ResumeRequest resume;
  CheckpointHooks hooks{};  // for tests
};

// Collective. Failures end all ranks as Session::together says; a non-finite step is a DivergenceError, and the newest
// checkpoint stays.
RunEnd train_run(Session& session, const RunRequest& request);

}  // namespace cadre::launch
