#include "launch/checkpoint/resume.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/io/hash.h"
#include "launch/checkpoint/directory.h"
#include "launch/checkpoint/verify.h"

namespace cadre::launch {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

std::string to_text(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

// Rank 0's list, as every rank sees it.
std::vector<std::string> agreed_candidates(const fs::path& directory, const ResumeRequest& request,
                                           parallel::Communicator& communicator) {
  Json mine = {{"problem", ""}, {"candidates", Json::array()}};
  if (communicator.rank() == 0) {
    try {
      const bool one = request.policy == ResumePolicy::kPath && fs::exists(request.path / kManifestName);
      if (one) mine["candidates"].push_back(request.path.string());
      const fs::path& root = request.policy == ResumePolicy::kPath ? request.path : directory;
      if (!one) {
        for (const StepDirectory& step : list_steps(root)) mine["candidates"].push_back(step.path.string());
        // A path that holds none is taken for a checkpoint, so that the error says what it lacks.
        if (request.policy == ResumePolicy::kPath && mine["candidates"].empty())
          mine["candidates"].push_back(root.string());
      }
    } catch (const std::exception& failure) {
      mine["problem"] = failure.what();
    }
  }
  const Json first = Json::parse(communicator.gather_text(to_text(mine), {"checkpoint candidates"}).at(0));
  const std::string problem = first.value("problem", "");
  if (!problem.empty()) throw CheckpointError(problem);
  return first.at("candidates").get<std::vector<std::string>>();
}

// Why the candidate does not count; empty when it does. The same text on every rank.
std::string agreed_problem(const fs::path& candidate, parallel::Communicator& communicator) {
  Json mine = {{"problem", ""}, {"manifest", ""}};
  try {
    const Manifest manifest = load_manifest(candidate);
    mine["manifest"] = xxh3_128_of_file(candidate / kManifestName);
    const std::vector<std::string> problems =
        verify_files(candidate, manifest, communicator.rank(), communicator.size());
    if (!problems.empty()) {
      const std::string more = problems.size() > 1 ? fmt::format(" (and {} more)", problems.size() - 1) : "";
      mine["problem"] = problems.front() + more;
    }
  } catch (const std::exception& failure) {
    mine["problem"] = failure.what();
  }
  const std::vector<std::string> answers = communicator.gather_text(to_text(mine), {"checkpoint verification"});
  const Json first = Json::parse(answers.at(0));
  for (size_t rank = 0; rank < answers.size(); ++rank) {
    const Json answer = Json::parse(answers[rank]);
    const std::string problem = answer.value("problem", "");
    if (!problem.empty()) return answers.size() > 1 ? fmt::format("rank {}: {}", rank, problem) : problem;
    if (answer.at("manifest") != first.at("manifest"))
      return fmt::format("rank {} sees another manifest than rank 0", rank);
  }
  return {};
}

[[noreturn]] void fail(const fs::path& where, const ResumeRequest& request, const ResumeChoice& choice) {
  std::string message = fmt::format("{}: no valid checkpoint to resume from", where.string());
  for (const std::string& line : choice.skipped) message += "; " + line;
  throw CheckpointError(request.policy == ResumePolicy::kPath ? message
                                                              : message + "; pass --resume never to start afresh");
}

}  // namespace

ResumeRequest parse_resume(const std::string& text) {
  if (text == "auto") return {ResumePolicy::kAuto, {}};
  if (text == "must") return {ResumePolicy::kMust, {}};
  if (text == "never") return {ResumePolicy::kNever, {}};
  return {ResumePolicy::kPath, text};
}

ResumeChoice choose_checkpoint(const fs::path& directory, const ResumeRequest& request,
                               parallel::Communicator& communicator) {
  ResumeChoice choice;
  if (request.policy == ResumePolicy::kNever) return choice;
  const std::vector<std::string> candidates = agreed_candidates(directory, request, communicator);
  for (const std::string& candidate : candidates) {
    const std::string problem = agreed_problem(candidate, communicator);
    if (problem.empty()) {
      choice.checkpoint = candidate;
      return choice;
    }
    choice.skipped.push_back(fmt::format("{} skipped: {}", candidate, problem));
  }
  if (candidates.empty() && request.policy == ResumePolicy::kAuto) return choice;
  fail(request.policy == ResumePolicy::kPath ? request.path : directory, request, choice);
}

}  // namespace cadre::launch
