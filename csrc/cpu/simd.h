// Many lanes of float or double worked on together, for the instruction set that the including file has set.
//
// Lanes<T> and Mask<T> are all that a loss sees; what an instruction set does in its own way stands here and in no
// other file, a few lines each: fma, comparing, choosing, turning a mask or bytes into bits and back, gathering,
// multiplying halves. Everything else is the compiler's own vector arithmetic. Without AVX the vectors are 128 bits
// wide (SSE2 on x86, NEON on Arm).
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <cstdint>

#include "../math.h"

namespace rarepixel::RAREPIXEL_ISA {

#if defined(RAREPIXEL_AVX512)
inline constexpr int kVectorBytes = 64;
#elif defined(RAREPIXEL_AVX2)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

template <class T>
struct Native {
  typedef T type __attribute__((vector_size(kVectorBytes)));
  typedef T unaligned __attribute__((vector_size(kVectorBytes), aligned(1), may_alias));
};

template <class T>
inline constexpr int kLanes = kVectorBytes / sizeof(T);

template <class T>
struct BitsOf;
template <>
struct BitsOf<float> {
  using type = std::uint32_t;
};
template <>
struct BitsOf<double> {
  using type = std::uint64_t;
};

template <class T>
struct Lanes {
  using Vector = typename Native<T>::type;
  Vector v;

  Lanes() = default;
  RAREPIXEL_INLINE Lanes(Vector vector) : v(vector) {}
  RAREPIXEL_INLINE explicit Lanes(T value) : v(value - Vector{}) {}

  RAREPIXEL_INLINE friend Lanes operator+(Lanes a, Lanes b) { return a.v + b.v; }
  RAREPIXEL_INLINE friend Lanes operator-(Lanes a, Lanes b) { return a.v - b.v; }
  RAREPIXEL_INLINE friend Lanes operator*(Lanes a, Lanes b) { return a.v * b.v; }
  RAREPIXEL_INLINE friend Lanes operator/(Lanes a, Lanes b) { return a.v / b.v; }
  RAREPIXEL_INLINE friend Lanes operator-(Lanes a) { return -a.v; }
};

template <class T>
RAREPIXEL_INLINE Lanes<T> load(const T* from) {
  return *reinterpret_cast<const typename Native<T>::unaligned*>(from);
}

template <class T>
RAREPIXEL_INLINE void store(T* to, Lanes<T> lanes) {
  *reinterpret_cast<typename Native<T>::unaligned*>(to) = lanes.v;
}

template <class T>
RAREPIXEL_INLINE Lanes<T> power_of_two(Lanes<T> shifted) {
  using Bits = typename Native<typename BitsOf<T>::type>::type;
  constexpr int kMantissaBits = sizeof(T) == 4 ? 23 : 52;
  return typename Lanes<T>::Vector((Bits)shifted.v << kMantissaBits);
}

template <class T>
RAREPIXEL_INLINE Lanes<T> absolute(Lanes<T> x) {
  using Bits = typename Native<typename BitsOf<T>::type>::type;
  return typename Lanes<T>::Vector((Bits)x.v & ~(Bits)Lanes<T>(T(-0.0)).v);
}

#if defined(RAREPIXEL_AVX512)

// A mask is one bit a lane, in a register of its own.
template <class T>
struct Mask {
  std::uint32_t bits;
  RAREPIXEL_INLINE friend Mask operator&(Mask a, Mask b) { return {a.bits & b.bits}; }
  RAREPIXEL_INLINE friend Mask operator|(Mask a, Mask b) { return {a.bits | b.bits}; }
  RAREPIXEL_INLINE friend Mask operator!(Mask a) { return {~a.bits & ((1u << kLanes<T>)-1)}; }
};

RAREPIXEL_INLINE Lanes<float> fma(Lanes<float> a, Lanes<float> b, Lanes<float> c) {
  return _mm512_fmadd_ps(a.v, b.v, c.v);
}
RAREPIXEL_INLINE Lanes<double> fma(Lanes<double> a, Lanes<double> b, Lanes<double> c) {
  return _mm512_fmadd_pd(a.v, b.v, c.v);
}
RAREPIXEL_INLINE Mask<float> operator<(Lanes<float> a, Lanes<float> b) {
  return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)};
}
RAREPIXEL_INLINE Mask<double> operator<(Lanes<double> a, Lanes<double> b) {
  return {_mm512_cmp_pd_mask(a.v, b.v, _CMP_LT_OQ)};
}
RAREPIXEL_INLINE Mask<float> operator==(Lanes<float> a, Lanes<float> b) {
  return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)};
}
RAREPIXEL_INLINE Mask<double> operator==(Lanes<double> a, Lanes<double> b) {
  return {_mm512_cmp_pd_mask(a.v, b.v, _CMP_EQ_OQ)};
}
RAREPIXEL_INLINE Lanes<float> select(Mask<float> m, Lanes<float> yes, Lanes<float> no) {
  return _mm512_mask_blend_ps(m.bits, no.v, yes.v);
}
RAREPIXEL_INLINE Lanes<double> select(Mask<double> m, Lanes<double> yes, Lanes<double> no) {
  return _mm512_mask_blend_pd(m.bits, no.v, yes.v);
}
RAREPIXEL_INLINE Lanes<float> add_where(Mask<float> m, Lanes<float> sum, Lanes<float> value) {
  return _mm512_mask_add_ps(sum.v, m.bits, sum.v, value.v);
}
RAREPIXEL_INLINE Lanes<double> add_where(Mask<double> m, Lanes<double> sum, Lanes<double> value) {
  return _mm512_mask_add_pd(sum.v, m.bits, sum.v, value.v);
}

RAREPIXEL_INLINE Lanes<float> at_most(Lanes<float> bound, Lanes<float> x) { return _mm512_min_ps(bound.v, x.v); }
RAREPIXEL_INLINE Lanes<double> at_most(Lanes<double> bound, Lanes<double> x) { return _mm512_min_pd(bound.v, x.v); }
RAREPIXEL_INLINE Lanes<float> at_least(Lanes<float> bound, Lanes<float> x) { return _mm512_max_ps(bound.v, x.v); }
RAREPIXEL_INLINE Lanes<double> at_least(Lanes<double> bound, Lanes<double> x) { return _mm512_max_pd(bound.v, x.v); }

// The lowest kLanes bits as a mask, and back.
template <class T>
RAREPIXEL_INLINE Mask<T> mask_from_bits(std::uint64_t bits) {
  return {static_cast<std::uint32_t>(bits) & ((1u << kLanes<T>)-1)};
}
template <class T>
RAREPIXEL_INLINE std::uint64_t bits_from_mask(Mask<T> m) {
  return m.bits;
}

#else

// A mask is a vector of integers as wide as the lanes: all ones or all zeros.
template <class T>
struct Mask {
  using Bits = typename BitsOf<T>::type;
  using Vector = typename Native<Bits>::type;
  Vector v;
  RAREPIXEL_INLINE friend Mask operator&(Mask a, Mask b) { return {a.v & b.v}; }
  RAREPIXEL_INLINE friend Mask operator|(Mask a, Mask b) { return {a.v | b.v}; }
  RAREPIXEL_INLINE friend Mask operator!(Mask a) { return {~a.v}; }
};

template <class T>
RAREPIXEL_INLINE Mask<T> operator<(Lanes<T> a, Lanes<T> b) {
  return {(typename Mask<T>::Vector)(a.v < b.v)};
}
template <class T>
RAREPIXEL_INLINE Mask<T> operator==(Lanes<T> a, Lanes<T> b) {
  return {(typename Mask<T>::Vector)(a.v == b.v)};
}
template <class T>
RAREPIXEL_INLINE Lanes<T> select(Mask<T> m, Lanes<T> yes, Lanes<T> no) {
  using Bits = typename Mask<T>::Vector;
  return typename Lanes<T>::Vector((m.v & (Bits)yes.v) | (~m.v & (Bits)no.v));
}
template <class T>
RAREPIXEL_INLINE Lanes<T> add_where(Mask<T> m, Lanes<T> sum, Lanes<T> value) {
  return sum + typename Lanes<T>::Vector(m.v & (typename Mask<T>::Vector)value.v);
}

template <class T>
RAREPIXEL_INLINE Mask<T> mask_from_bits(std::uint64_t bits) {
  using Bits = typename Mask<T>::Vector;
  Bits lane_bit;
#pragma GCC unroll 8
  for (int lane = 0; lane < kLanes<T>; ++lane) lane_bit[lane] = typename BitsOf<T>::type(1) << lane;
  return {(Bits)((((typename BitsOf<T>::type)bits - Bits{}) & lane_bit) != Bits{})};
}

#if defined(RAREPIXEL_AVX2)
RAREPIXEL_INLINE Lanes<float> at_most(Lanes<float> bound, Lanes<float> x) { return _mm256_min_ps(bound.v, x.v); }
RAREPIXEL_INLINE Lanes<double> at_most(Lanes<double> bound, Lanes<double> x) { return _mm256_min_pd(bound.v, x.v); }
RAREPIXEL_INLINE Lanes<float> at_least(Lanes<float> bound, Lanes<float> x) { return _mm256_max_ps(bound.v, x.v); }
RAREPIXEL_INLINE Lanes<double> at_least(Lanes<double> bound, Lanes<double> x) { return _mm256_max_pd(bound.v, x.v); }
RAREPIXEL_INLINE Lanes<float> fma(Lanes<float> a, Lanes<float> b, Lanes<float> c) {
  return _mm256_fmadd_ps(a.v, b.v, c.v);
}
RAREPIXEL_INLINE Lanes<double> fma(Lanes<double> a, Lanes<double> b, Lanes<double> c) {
  return _mm256_fmadd_pd(a.v, b.v, c.v);
}
RAREPIXEL_INLINE std::uint64_t bits_from_mask(Mask<float> m) {
  return static_cast<std::uint32_t>(_mm256_movemask_ps((__m256)m.v));
}
RAREPIXEL_INLINE std::uint64_t bits_from_mask(Mask<double> m) {
  return static_cast<std::uint32_t>(_mm256_movemask_pd((__m256d)m.v));
}
#else
template <class T>
RAREPIXEL_INLINE Lanes<T> at_most(Lanes<T> bound, Lanes<T> x) {
  return select(bound < x, bound, x);
}
template <class T>
RAREPIXEL_INLINE Lanes<T> at_least(Lanes<T> bound, Lanes<T> x) {
  return select(x < bound, bound, x);
}
#if defined(__x86_64__)
// SSE2 has no fma. The product of two floats is exact in double, so rounding its sum with c to double and then to float
// is right unless the double lies exactly half-way between two floats (once in 2^29): then the library's fmaf decides.
RAREPIXEL_INLINE __m128 fma_of_two(__m128 a, __m128 b, __m128 c, __m128i& halfway) {
  const __m128d sum = _mm_add_pd(_mm_mul_pd(_mm_cvtps_pd(a), _mm_cvtps_pd(b)), _mm_cvtps_pd(c));
  const __m128i below_float = _mm_and_si128(_mm_castpd_si128(sum), _mm_set1_epi64x(0x1fffffff));
  halfway = _mm_cmpeq_epi32(below_float, _mm_set_epi32(-1, 0x10000000, -1, 0x10000000));
  return _mm_cvtpd_ps(sum);
}
RAREPIXEL_INLINE Lanes<float> fma(Lanes<float> a, Lanes<float> b, Lanes<float> c) {
  __m128i halfway_low, halfway_high;
  const __m128 low = fma_of_two(a.v, b.v, c.v, halfway_low);
  const __m128 high =
      fma_of_two(_mm_movehl_ps(a.v, a.v), _mm_movehl_ps(b.v, b.v), _mm_movehl_ps(c.v, c.v), halfway_high);
  if (__builtin_expect(_mm_movemask_epi8(_mm_or_si128(halfway_low, halfway_high)) != 0, 0)) {
    Lanes<float> exact;
    for (int lane = 0; lane < 4; ++lane) exact.v[lane] = rarepixel::fma(a.v[lane], b.v[lane], c.v[lane]);
    return exact;
  }
  return _mm_movelh_ps(low, high);
}
RAREPIXEL_INLINE Lanes<double> fma(Lanes<double> a, Lanes<double> b, Lanes<double> c) {
  return Lanes<double>::Vector{__builtin_fma(a.v[0], b.v[0], c.v[0]), __builtin_fma(a.v[1], b.v[1], c.v[1])};
}
RAREPIXEL_INLINE std::uint64_t bits_from_mask(Mask<float> m) {
  return static_cast<std::uint32_t>(_mm_movemask_ps((__m128)m.v));
}
RAREPIXEL_INLINE std::uint64_t bits_from_mask(Mask<double> m) {
  return static_cast<std::uint32_t>(_mm_movemask_pd((__m128d)m.v));
}
#else
template <class T>
RAREPIXEL_INLINE Lanes<T> fma(Lanes<T> a, Lanes<T> b, Lanes<T> c) {
  Lanes<T> result;
  for (int lane = 0; lane < kLanes<T>; ++lane) result.v[lane] = rarepixel::fma(a.v[lane], b.v[lane], c.v[lane]);
  return result;
}
template <class T>
RAREPIXEL_INLINE std::uint64_t bits_from_mask(Mask<T> m) {
  std::uint64_t bits = 0;
  for (int lane = 0; lane < kLanes<T>; ++lane) bits |= static_cast<std::uint64_t>(m.v[lane] & 1) << lane;
  return bits;
}
#endif
#endif

#endif

// table[|id|] of each lane, 0 where the id is 0.
template <class T>
RAREPIXEL_INLINE Lanes<T> look_up(const T* table, const std::int32_t* ids) {
#if defined(RAREPIXEL_AVX512)
  if constexpr (sizeof(T) == 4) {
    const __m512i signed_ids = _mm512_loadu_si512(ids);
    return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), _mm512_test_epi32_mask(signed_ids, signed_ids),
                                    _mm512_abs_epi32(signed_ids), table, 4);
  } else {
    const __m256i signed_ids = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(ids));
    return _mm512_mask_i32gather_pd(_mm512_setzero_pd(), _mm256_test_epi32_mask(signed_ids, signed_ids),
                                    _mm256_abs_epi32(signed_ids), table, 8);
  }
#elif defined(RAREPIXEL_AVX2)
  if constexpr (sizeof(T) == 4) {
    const __m256i magnitudes = _mm256_abs_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(ids)));
    const __m256i wanted = _mm256_cmpgt_epi32(magnitudes, _mm256_setzero_si256());
    return _mm256_mask_i32gather_ps(_mm256_setzero_ps(), table, magnitudes, _mm256_castsi256_ps(wanted), 4);
  } else {
    const __m128i magnitudes = _mm_abs_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(ids)));
    const __m256i wanted = _mm256_cvtepi32_epi64(_mm_cmpgt_epi32(magnitudes, _mm_setzero_si128()));
    return _mm256_mask_i32gather_pd(_mm256_setzero_pd(), table, magnitudes, _mm256_castsi256_pd(wanted), 8);
  }
#else
  Lanes<T> values;
  for (int lane = 0; lane < kLanes<T>; ++lane) {
    values.v[lane] = ids[lane] == 0 ? T(0) : table[ids[lane] < 0 ? -ids[lane] : ids[lane]];
  }
  return values;
#endif
}

// One bit for each of 64 bytes: whether the byte has `flag` set.
RAREPIXEL_INLINE std::uint64_t bits_from_bytes(const std::uint8_t* bytes, std::uint8_t flag) {
  std::uint64_t bits = 0;
#if defined(RAREPIXEL_AVX512)
  bits = _mm512_test_epi8_mask(_mm512_loadu_si512(bytes), _mm512_set1_epi8(static_cast<char>(flag)));
#elif defined(RAREPIXEL_AVX2)
  const __m256i wanted = _mm256_set1_epi8(static_cast<char>(flag));
  for (int i = 0; i < 64; i += 32) {
    const __m256i some = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes + i));
    const __m256i unset = _mm256_cmpeq_epi8(_mm256_and_si256(some, wanted), _mm256_setzero_si256());
    bits |= static_cast<std::uint64_t>(~static_cast<std::uint32_t>(_mm256_movemask_epi8(unset))) << i;
  }
#elif defined(__x86_64__)
  const __m128i wanted = _mm_set1_epi8(static_cast<char>(flag));
  for (int i = 0; i < 64; i += 16) {
    const __m128i some = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + i));
    const __m128i unset = _mm_cmpeq_epi8(_mm_and_si128(some, wanted), _mm_setzero_si128());
    bits |= (static_cast<std::uint64_t>(~_mm_movemask_epi8(unset)) & 0xffffu) << i;
  }
#else
  for (int i = 0; i < 64; ++i) bits |= static_cast<std::uint64_t>((bytes[i] & flag) != 0) << i;
#endif
  return bits;
}

// Eight numbers, each from its place 0 ... 7 in `from`, or 0 where its bit is not set.
RAREPIXEL_INLINE void store_picked(std::int32_t* to, const std::int32_t* from, const std::uint8_t* places,
                                   std::uint64_t bits) {
#if defined(RAREPIXEL_AVX2) || defined(RAREPIXEL_AVX512)
  const __m256i lanes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(places)));
  const __m256i all = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  const __m256i lane_bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i one_of_each = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), lane_bit);
  const __m256i picked =
      _mm256_and_si256(_mm256_permutevar8x32_epi32(all, lanes), _mm256_cmpeq_epi32(one_of_each, lane_bit));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), picked);
#else
  for (int i = 0; i < 8; ++i) to[i] = bits >> i & 1 ? from[places[i]] : 0;
#endif
}

// 64-bit lanes for rng.h, of which only the low halves matter.
struct Words {
  using Vector = Native<std::uint64_t>::type;
  Vector v;

  Words() = default;
  RAREPIXEL_INLINE Words(Vector vector) : v(vector) {}
  RAREPIXEL_INLINE explicit Words(std::uint64_t value) : v(value - Vector{}) {}

  RAREPIXEL_INLINE friend Words operator+(Words a, Words b) { return a.v + b.v; }
  RAREPIXEL_INLINE friend Words operator^(Words a, Words b) { return a.v ^ b.v; }
};

RAREPIXEL_INLINE Words multiply_low_halves(Words a, Words b) {
#if defined(RAREPIXEL_AVX512)
  return (Words::Vector)_mm512_mul_epu32((__m512i)a.v, (__m512i)b.v);
#elif defined(RAREPIXEL_AVX2)
  return (Words::Vector)_mm256_mul_epu32((__m256i)a.v, (__m256i)b.v);
#elif defined(__x86_64__)
  return (Words::Vector)_mm_mul_epu32((__m128i)a.v, (__m128i)b.v);
#else
  constexpr std::uint64_t kLow = 0xffffffffu;
  return (a.v & kLow) * (b.v & kLow);
#endif
}

RAREPIXEL_INLINE Words high_half(Words a) { return a.v >> 32; }

// Lanes a0 b0 a2 b2 ... and a1 b1 a3 b3 ...
RAREPIXEL_INLINE void interleave(Words::Vector a, Words::Vector b, Words::Vector& even, Words::Vector& odd) {
#if defined(RAREPIXEL_AVX512)
  even = (Words::Vector)_mm512_unpacklo_epi64((__m512i)a, (__m512i)b);
  odd = (Words::Vector)_mm512_unpackhi_epi64((__m512i)a, (__m512i)b);
#elif defined(RAREPIXEL_AVX2)
  even = (Words::Vector)_mm256_unpacklo_epi64((__m256i)a, (__m256i)b);
  odd = (Words::Vector)_mm256_unpackhi_epi64((__m256i)a, (__m256i)b);
#else
  even = Words::Vector{a[0], b[0]};
  odd = Words::Vector{a[1], b[1]};
#endif
}

}  // namespace rarepixel::RAREPIXEL_ISA

namespace rarepixel {

template <class T>
struct LaneTraits<RAREPIXEL_ISA::Lanes<T>> {
  using Scalar = T;
  using Mask = RAREPIXEL_ISA::Mask<T>;
};

}  // namespace rarepixel
