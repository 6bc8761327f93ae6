// bfloat16 in memory and float32 in registers: conversions, and products of bfloat16 matrices with float32 sums.
//
// A bfloat16 is the upper half of a float32; what is stored is rounded to nearest, ties to even. Products have three
// ways, all on the same layouts: the tile unit (AMX), AVX512-BF16, and widening on any processor.
//
//     C [m, n] = A B      A [m, k] by rows      B [k / 2, n] of words: word (k, j) holds B[2k, j] and B[2k + 1, j]

#pragma once

#include "vectors.h"

#if defined(__AMX_BF16__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

typedef std::uint16_t Half;  // the bits of a bfloat16
typedef std::uint32_t Word;  // two of them, the first in the lower half
typedef Half Halves __attribute__((vector_size(LANES * 2), aligned(2), may_alias));
typedef Word Words __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

inline Vec as_floats(Words x) {
    Vec result;
    std::memcpy(&result, &x, sizeof result);
    return result;
}

inline Words as_words(Vec x) {
    Words result;
    std::memcpy(&result, &x, sizeof result);
    return result;
}

inline Vec load(const Half* p) {
    return as_floats(__builtin_convertvector(*reinterpret_cast<const Halves*>(p), Words) << 16);
}

// The nearest bfloat16 of each, in the upper half of its word; a NaN stays one.
inline Words rounded(Vec x) {
    const Words bits = as_words(x), nearest = bits + 0x7fff + ((bits >> 16) & 1), none = (Words)(x != x);
    return ((nearest & ~none) | (none & 0x7fc00000)) & 0xffff0000;
}

inline void store(Half* p, Vec x) {
#if defined(__AVX512BF16__) && defined(__AVX512VL__)
    const __m256bh near = _mm512_cvtneps_pbh((__m512)x);
    std::memcpy(p, &near, sizeof near);
#else
    *reinterpret_cast<Halves*>(p) = __builtin_convertvector(rounded(x) >> 16, Halves);
#endif
}

inline float widen(Half x) {
    const Word bits = static_cast<Word>(x) << 16;
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

inline Half narrow(float x) {
    Word bits;
    std::memcpy(&bits, &x, sizeof bits);
    if (x != x) return 0x7fc0;
    return static_cast<Half>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// What the way without tiles makes of one word of A and a vector of words of B.
inline Vec add_product(Vec sums, Word a, Words b) {
#if defined(__AVX512BF16__)
    return (Vec)_mm512_dpbf16_ps((__m512)sums, (__m512bh)_mm512_set1_epi32(a), (__m512bh)b);
#else
    const Vec low = as_floats(b << 16), high = as_floats(b & 0xffff0000);
    return sums + widen(static_cast<Half>(a)) * low + widen(static_cast<Half>(a >> 16)) * high;
#endif
}

constexpr int STEP = 32;  // what m, n and k are multiples of

// C = A B, or += with ADD, in vectors: `lda` counts halves, `ldb` words.
template <bool ADD>
void product_in_vectors(Int m, Int n, Int k, const Half* a, Int lda, const Word* b, Int ldb, float* c, Int ldc) {
    constexpr int R = 8;
    for (Int j = 0; j < n; j += 2 * LANES)
        for (Int i = 0; i < m; i += R) {
            Vec left[R], right[R];
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) {
                left[r] = ADD ? load(c + (i + r) * ldc + j) : Vec{};
                right[r] = ADD ? load(c + (i + r) * ldc + j + LANES) : Vec{};
            }
            for (Int d = 0; d < k / 2; ++d) {
                const Words b0 = *reinterpret_cast<const Words*>(b + d * ldb + j);
                const Words b1 = *reinterpret_cast<const Words*>(b + d * ldb + j + LANES);
#pragma GCC unroll 8
                for (int r = 0; r < R; ++r) {
                    Word one;
                    std::memcpy(&one, a + (i + r) * lda + 2 * d, sizeof one);
                    left[r] = add_product(left[r], one, b0);
                    right[r] = add_product(right[r], one, b1);
                }
            }
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) {
                store(c + (i + r) * ldc + j, left[r]);
                store(c + (i + r) * ldc + j + LANES, right[r]);
            }
        }
}

#if defined(__AMX_BF16__) && defined(__linux__)

// Whether the system lets this process use the tile unit: it asks, once.
inline bool tiles_allowed() {
    static const bool allowed = syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0;
    return allowed;
}

// The tile unit of this thread set up for `product`, and as it was before at the end: torch's library uses it, too.
class Tiles {
    struct alignas(64) Layout {
        std::uint8_t palette = 0, start = 0, reserved[14] = {};
        std::uint16_t bytes[16] = {};
        std::uint8_t rows[16] = {};
    };
    Layout before;
    bool used;

  public:
    Tiles() : used(tiles_allowed()) {
        if (!used) return;
        _tile_storeconfig(&before);
        Layout ours;
        ours.palette = 1;
        for (int i = 0; i < 8; ++i) ours.bytes[i] = 64, ours.rows[i] = 16;
        _tile_loadconfig(&ours);
    }
    ~Tiles() {
        if (used) _tile_loadconfig(&before);
    }
    Tiles(const Tiles&) = delete;
    Tiles& operator=(const Tiles&) = delete;
};

template <bool ADD>
void product_in_tiles(Int m, Int n, Int k, const Half* a, Int lda, const Word* b, Int ldb, float* c, Int ldc) {
    for (Int i = 0; i < m; i += 32)
        for (Int j = 0; j < n; j += 32) {
            float* to = c + i * ldc + j;
            if (ADD) {
                _tile_loadd(0, to, ldc * 4);
                _tile_loadd(1, to + 16, ldc * 4);
                _tile_loadd(2, to + 16 * ldc, ldc * 4);
                _tile_loadd(3, to + 16 * ldc + 16, ldc * 4);
            } else {
                _tile_zero(0);
                _tile_zero(1);
                _tile_zero(2);
                _tile_zero(3);
            }
            for (Int d = 0; d < k; d += 32) {
                const Half* left = a + i * lda + d;
                const Word* right = b + d / 2 * ldb + j;
                _tile_loadd(4, left, lda * 2);
                _tile_loadd(5, left + 16 * lda, lda * 2);
                _tile_loadd(6, right, ldb * 4);
                _tile_loadd(7, right + 16, ldb * 4);
                _tile_dpbf16ps(0, 4, 6);
                _tile_dpbf16ps(1, 4, 7);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
            _tile_stored(0, to, ldc * 4);
            _tile_stored(1, to + 16, ldc * 4);
            _tile_stored(2, to + 16 * ldc, ldc * 4);
            _tile_stored(3, to + 16 * ldc + 16, ldc * 4);
        }
}

template <bool ADD>
void product(Int m, Int n, Int k, const Half* a, Int lda, const Word* b, Int ldb, float* c, Int ldc) {
    if (tiles_allowed())
        product_in_tiles<ADD>(m, n, k, a, lda, b, ldb, c, ldc);
    else
        product_in_vectors<ADD>(m, n, k, a, lda, b, ldb, c, ldc);
}

#else

struct Tiles {
    Tiles() {}
    ~Tiles() {}
};

template <bool ADD>
void product(Int m, Int n, Int k, const Half* a, Int lda, const Word* b, Int ldb, float* c, Int ldc) {
    product_in_vectors<ADD>(m, n, k, a, lda, b, ldb, c, ldc);
}

#endif

}  // namespace
