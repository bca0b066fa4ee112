// Vectors of W floats in GNU vector extensions (gcc and clang), with the few operations that C++ lacks.
// The width follows the instruction set this file is compiled for; narrower machines split the vector.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fourdvd {
namespace {

#if defined(__AVX512F__)
constexpr int W = 16;
#else
constexpr int W = 8;
#endif

typedef float vf __attribute__((vector_size(W * 4)));
typedef int32_t vi __attribute__((vector_size(W * 4)));

inline vf splat(float x) { return x - vf{}; }
inline vi splat(int32_t x) { return x - vi{}; }

inline vf load(const float* p) {
#if defined(__AVX512F__)
  return (vf)_mm512_loadu_ps(p);  // memcpy of 64 bytes goes through the stack with gcc
#elif defined(__AVX__)
  return (vf)_mm256_loadu_ps(p);
#else
  vf v;
  std::memcpy(&v, p, sizeof v);
  return v;
#endif
}

inline void store(float* p, vf v) {
#if defined(__AVX512F__)
  _mm512_storeu_ps(p, (__m512)v);
#elif defined(__AVX__)
  _mm256_storeu_ps(p, (__m256)v);
#else
  std::memcpy(p, &v, sizeof v);
#endif
}

inline vf iota() {
  vf v;
  for (int i = 0; i < W; ++i) v[i] = static_cast<float>(i);
  return v;
}

inline vf select(vi mask, vf yes, vf no) { return mask ? yes : no; }
inline vf keep(vi mask, vf v) { return (vf)(mask & (vi)v); }

// Without `select`, which takes many instructions where a vector is wider than the machine's.
inline vf negate(vi mask, vf v) { return (vf)((mask & (vi)splat(-0.0f)) ^ (vi)v); }

inline vf minimum(vf a, vf b) {
#if defined(__AVX512F__)
  return (vf)_mm512_min_ps((__m512)a, (__m512)b);  // gcc makes two instructions of a comparison
#elif defined(__AVX__)
  return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
  return a < b ? a : b;
#endif
}

inline vf maximum(vf a, vf b) {
#if defined(__AVX512F__)
  return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX__)
  return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return a > b ? a : b;
#endif
}

inline vi minimum(vi a, vi b) { return a < b ? a : b; }
inline vi maximum(vi a, vi b) { return a > b ? a : b; }
inline vi to_int(vf v) { return __builtin_convertvector(v, vi); }  // toward zero
inline vf to_float(vi v) { return __builtin_convertvector(v, vf); }

inline bool any(vi mask) {
#if defined(__AVX512F__)
  return _mm512_movepi32_mask((__m512i)mask) != 0;
#elif defined(__AVX__)
  return _mm256_movemask_ps((__m256)mask) != 0;
#else
  uint64_t words[W / 2], some = 0;
  std::memcpy(words, &mask, sizeof mask);
  for (uint64_t word : words) some |= word;
  return some != 0;
#endif
}

// Also true for -0.
inline bool all_negative(vf v) {
#if defined(__AVX512F__)
  return _mm512_movepi32_mask((__m512i)v) == 0xffff;
#elif defined(__AVX__)
  return _mm256_movemask_ps((__m256)v) == 0xff;
#else
  uint64_t words[W / 2], all = 0x8000000080000000u;  // two lanes in a word
  std::memcpy(words, &v, sizeof v);
  for (uint64_t word : words) all &= word;
  return all == 0x8000000080000000u;
#endif
}

inline vf sqrt(vf v) {
#if defined(__AVX512F__)
  return (vf)_mm512_sqrt_ps((__m512)v);
#elif defined(__AVX__)
  return (vf)_mm256_sqrt_ps((__m256)v);
#else
  for (int i = 0; i < W; ++i) v[i] = __builtin_sqrtf(v[i]);
  return v;
#endif
}

constexpr float kLog2e = 1.44269504f;  // exp(x) = 2^(kLog2e x)

// 2^x with a relative error below 3e-7; x is clamped to [-126, 126].
inline vf exp2(vf x) {
  x = minimum(maximum(x, splat(-126.0f)), splat(126.0f));
  const vf magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest integer
  const vf shifted = x + magic;
  const vf f = x - (shifted - magic);  // in [-0.5, 0.5]
  const vi exponent = ((vi)shifted - (vi)magic) << 23;
  vf p = splat(1.5403530e-4f);  // Taylor coefficients ln(2)^k / k!
  p = p * f + splat(1.3333558e-3f);
  p = p * f + splat(9.6181291e-3f);
  p = p * f + splat(5.5504109e-2f);
  p = p * f + splat(2.4022651e-1f);
  p = p * f + splat(6.9314718e-1f);
  p = p * f + splat(1.0f);
  return (vf)((vi)p + exponent);
}

// Sums over the lanes of eight vectors: out[k] = sum of v[k].
inline void sum8(const vf v[8], float out[8]) {
#if defined(__AVX__)
  __m256 a[8];
  for (int k = 0; k < 8; ++k) {
#if defined(__AVX512F__)
    const __m512 wide = (__m512)v[k];
    a[k] = _mm256_add_ps(_mm512_castps512_ps256(wide),
                         _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(wide), 1)));
#else
    a[k] = (__m256)v[k];
#endif
  }
  const __m256 p = _mm256_hadd_ps(_mm256_hadd_ps(a[0], a[1]), _mm256_hadd_ps(a[2], a[3]));
  const __m256 q = _mm256_hadd_ps(_mm256_hadd_ps(a[4], a[5]), _mm256_hadd_ps(a[6], a[7]));
  const __m256 low = _mm256_permute2f128_ps(p, q, 0x20), high = _mm256_permute2f128_ps(p, q, 0x31);
  _mm256_storeu_ps(out, _mm256_add_ps(low, high));
#else
  for (int k = 0; k < 8; ++k) {
    float sum = 0;
    for (int i = 0; i < W; ++i) sum += v[k][i];
    out[k] = sum;
  }
#endif
}

inline float sum(vf v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)v);
#else
  for (int half = W / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) v[i] += v[i + half];
  return v[0];
#endif
}

inline float highest(vf v) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps((__m512)v);
#else
  for (int half = W / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) v[i] = v[i] > v[i + half] ? v[i] : v[i + half];
  return v[0];
#endif
}

// The first n of W floats, the others filled with `rest`; n may be more than W.
inline vf load_some(const float* p, int n, float rest) {
  if (n >= W) return load(p);
#if defined(__AVX512F__)
  return (vf)_mm512_mask_loadu_ps((__m512)splat(rest), static_cast<__mmask16>((1u << n) - 1), p);
#else
  vf v = splat(rest);
  for (int i = 0; i < n; ++i) v[i] = p[i];
  return v;
#endif
}

inline void store_some(float* p, int n, vf v) {
  if (n >= W) return store(p, v);
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), (__m512)v);
#else
  for (int i = 0; i < n; ++i) p[i] = v[i];
#endif
}

}  // namespace
}  // namespace fourdvd
