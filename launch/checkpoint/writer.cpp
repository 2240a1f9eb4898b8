#include "launch/checkpoint/writer.h"

#include <fmt/core.h>

#include <chrono>
#include <cstring>
#include <set>

#include "core/error.h"
#include "core/io/file.h"
#include "core/io/hash.h"
#include "core/runtime/stream.h"
#include "launch/checkpoint/directory.h"
#include "launch/checkpoint/shard_plan.h"

namespace cadre::launch {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr size_t kAlignment = 64;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// What went wrong in `action`, in one line; empty when nothing did. Failures must reach the other ranks before they are
// thrown.
template <class F>
std::string problem_in(F&& action) {
  try {
    action();
  } catch (const std::exception& failure) {
    return failure.what()[0] == '\0' ? "unknown failure" : failure.what();
  }
  return {};
}

std::string to_text(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

void copy_contiguous(const TensorView& from, void* to) {
  const size_t row_bytes = static_cast<size_t>(from.cols()) * size_of(from.dtype);
  if (from.contiguous()) {
    std::memcpy(to, from.data, row_bytes * static_cast<size_t>(from.rows()));
    return;
  }
  for (int64_t row = 0; row < from.rows(); ++row) {
    const size_t stride = static_cast<size_t>(row * from.row_stride) * size_of(from.dtype);
    std::memcpy(static_cast<char*>(to) + static_cast<size_t>(row) * row_bytes,
                static_cast<const char*>(from.data) + stride, row_bytes);
  }
}

// "<path>", or with its offset when the shard has a piece of that tensor already.
std::string dataset_path(const StateEntry& entry, std::set<std::string>& taken) {
  std::string path = entry.name;
  if (!taken.insert(path).second) {
    path += "@";
    for (int axis = 0; axis < entry.offset.rank(); ++axis)
      path += (axis ? "," : "") + std::to_string(entry.offset[axis]);
    taken.insert(path);
  }
  return path;
}

}  // namespace

struct CheckpointWriter::State {
  State(CheckpointOptions given, parallel::Communicator& ranks, Allocator& memory)
      : options(std::move(given)), communicator(ranks), allocator(memory), shard_writer(memory) {}

  void reach(SavePhase phase) const {
    if (options.hooks.at) options.hooks.at(phase);
  }
  bool first_rank() const { return communicator.rank() == 0; }

  void prepare(const std::vector<StateEntry>& entries);
  void agree_on_shards(const std::string& problem);
  void take_snapshot();
  void write_shards();
  void write_manifest_file(Manifest& manifest);
  Manifest merge(const std::vector<std::string>& answers) const;
  [[noreturn]] void give_up(const std::string& problem);
  std::string first_problem(const std::vector<std::string>& answers) const;

  CheckpointOptions options;
  parallel::Communicator& communicator;
  Allocator& allocator;
  ShardWriter shard_writer;
  std::shared_ptr<Buffer> snapshot;

  // One save.
  bool busy = false;
  CheckpointHeader header;
  std::vector<std::vector<ShardDataset>> shards;
  std::vector<TensorView> sources;  // of the shards' datasets, in order; until the snapshot is taken
  Manifest part;                    // what this rank writes
  int first_shard = 0;
  int all_shards = 0;
  SaveReport report;
  std::string background_problem;
  Event written;

  Stream stream{"checkpoint"};  // last: its thread uses the above
};

// Everything that can fail on this rank alone comes before the ranks agree to begin.
void CheckpointWriter::State::prepare(const std::vector<StateEntry>& entries) {
  for (const StateEntry& entry : entries) check_entry(entry);
  if (first_rank()) {
    Manifest trial;
    trial.header = header;
    write_manifest(trial);
    prepare_temporary_directory(options.directory, header.step);
  }
  size_t bytes = 0;
  for (const std::vector<StateEntry>& plan : plan_shards(entries, options.shard_bytes)) {
    std::set<std::string> taken;
    std::vector<ShardDataset>& shard = shards.emplace_back();
    for (const StateEntry& entry : plan) {
      shard.push_back(
          {dataset_path(entry, taken), entry.data.dtype, entry.data.shape, entry.global_shape, entry.offset, nullptr});
      sources.push_back(entry.data);
      bytes += (entry.bytes() + kAlignment - 1) / kAlignment * kAlignment;
      ManifestTensor& tensor = part.tensors[entry.name];
      if (!tensor.pieces.empty() && (tensor.dtype != entry.data.dtype || tensor.shape != entry.global_shape)) {
        throw CheckpointError(fmt::format("{}: supplied with two dtypes or shapes", entry.name));
      }
      tensor.dtype = entry.data.dtype;
      tensor.shape = entry.global_shape;
      const int shard_index = static_cast<int>(shards.size()) - 1;
      tensor.pieces.push_back({shard_index, shard.back().path, {entry.offset, entry.data.shape}});
    }
  }
  if (!snapshot || snapshot->bytes() < bytes) {
    snapshot.reset();
    snapshot = allocator.allocate(bytes);
  }
}

std::string CheckpointWriter::State::first_problem(const std::vector<std::string>& answers) const {
  for (size_t rank = 0; rank < answers.size(); ++rank) {
    const Json answer = Json::parse(answers[rank], nullptr, false);
    if (answer.is_discarded() || !answer.is_object()) return fmt::format("rank {} answered nothing sensible", rank);
    const std::string problem = answer.value("problem", "");
    if (!problem.empty()) return answers.size() > 1 ? fmt::format("rank {}: {}", rank, problem) : problem;
    const int64_t step = answer.value("step", int64_t{-1});
    if (step != header.step) return fmt::format("rank {} saves step {}, this rank {}", rank, step, header.step);
  }
  return {};
}

void CheckpointWriter::State::give_up(const std::string& problem) {
  if (first_rank()) remove_tree(temporary_directory_of(options.directory, header.step));
  throw CheckpointError(fmt::format("checkpoint of step {} not saved: {}", header.step, problem));
}

void CheckpointWriter::State::agree_on_shards(const std::string& problem) {
  const Json mine = {{"problem", problem}, {"step", header.step}, {"shards", shards.size()}};
  const std::vector<std::string> answers = communicator.gather_text(to_text(mine), {"checkpoint begin"});
  const std::string first = first_problem(answers);
  if (!first.empty()) give_up(first);
  first_shard = all_shards = 0;
  for (size_t rank = 0; rank < answers.size(); ++rank) {
    const int count = Json::parse(answers[rank]).value("shards", 0);
    if (static_cast<int>(rank) < communicator.rank()) first_shard += count;
    all_shards += count;
  }
  for (auto& [name, tensor] : part.tensors) {
    for (ManifestPiece& piece : tensor.pieces) piece.shard += first_shard;
  }
}

void CheckpointWriter::State::take_snapshot() {
  char* position = static_cast<char*>(snapshot->data());
  auto source = sources.begin();
  for (std::vector<ShardDataset>& shard : shards) {
    for (ShardDataset& dataset : shard) {
      const size_t bytes = static_cast<size_t>(dataset.shape.elements()) * size_of(dataset.dtype);
      if (bytes > 0) copy_contiguous(*source, position);
      dataset.data = position;
      position += (bytes + kAlignment - 1) / kAlignment * kAlignment;
      ++source;
    }
  }
  sources.clear();
}

// While one shard travels to the disk the next is built; each is synced before the rank calls itself done.
void CheckpointWriter::State::write_shards() {
  const fs::path directory = temporary_directory_of(options.directory, header.step);
  std::unique_ptr<DurableFile> previous;
  for (size_t index = 0; index < shards.size(); ++index) {
    const std::string name = shard_name(first_shard + static_cast<int>(index), all_shards);
    const Bytes image = shard_writer.build(shards[index]);
    part.files.push_back({name, image.size(), xxh3_128(image)});
    auto file = std::make_unique<DurableFile>(directory / name);
    file->write(image.first(image.size() / 2));
    reach(SavePhase::kShardHalfWritten);
    file->write(image.subspan(image.size() / 2));
    file->start_writeback();
    if (previous) previous->commit();
    previous = std::move(file);
  }
  if (previous) previous->commit();
  sync_directory(directory);
  reach(SavePhase::kShardsWritten);
}

Manifest CheckpointWriter::State::merge(const std::vector<std::string>& answers) const {
  Manifest manifest;
  manifest.header = header;
  manifest.ranks = communicator.size();
  for (const std::string& answer : answers) contents_from_json(Json::parse(answer), manifest);
  if (static_cast<int>(manifest.files.size()) != all_shards) throw CheckpointError("the ranks' shards do not add up");
  for (const auto& [name, tensor] : manifest.tensors) check_coverage(name, tensor);
  return manifest;
}

void CheckpointWriter::State::write_manifest_file(Manifest& manifest) {
  const fs::path directory = temporary_directory_of(options.directory, header.step);
  const std::string text = write_manifest(manifest);
  parse_manifest(text);  // what could not be read back must not be published
  DurableFile file(directory / kManifestName);
  file.write(bytes_of(std::string_view(text).substr(0, text.size() / 2)));
  reach(SavePhase::kManifestHalfWritten);
  file.write(bytes_of(std::string_view(text).substr(text.size() / 2)));
  file.commit();
  sync_directory(directory);
  reach(SavePhase::kManifestWritten);
}

CheckpointWriter::CheckpointWriter(CheckpointOptions options, parallel::Communicator& communicator,
                                   Allocator& allocator)
    : state_(std::make_unique<State>(std::move(options), communicator, allocator)) {}

CheckpointWriter::~CheckpointWriter() = default;

bool CheckpointWriter::busy() const { return state_->busy; }

bool CheckpointWriter::locally_done() const { return !state_->busy || state_->written.done(); }

void CheckpointWriter::begin(const CheckpointHeader& header, const std::vector<StateEntry>& entries) {
  State& s = *state_;
  if (s.busy) throw InternalError("a checkpoint was begun before the last one was published");
  const Clock::time_point start = Clock::now();
  s.header = header;
  s.shards.clear();
  s.sources.clear();
  s.part = Manifest();
  s.background_problem.clear();
  s.agree_on_shards(problem_in([&] { s.prepare(entries); }));
  s.take_snapshot();
  s.report = SaveReport();
  s.report.step = header.step;
  s.report.snapshot_seconds = seconds_since(start);
  s.busy = true;
  s.stream.enqueue([&s] {
    const Clock::time_point began = Clock::now();
    s.background_problem = problem_in([&] { s.write_shards(); });
    s.report.write_seconds = seconds_since(began);
  });
  s.written = s.stream.record();
}

SaveReport CheckpointWriter::publish() {
  State& s = *state_;
  if (!s.busy) throw InternalError("publish() without begin()");
  s.written.wait();
  const Clock::time_point start = Clock::now();
  s.busy = false;
  Json mine = contents_to_json(s.part);
  mine["problem"] = s.background_problem;
  mine["step"] = s.header.step;
  const std::vector<std::string> answers = s.communicator.gather_text(to_text(mine), {"checkpoint shards"});
  const std::string failed = s.first_problem(answers);
  if (!failed.empty()) s.give_up(failed);

  Json outcome = {{"problem", ""}, {"step", s.header.step}};
  if (s.first_rank()) {
    outcome["problem"] = problem_in([&] {
      Manifest manifest = s.merge(answers);
      s.write_manifest_file(manifest);
      s.report.bytes = manifest.bytes();
      publish_directory(s.options.directory, s.header.step, [&] { s.reach(SavePhase::kSetAside); });
      s.reach(SavePhase::kPublished);
    });
    outcome["bytes"] = s.report.bytes;
  }
  const std::vector<std::string> outcomes = s.communicator.gather_text(to_text(outcome), {"checkpoint publish"});
  const std::string unpublished = s.first_problem(outcomes);
  if (!unpublished.empty()) s.give_up(unpublished);
  s.report.bytes = Json::parse(outcomes[0]).value("bytes", uint64_t{0});
  s.report.directory = s.options.directory / step_name(s.header.step);
  s.report.publish_seconds = seconds_since(start);
  return s.report;
}

SaveReport CheckpointWriter::save(const CheckpointHeader& header, const std::vector<StateEntry>& entries) {
  begin(header, entries);
  return publish();
}

}  // namespace cadre::launch
