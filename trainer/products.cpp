// Float32 products of activations A, thousands of rows, with weights B: C = A B. See products.py.
//
// B is packed into panels of COLUMNS columns, the depth of each lying in one piece:
//
//     B [K, N]     panel 0: B[0, 0..15] B[1, 0..15] ... B[K-1, 0..15]     panel 1: B[0, 16..31] ...
//
// A block of A's rows and DEPTH of their depth stay in the second cache, DEPTH of a panel in the first; a tile of C is
// written once for every DEPTH, and never read before. A sum's order is its depth's, whoever computes it: results depend
// neither on the number of threads nor on their timing.

#include <algorithm>
#include <cstdint>

#include "tiles.h"

namespace {

constexpr Int DEPTH = 8192 / COLUMNS;  // of a panel: 32 KiB
constexpr Int BLOCK = 48;              // rows of A: a multiple of ROWS; 96 KiB

inline Int panels_of(Int columns) { return up(columns, COLUMNS) / COLUMNS; }

// Rows of a block times one panel, of which `valid` columns exist.
template <bool ADD>
void panel(Int rows, Int valid, Int depth, const float* a, Int lda, const float* b, float* c, Int ldc) {
    float aside[ROWS * COLUMNS];
    for (Int m = 0; m < rows; m += ROWS) {
        const Int here = std::min<Int>(ROWS, rows - m);
        const bool whole = valid == COLUMNS;
        float* to = whole ? c + m * ldc : aside;
        const Int ld = whole ? ldc : COLUMNS;
        if (!whole && ADD)
            for (Int i = 0; i < here; ++i) std::copy(c + (m + i) * ldc, c + (m + i) * ldc + valid, aside + i * COLUMNS);
        if (here == ROWS)
            tile<ROWS, ADD>(depth, a + m * lda, lda, 1, b, COLUMNS, to, ld);
        else
            last_tile<ROWS - 1, ADD>(here, depth, a + m * lda, lda, 1, b, COLUMNS, to, ld);
        if (!whole)
            for (Int i = 0; i < here; ++i) std::copy(aside + i * COLUMNS, aside + i * COLUMNS + valid, c + (m + i) * ldc);
    }
}

// Rows of `valid` columns as rows of COLUMNS, filled up with zeros.
inline void pack_panel(const float* from, Int ld, Int rows, Int valid, float* to) {
    for (Int k = 0; k < rows; ++k, from += ld, to += COLUMNS) {
        if (valid == COLUMNS) {
            store(to, load(from));
            store(to + LANES, load(from + LANES));
        } else {
            for (Int j = 0; j < COLUMNS; ++j) to[j] = j < valid ? from[j] : 0.f;
        }
    }
}

}  // namespace

extern "C" {

// Floats that a packed matrix of K rows and N columns takes.
std::int64_t premask_packed(Int k, Int n) { return panels_of(n) * COLUMNS * k; }

// Pack B [K, N], or the transpose of B [N, K].
void premask_pack(const float* b, Int turned, Int k, Int n, float* packed, Int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (Int number = 0; number < panels_of(n); ++number) {
        const Int first = number * COLUMNS, valid = std::min<Int>(COLUMNS, n - first);
        float* to = packed + first * k;
        if (turned) {
            for (Int row = 0; row < k; row += 16)  // lines of the cache, not single numbers
                for (Int j = 0; j < COLUMNS; ++j)
                    for (Int i = row; i < std::min(row + 16, k); ++i)
                        to[i * COLUMNS + j] = j < valid ? b[(first + j) * k + i] : 0.f;
        } else {
            pack_panel(b + first, n, k, valid, to);
        }
    }
}

// C [M, N] = A [M, K] B, B packed.
void premask_product(const float* a, const float* packed, Int m, Int n, Int k, float* c, Int threads) {
    if (m == 0 || n == 0) return;
    const Int panels = panels_of(n);
    // Few rows: one block a thread, or packed panels would be read once a block; then the columns are cut too.
    const Int block = m >= 4 * threads * BLOCK ? BLOCK : up((m + threads - 1) / threads, ROWS);
    const Int blocks = (m + block - 1) / block;
    const Int cuts = m >= 4 * threads * BLOCK ? 1 : std::min<Int>(panels, 4);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (Int unit = 0; unit < blocks * cuts; ++unit) {
        const Int row = unit / cuts * block, rows = std::min(block, m - row), cut = unit % cuts;
        for (Int start = 0; start == 0 || start < k; start += DEPTH) {
            const Int depth = std::min(DEPTH, k - start);
            for (Int number = panels * cut / cuts; number < panels * (cut + 1) / cuts; ++number) {
                const Int first = number * COLUMNS, valid = std::min<Int>(COLUMNS, n - first);
                const float *left = a + row * k + start, *right = packed + first * k + start * COLUMNS;
                float* to = c + row * n + first;
                if (start == 0)
                    panel<false>(rows, valid, depth, left, k, right, to, n);
                else
                    panel<true>(rows, valid, depth, left, k, right, to, n);
            }
        }
    }
}
}
