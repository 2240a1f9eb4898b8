#include "parallel/data/reducer.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <numeric>

#include "core/error.h"

namespace cadre::parallel {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Each parameter's place in the buffer among those that are not empty.
std::vector<int64_t> places_of(const std::vector<GradientRange>& parameters, int64_t elements) {
  std::vector<size_t> order(parameters.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return parameters[a].offset < parameters[b].offset; });
  std::vector<int64_t> places(parameters.size());
  int64_t place = 0;
  int64_t end = 0;
  for (const size_t index : order) {
    const GradientRange& range = parameters[index];
    if (range.count == 0) continue;
    places[index] = place++;
    if (range.count < 0 || range.offset < end || range.offset + range.count > elements) {
      throw InternalError(fmt::format(
          "gradient reducer: parameter {} has elements [{}, {}), which overlap others or lie outside the {} "
          "elements of the gradient",
          index, range.offset, range.offset + range.count, elements));
    }
    end = range.offset + range.count;
  }
  return places;
}

}  // namespace

Reducer::Reducer(Communicator& communicator, TensorView gradient, const std::vector<GradientRange>& parameters,
                 ReducerOptions options)
    : communicator_(communicator), gradient_(gradient) {
  if (!gradient.contiguous() || (gradient.dtype != Dtype::kF32 && gradient.dtype != Dtype::kF64)) {
    throw InternalError(fmt::format("gradient reducer: got {} {}, wanted a contiguous f32 or f64 buffer",
                                    name_of(gradient.dtype), gradient.shape.to_string()));
  }
  build_buckets(parameters, options);
  start_step();
}

void Reducer::build_buckets(const std::vector<GradientRange>& parameters, const ReducerOptions& options) {
  const std::vector<int64_t> places = places_of(parameters, gradient_.shape.elements());
  const int64_t largest = std::max<int64_t>(1, options.bucket_bytes / static_cast<int64_t>(size_of(gradient_.dtype)));
  bucket_of_.resize(parameters.size());
  int64_t first_place = 0;  // of the last bucket; no parameter of another bucket lies between first and last
  int64_t last_place = 0;
  for (size_t index = 0; index < parameters.size(); ++index) {
    const int64_t begin = parameters[index].offset;
    const int64_t end = begin + parameters[index].count;
    const bool empty = begin == end;
    if (!buckets_.empty()) {
      Bucket& last = buckets_.back();
      const bool behind = places[index] == last_place + 1 && begin - last.end <= options.largest_gap;
      const bool before = places[index] == first_place - 1 && last.begin - end <= options.largest_gap;
      const bool fits = std::max(end, last.end) - std::min(begin, last.begin) <= largest;
      if (empty || ((behind || before) && fits)) {
        ++last.parameters;
        bucket_of_[index] = buckets_.size() - 1;
        if (empty) continue;
        last.begin = std::min(begin, last.begin);
        last.end = std::max(end, last.end);
        (behind ? last_place : first_place) = places[index];
        continue;
      }
    }
    buckets_.emplace_back();
    buckets_.back().begin = begin;
    buckets_.back().end = end;
    buckets_.back().parameters = 1;
    bucket_of_[index] = buckets_.size() - 1;
    first_place = last_place = places[index];
  }
}

void Reducer::start_step() {
  ready_.assign(bucket_of_.size(), false);
  for (Bucket& bucket : buckets_) {
    if (bucket.work) throw InternalError("gradient reducer: a step was started before the last one was finished");
    bucket.unready = bucket.parameters;
  }
  started_ = 0;
  start_seconds_ = 0;
}

void Reducer::mark_ready(int64_t parameter) {
  const auto index = static_cast<size_t>(parameter);
  if (index >= ready_.size()) {
    throw InternalError(fmt::format("gradient reducer: parameter {} of {}", parameter, ready_.size()));
  }
  if (ready_[index]) throw InternalError(fmt::format("gradient reducer: parameter {} is ready twice", parameter));
  ready_[index] = true;
  --buckets_[bucket_of_[index]].unready;
  if (communicator_.size() > 1) start_ready_buckets(false);
}

void Reducer::start_ready_buckets(bool all) {
  if (started_ == buckets_.size() || (!all && buckets_[started_].unready > 0)) return;
  const auto start = Clock::now();
  for (; started_ < buckets_.size(); ++started_) {
    Bucket& bucket = buckets_[started_];
    if (!all && bucket.unready > 0) break;
    TensorView part = gradient_;
    part.shape = Shape{bucket.end - bucket.begin};
    part.row_stride = bucket.end - bucket.begin;
    part.data = static_cast<char*>(gradient_.data) + static_cast<size_t>(bucket.begin) * size_of(gradient_.dtype);
    bucket.work = communicator_.all_reduce(part, Reduction::kSum, {"gradients"});
  }
  start_seconds_ += seconds_since(start);
}

void Reducer::poll() { communicator_.poll(); }

ReducerReport Reducer::finish() {
  ReducerReport report;
  report.buckets = bucket_count();
  report.started_before_finish = static_cast<int>(started_);
  if (communicator_.size() == 1) return report;
  report.start_seconds = start_seconds_;
  const auto start = Clock::now();
  start_ready_buckets(true);
  for (Bucket& bucket : buckets_) {
    bucket.work->wait();
    bucket.work.reset();
    report.bytes += (bucket.end - bucket.begin) * static_cast<int64_t>(size_of(gradient_.dtype));
  }
  report.exposed_seconds = seconds_since(start);
  return report;
}

}  // namespace cadre::parallel
