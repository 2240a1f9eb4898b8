#pragma once
// From a config to a run that can start: data opened, `auto` values decided, all ranks agreed.

#include <memory>
#include <string>

#include "core/config/config.h"
#include "data/held_out.h"
#include "data/loader.h"
#include "data/sampler.h"
#include "data/tokenizer.h"
#include "launch/session.h"
#include "launch/settings.h"
#include "parallel/mesh/layout.h"

namespace cadre::launch {

struct ResolvedRun {
  Settings settings;  // no `auto` left that affects results
  std::unique_ptr<data::Tokenizer> tokenizer;
  std::shared_ptr<const data::Sampler> sampler;
  parallel::Layout layout;
  data::BatchPlan plan;
  std::unique_ptr<const data::HeldOut> held_out;  // null: no validation
  uint64_t held_out_bytes = 0;                    // of text behind what a validation scores; 0: unknown
};

// Collective. Bad input on any rank, and configs or data that differ between ranks, are refused on every rank.
ResolvedRun resolve_run(Session& session, const Settings& settings);

// The settings that fix what a checkpoint means, as YAML; a resumed run must have the same.
std::string identity_of(const Settings& settings);
// Throws CheckpointError naming the first setting that differs from the checkpoint's, with both values.
void check_same_model(const Settings& settings, const Settings& saved, const std::string& checkpoint);

}  // namespace cadre::launch
