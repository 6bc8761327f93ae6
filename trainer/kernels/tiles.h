// The register tile that all our products on CPUs are made of: ROWS x COLUMNS sums stay in registers, and each step
// takes one broadcast and two vectors (Goto and van de Geijn 2008).

#pragma once

#include "vectors.h"

namespace {

constexpr int ROWS = LANES == 16 ? 12 : 6, COLUMNS = 2 * LANES;

// What becomes of a tile's sums.
enum Result { SET, ADD, STREAM };

// c[R, COLUMNS] = a b, or += with ADD; a(m, k) = a[m am + k ak], b(k, j) = b[k ldb + j].
template <int R, Result RESULT>
inline void tile(Int depth, const float* a, Int am, Int ak, const float* b, Int ldb, float* c, Int ldc) {
    Vec left[R], right[R];
#pragma GCC unroll 12
    for (int m = 0; m < R; ++m) {
        left[m] = RESULT == ADD ? load(c + m * ldc) : Vec{};
        right[m] = RESULT == ADD ? load(c + m * ldc + LANES) : Vec{};
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
        if (RESULT == STREAM) {
            stream(c + m * ldc, left[m]);
            stream(c + m * ldc + LANES, right[m]);
        } else {
            store(c + m * ldc, left[m]);
            store(c + m * ldc + LANES, right[m]);
        }
    }
}

template <int R, Result RESULT>
inline void last_tile(Int rows, Int depth, const float* a, Int am, Int ak, const float* b, Int ldb, float* c, Int ldc) {
    if constexpr (R > 0) {
        if (rows == R)
            tile<R, RESULT>(depth, a, am, ak, b, ldb, c, ldc);
        else
            last_tile<R - 1, RESULT>(rows, depth, a, am, ak, b, ldb, c, ldc);
    }
}

}  // namespace
