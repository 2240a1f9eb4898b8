#include "parallel/comm/reduction.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <span>
#include <type_traits>

#include "core/error.h"

namespace cadre::parallel {
namespace {

// A block stays in the first-level cache while every rank's part is added to it.
constexpr int64_t kBlock = 1024;
// A constant trip count, so that -O2 vectorises the loop.
constexpr int64_t kUnroll = 32;

template <Reduction kReduction, class T>
T combine(T a, T b) {
  if constexpr (kReduction == Reduction::kSum) {
    if constexpr (std::is_integral_v<T>) {
      using Unsigned = std::make_unsigned_t<T>;
      return static_cast<T>(static_cast<Unsigned>(a) + static_cast<Unsigned>(b));
    } else {
      return a + b;
    }
  } else if constexpr (kReduction == Reduction::kMax) {
    return a < b ? b : a;
  } else {
    return b < a ? b : a;
  }
}

template <Reduction kReduction, class T>
void combine_block(T* __restrict block, const T* __restrict source, int64_t elements) {
  int64_t i = 0;
  for (; i + kUnroll <= elements; i += kUnroll) {
    for (int64_t j = 0; j < kUnroll; ++j) block[i + j] = combine<kReduction>(block[i + j], source[i + j]);
  }
  for (; i < elements; ++i) block[i] = combine<kReduction>(block[i], source[i]);
}

size_t power_of_two_below(size_t count) { return std::bit_floor(count - 1); }

// How many of `count` sources make up the left half of their tree.
size_t left_of(size_t count, size_t block) {
  if (count <= block) return power_of_two_below(count);
  return block * power_of_two_below((count + block - 1) / block);
}

using Sources = std::span<const void* const>;

template <Reduction kReduction, class T>
void reduce_block(Sources sources, size_t block, int64_t begin, int64_t elements, T* __restrict out) {
  const auto source = [&](size_t i) { return static_cast<const T*>(sources[i]) + begin; };
  if (sources.size() <= 2) {
    std::memcpy(out, source(0), static_cast<size_t>(elements) * sizeof(T));
    if (sources.size() == 2) combine_block<kReduction>(out, source(1), elements);
    return;
  }
  const size_t left = left_of(sources.size(), block);
  reduce_block<kReduction>(sources.first(left), block, begin, elements, out);
  if (left + 1 == sources.size()) return combine_block<kReduction>(out, source(left), elements);
  alignas(64) T right[kBlock];
  reduce_block<kReduction>(sources.subspan(left), block, begin, elements, right);
  combine_block<kReduction>(out, right, elements);
}

template <Reduction kReduction, class T>
void reduce(Sources sources, size_t tree_block, int64_t elements, void* out, void* copy) {
  alignas(64) T block[kBlock];
  for (int64_t begin = 0; begin < elements; begin += kBlock) {
    const int64_t count = std::min(kBlock, elements - begin);
    const size_t bytes = static_cast<size_t>(count) * sizeof(T);
    reduce_block<kReduction>(sources, tree_block, begin, count, block);
    std::memcpy(static_cast<T*>(out) + begin, block, bytes);
    if (copy != nullptr) std::memcpy(static_cast<T*>(copy) + begin, block, bytes);
  }
}

template <class T>
void dispatch(Reduction reduction, Sources sources, size_t block, int64_t elements, void* out, void* copy) {
  switch (reduction) {
    case Reduction::kSum: return reduce<Reduction::kSum, T>(sources, block, elements, out, copy);
    case Reduction::kMax: return reduce<Reduction::kMax, T>(sources, block, elements, out, copy);
    case Reduction::kMin: return reduce<Reduction::kMin, T>(sources, block, elements, out, copy);
  }
}

}  // namespace

void reduce_in_order(Dtype dtype, Reduction reduction, const std::vector<const void*>& sources, int64_t elements,
                     void* out, void* copy, size_t block) {
  switch (dtype) {
    case Dtype::kF32: return dispatch<float>(reduction, sources, block, elements, out, copy);
    case Dtype::kF64: return dispatch<double>(reduction, sources, block, elements, out, copy);
    case Dtype::kI64: return dispatch<int64_t>(reduction, sources, block, elements, out, copy);
    case Dtype::kI32: return dispatch<int32_t>(reduction, sources, block, elements, out, copy);
    default: throw InternalError("cannot reduce " + std::string(name_of(dtype)) + "; f32, f64, i64 and i32 can");
  }
}

}  // namespace cadre::parallel
