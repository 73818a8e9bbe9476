// RMSNorm of rows in bfloat16: x / sqrt(mean of x^2 + epsilon) in float32, rounded, times a weight.

#include "vectors.h"

extern "C" {

struct Norm {
    const uint16_t* weight;
    int64_t size;
    float epsilon;
};

// Rows [count, size], and the same again.
struct NormRows {
    const uint16_t* x;
    uint16_t* out;
    int64_t count;
};

void norm_bfloat16(const Norm* norm, const NormRows* rows) {
    using N = Bfloat16;
    const uint16_t* weight = norm->weight;
    const int64_t size = norm->size;
#pragma omp parallel for if (rows->count > 16)
    for (int64_t row = 0; row < rows->count; row++) {
        const uint16_t* from = rows->x + row * size;
        Floats sums = {};
        float sum = 0;
        int64_t i = 0;
        for (; i + LANES <= size; i += LANES) sums += N::read(from + i) * N::read(from + i);
        for (; i < size; i++) sum += N::number(from[i]) * N::number(from[i]);
        for (int lane = 0; lane < LANES; lane++) sum += sums[lane];
        const float factor = 1 / std::sqrt(sum / size + norm->epsilon);
        uint16_t* to = rows->out + row * size;
        for (i = 0; i + LANES <= size; i += LANES) {
            N::write(to + i, N::read(from + i) * factor);
            N::write(to + i, N::read(to + i) * N::read(weight + i));
        }
        for (; i < size; i++) to[i] = N::rounded(N::number(N::rounded(N::number(from[i]) * factor)) * N::number(weight[i]));
    }
}
}
