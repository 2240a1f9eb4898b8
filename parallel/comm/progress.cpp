#include "parallel/comm/progress.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>

namespace cadre::parallel {
namespace {

constexpr size_t kReportLines = 64;
constexpr int kReadAttempts = 1000;
constexpr size_t kLongestPath = 1000;  // ranks that wait for each other

bool silent(const RankView& view) { return view.progress.activity != Activity::kEnded && view.silent > kSilentSeconds; }

std::string last_of(const RankProgress& progress) {
  if (progress.entered_any == 0) return "no collective entered";
  return fmt::format("last entered: {}, {}", describe(progress.last),
                     progress.last_finished != 0 ? "finished" : "not finished");
}

bool waits_for_last(const RankProgress& progress) {
  return progress.entered_any != 0 && same_call(progress.last, progress.waiting) &&
         std::strncmp(progress.last.group, progress.waiting.group, sizeof(progress.last.group)) == 0;
}

// Equal texts make one line; the times are put in afterwards.
std::string state_of(const RankView& view) {
  const RankProgress& progress = view.progress;
  std::string text = silent(view) ? "stopped or dead (not heard of for {silent} s); " : "";
  switch (progress.activity) {
    case Activity::kUnknown: return "nothing is known of it";
    case Activity::kOutside: return text + "outside of collectives for {seconds} s; " + last_of(progress);
    case Activity::kBlocked: return text + progress.blocked + " for {seconds} s; " + last_of(progress);
    case Activity::kEnded: return text + "ended; " + last_of(progress);
    case Activity::kWaiting: break;
  }
  text += "waiting in " + describe(progress.waiting) + " for {seconds} s";
  return waits_for_last(progress) ? text : text + "; " + last_of(progress);
}

void put(std::string& text, const std::string& place, double value) {
  const size_t at = text.find(place);
  if (at != std::string::npos) text.replace(at, place.size(), fmt::format("{:.1f}", value));
}

std::string ranks_text(const std::vector<int>& ranks) {
  std::string text;
  for (size_t i = 0; i < ranks.size();) {
    size_t end = i + 1;
    while (end < ranks.size() && ranks[end] == ranks[end - 1] + 1) ++end;
    if (!text.empty()) text += ", ";
    text += end - i > 2 ? fmt::format("{}-{}", ranks[i], ranks[end - 1]) : std::to_string(ranks[i]);
    if (end - i == 2) text += fmt::format(", {}", ranks[end - 1]);
    i = end;
  }
  return (ranks.size() == 1 ? "rank " : "ranks ") + text;
}

}  // namespace

int64_t monotonic_nanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void ProgressPage::write(const RankProgress& progress) {
  const uint64_t next = updates.load(std::memory_order_relaxed) + 1;
  std::memcpy(static_cast<void*>(&copies[next % 2]), &progress, sizeof(progress));
  updates.store(next, std::memory_order_release);
}

RankProgress ProgressPage::read() const {
  RankProgress progress;
  for (int attempt = 0; attempt < kReadAttempts; ++attempt) {
    const uint64_t before = updates.load(std::memory_order_acquire);
    if (before == 0) return {};
    std::memcpy(static_cast<void*>(&progress), &copies[before % 2], sizeof(progress));
    std::atomic_thread_fence(std::memory_order_acquire);
    if (updates.load(std::memory_order_relaxed) == before) break;
  }
  return progress;
}

ProgressWriter::ProgressWriter(ProgressPage& page, int rank) : page_(page) {
  progress_.rank = rank;
  progress_.pid = static_cast<int32_t>(getpid());
  page_.heartbeat.store(monotonic_nanoseconds());
  become(Activity::kOutside);
}

void ProgressWriter::become(Activity activity) {
  progress_.activity = activity;
  progress_.since = monotonic_nanoseconds();
  page_.write(progress_);
}

GroupProgress* ProgressWriter::find(uint64_t key, bool adds) {
  for (GroupProgress& group : progress_.groups) {
    if (group.key == key) return &group;
  }
  if (!adds) return nullptr;
  for (GroupProgress& group : progress_.groups) {
    if (group.key != 0) continue;
    group = {.key = key};
    return &group;
  }
  return nullptr;
}

void ProgressWriter::entered(const Call& call) {
  progress_.last = record_of(call);
  progress_.entered_any = 1;
  progress_.last_finished = 0;
  progress_.since = monotonic_nanoseconds();
  if (!is_message(call.operation) && call.group) {
    if (GroupProgress* group = find(call.group->key, true)) group->entered = call.sequence;
  }
  page_.write(progress_);
}

void ProgressWriter::finished(const Call& call) {
  const CallRecord record = record_of(call);
  if (same_call(record, progress_.last) && std::strcmp(record.group, progress_.last.group) == 0) {
    progress_.last_finished = 1;
  }
  if (!is_message(call.operation) && call.group) {
    GroupProgress* group = find(call.group->key, false);
    if (group != nullptr) group->finished = std::max(group->finished, call.sequence);
  }
  page_.write(progress_);
}

void ProgressWriter::waiting(const Call& call) {
  progress_.waiting = record_of(call);
  progress_.waiting_group = call.group ? call.group->key : 0;
  become(Activity::kWaiting);
}

void ProgressWriter::blocked(const std::string& where) {
  std::strncpy(progress_.blocked, where.c_str(), sizeof(progress_.blocked) - 1);
  become(Activity::kBlocked);
}

void ProgressWriter::outside() { become(Activity::kOutside); }
void ProgressWriter::ended() { become(Activity::kEnded); }

void ProgressWriter::forget(uint64_t key) {
  GroupProgress* group = find(key, false);
  if (group == nullptr) return;
  *group = {};
  page_.write(progress_);
}

std::vector<int> absent_from(const Call& call, const std::vector<RankView>& views) {
  std::vector<int> ranks;
  if (!call.group || is_message(call.operation)) return ranks;
  for (const RankView& view : views) {
    const auto& members = call.group->members;
    const int rank = view.progress.rank;
    if (std::find(members.begin(), members.end(), rank) == members.end()) continue;
    if (view.progress.activity == Activity::kUnknown) continue;
    const auto* group = std::find_if(std::begin(view.progress.groups), std::end(view.progress.groups),
                                     [&](const GroupProgress& g) { return g.key == call.group->key; });
    const bool known = group != std::end(view.progress.groups);
    // A rank with a free place has not called anything on this communicator yet.
    const bool has_place = std::any_of(std::begin(view.progress.groups), std::end(view.progress.groups),
                                       [](const GroupProgress& g) { return g.key == 0; });
    if (known ? group->entered < call.sequence : has_place) ranks.push_back(rank);
  }
  std::sort(ranks.begin(), ranks.end());
  return ranks;
}

std::vector<int> suspects(const std::vector<RankView>& views) {
  std::vector<int> ranks;
  for (const RankView& view : views) {
    if (silent(view)) ranks.push_back(view.progress.rank);
  }
  if (!ranks.empty()) return ranks;
  for (const RankView& view : views) {
    const Activity activity = view.progress.activity;
    if (activity == Activity::kOutside || activity == Activity::kEnded) ranks.push_back(view.progress.rank);
  }
  return ranks;
}

std::vector<int> awaited_by(int rank, const std::vector<RankView>& views) {
  std::vector<int> ranks;
  const RankProgress& own = views[static_cast<size_t>(rank)].progress;
  if (own.activity != Activity::kWaiting) return ranks;
  if (is_message(own.waiting.operation)) return {own.waiting.peer};
  for (const RankView& view : views) {
    for (const GroupProgress& group : view.progress.groups) {
      if (group.key != 0 && group.key == own.waiting_group && group.entered < own.waiting.sequence) {
        ranks.push_back(view.progress.rank);
      }
    }
  }
  return ranks;
}

std::vector<int> circle(int rank, const std::vector<RankView>& views) {
  std::vector<int> path;
  for (size_t step = 0; step < std::min(views.size(), kLongestPath); ++step) {
    path.push_back(rank);
    const std::vector<int> awaited = awaited_by(rank, views);
    if (awaited.empty()) return {};
    rank = awaited.front();
    const auto seen = std::find(path.begin(), path.end(), rank);
    if (seen != path.end()) return {seen, path.end()};
  }
  return {};
}

std::string report(const std::vector<RankView>& views) {
  struct Line {
    std::vector<int> ranks;
    double seconds = 0;
    double silent = 0;
  };
  std::map<std::string, Line> lines;
  for (const RankView& view : views) {
    Line& line = lines[state_of(view)];
    line.ranks.push_back(view.progress.rank);
    line.seconds = std::max(line.seconds, view.seconds);
    line.silent = std::max(line.silent, view.silent);
  }
  std::vector<std::pair<std::string, Line>> ordered(lines.begin(), lines.end());
  std::sort(ordered.begin(), ordered.end(),
            [](const auto& a, const auto& b) { return a.second.ranks.front() < b.second.ranks.front(); });
  std::string text;
  for (size_t i = 0; i < std::min(ordered.size(), kReportLines); ++i) {
    std::string state = ordered[i].first;
    put(state, "{seconds}", ordered[i].second.seconds);
    put(state, "{silent}", ordered[i].second.silent);
    text += fmt::format("\n  {}: {}", ranks_text(ordered[i].second.ranks), state);
  }
  if (ordered.size() > kReportLines) text += fmt::format("\n  and {} more", ordered.size() - kReportLines);
  return text;
}

std::string timeout_message(const Call& call, int rank, double seconds, const std::vector<int>& missing,
                            const std::vector<RankView>& views) {
  std::string text = fmt::format("rank {}: {} timed out after {:.1f} s", rank, describe(call), seconds);
  const std::vector<int> absent = absent_from(call, views);
  if (!absent.empty()) {
    text += fmt::format(": not arrived: rank {}", list_ranks(absent));
  } else if (!missing.empty()) {
    std::vector<int> ranks;
    for (const int member : missing) ranks.push_back(call.group ? call.group->world_rank(member) : member);
    text += fmt::format(": not {}: rank {}", views.empty() ? "arrived" : "finished", list_ranks(ranks));
  }
  const std::vector<int> suspected = suspects(views);
  if (!suspected.empty()) text += fmt::format("; the job waits for rank {}", list_ranks(suspected));
  const std::vector<int> ring = suspected.empty() && !views.empty() ? circle(rank, views) : std::vector<int>{};
  for (size_t i = 0; i < ring.size(); ++i) {
    text += fmt::format("{}{} for {}", i == 0 ? "; the ranks wait for each other: " : ", ", ring[i],
                        ring[(i + 1) % ring.size()]);
  }
  return text + report(views);
}

}  // namespace cadre::parallel
