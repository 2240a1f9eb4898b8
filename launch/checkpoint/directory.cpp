#include "launch/checkpoint/directory.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "core/error.h"
#include "core/io/file.h"
#include "launch/checkpoint/verify.h"

namespace cadre::launch {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step-";
constexpr std::string_view kOld = ".old-";
constexpr std::string_view kTemporary = ".tmp";
constexpr std::string_view kDelete = ".tmp-delete";

template <class T>
std::optional<T> number_in(std::string_view digits) {
  T value{};
  const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (failure != std::errc() || end != digits.data() + digits.size() || value < 0) return std::nullopt;
  return value;
}

std::optional<StepDirectory> parse(const fs::path& path) {
  const std::string name = path.filename().string();
  std::string_view rest = name;
  if (!rest.starts_with(kPrefix)) return std::nullopt;
  StepDirectory found{path, 0, -1};
  const size_t old = rest.find(kOld);
  if (old != std::string_view::npos) {
    const auto index = number_in<int>(rest.substr(old + kOld.size()));
    if (!index) return std::nullopt;
    found.set_aside = *index;
    rest = rest.substr(0, old);
  }
  const auto step = number_in<int64_t>(rest.substr(kPrefix.size()));
  if (!step || step_name(*step) != rest) return std::nullopt;
  found.step = *step;
  return found;
}

std::vector<fs::path> children_of(const fs::path& root) {
  std::vector<fs::path> children;
  std::error_code failure;
  fs::directory_iterator position(root, failure);
  if (failure == std::errc::no_such_file_or_directory) return children;
  for (; !failure && position != fs::directory_iterator(); position.increment(failure))
    children.push_back(position->path());
  if (failure)
    throw CheckpointError(fmt::format("{}: cannot list the checkpoints: {}", root.string(), failure.message()));
  std::sort(children.begin(), children.end());
  return children;
}

// First out of the readers' sight in one step, so that no half-deleted folder looks like a checkpoint.
void erase(const fs::path& path, std::vector<std::string>& problems) {
  fs::path doomed = path;
  if (!path.string().ends_with(kDelete)) {
    doomed += kDelete;
    std::error_code failure;
    if (fs::exists(doomed, failure)) remove_tree(doomed);
    fs::rename(path, doomed, failure);
    if (failure) {
      problems.push_back(fmt::format("{}: cannot delete: {}", path.string(), failure.message()));
      return;
    }
  }
  if (!remove_tree(doomed)) problems.push_back(fmt::format("{}: cannot delete all of it", doomed.string()));
}

bool looks_valid(const fs::path& directory) {
  try {
    check_sizes(directory, load_manifest(directory));
    return true;
  } catch (const CheckpointError&) {
    return false;
  }
}

}  // namespace

std::string step_name(int64_t step) { return fmt::format("{}{:08d}", kPrefix, step); }

fs::path temporary_directory_of(const fs::path& root, int64_t step) {
  return root / (step_name(step) + std::string(kTemporary));
}

std::vector<StepDirectory> list_steps(const fs::path& root) {
  std::vector<StepDirectory> steps;
  for (const fs::path& child : children_of(root)) {
    if (auto found = parse(child)) steps.push_back(*found);
  }
  const auto age = [](const StepDirectory& directory) {
    return std::pair(-directory.step, directory.set_aside < 0 ? INT64_MIN : -int64_t{directory.set_aside});
  };
  std::sort(steps.begin(), steps.end(), [&](const auto& a, const auto& b) { return age(a) < age(b); });
  return steps;
}

fs::path prepare_temporary_directory(const fs::path& root, int64_t step) {
  create_directories_durably(root);
  const fs::path directory = temporary_directory_of(root, step);
  if (fs::exists(fs::symlink_status(directory)) && !remove_tree(directory)) {
    throw CheckpointError(fmt::format("{}: cannot remove what an earlier save left", directory.string()));
  }
  create_directories_durably(directory);
  return directory;
}

fs::path publish_directory(const fs::path& root, int64_t step, const std::function<void()>& between) {
  const fs::path target = root / step_name(step);
  fs::path aside;
  if (fs::exists(fs::symlink_status(target))) {
    int index = 0;
    do {
      aside = target.string() + std::string(kOld) + std::to_string(index++);
    } while (fs::exists(fs::symlink_status(aside)));
    rename_durably(target, aside);
  }
  if (between) between();
  try {
    rename_durably(temporary_directory_of(root, step), target);
  } catch (const CheckpointError&) {
    std::error_code ignored;
    if (!aside.empty() && !fs::exists(target, ignored)) fs::rename(aside, target, ignored);
    throw;
  }
  if (!aside.empty()) remove_tree(aside);  // what stays is harmless, and prune() comes by
  return target;
}

std::vector<std::string> prune(const fs::path& root, const Retention& retention, int64_t just_published) {
  std::vector<std::string> problems;
  int valid = 0;
  for (const StepDirectory& step : list_steps(root)) {
    const bool enough = valid >= std::max(1, retention.keep);
    if (step.set_aside >= 0) {
      // Only a valid folder of the same or a newer step makes one that was set aside useless.
      if (valid > 0) erase(step.path, problems);
      continue;
    }
    const bool permanent =
        step.step == just_published || (retention.permanent_every > 0 && step.step % retention.permanent_every == 0);
    if (enough && retention.keep > 0 && !permanent) {
      erase(step.path, problems);
    } else if (looks_valid(step.path)) {
      ++valid;
    }
  }
  for (const fs::path& child : children_of(root)) {
    const std::string name = child.filename().string();
    if (name.starts_with(kPrefix) && (name.ends_with(kTemporary) || name.ends_with(kDelete))) erase(child, problems);
  }
  return problems;
}

}  // namespace cadre::launch
