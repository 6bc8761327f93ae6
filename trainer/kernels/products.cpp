// Float32 products of activations A, thousands of rows, with weights B: C = A B. See products.py and panels.h.
//
// Where a panel's whole depth is taken at once, a tile of C is written once and past the caches: what is written to
// them must be read first, and drives out what is wanted.

#include "panels.h"

namespace {

// C [M, N] = A [M, K] B, B packed.
void product(const float* a, const float* packed, Int m, Int n, Int k, float* c, Int threads) {
    if (m == 0 || n == 0) return;
    const bool once = k <= DEPTH, streams = once && n % COLUMNS == 0 && whole_lines(c);
    each_block(m, panels_of(n), threads, [=](Int row, Int rows, Int from, Int end) {
        static thread_local float aside[BLOCK * (DEPTH + GAP)];
        for (Int start = 0; start == 0 || start < k; start += DEPTH) {
            const Int depth = std::min(DEPTH, k - start), lda = once ? k : DEPTH + GAP;
            const float* left = a + row * k + start;
            if (!once) {
                for (Int i = 0; i < rows; ++i) std::copy(left + i * k, left + i * k + depth, aside + i * lda);
                left = aside;
            }
            for (Int number = from; number < end; ++number) {
                const Int first = number * COLUMNS, valid = std::min<Int>(COLUMNS, n - first);
                const float* right = packed + first * k + start * COLUMNS;
                float* to = c + row * n + first;
                if (streams)
                    panel<STREAM>(rows, valid, depth, left, lda, right, to, n);
                else if (start == 0)
                    panel<SET>(rows, valid, depth, left, lda, right, to, n);
                else
                    panel<ADD>(rows, valid, depth, left, lda, right, to, n);
            }
        }
    });
}

}  // namespace

extern "C" {

std::int64_t premask_packed(Int k, Int n) { return packed_size(k, n); }

void premask_pack(const float* b, Int turned, Int k, Int n, float* packed, Int threads) {
    pack(b, turned, k, n, packed, threads);
}

void premask_product(const float* a, const float* packed, Int m, Int n, Int k, float* c, Int threads) {
    product(a, packed, m, n, k, c, threads);
}

// C = A B for B [K, N], or with `turned` B^T for B [N, K], as they lie.
void premask_multiply(const float* a, const float* b, Int turned, Int m, Int n, Int k, float* c, Int threads) {
    product(a, pack_aside(b, turned, k, n, threads), m, n, k, c, threads);
}
}
