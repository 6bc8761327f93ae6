// Products of thousands of rows of A with a packed B, block by block.
//
// B is packed into panels of COLUMNS columns, the depth of each lying in one piece:
//
//     B [K, N]     panel 0: B[0, 0..15] B[1, 0..15] ... B[K-1, 0..15]     panel 1: B[0, 16..31] ...
//
// A block of A's rows stays in the second cache while panels pass by, DEPTH of their depth at a time. A sum's order is
// its depth's, whoever computes it: results depend neither on the number of threads nor on their timing.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "tiles.h"

namespace {

constexpr Int DEPTH = 16384 / COLUMNS;  // of a panel: 64 KiB
constexpr Int BLOCK = 72;               // rows of A: a multiple of ROWS; 288 KiB
constexpr Int GAP = 16;                 // between a block's rows, so that they don't fall into one set of the cache

inline Int panels_of(Int columns) { return up(columns, COLUMNS) / COLUMNS; }

// Rows of a block times one panel, of which `valid` columns exist. Not inlined: its loops are the faster for it.
template <Result RESULT>
__attribute__((noinline)) void panel(Int rows, Int valid, Int depth, const float* a, Int lda, const float* b, float* c,
                                     Int ldc) {
    constexpr Result LOCAL = RESULT == ADD ? ADD : SET;
    float aside[ROWS * COLUMNS];
    for (Int m = 0; m < rows; m += ROWS) {
        const Int here = std::min<Int>(ROWS, rows - m);
        if (here == ROWS && valid == COLUMNS) {
            tile<ROWS, RESULT>(depth, a + m * lda, lda, 1, b, COLUMNS, c + m * ldc, ldc);
            continue;
        }
        if (RESULT == ADD)
            for (Int i = 0; i < here; ++i) std::copy(c + (m + i) * ldc, c + (m + i) * ldc + valid, aside + i * COLUMNS);
        last_tile<ROWS, LOCAL>(here, depth, a + m * lda, lda, 1, b, COLUMNS, aside, COLUMNS);
        for (Int i = 0; i < here; ++i) std::copy(aside + i * COLUMNS, aside + i * COLUMNS + valid, c + (m + i) * ldc);
    }
}

// Floats that a packed matrix of K rows and N columns takes.
inline Int packed_size(Int k, Int n) { return panels_of(n) * COLUMNS * k; }

// Pack B [K, N], or the transpose of B [N, K].
inline void pack(const float* b, bool turned, Int k, Int n, float* packed, Int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (Int number = 0; number < panels_of(n); ++number) {
        const Int first = number * COLUMNS, valid = std::min<Int>(COLUMNS, n - first);
        const Int row = turned ? 1 : n, column = turned ? k : 1;
        const float* from = b + first * column;
        float* to = packed + first * k;
        for (Int i = 0; i < k; ++i, from += row, to += COLUMNS) {
            if (valid < COLUMNS)
                for (Int j = 0; j < COLUMNS; ++j) to[j] = j < valid ? from[j * column] : 0.f;
            else if (turned)
                for (Int j = 0; j < COLUMNS; ++j) to[j] = from[j * k];
            else
                std::copy(from, from + COLUMNS, to);
        }
    }
}

// As `pack`, into memory of this thread that lasts until it packs again.
inline const float* pack_aside(const float* b, bool turned, Int k, Int n, Int threads) {
    static thread_local std::vector<float> memory;
    const std::size_t floats = packed_size(k, n) + 16;
    if (memory.size() < floats) memory.resize(floats);
    float* packed = memory.data() + (16 - reinterpret_cast<std::uintptr_t>(memory.data()) / 4 % 16) % 16;
    pack(b, turned, k, n, packed, threads);
    return packed;
}

// Call `unit(row, rows, first, end)` for blocks of rows times ranges of panels, on all threads.
template <class Unit>
void each_block(Int m, Int panels, Int threads, const Unit& unit) {
    const Int blocks = up(up(m, BLOCK) / BLOCK, threads), block = up((m + blocks - 1) / blocks, ROWS);
    const Int cuts = blocks < 8 * threads ? std::max<Int>(1, panels / 64) : 1;  // few rows: columns are cut, too
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (Int number = 0; number < blocks * cuts; ++number) {
        const Int row = number / cuts * block, cut = number % cuts;
        if (row < m) unit(row, std::min(block, m - row), panels * cut / cuts, panels * (cut + 1) / cuts);
        fence();
    }
}

inline bool whole_lines(const float* p) { return reinterpret_cast<std::uintptr_t>(p) % 64 == 0; }

}  // namespace
