#include "parallel/data/reducer.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>

#include "core/error.h"

namespace cadre::parallel {
namespace {

using Clock = std::chrono::steady_clock;

// Elements of padding between neighbours that may be reduced along, unused: parameters start at multiples of 16.
constexpr int64_t kLargestGap = 15;
constexpr int64_t kAlignment = 16;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

TensorView part_of(TensorView flat, const ElementRange& range) {
  flat.data = static_cast<char*>(flat.data) + static_cast<size_t>(range.begin) * size_of(flat.dtype);
  flat.shape = Shape{range.count()};
  flat.row_stride = range.count();
  return flat;
}

// Ranges of the flat storage that parameters take, joined where only padding lies between.
std::vector<ElementRange> runs_of(std::vector<ElementRange> ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
  std::vector<ElementRange> runs;
  for (const ElementRange& range : ranges) {
    if (!runs.empty() && range.begin - runs.back().end <= kLargestGap) {
      runs.back().end = range.end;
    } else {
      runs.push_back(range);
    }
  }
  return runs;
}

}  // namespace

Reducer::Reducer(Communicator& communicator, Allocator& allocator, ReducedStorage storage,
                 std::vector<ReducedParameter> parameters, ReducerOptions options)
    : communicator_(communicator),
      allocator_(allocator),
      storage_(storage),
      parameters_(std::move(parameters)),
      options_(options),
      exchange_(communicator, allocator, storage, options.zero, options.block),
      place_(parameters_.size()) {
  build_buckets();
  for (Bucket& bucket : buckets_) plan_bucket(bucket);
  for (size_t i = 0; i < parameters_.size() && options_.zero == 2; ++i) {
    if (parameters_[i].parameter != nullptr) parameters_[i].parameter->lend_gradient = [this, i] { return lend(i); };
  }
  start_step();
}

Reducer::~Reducer() {
  for (const ReducedParameter& parameter : parameters_) {
    if (parameter.parameter != nullptr) parameter.parameter->lend_gradient = nullptr;
  }
}

// A bucket's size is that of the rank that holds most of it, so that all ranks cut alike.
void Reducer::build_buckets() {
  const auto element = static_cast<int64_t>(size_of(storage_.values.dtype));
  std::vector<int64_t> held, of_parameter;  // elements, by rank
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const ReducedParameter& parameter = parameters_[i];
    of_parameter.assign(static_cast<size_t>(communicator_.size()), 0);
    for (const HeldSegment& segment : parameter.segments) {
      for (const int rank : segment.holders) of_parameter[static_cast<size_t>(rank)] += segment.elements;
    }
    const bool same_chunk = i > 0 && parameters_[i - 1].chunk == parameter.chunk;
    bool fits = same_chunk && parameters_[i - 1].experts == parameter.experts;
    for (size_t rank = 0; fits && rank < held.size(); ++rank) {
      fits = (held[rank] + of_parameter[rank]) * element <= options_.bucket_bytes;
    }
    if (!same_chunk) chains_.push_back({buckets_.size(), buckets_.size(), 0});
    if (!fits) {
      buckets_.emplace_back();
      buckets_.back().first = i;
      held.assign(of_parameter.size(), 0);
    }
    for (size_t rank = 0; rank < held.size(); ++rank) held[rank] += of_parameter[rank];
    buckets_.back().end = i + 1;
    bucket_of_.push_back(buckets_.size() - 1);
    chain_of_.push_back(chains_.size() - 1);
    chains_.back().end = buckets_.size();
  }
}

bool Reducer::all_ranks_hold(const Bucket& bucket) const {
  for (size_t i = bucket.first; i < bucket.end; ++i) {
    for (const HeldSegment& segment : parameters_[i].segments) {
      if (static_cast<int>(segment.holders.size()) != communicator_.size()) return false;
    }
  }
  return true;
}

void Reducer::plan_bucket(Bucket& bucket) {
  std::vector<SegmentPlace> places;
  std::vector<ElementRange> ranges;
  for (size_t i = bucket.first; i < bucket.end; ++i) {
    const autograd::Parameter* parameter = parameters_[i].parameter;
    const int64_t offset = parameter == nullptr ? 0 : parameter->offset;
    place_[i] = bucket.elements;
    const int64_t gradient = options_.zero == 2 ? place_[i] : offset;
    for (const HeldSegment& segment : parameters_[i].segments) {
      places.push_back({&segment, offset + segment.offset, gradient + segment.offset});
    }
    if (parameter == nullptr) continue;
    const int64_t elements = parameter->shape.elements();
    bucket.elements += (elements + kAlignment - 1) / kAlignment * kAlignment;
    ranges.push_back({offset, offset + elements});
  }
  // A block of another size than a power of two is another tree than that of all_reduce.
  const bool same_tree =
      (options_.block & (options_.block - 1)) == 0 || options_.block >= static_cast<size_t>(communicator_.size());
  bucket.all_reduced = options_.zero == 0 && same_tree && all_ranks_hold(bucket);
  if (bucket.all_reduced) {
    bucket.runs = runs_of(std::move(ranges));
  } else {
    bucket.plan = plan_exchange(places, communicator_.rank(), communicator_.size());
  }
}

void Reducer::expect_all(Bucket& bucket) {
  bucket.unready = 0;
  for (size_t i = bucket.first; i < bucket.end; ++i) {
    ready_[i] = false;
    if (parameters_[i].parameter != nullptr) ++bucket.unready;
  }
}

void Reducer::start_step() {
  ready_.assign(parameters_.size(), false);
  for (Bucket& bucket : buckets_) {
    if (!bucket.works.empty()) throw InternalError("gradient reducer: a step was started before the last was finished");
    expect_all(bucket);
    bucket.reduced = false;
  }
  for (Chain& chain : chains_) chain.next = chain.first;
  started_ = 0;
  start_seconds_ = 0;
}

// The gradients of a bucket's parameters, made when the first of them arrives.
Tensor Reducer::lend(size_t parameter) {
  Bucket& bucket = buckets_[bucket_of_[parameter]];
  if (!bucket.lent) bucket.lent = Tensor::empty(allocator_, storage_.values.dtype, Shape{bucket.elements});
  return bucket.lent.flat_slice(place_[parameter], parameters_[parameter].parameter->shape);
}

void Reducer::ready(int64_t parameter, bool last) {
  const auto index = static_cast<size_t>(parameter);
  if (index >= ready_.size() || parameters_[index].parameter == nullptr) {
    throw InternalError(fmt::format("gradient reducer: parameter {} of {} is not here", parameter, ready_.size()));
  }
  if (!last && !by_micro_batch()) return;
  if (ready_[index]) {
    if (by_micro_batch()) return;  // its bucket has not started, and takes both micro-batches together
    throw InternalError(fmt::format("gradient reducer: parameter {} is ready twice", parameter));
  }
  ready_[index] = true;
  --buckets_[bucket_of_[index]].unready;
  Chain& chain = chains_[chain_of_[index]];
  if (by_micro_batch() && chain.next == chain.end) chain.next = chain.first;
  if (communicator_.size() > 1 || options_.zero == 2) start_ready_buckets(chain, false);
}

void Reducer::start_ready_buckets(Chain& chain, bool all) {
  if (chain.next == chain.end || (!all && buckets_[chain.next].unready > 0)) return;
  const auto begin = Clock::now();
  for (; chain.next < chain.end && (all || buckets_[chain.next].unready == 0); ++chain.next) {
    start(buckets_[chain.next]);
    ++started_;
  }
  start_seconds_ += seconds_since(begin);
}

void Reducer::start(Bucket& bucket) {
  for (size_t i = bucket.first; i < bucket.end; ++i) {
    if (parameters_[i].parameter != nullptr) parameters_[i].parameter->zero_gradient_if_empty();
  }
  const CollectiveLabel label{parameters_[bucket.first].experts ? "expert gradients" : "gradients"};
  if (bucket.all_reduced) {
    for (const ElementRange& run : bucket.runs) {
      bucket.works.push_back(communicator_.all_reduce(part_of(storage_.gradients, run), Reduction::kSum, label));
    }
    return;
  }
  if (options_.zero == 2) {
    for (size_t i = bucket.first; i < bucket.end; ++i) {
      if (parameters_[i].parameter != nullptr) parameters_[i].parameter->give_back_gradient();
    }
  }
  exchange_.reduce(bucket.plan, std::move(bucket.lent), !bucket.reduced, label);
  bucket.reduced = true;
  if (by_micro_batch()) expect_all(bucket);
}

ReducerReport Reducer::finish() {
  ReducerReport report;
  report.buckets = bucket_count();
  report.started_before_finish = started_;
  report.start_seconds = start_seconds_;
  const double waited = exchange_.take_waited_seconds();
  const auto start = Clock::now();
  const bool alone = communicator_.size() == 1;
  for (Chain& chain : chains_) {
    if (!alone || options_.zero == 2) start_ready_buckets(chain, true);
  }
  for (Bucket& bucket : buckets_) {
    for (const WorkPtr& work : bucket.works) work->wait();
    bucket.works.clear();
    if (!alone) report.bytes += bucket.elements * static_cast<int64_t>(size_of(storage_.values.dtype));
  }
  exchange_.finish_reducing();
  report.exposed_seconds = alone ? 0 : waited + seconds_since(start);
  exchange_.take_waited_seconds();
  return report;
}

double Reducer::publish() {
  if (options_.zero == 0 || communicator_.size() == 1) return 0;
  const auto start = Clock::now();
  for (const Bucket& bucket : buckets_) exchange_.publish(bucket.plan);
  exchange_.finish_publishing();
  exchange_.take_waited_seconds();
  return seconds_since(start);
}

}  // namespace cadre::parallel
