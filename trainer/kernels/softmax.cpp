// Loss, hit and gradient of each row of logits, in place: `trainer.model.loss.softmax_gradient` for float32 on CPUs.
//
//     logits [V] -> x = logits + bias      loss = log(sum(exp(x - max))) + max - x[target]
//                   hit = 1 iff target is the first of the greatest
//                   gradient = exp(x - max) / sum - onehot(target)
//
// A row stays in the first or second cache for its three passes, and each exponential is taken once. A row is one
// thread's: results depend neither on the number of threads nor on their timing.

#include <algorithm>
#include <cmath>

#include "vectors.h"

namespace {

void one_row(float* row, const float* bias, Int vocab, Int target, float* loss, float* hit) {
    const Int whole = vocab / LANES * LANES;
    Vec top = Vec{} - INFINITY;
    for (Int j = 0; j < whole; j += LANES) {
        const Vec x = load(row + j) + load(bias + j);
        top = x > top ? x : top;
        store(row + j, x);
    }
    float most = greatest(top);
    for (Int j = whole; j < vocab; ++j) most = std::max(most, row[j] += bias[j]);

    const float wanted = row[target];
    *hit = wanted == most && std::find(row, row + target, most) == row + target;

    Vec parts{};
    for (Int j = 0; j < whole; j += LANES) {
        const Vec p = exponential(load(row + j) - most);
        parts += p;
        store(row + j, p);
    }
    float total = sum(parts);
    for (Int j = whole; j < vocab; ++j) total += row[j] = std::exp(row[j] - most);
    *loss = std::log(total) + (most - wanted);

    const float share = 1.f / total;
    for (Int j = 0; j < whole; j += LANES) store(row + j, load(row + j) * share);
    for (Int j = whole; j < vocab; ++j) row[j] *= share;
    row[target] -= 1.f;
}

}  // namespace

extern "C" {

// logits [rows, vocab], overwritten; bias [vocab]; target [rows], negative: no loss, no hit, no gradient.
void premask_softmax_gradient(float* logits, const float* bias, const std::int64_t* target, Int rows, Int vocab,
                              float* loss, float* hit, Int threads) {
#pragma omp parallel for schedule(dynamic, 4) num_threads(threads)
    for (Int i = 0; i < rows; ++i) {
        float* row = logits + i * vocab;
        if (target[i] < 0) {
            std::fill(row, row + vocab, 0.f);
            loss[i] = hit[i] = 0.f;
        } else {
            one_row(row, bias, vocab, target[i], loss + i, hit + i);
        }
    }
}
}
