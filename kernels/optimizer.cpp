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

int64_t check_flat(std::string_view op, std::initializer_list<TensorView> tensors) {
  const TensorView& first = *tensors.begin();
  for (const TensorView& tensor : tensors) {
    if (tensor.dtype != first.dtype || (tensor.dtype != Dtype::kF32 && tensor.dtype != Dtype::kF64) ||
        tensor.shape.elements() != first.shape.elements() || !tensor.contiguous()) {
      throw InternalError(fmt::format("{}: tensors {} {} and {} {}; wanted contiguous, alike, f32 or f64", op,
                                      name_of(first.dtype), first.shape.to_string(), name_of(tensor.dtype),
                                      tensor.shape.to_string()));
    }
  }
  return first.shape.elements();
}

template <class Segment>
void check_segments(std::string_view op, std::span<const Segment> segments, int64_t elements) {
  for (size_t i = 0; i < segments.size(); ++i) {
    const Segment& segment = segments[i];
    if (segment.offset < 0 || segment.count < 0 || segment.offset > elements - segment.count) {
      throw InternalError(fmt::format("{}: segment {} is [{}, +{}); wanted inside {} elements", op, i, segment.offset,
                                      segment.count, elements));
    }
  }
}

// Splits the elements of all segments evenly, wherever segments end. body(segment, offset, count) serves one piece.
template <class Segment, class Body>
void for_pieces(ThreadPool& threads, std::span<const Segment> segments, Body&& body) {
  int64_t total = 0;
  for (const Segment& segment : segments) total += segment.count;
  constexpr int64_t kGrain = 4096;
  parallel_for(threads, total, kGrain, [&](int64_t begin, int64_t end) {
    int64_t position = 0;
    for (const Segment& segment : segments) {
      const int64_t from = std::max(begin, position);
      const int64_t to = std::min(end, position + segment.count);
      if (from < to) body(segment, segment.offset + from - position, to - from);
      position += segment.count;
      if (position >= end) return;
    }
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

// Neighbours in pairs, then pairs of pairs; an odd one out moves up unchanged. Overwrites the sums.
double tree_sum(double* sums, int64_t count) {
  if (count == 0) return 0;
  for (; count > 1; count = (count + 1) / 2) {
    for (int64_t i = 0; i < count / 2; ++i) sums[i] = sums[2 * i] + sums[2 * i + 1];
    if (count % 2 == 1) sums[count / 2] = sums[count - 1];
  }
  return sums[0];
}

}  // namespace

void adamw(const Exec& exec, std::span<const AdamWSegment> segments, TensorView weights, TensorView gradients,
           TensorView m, TensorView v) {
  check_segments("adamw", segments, check_flat("adamw", {weights, gradients, m, v}));
  if (weights.dtype == Dtype::kF64) {
    for (const AdamWSegment& segment : segments) {
      reference::adamw(segment, weights.as<double>(), gradients.as<double>(), m.as<double>(), v.as<double>());
    }
    return;
  }
  const cpu::OptimizerTable& table = CADRE_SIMD_SELECT(exec.isa, kOptimizerTable);
  for_pieces(exec.threads, segments, [&](const AdamWSegment& segment, int64_t offset, int64_t count) {
    cpu::AdamWPiece piece = adamw_piece(segment);
    piece.weights = weights.as<float>() + offset;
    piece.gradients = gradients.as<float>() + offset;
    piece.m = m.as<float>() + offset;
    piece.v = v.as<float>() + offset;
    piece.count = count;
    table.adamw(piece);
  });
}

void sgd(const Exec& exec, std::span<const SgdSegment> segments, TensorView weights, TensorView gradients,
         TensorView buffer) {
  check_segments("sgd", segments, check_flat("sgd", {weights, gradients, buffer}));
  if (weights.dtype == Dtype::kF64) {
    for (const SgdSegment& segment : segments) {
      reference::sgd(segment, weights.as<double>(), gradients.as<double>(), buffer.as<double>());
    }
    return;
  }
  const cpu::OptimizerTable& table = CADRE_SIMD_SELECT(exec.isa, kOptimizerTable);
  for_pieces(exec.threads, segments, [&](const SgdSegment& segment, int64_t offset, int64_t count) {
    table.sgd({.weights = weights.as<float>() + offset,
               .gradients = gradients.as<float>() + offset,
               .buffer = buffer.as<float>() + offset,
               .count = count,
               .lr = static_cast<float>(segment.lr),
               .momentum = static_cast<float>(segment.momentum),
               .decay = static_cast<float>(segment.lr * segment.weight_decay),
               .gradient_scale = static_cast<float>(segment.gradient_scale),
               .nesterov = segment.nesterov});
  });
}

void squared_norms(const Exec& exec, std::span<const FlatRange> ranges, TensorView x, std::span<double> results) {
  check_segments("squared_norms", ranges, check_flat("squared_norms", {x}));
  if (results.size() != ranges.size()) {
    throw InternalError(fmt::format("squared_norms: {} results for {} ranges", results.size(), ranges.size()));
  }
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
    results[i] = tree_sum(range_sums, count);
    range_sums += count;
  }
}

}  // namespace cadre::kernels
