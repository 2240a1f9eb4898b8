#pragma once
// A trained model, ready to be evaluated or to generate: everything comes from its checkpoint.

#include <filesystem>
#include <memory>

#include "autograd/parameter_store.h"
#include "data/tokenizer.h"
#include "launch/session.h"
#include "model/transformer.h"

namespace cadre::launch {

struct LoadedModel {
  Settings settings;  // of the run that saved it
  int64_t step = 0;
  std::filesystem::path checkpoint;
  std::unique_ptr<data::Tokenizer> tokenizer;
  std::unique_ptr<autograd::ParameterStore> store;
  std::unique_ptr<model::Transformer> model;
};

// Collective. `path`: a checkpoint, a directory of them, or a run's directory; the newest valid one counts. Sets the
// number type of the session's context. Every rank has the whole model. Throws CheckpointError.
LoadedModel load_model(Session& session, const std::filesystem::path& path);

}  // namespace cadre::launch
