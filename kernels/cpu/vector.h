#pragma once
// Vectors of floats for kernels/cpu/*.simd.cpp: 16 lanes with AVX-512, 8 with AVX2, 4 elsewhere (SSE2, NEON). Operators
// + - * / and comparisons are the compiler's (GCC vector extensions). A comparison gives an IntVec mask of 0 and -1.
//
// A tail is done with load_partial and store_partial through the same arithmetic, so that an element's bits do not
// depend on where it stands in a row. Sums over lanes are trees of a fixed shape (per instruction set).
//
// Accuracy, against a correctly rounded result: exp and sigmoid 2 ulp, log 2 ulp, tanh 3 ulp. exp gives denormals and 0
// below -87.3, infinity above 88.73; NaN in, NaN out, everywhere.
//
// Included only by .simd.cpp files; everything stands in the namespace of one instruction set and nothing outside it is
// instantiated, so that the linker cannot hand AVX-512 code to an older CPU.

#include <cstddef>
#include <cstdint>
#if defined(__AVX2__)
// GCC 12 warns falsely about _mm512_undefined_ps inside its own header (GCC bug 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#ifndef CADRE_ISA
#define CADRE_ISA portable
#endif

namespace cadre::cpu::CADRE_ISA {

#if defined(__AVX512F__)
inline constexpr int64_t kWidth = 16;
#elif defined(__AVX2__)
inline constexpr int64_t kWidth = 8;
#else
inline constexpr int64_t kWidth = 4;
#endif

using Vec [[gnu::vector_size(kWidth * 4)]] = float;
using IntVec [[gnu::vector_size(kWidth * 4)]] = int32_t;
// Half as many doubles, for wide accumulators.
using DoubleVec [[gnu::vector_size(kWidth * 4)]] = double;
using HalfVec [[gnu::vector_size(kWidth * 2)]] = float;

namespace detail {
typedef float UnalignedVec __attribute__((vector_size(kWidth * 4), aligned(4), may_alias));
typedef int32_t UnalignedIntVec __attribute__((vector_size(kWidth * 4), aligned(4), may_alias));
typedef double UnalignedDoubleVec __attribute__((vector_size(kWidth * 4), aligned(8), may_alias));
typedef float UnalignedHalfVec __attribute__((vector_size(kWidth * 2), aligned(4), may_alias));
}  // namespace detail

#define CADRE_INLINE [[gnu::always_inline]] inline

CADRE_INLINE Vec load(const float* p) { return *reinterpret_cast<const detail::UnalignedVec*>(p); }
CADRE_INLINE void store(float* p, Vec v) { *reinterpret_cast<detail::UnalignedVec*>(p) = v; }
CADRE_INLINE IntVec load(const int32_t* p) { return *reinterpret_cast<const detail::UnalignedIntVec*>(p); }
CADRE_INLINE void store(int32_t* p, IntVec v) { *reinterpret_cast<detail::UnalignedIntVec*>(p) = v; }
CADRE_INLINE DoubleVec load(const double* p) { return *reinterpret_cast<const detail::UnalignedDoubleVec*>(p); }
CADRE_INLINE void store(double* p, DoubleVec v) { *reinterpret_cast<detail::UnalignedDoubleVec*>(p) = v; }
CADRE_INLINE Vec splat(float x) {
#if defined(__AVX512F__)
  return reinterpret_cast<Vec>(_mm512_set1_ps(x));
#elif defined(__AVX2__)
  return reinterpret_cast<Vec>(_mm256_set1_ps(x));
#else
  return Vec{x, x, x, x};
#endif
}
CADRE_INLINE Vec zero() { return Vec{}; }

// 0, 1, 2, ...
CADRE_INLINE IntVec lane_numbers() {
#if defined(__AVX512F__)
  return IntVec{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif defined(__AVX2__)
  return IntVec{0, 1, 2, 3, 4, 5, 6, 7};
#else
  return IntVec{0, 1, 2, 3};
#endif
}

// The first `count` lanes (0 <= count <= kWidth) of memory; the other lanes are 0 and are not read.
CADRE_INLINE Vec load_partial(const float* p, int64_t count) {
#if defined(__AVX512F__)
  return reinterpret_cast<Vec>(_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), p));
#elif defined(__AVX2__)
  const IntVec mask = lane_numbers() < static_cast<int32_t>(count);
  return reinterpret_cast<Vec>(_mm256_maskload_ps(p, reinterpret_cast<__m256i>(mask)));
#else
  Vec v{};
  for (int64_t i = 0; i < count; ++i) v[i] = p[i];
  return v;
#endif
}

CADRE_INLINE void store_partial(float* p, Vec v, int64_t count) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << count) - 1), reinterpret_cast<__m512>(v));
#elif defined(__AVX2__)
  const IntVec mask = lane_numbers() < static_cast<int32_t>(count);
  _mm256_maskstore_ps(p, reinterpret_cast<__m256i>(mask), reinterpret_cast<__m256>(v));
#else
  for (int64_t i = 0; i < count; ++i) p[i] = v[i];
#endif
}

// Bypasses the caches where the machine can; p aligned to the vector. Followed by store_fence() before another thread
// reads.
CADRE_INLINE void store_streaming(float* p, Vec v) {
#if defined(__AVX512F__)
  _mm512_stream_ps(p, reinterpret_cast<__m512>(v));
#elif defined(__AVX2__)
  _mm256_stream_ps(p, reinterpret_cast<__m256>(v));
#else
  store(p, v);
#endif
}
CADRE_INLINE void store_fence() {
#if defined(__AVX2__)
  _mm_sfence();
#endif
}

// a * b + c, rounded once where the machine has FMA; always the same instruction within one instruction set.
CADRE_INLINE Vec fma(Vec a, Vec b, Vec c) {
#if defined(__AVX512F__)
  return reinterpret_cast<Vec>(
      _mm512_fmadd_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), reinterpret_cast<__m512>(c)));
#elif defined(__AVX2__)
  return reinterpret_cast<Vec>(
      _mm256_fmadd_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b), reinterpret_cast<__m256>(c)));
#else
  return a * b + c;
#endif
}
CADRE_INLINE DoubleVec fma(DoubleVec a, DoubleVec b, DoubleVec c) { return a * b + c; }

// Lanes of `a` where the mask is set, of `b` elsewhere.
CADRE_INLINE Vec select(IntVec mask, Vec a, Vec b) { return mask ? a : b; }
CADRE_INLINE IntVec select(IntVec mask, IntVec a, IntVec b) { return mask ? a : b; }
// `b` where either is NaN.
CADRE_INLINE Vec max(Vec a, Vec b) {
#if defined(__AVX512F__)
  return reinterpret_cast<Vec>(_mm512_max_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
#else
  return a > b ? a : b;
#endif
}
CADRE_INLINE Vec min(Vec a, Vec b) {
#if defined(__AVX512F__)
  return reinterpret_cast<Vec>(_mm512_min_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
#else
  return a < b ? a : b;
#endif
}
CADRE_INLINE Vec abs(Vec x) { return reinterpret_cast<Vec>(reinterpret_cast<IntVec>(x) & 0x7fffffff); }
CADRE_INLINE Vec sqrt(Vec x) {
#if defined(__AVX512F__)
  return reinterpret_cast<Vec>(_mm512_sqrt_ps(reinterpret_cast<__m512>(x)));
#elif defined(__AVX2__)
  return reinterpret_cast<Vec>(_mm256_sqrt_ps(reinterpret_cast<__m256>(x)));
#else
  Vec root;
  for (int64_t i = 0; i < kWidth; ++i) root[i] = __builtin_sqrtf(x[i]);
  return root;
#endif
}

CADRE_INLINE Vec to_float(IntVec x) { return __builtin_convertvector(x, Vec); }
CADRE_INLINE DoubleVec widen(const float* p) {
  return __builtin_convertvector(*reinterpret_cast<const detail::UnalignedHalfVec*>(p), DoubleVec);
}
// Lanes [0, kWidth / 2) and [kWidth / 2, kWidth).
CADRE_INLINE DoubleVec widen_low(Vec x) {
#if defined(__AVX512F__)
  return reinterpret_cast<DoubleVec>(_mm512_cvtps_pd(_mm512_castps512_ps256(reinterpret_cast<__m512>(x))));
#elif defined(__AVX2__)
  return reinterpret_cast<DoubleVec>(_mm256_cvtps_pd(_mm256_castps256_ps128(reinterpret_cast<__m256>(x))));
#else
  return DoubleVec{x[0], x[1]};
#endif
}
CADRE_INLINE DoubleVec widen_high(Vec x) {
#if defined(__AVX512F__)
  return reinterpret_cast<DoubleVec>(_mm512_cvtps_pd(_mm512_extractf32x8_ps(reinterpret_cast<__m512>(x), 1)));
#elif defined(__AVX2__)
  return reinterpret_cast<DoubleVec>(_mm256_cvtps_pd(_mm256_extractf128_ps(reinterpret_cast<__m256>(x), 1)));
#else
  return DoubleVec{x[2], x[3]};
#endif
}

// Reductions over lanes: lane i meets lane i + half, then the halves' halves.
CADRE_INLINE float sum(Vec x) {
  float lanes[kWidth];
  store(lanes, x);
  for (int64_t half = kWidth / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}
CADRE_INLINE double sum(DoubleVec x) {
  double lanes[kWidth / 2];
  store(lanes, x);
  for (int64_t half = kWidth / 4; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}
CADRE_INLINE float max_lane(Vec x) {
  float lanes[kWidth];
  store(lanes, x);
  for (int64_t half = kWidth / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) lanes[i] = lanes[i] > lanes[i + half] ? lanes[i] : lanes[i + half];
  }
  return lanes[0];
}

// exp(x) = 2^n exp(r), |r| <= ln(2) / 2: the reduction in two parts of Cody and Waite; polynomial of Cephes' expf.
CADRE_INLINE Vec exp(Vec x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  x = max(splat(-105.0f), min(splat(90.0f), x));
  const Vec shifted = fma(x, splat(1.44269504088896341f), splat(kMagic));
  const Vec n = shifted - kMagic;
  Vec r = fma(n, splat(-0.693359375f), x);
  r = fma(n, splat(2.12194440e-4f), r);
  Vec p = splat(1.9875691500e-4f);
  p = fma(p, r, splat(1.3981999507e-3f));
  p = fma(p, r, splat(8.3334519073e-3f));
  p = fma(p, r, splat(4.1665795894e-2f));
  p = fma(p, r, splat(1.6666665459e-1f));
  p = fma(p, r, splat(5.0000001201e-1f));
  p = fma(p, r * r, r) + 1.0f;
#if defined(__AVX512F__)
  return reinterpret_cast<Vec>(_mm512_scalef_ps(reinterpret_cast<__m512>(p), reinterpret_cast<__m512>(n)));
#else
  // 2^n in two factors, so that the results near the ends of the range are right.
  const IntVec exponent = reinterpret_cast<IntVec>(shifted) - reinterpret_cast<IntVec>(splat(kMagic));
  const IntVec half = exponent >> 1;
  const Vec first = reinterpret_cast<Vec>((half + 127) << 23);
  const Vec second = reinterpret_cast<Vec>((exponent - half + 127) << 23);
  return p * first * second;
#endif
}

// log(x) = e ln(2) + log(m), m in [sqrt(1/2), sqrt(2)); polynomial of Cephes' logf. log(0) = -inf, log(-1) = NaN.
CADRE_INLINE Vec log(Vec x) {
  const Vec infinity = splat(__builtin_inff());
  const IntVec denormal = x < splat(1.17549435e-38f);
  const Vec scaled = select(denormal, x * 8388608.0f, x);
  const IntVec bits = reinterpret_cast<IntVec>(scaled);
  const IntVec offset = bits - 0x3f3504f3;  // bits of sqrt(1/2)
  const Vec exponent = to_float((offset >> 23) + select(denormal, IntVec{} - 23, IntVec{}));
  const Vec m = reinterpret_cast<Vec>((offset & 0x007fffff) + 0x3f3504f3) - 1.0f;
  const Vec square = m * m;
  Vec p = splat(7.0376836292e-2f);
  p = fma(p, m, splat(-1.1514610310e-1f));
  p = fma(p, m, splat(1.1676998740e-1f));
  p = fma(p, m, splat(-1.2420140846e-1f));
  p = fma(p, m, splat(1.4249322787e-1f));
  p = fma(p, m, splat(-1.6668057665e-1f));
  p = fma(p, m, splat(2.0000714765e-1f));
  p = fma(p, m, splat(-2.4999993993e-1f));
  p = fma(p, m, splat(3.3333331174e-1f));
  Vec tail = fma(exponent, splat(-2.12194440e-4f), p * m * square);
  tail = fma(square, splat(-0.5f), tail);
  Vec result = fma(exponent, splat(0.693359375f), m + tail);
  result = select(x == infinity, infinity, result);
  result = select(x == 0.0f, -infinity, result);
  return select(x >= 0.0f, result, splat(__builtin_nanf("")));
}

// 1 / (1 + exp(-x)).
CADRE_INLINE Vec sigmoid(Vec x) { return 1.0f / (1.0f + exp(-x)); }

// Near 0 the odd polynomial of Cephes' tanhf; elsewhere 1 - 2 / (exp(2 |x|) + 1) with the sign of x.
CADRE_INLINE Vec tanh(Vec x) {
  const Vec magnitude = abs(x);
  const Vec square = x * x;
  Vec p = splat(-5.70498872745e-3f);
  p = fma(p, square, splat(2.06390887954e-2f));
  p = fma(p, square, splat(-5.37397155531e-2f));
  p = fma(p, square, splat(1.33314422036e-1f));
  p = fma(p, square, splat(-3.33332819422e-1f));
  const Vec near = fma(p * square, x, x);
  const Vec far = 1.0f - 2.0f / (exp(2.0f * magnitude) + 1.0f);
  const IntVec sign = reinterpret_cast<IntVec>(x) & static_cast<int32_t>(0x80000000u);
  const Vec signed_far = reinterpret_cast<Vec>(reinterpret_cast<IntVec>(far) | sign);
  return select(magnitude < 0.625f, near, signed_far);
}

}  // namespace cadre::cpu::CADRE_ISA
