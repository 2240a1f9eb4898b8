#include "kernels/optimizer.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "core/error.h"
#include "kernels/cpu/optimizer.h"
#include "kernels/reference/optimizer.h"

namespace cadre::kernels {
namespace {

void check_flat(std::string_view op, std::initializer_list<TensorView> tensors) {
  const TensorView& first = *tensors.begin();
  for (const TensorView& tensor : tensors) {
    if (tensor.dtype != first.dtype || (tensor.dtype != Dtype::kF32 && tensor.dtype != Dtype::kF64) ||
        !tensor.contiguous()) {
      throw InternalError(fmt::format("{}: tensors {} {} and {} {}; wanted contiguous, of one type, f32 or f64", op,
                                      name_of(first.dtype), first.shape.to_string(), name_of(tensor.dtype),
                                      tensor.shape.to_string()));
    }
  }
}

void check_range(std::string_view op, const char* what, size_t i, int64_t offset, int64_t count, TensorView tensor) {
  const int64_t elements = tensor.shape.elements();
  if (offset >= 0 && count >= 0 && offset <= elements - count) return;
  throw InternalError(fmt::format("{}: {} of segment {} are [{}, +{}); wanted inside {} elements", op, what, i, offset,
                                  count, elements));
}

template <class Segment>
void check_places(std::string_view op, std::span<const Segment> segments, TensorView weights, TensorView gradients,
                  TensorView moments) {
  for (size_t i = 0; i < segments.size(); ++i) {
    const StatePlace& place = segments[i].place;
    check_range(op, "weights", i, place.weights, place.count, weights);
    check_range(op, "gradients", i, place.gradients, place.count, gradients);
    check_range(op, "moments", i, place.moments, place.count, moments);
  }
}

// Splits the elements of all segments evenly, wherever segments end. body(segment, first, count) serves one piece, from
// element `first` of the segment.
template <class Segment, class Body>
void for_pieces(ThreadPool& threads, std::span<const Segment> segments, Body&& body) {
  int64_t total = 0;
  for (const Segment& segment : segments) total += segment.place.count;
  constexpr int64_t kGrain = 4096;
  parallel_for(threads, total, kGrain, [&](int64_t begin, int64_t end) {
    int64_t position = 0;
    for (const Segment& segment : segments) {
      const int64_t from = std::max(begin, position);
      const int64_t to = std::min(end, position + segment.place.count);
      if (from < to) body(segment, from - position, to - from);
      position += segment.place.count;
      if (position >= end) return;
    }
  });
}

int64_t runs_of(int64_t count) { return (count + kChangeRun - 1) / kChangeRun; }

template <class Segment>
void check_changes(std::string_view op, std::span<const Segment> segments, std::span<const double> changes) {
  int64_t runs = 0;
  for (const Segment& segment : segments) runs += runs_of(segment.place.count);
  if (changes.empty() || static_cast<int64_t>(changes.size()) == runs) return;
  throw InternalError(fmt::format("{}: {} changes for {} runs of elements", op, changes.size(), runs));
}

// As for_pieces, in whole runs, each of which is measured while it is in the cache. `measure(before, after, count)`
// may spoil what was before.
template <class Value, class Segment, class Body, class Measure>
void for_runs(ThreadPool& threads, std::span<const Segment> segments, const Value* weights, std::span<double> changes,
              Body&& body, Measure&& measure) {
  parallel_for(threads, static_cast<int64_t>(changes.size()), 1, [&](int64_t begin, int64_t end) {
    alignas(64) Value before[kChangeRun];
    int64_t first = 0;  // of the segment's runs
    for (const Segment& segment : segments) {
      const int64_t runs = runs_of(segment.place.count);
      for (int64_t run = std::max(begin, first); run < std::min(end, first + runs); ++run) {
        const int64_t offset = (run - first) * kChangeRun, count = std::min(kChangeRun, segment.place.count - offset);
        const Value* const at = weights + segment.place.weights + offset;
        std::copy_n(at, count, before);
        body(segment, offset, count);
        changes[static_cast<size_t>(run)] = measure(before, at, count);
      }
      first += runs;
      if (first >= end) return;
    }
  });
}

// Serves all pieces of f32 segments, measured or not.
template <class Segment, class Body>
void update(const Exec& exec, const cpu::OptimizerTable& table, std::span<const Segment> segments, TensorView weights,
            std::span<double> changes, Body&& body) {
  if (changes.empty()) return for_pieces(exec.threads, segments, body);
  for_runs(exec.threads, segments, weights.as<float>(), changes, body,
           [&](float* before, const float* after, int64_t count) {
             table.subtract_from(after, before, count);
             return table.sum_of_squares(before, count);
           });
}

// The reference: a part of a segment at a time where it is measured.
template <class Segment, class Update>
void reference_update(const Exec& exec, std::span<const Segment> segments, const double* weights,
                      std::span<double> changes, Update&& update) {
  if (changes.empty()) {
    for (const Segment& segment : segments) update(segment);
    return;
  }
  const auto part = [&](Segment segment, int64_t first, int64_t count) {
    StatePlace& place = segment.place;
    place = {place.weights + first, place.gradients + first, place.moments + first, count};
    update(segment);
  };
  for_runs(exec.threads, segments, weights, changes, part, [](double* before, const double* after, int64_t count) {
    for (int64_t i = 0; i < count; ++i) before[i] = after[i] - before[i];
    return reference::sum_of_squares(before, count);
  });
}

cpu::AdamWPiece adamw_piece(const AdamWSegment& segment) {
  const double step = static_cast<double>(segment.step);
  cpu::AdamWPiece piece{};
  piece.beta1 = static_cast<float>(segment.beta1);
  piece.beta2 = static_cast<float>(segment.beta2);
  piece.one_minus_beta1 = static_cast<float>(1 - segment.beta1);
  piece.one_minus_beta2 = static_cast<float>(1 - segment.beta2);
  piece.eps = static_cast<float>(segment.eps);
  piece.step_size = static_cast<float>(segment.lr / (1 - std::pow(segment.beta1, step)));
  piece.v_correction = static_cast<float>(1 / (1 - std::pow(segment.beta2, step)));
  piece.decay = static_cast<float>(segment.lr * segment.weight_decay);
  piece.gradient_scale = static_cast<float>(segment.gradient_scale);
  return piece;
}

constexpr int64_t kNormBlock = 4096;

int64_t block_count(const FlatRange& range) { return (range.count + kNormBlock - 1) / kNormBlock; }

}  // namespace

void adamw(const Exec& exec, std::span<const AdamWSegment> segments, TensorView weights, TensorView gradients,
           TensorView m, TensorView v, std::span<double> changes) {
  check_flat("adamw", {weights, gradients, m, v});
  check_places("adamw", segments, weights, gradients, m);
  check_places("adamw", segments, weights, gradients, v);
  check_changes("adamw", segments, changes);
  if (exec.dry) return std::fill(changes.begin(), changes.end(), 0.0);
  if (weights.dtype == Dtype::kF64) {
    return reference_update(exec, segments, weights.as<double>(), changes, [&](const AdamWSegment& segment) {
      reference::adamw(segment, weights.as<double>(), gradients.as<double>(), m.as<double>(), v.as<double>());
    });
  }
  const cpu::OptimizerTable& table = CADRE_SIMD_SELECT(exec.isa, kOptimizerTable);
  update(exec, table, segments, weights, changes, [&](const AdamWSegment& segment, int64_t first, int64_t count) {
    cpu::AdamWPiece piece = adamw_piece(segment);
    const StatePlace& place = segment.place;
    piece.weights = weights.as<float>() + place.weights + first;
    piece.gradients = gradients.as<float>() + place.gradients + first;
    piece.m = m.as<float>() + place.moments + first;
    piece.v = v.as<float>() + place.moments + first;
    piece.count = count;
    table.adamw(piece);
  });
}

void sgd(const Exec& exec, std::span<const SgdSegment> segments, TensorView weights, TensorView gradients,
         TensorView buffer, std::span<double> changes) {
  check_flat("sgd", {weights, gradients, buffer});
  check_places("sgd", segments, weights, gradients, buffer);
  check_changes("sgd", segments, changes);
  if (exec.dry) return std::fill(changes.begin(), changes.end(), 0.0);
  if (weights.dtype == Dtype::kF64) {
    return reference_update(exec, segments, weights.as<double>(), changes, [&](const SgdSegment& segment) {
      reference::sgd(segment, weights.as<double>(), gradients.as<double>(), buffer.as<double>());
    });
  }
  const cpu::OptimizerTable& table = CADRE_SIMD_SELECT(exec.isa, kOptimizerTable);
  update(exec, table, segments, weights, changes, [&](const SgdSegment& segment, int64_t first, int64_t count) {
    table.sgd({.weights = weights.as<float>() + segment.place.weights + first,
               .gradients = gradients.as<float>() + segment.place.gradients + first,
               .buffer = buffer.as<float>() + segment.place.moments + first,
               .count = count,
               .lr = static_cast<float>(segment.lr),
               .momentum = static_cast<float>(segment.momentum),
               .decay = static_cast<float>(segment.lr * segment.weight_decay),
               .gradient_scale = static_cast<float>(segment.gradient_scale),
               .nesterov = segment.nesterov});
  });
}

void squared_norms(const Exec& exec, std::span<const FlatRange> ranges, TensorView x, std::span<double> results) {
  check_flat("squared_norms", {x});
  for (size_t i = 0; i < ranges.size(); ++i) {
    check_range("squared_norms", "elements", i, ranges[i].offset, ranges[i].count, x);
  }
  if (results.size() != ranges.size()) {
    throw InternalError(fmt::format("squared_norms: {} results for {} ranges", results.size(), ranges.size()));
  }
  if (exec.dry) return std::fill(results.begin(), results.end(), 0.0);
  int64_t blocks = 0;
  for (const FlatRange& range : ranges) blocks += block_count(range);
  double* const sums = static_cast<double*>(exec.threads.scratch(0, static_cast<size_t>(blocks) * sizeof(double)));
  const cpu::OptimizerTable& table = CADRE_SIMD_SELECT(exec.isa, kOptimizerTable);
  parallel_for(exec.threads, blocks, 1, [&](int64_t begin, int64_t end) {
    int64_t first = 0;  // of the range's blocks
    for (const FlatRange& range : ranges) {
      const int64_t count = block_count(range);
      for (int64_t block = std::max(begin, first); block < std::min(end, first + count); ++block) {
        const int64_t offset = (block - first) * kNormBlock;
        const int64_t length = std::min(kNormBlock, range.count - offset);
        sums[block] = x.dtype == Dtype::kF64 ? reference::sum_of_squares(x.as<double>() + range.offset + offset, length)
                                             : table.sum_of_squares(x.as<float>() + range.offset + offset, length);
      }
      first += count;
      if (first >= end) return;
    }
  });
  double* range_sums = sums;
  for (size_t i = 0; i < ranges.size(); ++i) {
    const int64_t count = block_count(ranges[i]);
    results[i] = tree_sum({range_sums, static_cast<size_t>(count)});
    range_sums += count;
  }
}

double tree_sum(std::span<double> values) {
  if (values.empty()) return 0;
  for (size_t count = values.size(); count > 1; count = (count + 1) / 2) {
    for (size_t i = 0; i < count / 2; ++i) values[i] = values[2 * i] + values[2 * i + 1];
    if (count % 2 == 1) values[count / 2] = values[count - 1];
  }
  return values[0];
}

}  // namespace cadre::kernels
