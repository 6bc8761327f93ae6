// Loss, hit and gradient of each row of logits, in place: `softmax_gradient` of trainer/model/loss.py for float32 and
// bfloat16 on CPUs. All but the logits and their gradient is float32.
//
//     logits [V] -> x = logits + bias      loss = log(sum(exp(x - max))) + max - x[target]
//                   hit = 1 iff target is the first of the greatest
//                   gradient = exp(x - max) / sum - onehot(target)
//
// A row stays in the first or second cache for its three passes, and each exponential is taken once. A row is one
// thread's: results depend neither on the number of threads nor on their timing. Of bfloat16 logits the float32 values
// between the passes stand aside.

#include <algorithm>
#include <cmath>

#include "bf16.h"
#include "scratch.h"

namespace {

inline float number(float x) { return x; }
inline float number(Half x) { return widen(x); }
inline void put(float* p, float x) { *p = x; }
inline void put(Half* p, float x) { *p = narrow(x); }

// `x` holds float32 values between the passes: [vocab], or the row itself.
template <class Number>
void one_row(Number* row, float* x, const float* bias, Int vocab, Int target, float* loss, float* hit) {
    const Int whole = vocab / LANES * LANES;
    Vec top = Vec{} - INFINITY;
    for (Int j = 0; j < whole; j += LANES) {
        const Vec logit = load(row + j) + load(bias + j);
        top = logit > top ? logit : top;
        store(x + j, logit);
    }
    float most = greatest(top);
    for (Int j = whole; j < vocab; ++j) most = std::max(most, x[j] = number(row[j]) + bias[j]);

    const float wanted = x[target];
    *hit = wanted == most && std::find(x, x + target, most) == x + target;

    Vec parts{};
    for (Int j = 0; j < whole; j += LANES) {
        const Vec p = exponential(load(x + j) - most);
        parts += p;
        store(x + j, p);
    }
    float total = sum(parts);
    for (Int j = whole; j < vocab; ++j) total += x[j] = std::exp(x[j] - most);
    *loss = std::log(total) + (most - wanted);

    const float share = 1.f / total;
    const float right = x[target] * share - 1.f;
    for (Int j = 0; j < whole; j += LANES) store(row + j, load(x + j) * share);
    for (Int j = whole; j < vocab; ++j) put(row + j, x[j] * share);
    put(row + target, right);
}

inline float* aside(float* row, Int) { return row; }
inline float* aside(Half*, Int vocab) {
    scratch.begin(4 * vocab + 64);
    return scratch.take<float>(vocab);
}

template <class Number>
void all_rows(Number* logits, const float* bias, const std::int64_t* target, Int rows, Int vocab, float* loss,
              float* hit, Int threads) {
#pragma omp parallel for schedule(dynamic, 4) num_threads(threads)
    for (Int i = 0; i < rows; ++i) {
        Number* row = logits + i * vocab;
        if (target[i] < 0) {
            std::fill(row, row + vocab, Number(0));
            loss[i] = hit[i] = 0.f;
        } else {
            one_row(row, aside(row, vocab), bias, vocab, target[i], loss + i, hit + i);
        }
    }
}

}  // namespace

extern "C" {

// logits [rows, vocab], overwritten; bias [vocab]; target [rows], negative: no loss, no hit, no gradient.
void premask_softmax_gradient(float* logits, const float* bias, const std::int64_t* target, Int rows, Int vocab,
                              float* loss, float* hit, Int threads) {
    all_rows(logits, bias, target, rows, vocab, loss, hit, threads);
}

void premask_softmax_gradient_bf16(Half* logits, const float* bias, const std::int64_t* target, Int rows, Int vocab,
                                   float* loss, float* hit, Int threads) {
    all_rows(logits, bias, target, rows, vocab, loss, hit, threads);
}
}
