// Calls in a row, without going back to Python for each; and what models do between products: numbers by numbers.

#include <algorithm>

#include "vectors.h"

namespace {

constexpr int DIMS = 4;
constexpr int64_t MANY = 32768;  // numbers: for fewer one thread is enough

enum Operation : int32_t { COPY, NEGATE, ADD, SUBTRACT, MULTIPLY };

}  // namespace

extern "C" {

// A kernel, and the two structures that it takes.
struct Call {
    void (*kernel)(const void*, const void*);
    const void *first, *second;
};

void run_calls(const Call* calls, const int64_t* count) {
    for (int64_t i = 0; i < *count; i++) calls[i].kernel(calls[i].first, calls[i].second);
}

struct Loop {
    int32_t operation;
    int64_t sizes[DIMS];
};

// `strides` in numbers; that of the last dimension is 1, or 0 for one number that is used for all.
struct Operand {
    void* data;
    int64_t strides[DIMS];
};

struct Operands {
    Operand a, b, out;
};

}  // extern "C"

namespace {

template <class N>
struct Elementwise {
    using Stored = typename N::Stored;

    const Loop& loop;
    const Operands& operands;

    static Stored* row(const Operand& x, int64_t i, int64_t j, int64_t k) {
        return static_cast<Stored*>(x.data) + i * x.strides[0] + j * x.strides[1] + k * x.strides[2];
    }

    template <class F>
    void run(F f) const {
        const int64_t *sizes = loop.sizes, count = sizes[3], a = operands.a.strides[3], b = operands.b.strides[3];
#pragma omp parallel for collapse(3) if (sizes[0] * sizes[1] * sizes[2] * count > MANY)
        for (int64_t i = 0; i < sizes[0]; i++)
            for (int64_t j = 0; j < sizes[1]; j++)
                for (int64_t k = 0; k < sizes[2]; k++) {
                    const Stored *x = row(operands.a, i, j, k), *y = row(operands.b, i, j, k);
                    Stored* out = row(operands.out, i, j, k);
                    int64_t n = 0;
                    for (; n + LANES <= count; n += LANES)
                        N::write(out + n, f(some(x + n * a, a), some(y + n * b, b)));
                    for (; n < count; n++) out[n] = N::rounded(f(all(N::number(x[n * a])), all(N::number(y[n * b])))[0]);
                }
    }

    static Floats some(const Stored* from, int64_t stride) { return stride ? N::read(from) : all(N::number(*from)); }

    void run() const {
        switch (loop.operation) {
            case COPY: return run([](Floats x, Floats) { return x; });
            case NEGATE: return run([](Floats x, Floats) { return -x; });
            case ADD: return run([](Floats x, Floats y) { return x + y; });
            case SUBTRACT: return run([](Floats x, Floats y) { return x - y; });
            case MULTIPLY: return run([](Floats x, Floats y) { return x * y; });
        }
    }
};

}  // namespace

extern "C" {

void elementwise_float32(const Loop* loop, const Operands* operands) { Elementwise<Float32>{*loop, *operands}.run(); }
void elementwise_bfloat16(const Loop* loop, const Operands* operands) { Elementwise<Bfloat16>{*loop, *operands}.run(); }
}
