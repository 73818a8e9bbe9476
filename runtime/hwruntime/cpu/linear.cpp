// Linear layers whose weights have 8 or 4 bits, for few rows: what they take is reading the weights.
//
// Products are of whole numbers (AVX512-VNNI): a row's numbers are rounded to 15 bits, in groups that have a scale each,
// which is finer than bfloat16 is; weights are as they are. Two bytes make a number: 128 * high + low.

#include <algorithm>
#include <vector>

#include "vectors.h"

extern "C" {

// A layer, by blocks of 16 outputs, as bytes of 4 inputs for each. Of 8 bits: the block's scales, float32 [16], then
// weights [inputs / 4, 16, 4], plus 128. Of 4 bits, for every 32 inputs: bfloat16 [16, 2], for each output what is lowest
// and a scale, then weights [4, 16, 4], the last 16 inputs in the upper halves of the bytes of the first 16. `outputs` and
// `inputs` are padded to whole blocks; `bias` float32 [outputs] or null.
struct Linear {
    const uint8_t* weights;
    const float* bias;
    int32_t outputs, inputs;
};

// Rows [count, numbers], `stride` numbers apart, and their products [count, width]: neither is padded.
struct Batch {
    const void* x;
    void* out;
    int64_t stride;
    int32_t count, numbers, width;
};

int32_t linear_runs() {
#ifdef __AVX512VNNI__
    return 1;
#else
    return 0;
#endif
}

}  // extern "C"

#ifdef __AVX512VNNI__

namespace {

constexpr int ROWS = 4;  // that are multiplied at once
constexpr int UNIT = 4;  // inputs that a product takes at once

// Rows as whole numbers: of group g of row r, number i is `scales[r, g] * (128 * high[r, i] + low[r, i])`, and
// `sums[r, g]` is what they add up to before scaling.
struct Whole {
    std::vector<int8_t> high, low;
    std::vector<float> scales;
    std::vector<int32_t> sums;
};

inline Ints add_products(Ints sum, Words a, uint32_t b) {
    return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, _mm512_set1_epi32((int)b));
}

inline Floats converted(Ints x) { return __builtin_convertvector(x, Floats); }

struct Int8 {
    static constexpr int GROUP = 64;                        // inputs whose numbers have one scale
    static constexpr int SCALES = LANES * sizeof(float);    // bytes

    static int64_t size(const Linear& layer) { return SCALES + (int64_t)layer.inputs * LANES; }

    template <int R, int BLOCKS>
    static void add_group(const Linear& layer, int block, int begin, int end, const int8_t* const* high,
                          const int8_t* const* low, const float* scales, const int32_t* sums, Floats (*out)[R]) {
        Ints highs[BLOCKS][R] = {}, lows[BLOCKS][R] = {};
        const int64_t apart = size(layer);
        const uint8_t* weights = layer.weights + block * apart + SCALES + begin * LANES;
        for (int i = begin; i < end; i += UNIT, weights += UNIT * LANES)
            for (int b = 0; b < BLOCKS; b++) {
                const Words w = load<Words>(weights + b * apart);
                for (int r = 0; r < R; r++) {
                    highs[b][r] = add_products(highs[b][r], w, word(high[r] + i));
                    lows[b][r] = add_products(lows[b][r], w, word(low[r] + i));
                }
            }
        for (int b = 0; b < BLOCKS; b++)
            for (int r = 0; r < R; r++)
                out[b][r] += converted((highs[b][r] << 7) + lows[b][r] - (sums[r] << 7)) * scales[r];
    }

    static Floats finished(const Linear& layer, int block, Floats sum) {
        return sum * load<Floats>(layer.weights + block * size(layer));
    }
};

struct Int4 {
    static constexpr int GROUP = 32;
    static constexpr int SCALES = LANES * 2 * sizeof(uint16_t);  // bytes

    template <int R, int BLOCKS>
    static void add_group(const Linear& layer, int block, int begin, int, const int8_t* const* high,
                          const int8_t* const* low, const float* scales, const int32_t* sums, Floats (*out)[R]) {
        const int groups = layer.inputs / GROUP, group = begin / GROUP;
        for (int b = 0; b < BLOCKS; b++) {
            const int64_t index = (int64_t)(block + b) * groups + group;
            const uint8_t* weights = layer.weights + index * (SCALES + GROUP / 2 * LANES);
            const Words pair = load<Words>(weights);
            const Floats lowest = (Floats)(pair << 16), scale = (Floats)(pair & 0xffff0000u);
            weights += SCALES;
            Ints highs[R] = {}, lows[R] = {};
            for (int i = begin; i < begin + GROUP / 2; i += UNIT, weights += UNIT * LANES) {
                const Words both = load<Words>(weights);
                const Words first = both & 0x0f0f0f0fu, second = both >> 4 & 0x0f0f0f0fu;
                for (int r = 0; r < R; r++) {
                    highs[r] = add_products(highs[r], first, word(high[r] + i));
                    lows[r] = add_products(lows[r], first, word(low[r] + i));
                    highs[r] = add_products(highs[r], second, word(high[r] + i + GROUP / 2));
                    lows[r] = add_products(lows[r], second, word(low[r] + i + GROUP / 2));
                }
            }
            for (int r = 0; r < R; r++) {
                out[b][r] += converted((highs[r] << 7) + lows[r]) * (scale * scales[r]);
                out[b][r] += lowest * ((float)sums[r] * scales[r]);
            }
        }
    }

    static Floats finished(const Linear&, int, Floats sum) { return sum; }
};

template <class Kind, class N>
struct Product {
    using Stored = typename N::Stored;
    static constexpr int GROUP = Kind::GROUP;

    const Linear& layer;
    const Batch& batch;
    Whole& whole;
    const int groups = (layer.inputs + GROUP - 1) / GROUP;

    void round(int row, int group) const {
        const Stored* from = static_cast<const Stored*>(batch.x) + row * batch.stride;
        const int begin = group * GROUP, count = std::min(GROUP, layer.inputs - begin);
        const int there = std::max(0, std::min(count, batch.numbers - begin));
        float numbers[GROUP] = {}, top = 0, spoilt = 0;  // `spoilt`: nan where a number is not finite
        for (int i = 0; i < there; i++) {
            numbers[i] = N::number(from[begin + i]);
            top = std::max(top, std::fabs(numbers[i]));
            spoilt += numbers[i] * 0;
        }
        if (spoilt != 0) std::fill_n(numbers, GROUP, 0.0f);
        const float scale = top / (127 * 128) + spoilt, inverse = scale > 0 ? 1 / scale : 0;
        int8_t* high = whole.high.data() + (int64_t)row * layer.inputs + begin;
        int8_t* low = whole.low.data() + (int64_t)row * layer.inputs + begin;
        int32_t sum = 0;
        for (int i = 0; i < count; i++) {
            const int32_t x = (int32_t)std::nearbyint(numbers[i] * inverse), upper = (x + 64) >> 7;
            high[i] = (int8_t)upper;
            low[i] = (int8_t)(x - (upper << 7));
            sum += x;
        }
        whole.scales[(int64_t)group * batch.count + row] = scale;
        whole.sums[(int64_t)group * batch.count + row] = sum;
    }

    template <int R, int BLOCKS>
    void multiply(int block, int row) const {
        Floats sums[BLOCKS][R] = {};
        const int8_t *high[R], *low[R];
        for (int r = 0; r < R; r++) {
            high[r] = whole.high.data() + (int64_t)(row + r) * layer.inputs;
            low[r] = whole.low.data() + (int64_t)(row + r) * layer.inputs;
        }
        for (int group = 0; group < groups; group++) {
            const int64_t at = (int64_t)group * batch.count + row;
            const int begin = group * GROUP, end = std::min(begin + GROUP, layer.inputs);
            Kind::template add_group<R, BLOCKS>(layer, block, begin, end, high, low, whole.scales.data() + at,
                                                whole.sums.data() + at, sums);
        }
        for (int b = 0; b < BLOCKS; b++)
            for (int r = 0; r < R; r++) write(block + b, row + r, Kind::finished(layer, block + b, sums[b][r]));
    }

    void write(int block, int row, Floats sum) const {
        const int first = block * LANES, count = std::min(LANES, batch.width - first);
        if (layer.bias) sum += load<Floats>(layer.bias + first);
        Stored* to = static_cast<Stored*>(batch.out) + (int64_t)row * batch.width + first;
        for (int i = 0; i < count; i++) to[i] = N::rounded(sum[i]);
    }

    template <int BLOCKS>
    void multiply_all(int block) const {
        int row = 0;
        for (; row + ROWS <= batch.count; row += ROWS) multiply<ROWS, BLOCKS>(block, row);
        if (batch.count - row == 3) multiply<3, BLOCKS>(block, row);
        if (batch.count - row == 2) multiply<2, BLOCKS>(block, row);
        if (batch.count - row == 1) multiply<1, BLOCKS>(block, row);
    }

    void run() const {
        constexpr int BLOCKS = 2;
        const int blocks = layer.outputs / LANES;
#pragma omp parallel
        {
#pragma omp for collapse(2)
            for (int row = 0; row < batch.count; row++)
                for (int group = 0; group < groups; group++) round(row, group);
#pragma omp for
            for (int block = 0; block < blocks; block += BLOCKS) {
                if (block + BLOCKS <= blocks)
                    multiply_all<BLOCKS>(block);
                else
                    multiply_all<1>(block);
            }
        }
    }
};

template <class Kind, class N>
void run(const Linear& layer, const Batch& batch) {
    static thread_local Whole whole;
    const size_t numbers = (size_t)batch.count * layer.inputs;
    const size_t groups = (size_t)batch.count * ((layer.inputs + Kind::GROUP - 1) / Kind::GROUP);
    whole.high.resize(numbers), whole.low.resize(numbers);
    whole.scales.resize(groups), whole.sums.resize(groups);
    Product<Kind, N>{layer, batch, whole}.run();
}

}  // namespace

extern "C" {

void int8_float32(const Linear* layer, const Batch* batch) { run<Int8, Float32>(*layer, *batch); }
void int8_bfloat16(const Linear* layer, const Batch* batch) { run<Int8, Bfloat16>(*layer, *batch); }
void int4_float32(const Linear* layer, const Batch* batch) { run<Int4, Float32>(*layer, *batch); }
void int4_bfloat16(const Linear* layer, const Batch* batch) { run<Int4, Bfloat16>(*layer, *batch); }
}

#endif
