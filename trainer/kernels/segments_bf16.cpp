// Rotary attention inside segments on a CPU, bfloat16 with float32 sums, forward and backward: `segments.cpp` for
// products in tiles. See segments.py for the interface and bf16.h for the products and their layouts.
//
// Forward, a block of queries goes over the keys that it sees. Backward, a block of keys goes over the queries that
// see it, and all is made the other way round, so that what one product leaves is what the next ones take:
//
//   S^T = k (scale q)^T    P^T = exp(S^T - lse)       dV += P^T dO
//   dP^T = v dO^T          dS^T = P^T (dP^T - sum(dO out))    dk += dS^T (scale q)      dq^T += scale k^T dS^T
//
// One unit of work is a head of a segment. Units share nothing that they write, and a sum's order is its unit's:
// results don't depend on the number of threads.

#include <algorithm>
#include <cmath>

#include "bf16.h"
#include "scratch.h"

namespace {

constexpr Int CHUNK = 128;        // queries at a time, backward: two blocks of float32 scores are 32 KiB
constexpr Int GAP = 16;           // words between rows, so that a column's lines don't fall into one set of the cache
constexpr int AHEAD = 8;          // places whose numbers are sent for while this one's are read
constexpr float HIDDEN = -1e30f;  // a finite minus infinity

struct Task {
    const Half* qkv;              // [T, 3, H, K]
    const float *cosine, *sine;   // [L, K / 2] each
    Int heads, dim, window;       // window < 0: the whole segment
    Int width;                    // of a row in scratch: dim up to a multiple of STEP
    float scale;
};

// Two rounded vectors as words: `first` in the lower halves.
inline Words paired(Vec first, Vec second) {
#if defined(__AVX512BF16__) && defined(__AVX512VL__)
    const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)first));
    const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)second));
    return (Words)_mm512_or_si512(low, _mm512_slli_epi32(high, 16));
#else
    return (rounded(first) >> 16) | rounded(second);
#endif
}

// Rows i and i + S of each pair of blocks change the halves of their lanes that lie over the diagonal.
template <int S>
inline void exchange(Words (&x)[LANES]) {
    Ints upper, lower;
    for (int lane = 0; lane < LANES; ++lane) {
        upper[lane] = lane & S ? lane - S + LANES : lane;
        lower[lane] = lane & S ? lane + LANES : lane + S;
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES; ++i) {
        if (i & S) continue;
        const Words one = x[i], two = x[i + S];
#if defined(__clang__)
        for (int lane = 0; lane < LANES; ++lane) {
            x[i][lane] = lane & S ? two[lane - S] : one[lane];
            x[i + S][lane] = lane & S ? two[lane] : one[lane + S];
        }
#else
        x[i] = __builtin_shuffle(one, two, (Words)upper);
        x[i + S] = __builtin_shuffle(one, two, (Words)lower);
#endif
    }
}

// to[c, r] = from[r, c]; rows and columns are multiples of LANES.
void transpose(Int rows, Int columns, const Word* from, Int from_ld, Word* to, Int to_ld) {
    for (Int r = 0; r < rows; r += LANES)
        for (Int c = 0; c < columns; c += LANES) {
            Words x[LANES];
#pragma GCC unroll 16
            for (int i = 0; i < LANES; ++i) x[i] = *reinterpret_cast<const Words*>(from + (r + i) * from_ld + c);
            exchange<1>(x);
            exchange<2>(x);
            if constexpr (LANES > 4) exchange<4>(x);
            if constexpr (LANES > 8) exchange<8>(x);
#pragma GCC unroll 16
            for (int i = 0; i < LANES; ++i) *reinterpret_cast<Words*>(to + (c + i) * to_ld + r) = x[i];
        }
}

inline Word* words(void* p) { return static_cast<Word*>(p); }

// Rows of halves, two by two, as the words that a sum over places takes: to[i / 2, d] holds rows i and i + 1.
void interleave(Int rows, Int width, const Half* from, Word* to) {
    for (Int i = 0; i < rows; i += 2, from += 2 * width, to += width)
        for (Int d = 0; d < width; d += LANES) {
            const Words one = __builtin_convertvector(*reinterpret_cast<const Halves*>(from + d), Words);
            const Words two = __builtin_convertvector(*reinterpret_cast<const Halves*>(from + width + d), Words);
            *reinterpret_cast<Words*>(to + d) = one | two << 16;
        }
}

// Part 0 (queries), 1 (keys) or 2 (values) of a head of a segment into rows of `width`, turned unless it is values;
// rows up to a multiple of STEP are zero.
void gather(const Task& task, Int start, Int n, Int head, int part, float factor, Half* rows) {
    const Int half = task.dim / 2, stride = 3 * task.heads * task.dim;
    const Half* x = task.qkv + ((start * 3 + part) * task.heads + head) * task.dim;
    for (Int i = 0; i < n; ++i, x += stride, rows += task.width) {
        for (Int d = 0; d < task.dim; d += 32) __builtin_prefetch(x + AHEAD * stride + d);
        if (part == 2) {
            std::copy(x, x + task.dim, rows);
        } else {
            const float *c = task.cosine + i * half, *s = task.sine + i * half;
            Int d = 0;
            for (; d + LANES <= half; d += LANES) {
                const Vec cos = load(c + d) * factor, sin = load(s + d) * factor;
                const Vec one = load(x + d), two = load(x + d + half);
                store(rows + d, one * cos - two * sin);
                store(rows + d + half, two * cos + one * sin);
            }
            for (; d < half; ++d) {
                const float one = widen(x[d]), two = widen(x[d + half]);
                rows[d] = narrow((one * c[d] - two * s[d]) * factor);
                rows[d + half] = narrow((two * c[d] + one * s[d]) * factor);
            }
        }
        std::fill(rows + task.dim, rows + task.width, Half(0));
    }
    std::fill(rows, rows + (up(n, STEP) - n) * task.width, Half(0));
}

// Turn a gradient back and write it where its part of qkv was.
void scatter(const Task& task, Int start, Int n, Int head, int part, float factor, const float* rows, Half* grad_qkv,
             Int first) {
    const Int half = task.dim / 2, stride = 3 * task.heads * task.dim;
    Half* x = grad_qkv + (((start + first) * 3 + part) * task.heads + head) * task.dim;
    for (Int i = first; i < first + n; ++i, x += stride, rows += task.width) {
        Int d = 0;
        if (part == 2) {
            for (; d + LANES <= task.dim; d += LANES) store(x + d, load(rows + d));
            for (; d < task.dim; ++d) x[d] = narrow(rows[d]);
            continue;
        }
        const float *c = task.cosine + i * half, *s = task.sine + i * half;
        for (; d + LANES <= half; d += LANES) {
            const Vec cos = load(c + d) * factor, sin = load(s + d) * factor;
            const Vec one = load(rows + d), two = load(rows + d + half);
            store(x + d, one * cos + two * sin);
            store(x + d + half, two * cos - one * sin);
        }
        for (; d < half; ++d) {
            x[d] = narrow((rows[d] * c[d] + rows[d + half] * s[d]) * factor);
            x[d + half] = narrow((rows[d + half] * c[d] - rows[d] * s[d]) * factor);
        }
    }
}

// What places [first, first + STEP) see, and are seen by, out to whole steps: [low, high).
struct Range {
    Int low, high;
};
inline Range seen(const Task& task, Int n, Int first) {
    if (task.window < 0) return {0, up(n, STEP)};
    const Int low = std::max<Int>(0, first - task.window), high = std::min(n, first + STEP + task.window);
    return {low / STEP * STEP, up(high, STEP)};
}

// Scores of place i with places [low, high): what is not seen becomes HIDDEN.
inline void hide(const Task& task, Int n, Int i, Int low, Int high, float* row) {
    Int from = 0, to = i < n ? n : 0;
    if (task.window >= 0 && i < n) from = std::max<Int>(0, i - task.window), to = std::min(n, i + task.window + 1);
    std::fill(row, row + std::min(std::max<Int>(0, from - low), high - low), HIDDEN);
    std::fill(row + std::min(std::max<Int>(0, to - low), high - low), row + high - low, HIDDEN);
}

void forward_unit(const Task& task, Int start, Int n, Int head, Half* out, float* lse) {
    const Int wide = up(n, STEP), width = task.width, ld = wide + GAP, p_ld = wide + 2 * GAP;
    scratch.begin(8 * wide * width + 2 * width * ld + STEP * (4 * ld + 2 * p_ld + 4 * width) + 1024);
    Half *rows = scratch.take<Half>(wide * width), *q = scratch.take<Half>(wide * width);
    Word *k_columns = scratch.take<Word>(width / 2 * ld), *v_pairs = scratch.take<Word>(wide / 2 * width);
    float *s = scratch.take<float>(STEP * ld), *block = scratch.take<float>(STEP * width);
    Half* p = scratch.take<Half>(STEP * p_ld);
    gather(task, start, n, head, 0, task.scale, q);
    gather(task, start, n, head, 2, 1.f, rows);
    interleave(wide, width, rows, v_pairs);
    gather(task, start, n, head, 1, 1.f, rows);
    transpose(wide, width / 2, words(rows), width / 2, k_columns, ld);
    for (Int first = 0; first < n; first += STEP) {
        const Int valid = std::min<Int>(STEP, n - first);
        const Range range = seen(task, n, first);
        const Int count = range.high - range.low;
        product<false>(STEP, count, width, q + first * width, width, k_columns + range.low, ld, s, ld);
        float total[STEP];
        for (Int i = 0; i < valid; ++i) {
            float* row = s + i * ld;
            hide(task, n, first + i, range.low, range.high, row);
            Vec top = load(row);
            for (Int j = LANES; j < count; j += LANES) {
                const Vec x = load(row + j);
                top = x > top ? x : top;
            }
            const float most = greatest(top);
            Vec part{};
            for (Int j = 0; j < count; j += LANES) {
                const Vec power = exponential(load(row + j) - most);
                part += power;
                store(p + i * p_ld + j, power);
            }
            total[i] = sum(part);
            lse[(start + first + i) * task.heads + head] = most + std::log(total[i]);
        }
        for (Int i = valid; i < STEP; ++i) std::fill(p + i * p_ld, p + i * p_ld + count, Half(0));
        product<false>(STEP, width, count, p, p_ld, v_pairs + range.low / 2 * width, width, block, width);
        for (Int i = 0; i < valid; ++i) {
            Half* to = out + ((start + first + i) * task.heads + head) * task.dim;
            const float* from = block + i * width;
            const float share = 1.f / total[i];
            Int d = 0;
            for (; d + LANES <= task.dim; d += LANES) store(to + d, load(from + d) * share);
            for (; d < task.dim; ++d) to[d] = narrow(from[d] * share);
        }
    }
}

// A place's gradient into a row, and its product with the output.
inline float take_gradient(const Half* grad, const Half* out, Int dim, Half* row) {
    Vec parts{};
    Int d = 0;
    for (; d + LANES <= dim; d += LANES) parts += load(grad + d) * load(out + d);
    float total = sum(parts);
    for (; d < dim; ++d) total += widen(grad[d]) * widen(out[d]);
    std::copy(grad, grad + dim, row);
    return total;
}

void backward_unit(const Task& task, Int start, Int n, Int head, const Half* grad, const Half* out, const float* lse,
                   Half* grad_qkv) {
    const Int wide = up(n, STEP), width = task.width, ld = wide + GAP, pairs_ld = wide / 2 + GAP;
    constexpr Int s_ld = CHUNK + GAP, p_ld = CHUNK + 2 * GAP;
    scratch.begin(2 * wide * width * 8 + 2 * width * ld * 4 + width * pairs_ld * 4 + width * ld * 4 +
                  STEP * (2 * s_ld * 4 + 2 * p_ld * 2 + s_ld * 2 + 2 * width * 4) + 2 * wide * 4 + 4096);
    Half *k = scratch.take<Half>(wide * width), *v = scratch.take<Half>(wide * width);
    Half* rows = scratch.take<Half>(wide * width);
    Word *q_pairs = scratch.take<Word>(wide / 2 * width), *g_pairs = scratch.take<Word>(wide / 2 * width);
    Word *q_columns = scratch.take<Word>(width / 2 * ld), *g_columns = scratch.take<Word>(width / 2 * ld);
    Word* k_turned = scratch.take<Word>(width * pairs_ld);  // k^T by rows, two places a word
    float *dq = scratch.take<float>(width * ld), *s = scratch.take<float>(STEP * s_ld);
    float *ds = scratch.take<float>(STEP * s_ld), *dk = scratch.take<float>(STEP * width);
    float *dv = scratch.take<float>(STEP * width), *log_sum = scratch.take<float>(wide);
    float* shared = scratch.take<float>(wide);  // sum(dO out) of each query
    Half *p_rows = scratch.take<Half>(STEP * p_ld), *ds_rows = scratch.take<Half>(STEP * p_ld);
    Word* ds_pairs = scratch.take<Word>(STEP / 2 * s_ld);

    gather(task, start, n, head, 1, 1.f, k);
    interleave(wide, width, k, q_pairs);  // set aside where q's will be
    transpose(wide / 2, width, q_pairs, width, k_turned, pairs_ld);
    gather(task, start, n, head, 2, 1.f, v);
    gather(task, start, n, head, 0, task.scale, rows);
    interleave(wide, width, rows, q_pairs);
    transpose(wide, width / 2, words(rows), width / 2, q_columns, ld);
    std::fill(rows, rows + wide * width, Half(0));
    for (Int i = 0; i < n; ++i) {
        const Int place = ((start + i) * task.heads + head) * task.dim;
        for (Int d = 0; d < task.dim; d += 32) {
            __builtin_prefetch(grad + place + AHEAD * task.heads * task.dim + d);
            __builtin_prefetch(out + place + AHEAD * task.heads * task.dim + d);
        }
        shared[i] = take_gradient(grad + place, out + place, task.dim, rows + i * width);
        log_sum[i] = lse[(start + i) * task.heads + head];
    }
    std::fill(shared + n, shared + wide, 0.f);
    std::fill(log_sum + n, log_sum + wide, 0.f);
    interleave(wide, width, rows, g_pairs);
    transpose(wide, width / 2, words(rows), width / 2, g_columns, ld);
    std::fill(dq, dq + width * ld, 0.f);

    for (Int first = 0; first < n; first += STEP) {
        const Range range = seen(task, n, first);
        std::fill(dk, dk + STEP * width, 0.f);
        std::fill(dv, dv + STEP * width, 0.f);
        for (Int low = range.low; low < range.high; low += CHUNK) {
            const Int high = std::min(low + CHUNK, range.high), count = high - low;
            product<false>(STEP, count, width, k + first * width, width, q_columns + low, ld, s, s_ld);
            product<false>(STEP, count, width, v + first * width, width, g_columns + low, ld, ds, s_ld);
            for (Int j = 0; j < STEP; ++j) hide(task, n, first + j, low, high, s + j * s_ld);
            for (Int j = 0; j < STEP; j += 2)
                for (Int i = 0; i < count; i += LANES) {
                    const Vec sums = load(log_sum + low + i), mean = load(shared + low + i);
                    const Int one = j * s_ld + i, two = one + s_ld;
                    const Vec p_one = exponential(load(s + one) - sums), p_two = exponential(load(s + two) - sums);
                    const Vec d_one = p_one * (load(ds + one) - mean), d_two = p_two * (load(ds + two) - mean);
                    store(p_rows + j * p_ld + i, p_one);
                    store(p_rows + (j + 1) * p_ld + i, p_two);
                    store(ds_rows + j * p_ld + i, d_one);
                    store(ds_rows + (j + 1) * p_ld + i, d_two);
                    *reinterpret_cast<Words*>(ds_pairs + j / 2 * s_ld + i) = paired(d_one, d_two);
                }
            product<true>(STEP, width, count, p_rows, p_ld, g_pairs + low / 2 * width, width, dv, width);
            product<true>(STEP, width, count, ds_rows, p_ld, q_pairs + low / 2 * width, width, dk, width);
            product<true>(width, count, STEP, reinterpret_cast<const Half*>(k_turned + first / 2), 2 * pairs_ld, ds_pairs,
                          s_ld, dq + low, ld);
        }
        const Int valid = std::min<Int>(STEP, n - first);
        scatter(task, start, valid, head, 1, 1.f, dk, grad_qkv, first);
        scatter(task, start, valid, head, 2, 1.f, dv, grad_qkv, first);
    }
    float* turned = reinterpret_cast<float*>(q_columns);  // both columns' memory, which lies together, is free by now
    transpose(width, wide, words(dq), ld, words(turned), width);
    scatter(task, start, n, head, 0, task.scale, turned, grad_qkv, 0);
}

Task make_task(const Half* qkv, const float* cosine, const float* sine, Int heads, Int dim, Int window) {
    return {qkv, cosine, sine, heads, dim, window, up(dim, STEP), 1.f / std::sqrt(static_cast<float>(dim))};
}

// Call `unit(start, n, head)` for every head of every segment, on all threads.
template <class Unit>
void each_unit(const std::int32_t* borders, Int segments, Int heads, Int threads, const Unit& unit) {
#pragma omp parallel num_threads(threads)
    {
        const Tiles tiles;
#pragma omp for schedule(dynamic, 1)
        for (Int number = 0; number < segments * heads; ++number) {
            const Int segment = number / heads, start = borders[segment], n = borders[segment + 1] - start;
            if (n > 0) unit(start, n, number % heads);
        }
    }
}

}  // namespace

extern "C" {

// borders: int32[segments + 1], ascending, the first 0 and the last the number of places; out [T, H, K], lse [T, H].
void premask_forward(const Half* qkv, const float* cosine, const float* sine, const std::int32_t* borders,
                     Int segments, Int heads, Int dim, Int window, Int threads, Half* out, float* lse) {
    const Task task = make_task(qkv, cosine, sine, heads, dim, window);
    each_unit(borders, segments, heads, threads,
              [&](Int start, Int n, Int head) { forward_unit(task, start, n, head, out, lse); });
}

void premask_backward(const Half* qkv, const float* cosine, const float* sine, const std::int32_t* borders,
                      Int segments, Int heads, Int dim, Int window, Int threads, const Half* grad, const Half* out,
                      const float* lse, Half* grad_qkv) {
    const Task task = make_task(qkv, cosine, sine, heads, dim, window);
    each_unit(borders, segments, heads, threads,
              [&](Int start, Int n, Int head) { backward_unit(task, start, n, head, grad, out, lse, grad_qkv); });
}
}
