// GeGLU between two products, bfloat16 with float32 in between: one pass over memory each way. See products.py.
//
//     forward     h = gelu(value) gate, where u has value and gate side by side
//     backward    the gradients of both, and h again, for the gradient of the weights after it

#include "bf16.h"
#include "geglu.h"

namespace {

// Call `pass(i)` at every LANES-th place, the last time at most a whole vector before the end: numbers may be made twice.
template <class Pass>
inline void over(Int width, const Pass& pass) {
    Int j = 0;
    for (; j + LANES <= width; j += LANES) pass(j);
    if (j < width) pass(width - LANES);
}

}  // namespace

extern "C" {

// u [T, 2 width] -> h [T, width]; width is at least LANES.
void premask_geglu(const Half* u, Int places, Int width, Half* h, Int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (Int i = 0; i < places; ++i) {
        const Half *value = u + i * 2 * width, *gate = value + width;
        Half* to = h + i * width;
        over(width, [=](Int j) {
            const Vec v = load(value + j);
            store(to + j, v * normal(v).cdf * load(gate + j));
        });
    }
}

// dh [T, width], u [T, 2 width] -> du [T, 2 width], h [T, width].
void premask_geglu_backward(const Half* dh, const Half* u, Int places, Int width, Half* du, Half* h, Int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (Int i = 0; i < places; ++i) {
        const Half *value = u + i * 2 * width, *gate = value + width, *from = dh + i * width;
        Half *to = du + i * 2 * width, *again = h + i * width;
        over(width, [=](Int j) {
            const Gradient all(load(from + j), load(value + j), load(gate + j));
            store(to + j, all.value);
            store(to + width + j, all.gate);
            store(again + j, all.h);
        });
    }
}
}
