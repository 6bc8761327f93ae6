// Vectors of floats, as wide as this processor has them, and functions of them.

#pragma once

#include <cstdint>
#include <cstring>

#if defined(__SSE__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float Vec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef std::int32_t Ints __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef std::int64_t Int;

inline Int up(Int n, Int unit) { return (n + unit - 1) / unit * unit; }  // to a multiple

inline Vec load(const float* p) { return *reinterpret_cast<const Vec*>(p); }
inline void store(float* p, Vec x) { *reinterpret_cast<Vec*>(p) = x; }

// Write whole lines past the caches: without reading first what was there, and without driving out what will be wanted.
// `p` is aligned to a vector. Before another thread may read, `fence`.
inline void stream(float* p, Vec x) {
#if defined(__AVX512F__)
    _mm512_stream_ps(p, (__m512)x);
#elif defined(__AVX__)
    _mm256_stream_ps(p, (__m256)x);
#elif defined(__SSE__)
    _mm_stream_ps(p, (__m128)x);
#else
    store(p, x);
#endif
}
inline void fence() {
#if defined(__SSE__)
    _mm_sfence();
#endif
}

// exp(x) for x <= 0, to 2 units in the last place; 0 below -87. 2^n 2^f with |f| <= 1/2, f's power by its series.
inline Vec exponential(Vec x) {
    const Vec t = x * 1.44269504088896341f;
    const Ints n = __builtin_convertvector(t - 0.5f, Ints);
    const Vec f = (x - __builtin_convertvector(n, Vec) * 0.693145751953125f) -
                  __builtin_convertvector(n, Vec) * 1.428606765330187e-06f;
    Vec p = f * (1.f / 5040) + 1.f / 720;
    p = p * f + 1.f / 120;
    p = p * f + 1.f / 24;
    p = p * f + 1.f / 6;
    p = p * f + 0.5f;
    p = p * f + 1.f;
    p = p * f + 1.f;
    const Ints bits = (n + 127) << 23;
    Vec power;
    std::memcpy(&power, &bits, sizeof power);
    const Ints seen = ~(Ints)(x < -87.f);  // a NaN stays one
    Vec result = p * power;
    Ints raw;
    std::memcpy(&raw, &result, sizeof raw);
    raw &= seen;
    std::memcpy(&result, &raw, sizeof result);
    return result;
}

// Over the lanes, half of them at a time: a chain of as many additions as there are lanes takes longer than a row's rest.
inline float sum(Vec x) {
    float lanes[LANES];
    store(lanes, x);
#pragma GCC unroll 4
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    return lanes[0];
}

inline float greatest(Vec x) {
    float lanes[LANES];
    store(lanes, x);
#pragma GCC unroll 4
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) lanes[i] = lanes[i + half] > lanes[i] ? lanes[i + half] : lanes[i];
    return lanes[0];
}

}  // namespace
