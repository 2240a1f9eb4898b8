#include "parallel/comm/agreement.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>

#include "parallel/comm/collective.h"

namespace cadre::parallel {
namespace {

constexpr size_t kShown = 60;  // characters of a text that an error quotes

[[noreturn]] void throw_typed(ExitCode code, const std::string& message) {
  switch (code) {
    case ExitCode::kUsage: throw ConfigError(message);
    case ExitCode::kData: throw DataError(message);
    case ExitCode::kCheckpoint: throw CheckpointError(message);
    case ExitCode::kCommunication: throw CommunicationError(message);
    case ExitCode::kDevice: throw DeviceError(message);
    case ExitCode::kDivergence: throw DivergenceError(message);
    case ExitCode::kInternal: throw InternalError(message);
    case ExitCode::kOk:
    case ExitCode::kStopped: break;
  }
  throw Error(code, message);
}

// The text from a little before its first difference from `other`, on one line.
std::string excerpt(const std::string& text, const std::string& other) {
  const auto difference = std::mismatch(text.begin(), text.end(), other.begin(), other.end()).first - text.begin();
  size_t begin = static_cast<size_t>(difference);
  begin = begin > kShown / 2 ? begin - kShown / 2 : 0;
  std::string shown = (begin > 0 ? "..." : "") + text.substr(begin, kShown);
  if (begin + kShown < text.size()) shown += "...";
  std::replace(shown.begin(), shown.end(), '\n', ' ');
  return shown;
}

// The text that most ranks hold; of equally common ones, that of the lowest rank.
const std::string& majority(const std::vector<std::string>& texts) {
  std::map<std::string, int> votes;
  for (const std::string& text : texts) ++votes[text];
  const auto* best = &texts[0];
  for (const std::string& text : texts) {
    if (votes[text] > votes[*best]) best = &text;
  }
  return *best;
}

}  // namespace

void agree_on(Communicator& communicator, const std::string& text, const std::string& what, ExitCode code) {
  const std::vector<std::string> texts = communicator.gather_text(text, {"agreement"});
  const std::string& common = majority(texts);
  std::vector<int> odd;
  for (size_t rank = 0; rank < texts.size(); ++rank) {
    if (texts[rank] != common) odd.push_back(static_cast<int>(rank));
  }
  if (odd.empty()) return;
  const std::string& other = texts[static_cast<size_t>(odd[0])];
  const auto rank = std::find(texts.begin(), texts.end(), common) - texts.begin();
  throw_typed(code, fmt::format("{} differs between ranks: rank {} has \"{}\", rank {} has \"{}\"", what,
                                list_ranks(odd), excerpt(other, common), rank, excerpt(common, other)));
}

void all_ok(Communicator& communicator, const std::optional<std::string>& error, ExitCode code) {
  const std::string own = error ? fmt::format("{} {}", static_cast<int>(code), *error) : "";
  const std::vector<std::string> texts = communicator.gather_text(own, {"errors"});
  const auto first = std::find_if(texts.begin(), texts.end(), [](const std::string& text) { return !text.empty(); });
  if (first == texts.end()) return;
  const size_t space = first->find(' ');
  const auto first_code = static_cast<ExitCode>(std::stoi(first->substr(0, space)));
  const std::string message = first->substr(space + 1);
  const bool everywhere = std::all_of(texts.begin(), texts.end(), [&](const auto& text) { return text == *first; });
  throw_typed(first_code, everywhere ? message : fmt::format("rank {}: {}", first - texts.begin(), message));
}

void all_ok_after(Communicator& communicator, const std::function<void()>& body) {
  std::optional<std::string> message;
  ExitCode code = ExitCode::kInternal;
  try {
    body();
  } catch (const Error& error) {
    message = error.what();
    code = error.code();
  } catch (const std::exception& error) {
    message = error.what();
  }
  all_ok(communicator, message, code);
}

}  // namespace cadre::parallel
