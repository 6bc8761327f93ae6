// Layer norm without bias and what stands beside it: the sum before it, and backward the gradient that passes it by.
// The residual stream and all sums are float32; what is added to the stream, and the norm that products take, is float32
// or bfloat16. See norm.py for the interface.
//
//     forward     x = x + delta      n = (x - mean) rstd w
//     backward    dx = plus + rstd (w dn - mean(w dn) - y mean(w dn y))      dw = sum over places of dn y
//                 where y = (x - mean) rstd
//
// One pass over memory each. Gradients of w are added up for blocks of SPAN places, then block by block: results depend
// neither on the number of threads nor on their timing.

#include <algorithm>
#include <cmath>
#include <vector>

#include "bf16.h"

namespace {

constexpr Int SPAN = 64;

inline float mean_of(const float* x, Int width) {
    Vec sums{};
    Int j = 0;
    for (; j + LANES <= width; j += LANES) sums += load(x + j);
    float total = sum(sums);
    for (; j < width; ++j) total += x[j];
    return total / width;
}

inline float variance_of(const float* x, Int width, float mean) {
    Vec sums{};
    Int j = 0;
    for (; j + LANES <= width; j += LANES) {
        const Vec d = load(x + j) - mean;
        sums += d * d;
    }
    float total = sum(sums);
    for (; j < width; ++j) total += (x[j] - mean) * (x[j] - mean);
    return total / width;
}

inline float number(float x) { return x; }
inline float number(Half x) { return widen(x); }
inline void put(float* p, float x) { *p = x; }
inline void put(Half* p, float x) { *p = narrow(x); }

// x, delta [T, width] -> x + delta in `total`, its norm, and of each place mean and rstd. delta and total may be null:
// then x itself is normed.
template <class Number>
void forward(const float* x, const Number* delta, const float* weight, Int places, Int width, float eps, float* total,
             Number* normed, float* mean, float* rstd, Int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (Int i = 0; i < places; ++i) {
        const float* row = x + i * width;
        if (delta != nullptr) {
            float* to = total + i * width;
            const Number* by = delta + i * width;
            Int j = 0;
            for (; j + LANES <= width; j += LANES) store(to + j, load(row + j) + load(by + j));
            for (; j < width; ++j) to[j] = row[j] + number(by[j]);
            row = to;
        }
        const float middle = mean_of(row, width), factor = 1.f / std::sqrt(variance_of(row, width, middle) + eps);
        Number* to = normed + i * width;
        Int j = 0;
        for (; j + LANES <= width; j += LANES) store(to + j, (load(row + j) - middle) * factor * load(weight + j));
        for (; j < width; ++j) put(to + j, (row[j] - middle) * factor * weight[j]);
        mean[i] = middle, rstd[i] = factor;
    }
}

// grad and x [T, width], plus [T, width] or null -> dx [T, width], the same in `ddelta` unless that is null, dw [width].
template <class Number>
void backward(const Number* grad, const float* plus, const float* x, const float* weight, const float* mean,
              const float* rstd, Int places, Int width, float* dx, Number* ddelta, float* dw, Int threads) {
    const Int spans = (places + SPAN - 1) / SPAN;
    std::vector<float> parts(spans * width);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (Int span = 0; span < spans; ++span) {
        float* part = parts.data() + span * width;
        for (Int i = span * SPAN; i < std::min(places, (span + 1) * SPAN); ++i) {
            const Number* g = grad + i * width;
            const float *row = x + i * width, middle = mean[i], factor = rstd[i];
            Vec a{}, b{};
            Int j = 0;
            for (; j + LANES <= width; j += LANES) {
                const Vec y = (load(row + j) - middle) * factor, dn = load(g + j), wdn = dn * load(weight + j);
                store(part + j, load(part + j) + dn * y);
                a += wdn;
                b += wdn * y;
            }
            float first = sum(a), second = sum(b);
            for (; j < width; ++j) {
                const float y = (row[j] - middle) * factor;
                part[j] += number(g[j]) * y;
                first += number(g[j]) * weight[j];
                second += number(g[j]) * weight[j] * y;
            }
            first /= width, second /= width;
            float* to = dx + i * width;
            const float* by = plus == nullptr ? nullptr : plus + i * width;
            Number* beside = ddelta == nullptr ? nullptr : ddelta + i * width;
            for (j = 0; j + LANES <= width; j += LANES) {
                const Vec y = (load(row + j) - middle) * factor;
                Vec d = (load(g + j) * load(weight + j) - first - y * second) * factor;
                if (by != nullptr) d += load(by + j);
                store(to + j, d);
                if (beside != nullptr) store(beside + j, d);
            }
            for (; j < width; ++j) {
                float d = (number(g[j]) * weight[j] - first - (row[j] - middle) * factor * second) * factor;
                if (by != nullptr) d += by[j];
                to[j] = d;
                if (beside != nullptr) put(beside + j, d);
            }
        }
    }
    std::fill(dw, dw + width, 0.f);
    for (Int span = 0; span < spans; ++span)
        for (Int j = 0; j < width; ++j) dw[j] += parts[span * width + j];
}

}  // namespace

extern "C" {

void premask_norm(const float* x, const float* delta, const float* weight, Int places, Int width, float eps,
                  float* total, float* normed, float* mean, float* rstd, Int threads) {
    forward(x, delta, weight, places, width, eps, total, normed, mean, rstd, threads);
}

void premask_norm_bf16(const float* x, const Half* delta, const float* weight, Int places, Int width, float eps,
                       float* total, Half* normed, float* mean, float* rstd, Int threads) {
    forward(x, delta, weight, places, width, eps, total, normed, mean, rstd, threads);
}

void premask_norm_backward(const float* grad, const float* plus, const float* x, const float* weight, const float* mean,
                           const float* rstd, Int places, Int width, float* dx, float* ddelta, float* dw,
                           Int threads) {
    backward(grad, plus, x, weight, mean, rstd, places, width, dx, ddelta, dw, threads);
}

void premask_norm_backward_bf16(const Half* grad, const float* plus, const float* x, const float* weight,
                                const float* mean, const float* rstd, Int places, Int width, float* dx, Half* ddelta,
                                float* dw, Int threads) {
    backward(grad, plus, x, weight, mean, rstd, places, width, dx, ddelta, dw, threads);
}
}
