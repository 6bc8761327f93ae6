// GeGLU beside the product that feeds it, float32: what a product leaves in the first cache is used there. See
// products.py for the interface and panels.h for the products.
//
//     forward     u = x W_in^T, value and gate side by side                  h = gelu(value) gate
//     backward    dh = dout W_out, never in memory                           dgate = dh gelu(value)
//                 dvalue = dh gate (cdf(value) + value pdf(value))           h again, for the gradient of W_out
//
// See geglu.h for gelu. The forward pass writes past the caches; the backward pass
// doesn't: between its reads from memory that takes longer (measured).

#include "geglu.h"
#include "panels.h"

namespace {

// COLUMNS numbers: two vectors, written at once, because half a line that waits for the other is written alone.
struct Line {
    Vec left, right;
    explicit Line(const float* p) : left(load(p)), right(load(p + LANES)) {}
    Line(Vec left, Vec right) : left(left), right(right) {}
    template <bool STREAMS>
    void put(float* p) const {
        if (STREAMS) {
            stream(p, left);
            stream(p + LANES, right);
        } else {
            store(p, left);
            store(p + LANES, right);
        }
    }
};

// `rows` of A times one panel of the packed B, into [rows, COLUMNS].
inline void product(Int rows, Int k, const float* a, const float* right, float* c) {
    panel<SET>(rows, COLUMNS, std::min(DEPTH, k), a, k, right, c, COLUMNS);
    for (Int start = DEPTH; start < k; start += DEPTH)
        panel<ADD>(rows, COLUMNS, std::min(DEPTH, k - start), a + start, k, right + start * COLUMNS, c, COLUMNS);
}

template <bool STREAMS>
void forward(const float* x, const float* packed, Int places, Int inputs, Int width, float* u, float* h, Int threads) {
    each_block(places, width / COLUMNS, threads, [=](Int row, Int rows, Int from, Int end) {
        float values[BLOCK * COLUMNS], gates[BLOCK * COLUMNS];
        for (Int j = from * COLUMNS; j < end * COLUMNS; j += COLUMNS) {
            product(rows, inputs, x + row * inputs, packed + j * inputs, values);
            product(rows, inputs, x + row * inputs, packed + (width + j) * inputs, gates);
            for (Int i = 0; i < rows; ++i) {
                const Line value(values + i * COLUMNS), gate(gates + i * COLUMNS);
                float* to = u + (row + i) * 2 * width + j;
                value.put<STREAMS>(to);
                gate.put<STREAMS>(to + width);
                const Vec left = value.left * normal(value.left).cdf, right = value.right * normal(value.right).cdf;
                Line(left * gate.left, right * gate.right).put<STREAMS>(h + (row + i) * width + j);
            }
        }
    });
}

void backward(const float* grad, const float* packed, const float* u, Int places, Int outputs, Int width, float* du,
              float* h, Int threads) {
    each_block(places, width / COLUMNS, threads, [=](Int row, Int rows, Int from, Int end) {
        float sums[BLOCK * COLUMNS];
        for (Int j = from * COLUMNS; j < end * COLUMNS; j += COLUMNS) {
            product(rows, outputs, grad + row * outputs, packed + j * outputs, sums);
            for (Int i = 0; i < rows; ++i) {
                const Int at = (row + i) * 2 * width + j;
                const Line dh(sums + i * COLUMNS), value(u + at), gate(u + at + width);
                const Gradient left(dh.left, value.left, gate.left), right(dh.right, value.right, gate.right);
                Line(left.value, right.value).put<false>(du + at);
                Line(left.gate, right.gate).put<false>(du + at + width);
                Line(left.h, right.h).put<false>(h + (row + i) * width + j);
            }
        }
    });
}

}  // namespace

extern "C" {

// x [T, inputs], W_in [2 width, inputs] -> u [T, 2 width], h [T, width]. `width` is a multiple of COLUMNS.
void premask_gated(const float* x, const float* w_in, Int places, Int inputs, Int width, float* u, float* h,
                   Int threads) {
    const float* packed = pack_aside(w_in, true, inputs, 2 * width, threads);
    const auto pass = whole_lines(u) && whole_lines(h) ? forward<true> : forward<false>;
    pass(x, packed, places, inputs, width, u, h, threads);
}

// grad [T, outputs], W_out [outputs, width], u [T, 2 width] -> du [T, 2 width], h [T, width].
void premask_gated_backward(const float* grad, const float* w_out, const float* u, Int places, Int outputs, Int width,
                            float* du, float* h, Int threads) {
    backward(grad, pack_aside(w_out, false, outputs, width, threads), u, places, outputs, width, du, h, threads);
}
}
