// Vectors, and the register tile that all our products on CPUs are made of: ROWS x COLUMNS sums stay in registers, and
// each step takes one broadcast and two vectors (Goto and van de Geijn 2008).

#pragma once

#include <cstdint>

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16, ROWS = 12;
#elif defined(__AVX__)
constexpr int LANES = 8, ROWS = 6;
#else
constexpr int LANES = 4, ROWS = 6;
#endif
constexpr int COLUMNS = 2 * LANES;

typedef float Vec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef std::int32_t Ints __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef std::int64_t Int;

inline Vec load(const float* p) { return *reinterpret_cast<const Vec*>(p); }
inline void store(float* p, Vec x) { *reinterpret_cast<Vec*>(p) = x; }
inline Int up(Int n, Int unit) { return (n + unit - 1) / unit * unit; }

// c[R, COLUMNS] = a b, or += with ADD; a(m, k) = a[m am + k ak], b(k, j) = b[k ldb + j].
template <int R, bool ADD>
inline void tile(Int depth, const float* a, Int am, Int ak, const float* b, Int ldb, float* c, Int ldc) {
    Vec left[R], right[R];
#pragma GCC unroll 12
    for (int m = 0; m < R; ++m) {
        left[m] = ADD ? load(c + m * ldc) : Vec{};
        right[m] = ADD ? load(c + m * ldc + LANES) : Vec{};
    }
    for (Int k = 0; k < depth; ++k) {
        const Vec b0 = load(b + k * ldb), b1 = load(b + k * ldb + LANES);
#pragma GCC unroll 12
        for (int m = 0; m < R; ++m) {
            const float one = a[m * am + k * ak];
            left[m] += one * b0;
            right[m] += one * b1;
        }
    }
#pragma GCC unroll 12
    for (int m = 0; m < R; ++m) {
        store(c + m * ldc, left[m]);
        store(c + m * ldc + LANES, right[m]);
    }
}

template <int R, bool ADD>
inline void last_tile(Int rows, Int depth, const float* a, Int am, Int ak, const float* b, Int ldb, float* c, Int ldc) {
    if constexpr (R > 0) {
        if (rows == R)
            tile<R, ADD>(depth, a, am, ak, b, ldb, c, ldc);
        else
            last_tile<R - 1, ADD>(rows, depth, a, am, ak, b, ldb, c, ldc);
    }
}

}  // namespace
