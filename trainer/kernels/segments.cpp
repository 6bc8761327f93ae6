// Rotary attention inside segments on a CPU, float32, forward and backward. See segments.py for the interface.
//
// One unit of work is a head of a segment: its queries, keys and values are read from the packed qkv once, turned by
// their positions on the way, and stay in the cache until their results are written. Queries go in blocks of BLOCK; of
// each block's scores only keys that it can see are ever made, and nothing of size L x L outlives a block: the backward
// pass makes the probabilities again from the saved logarithms of their sums (Dao et al. 2022, sec. 3.1 and app. B).
//
//   S = (scale q) k^T      P = exp(S - lse)      out = P v
//   dP = dO v^T      dS = P (dP - sum(dO out))      dq = scale dS k      dk = dS^T (scale q)      dv = P^T dO
//
// All products go through `product`, in the tiles of tiles.h. Units share nothing that they write, so results don't
// depend on the number of threads.

#include <algorithm>
#include <cmath>

#include "scratch.h"
#include "tiles.h"

namespace {

constexpr int BLOCK = 48;         // queries of a block: a multiple of ROWS; their scores over 256 keys are 48 KiB
constexpr int AHEAD = 8;          // places whose numbers are sent for while this one's are read: a head's are far apart
constexpr float HIDDEN = -1e30f;  // a finite minus infinity

// c[rows, columns] = a b, or += with ADD; columns is a multiple of COLUMNS.
template <Result RESULT>
void product(Int rows, Int columns, Int depth, const float* a, Int am, Int ak, const float* b, Int ldb, float* c,
             Int ldc) {
    for (Int j = 0; j < columns; j += COLUMNS) {
        Int m = 0;
        for (; m + ROWS <= rows; m += ROWS)
            tile<ROWS, RESULT>(depth, a + m * am, am, ak, b + j, ldb, c + m * ldc + j, ldc);
        if (m < rows)
            last_tile<ROWS - 1, RESULT>(rows - m, depth, a + m * am, am, ak, b + j, ldb, c + m * ldc + j, ldc);
    }
}

struct Task {
    const float *qkv, *cosine, *sine;  // [T, 3, H, K], [L, K / 2], [L, K / 2]
    Int heads, dim, window;            // window < 0: the whole segment
    Int width;                         // of a row in scratch: dim up to a multiple of COLUMNS, and a gap
    float scale;
};

// Rows of one head with a gap of 16 between them, so that a column's lines don't fall into one set of the cache.
inline Int gapped(Int n) { return up(n, COLUMNS) + 16; }

inline void clear(float* row, Int from, Int to) { std::fill(row + from, row + to, 0.f); }

// Part 0 (queries), 1 (keys) or 2 (values) of a head of a segment into rows of `width`, turned unless it is values.
void gather(const Task& task, Int start, Int n, Int head, int part, float factor, float* rows) {
    const Int half = task.dim / 2, stride = 3 * task.heads * task.dim;
    const float* x = task.qkv + ((start * 3 + part) * task.heads + head) * task.dim;
    for (Int i = 0; i < n; ++i, x += stride, rows += task.width) {
        for (Int d = 0; d < task.dim; d += 16) __builtin_prefetch(x + AHEAD * stride + d);
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
                rows[d] = (x[d] * c[d] - x[d + half] * s[d]) * factor;
                rows[d + half] = (x[d + half] * c[d] + x[d] * s[d]) * factor;
            }
        }
        clear(rows, task.dim, task.width);
    }
    for (Int i = n; i < up(n, COLUMNS); ++i, rows += task.width) clear(rows, 0, task.width);
}

// columns[d, i] = rows[i, d], for i < up(n, COLUMNS).
void transpose(const Task& task, Int n, const float* rows, float* columns) {
    const Int ld = gapped(n);
    for (Int i = 0; i < up(n, LANES); i += LANES)
        for (Int d = 0; d < task.dim; ++d) {
            Vec x;
            for (int j = 0; j < LANES; ++j) x[j] = rows[(i + j) * task.width + d];
            store(columns + d * ld + i, x);
        }
    for (Int d = 0; d < task.dim; ++d) clear(columns + d * ld, up(n, LANES), up(n, COLUMNS));
}

// Turn a gradient back and write it where its part of qkv was.
void scatter(const Task& task, Int start, Int n, Int head, int part, float factor, const float* rows, float* grad_qkv,
             Int first) {
    const Int half = task.dim / 2, stride = 3 * task.heads * task.dim;
    float* x = grad_qkv + (((start + first) * 3 + part) * task.heads + head) * task.dim;
    for (Int i = first; i < first + n; ++i, x += stride, rows += task.width) {
        if (part == 2) {
            std::copy(rows, rows + task.dim, x);
            continue;
        }
        const float *c = task.cosine + i * half, *s = task.sine + i * half;
        Int d = 0;
        for (; d + LANES <= half; d += LANES) {
            const Vec cos = load(c + d) * factor, sin = load(s + d) * factor;
            const Vec one = load(rows + d), two = load(rows + d + half);
            store(x + d, one * cos + two * sin);
            store(x + d + half, two * cos - one * sin);
        }
        for (; d < half; ++d) {
            x[d] = (rows[d] * c[d] + rows[d + half] * s[d]) * factor;
            x[d + half] = (rows[d + half] * c[d] - rows[d] * s[d]) * factor;
        }
    }
}

// The keys that queries [first, first + rows) see, out to whole tiles: [low, high).
struct Range {
    Int low, high;
};
inline Range seen(const Task& task, Int n, Int first, Int rows) {
    if (task.window < 0) return {0, up(n, COLUMNS)};
    const Int low = std::max<Int>(0, first - task.window), high = std::min(n, first + rows + task.window);
    return {low / COLUMNS * COLUMNS, up(high, COLUMNS)};
}

// Scores of a block: [rows, high - low]; what a query doesn't see is HIDDEN.
void scores(const Task& task, Int n, Int first, Int rows, Range range, const float* q, const float* k_columns,
            float* s, Int ld) {
    product<SET>(rows, range.high - range.low, task.dim, q + first * task.width, task.width, 1, k_columns + range.low,
                 gapped(n), s, ld);
    for (Int i = 0; i < rows; ++i) {
        Int low = 0, high = n;
        if (task.window >= 0) {
            low = std::max<Int>(0, first + i - task.window);
            high = std::min(n, first + i + task.window + 1);
        }
        float* row = s + i * ld - range.low;
        std::fill(row + range.low, row + low, HIDDEN);
        std::fill(row + high, row + range.high, HIDDEN);
    }
}

void forward_unit(const Task& task, Int start, Int n, Int head, float* out, float* lse) {
    const Int wide = up(n, COLUMNS), ld = gapped(n), columns = up(task.dim, COLUMNS);
    scratch.begin(4 * (3 * wide * task.width + task.dim * ld + BLOCK * (ld + task.width) + 256));
    float *q = scratch.take<float>(wide * task.width), *k = scratch.take<float>(wide * task.width);
    float *v = scratch.take<float>(wide * task.width), *k_columns = scratch.take<float>(task.dim * ld);
    float *s = scratch.take<float>(BLOCK * ld), *block = scratch.take<float>(BLOCK * task.width);
    gather(task, start, n, head, 0, task.scale, q);
    gather(task, start, n, head, 1, 1.f, k);
    gather(task, start, n, head, 2, 1.f, v);
    transpose(task, n, k, k_columns);
    for (Int first = 0; first < n; first += BLOCK) {
        const Int rows = std::min<Int>(BLOCK, n - first);
        const Range range = seen(task, n, first, rows);
        const Int count = range.high - range.low;
        scores(task, n, first, rows, range, q, k_columns, s, ld);
        float total[BLOCK];
        for (Int i = 0; i < rows; ++i) {
            float* row = s + i * ld;
            Vec top = load(row);
            for (Int j = LANES; j < count; j += LANES) {
                const Vec x = load(row + j);
                top = x > top ? x : top;
            }
            const float most = greatest(top);
            Vec part{};
            for (Int j = 0; j < count; j += LANES) {
                const Vec p = exponential(load(row + j) - most);
                part += p;
                store(row + j, p);
            }
            total[i] = sum(part);
            lse[(start + first + i) * task.heads + head] = most + std::log(total[i]);
        }
        product<SET>(rows, columns, count, s, ld, 1, v + range.low * task.width, task.width, block, task.width);
        for (Int i = 0; i < rows; ++i) {
            float* to = out + ((start + first + i) * task.heads + head) * task.dim;
            const float* from = block + i * task.width;
            const float share = 1.f / total[i];
            for (Int d = 0; d < task.dim; ++d) to[d] = from[d] * share;
        }
    }
}

void backward_unit(const Task& task, Int start, Int n, Int head, const float* grad, const float* out, const float* lse,
                   float* grad_qkv) {
    const Int wide = up(n, COLUMNS), ld = gapped(n), columns = up(task.dim, COLUMNS);
    scratch.begin(4 * (5 * wide * task.width + 2 * task.dim * ld + BLOCK * (2 * ld + task.width) + wide + 512));
    float *q = scratch.take<float>(wide * task.width), *k = scratch.take<float>(wide * task.width);
    float *g = scratch.take<float>(wide * task.width);
    float *dk = scratch.take<float>(wide * task.width), *dv = scratch.take<float>(wide * task.width);
    float *k_columns = scratch.take<float>(task.dim * ld), *v_columns = scratch.take<float>(task.dim * ld);
    float *s = scratch.take<float>(BLOCK * ld), *ds = scratch.take<float>(BLOCK * ld), *dq = scratch.take<float>(BLOCK * task.width);
    float* shared = scratch.take<float>(wide);  // sum(dO out) of each query
    gather(task, start, n, head, 0, task.scale, q);
    gather(task, start, n, head, 1, 1.f, k);
    gather(task, start, n, head, 2, 1.f, dv);  // turned over at once
    transpose(task, n, k, k_columns);
    transpose(task, n, dv, v_columns);
    for (Int i = 0; i < n; ++i) {
        const Int place = ((start + i) * task.heads + head) * task.dim;
        for (Int d = 0; d < task.dim; d += 16) {
            __builtin_prefetch(grad + place + AHEAD * task.heads * task.dim + d);
            __builtin_prefetch(out + place + AHEAD * task.heads * task.dim + d);
        }
        Vec parts{};
        Int d = 0;
        for (; d + LANES <= task.dim; d += LANES) parts += load(grad + place + d) * load(out + place + d);
        float total = sum(parts);
        for (; d < task.dim; ++d) total += grad[place + d] * out[place + d];
        shared[i] = total;
        std::copy(grad + place, grad + place + task.dim, g + i * task.width);
        clear(g + i * task.width, task.dim, task.width);
    }
    std::fill(dk, dk + wide * task.width, 0.f);
    std::fill(dv, dv + wide * task.width, 0.f);
    for (Int first = 0; first < n; first += BLOCK) {
        const Int rows = std::min<Int>(BLOCK, n - first);
        const Range range = seen(task, n, first, rows);
        const Int count = range.high - range.low, low = range.low * task.width;
        scores(task, n, first, rows, range, q, k_columns, s, ld);
        product<SET>(rows, count, task.dim, g + first * task.width, task.width, 1, v_columns + range.low, ld, ds, ld);
        for (Int i = 0; i < rows; ++i) {
            float *p = s + i * ld, *d = ds + i * ld;
            const float log_sum = lse[(start + first + i) * task.heads + head], mean = shared[first + i];
            for (Int j = 0; j < count; j += LANES) {
                const Vec x = exponential(load(p + j) - log_sum);
                store(p + j, x);
                store(d + j, x * (load(d + j) - mean));
            }
        }
        product<ADD>(count, columns, rows, s, 1, ld, g + first * task.width, task.width, dv + low, task.width);
        product<ADD>(count, columns, rows, ds, 1, ld, q + first * task.width, task.width, dk + low, task.width);
        product<SET>(rows, columns, count, ds, ld, 1, k + low, task.width, dq, task.width);
        scatter(task, start, rows, head, 0, task.scale, dq, grad_qkv, first);
    }
    scatter(task, start, n, head, 1, 1.f, dk, grad_qkv, 0);
    scatter(task, start, n, head, 2, 1.f, dv, grad_qkv, 0);
}

Task make_task(const float* qkv, const float* cosine, const float* sine, Int heads, Int dim, Int window) {
    return {qkv, cosine, sine, heads, dim, window, gapped(dim), 1.f / std::sqrt(static_cast<float>(dim))};
}

}  // namespace

extern "C" {

// borders: int32[segments + 1], ascending, the first 0 and the last the number of places; out [T, H, K], lse [T, H].
void premask_forward(const float* qkv, const float* cosine, const float* sine, const std::int32_t* borders,
                     Int segments, Int heads, Int dim, Int window, Int threads, float* out, float* lse) {
    const Task task = make_task(qkv, cosine, sine, heads, dim, window);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (Int unit = 0; unit < segments * heads; ++unit) {
        const Int segment = unit / heads, start = borders[segment], n = borders[segment + 1] - start;
        if (n > 0) forward_unit(task, start, n, unit % heads, out, lse);
    }
}

void premask_backward(const float* qkv, const float* cosine, const float* sine, const std::int32_t* borders,
                      Int segments, Int heads, Int dim, Int window, Int threads, const float* grad, const float* out,
                      const float* lse, float* grad_qkv) {
    const Task task = make_task(qkv, cosine, sine, heads, dim, window);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (Int unit = 0; unit < segments * heads; ++unit) {
        const Int segment = unit / heads, start = borders[segment], n = borders[segment + 1] - start;
        if (n > 0) backward_unit(task, start, n, unit % heads, grad, out, lse, grad_qkv);
    }
}
}
