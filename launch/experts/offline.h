#pragma once
// Operations on the experts of a checkpoint: what `cadre experts` does.

#include <filesystem>
#include <memory>
#include <string>

#include "launch/checkpoint/reader.h"
#include "launch/experts/choice.h"
#include "launch/experts/operation.h"
#include "launch/session.h"
#include "launch/settings.h"

namespace cadre::launch {

struct SavedState {
  std::unique_ptr<CheckpointReader> reader;
  Settings settings;  // of the run that saved it

  model::ExpertLayout layout() const { return model::ExpertLayout(settings.network()); }
};

// Collective. `path`: a checkpoint, a directory of them, or a run's directory; the newest valid one counts. Sets the
// number type of the session's context. Throws CheckpointError.
SavedState open_state(Session& session, const std::filesystem::path& path);

// Loads are those of the last steps, as the run saw them. `norms`: reads all experts.
ExpertFacts facts_of(SavedState& state, bool norms);

// The experts one by one, as a table.
std::string list_text(SavedState& state);

// One expert by its selector. Throws ConfigError when it names none, or several.
model::ExpertPlace one_expert(const SavedState& state, const std::string& selector);

ExpertEdit plan_operation(SavedState& state, const model::ExpertOperationSettings& operation);
// Each dense layer of [first, last] becomes `experts` copies of its feed-forward network, with noise, behind a new
// router (Komatsuzaki et al., "Sparse upcycling", 2023).
ExpertEdit plan_upcycle(const SavedState& state, int64_t first, int64_t last, int64_t experts, int64_t top_k,
                        double noise);
// The expert of a file as a new one of a group, `into`, or as the new weights of one that is there, `replaced`; one of
// the two is empty.
ExpertEdit plan_import(SavedState& state, const std::filesystem::path& file, const std::string& into,
                       const std::string& replaced);

// Collective, on any number of ranks: OUTPUT/checkpoints gets the state after the edit, and OUTPUT/config.yaml a config
// to go on with. Refuses to touch a run that is there. Returns the checkpoint.
std::filesystem::path write_edited(Session& session, SavedState& state, const ExpertEdit& edit,
                                   const std::filesystem::path& output);

}  // namespace cadre::launch
