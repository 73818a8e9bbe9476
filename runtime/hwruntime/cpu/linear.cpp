// Linear layers: few rows take what reading the weights takes, many what the arithmetic takes.
//
// Weights of bfloat16 are multiplied as they are (AVX512-BF16). With weights of 8 and 4 bits, products are of whole numbers
// (AVX512-VNNI): a row's numbers are rounded to 15 bits, in groups that have a scale each, which is finer than bfloat16
// is. Two bytes make a number: 128 * high + low.

#include <algorithm>
#include <vector>

#include "vectors.h"

extern "C" {

// A layer, by blocks of 16 outputs, as units of 4 bytes for each. Of bfloat16: [inputs / 2, 16, 2]. Of 8 bits: the block's
// scales, float32 [16], then weights [inputs / 4, 16, 4], plus 128. Of 4 bits, for every 32 inputs: bfloat16 [16, 2], for
// each output what is lowest and a scale, then weights [4, 16, 4], the last 16 inputs in the upper halves of the bytes of
// the first 16. `outputs` and `inputs` are padded to whole blocks and units; `bias` float32 [outputs] or null.
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

int32_t multiplies_bfloat16() {
#ifdef __AVX512BF16__
    return 1;
#else
    return 0;
#endif
}

int32_t multiplies_bits() {
#ifdef __AVX512VNNI__
    return 1;
#else
    return 0;
#endif
}

}  // extern "C"

namespace {

constexpr int ROWS = 4;      // that are multiplied at once
constexpr int AHEAD = 6144;  // bytes of weights that a thread has asked for

// Asks memory for weights, past the caches that they would fill: they are read once in a pass. `blocks` are read by turns.
inline void ask(const uint8_t* weights, int blocks) { __builtin_prefetch(weights + AHEAD / blocks, 0, 0); }

// Products of all rows by all blocks, in the way of `Math`, which multiplies `R` rows by some blocks at once.
template <class Math>
struct Product {
    using N = typename Math::Numbers;

    const Linear& layer;
    const Batch& batch;
    const Math& math;

    void write(int block, int row, Floats sum) const {
        const int first = block * LANES, count = std::min(LANES, batch.width - first);
        if (layer.bias) sum += load<Floats>(layer.bias + first);
        auto* to = static_cast<typename N::Stored*>(batch.out) + (int64_t)row * batch.width + first;
        if (count == LANES) return N::write(to, sum);
        for (int i = 0; i < count; i++) to[i] = N::rounded(sum[i]);
    }

    template <int R, int BLOCKS>
    void multiply(int block, int row) const {
        Floats sums[BLOCKS][R] = {};
        math.template multiply<R, BLOCKS>(block, row, sums);
        for (int b = 0; b < BLOCKS; b++)
            for (int r = 0; r < R; r++) write(block + b, row + r, sums[b][r]);
    }

    template <int BLOCKS>
    void multiply_rows(int block) const {
        int row = 0;
        for (; row + ROWS <= batch.count; row += ROWS) multiply<ROWS, BLOCKS>(block, row);
        if (batch.count - row == 3) multiply<3, BLOCKS>(block, row);
        if (batch.count - row == 2) multiply<2, BLOCKS>(block, row);
        if (batch.count - row == 1) multiply<1, BLOCKS>(block, row);
    }

    void run() const {
        const int blocks = layer.outputs / LANES;
#pragma omp parallel
        {
            math.begin();
#pragma omp for
            for (int block = 0; block < blocks; block += Math::BLOCKS) {
                if (block + Math::BLOCKS <= blocks)
                    multiply_rows<Math::BLOCKS>(block);
                else
                    for (int b = block; b < blocks; b++) multiply_rows<1>(b);
            }
        }
    }
};

#ifdef __AVX512BF16__

struct AsTheyAre {
    using Numbers = Bfloat16;
    static constexpr int BLOCKS = 4;

    const Linear& layer;
    const Batch& batch;

    void begin() const {}

    template <int R, int B>
    void multiply(int block, int row, Floats (*sums)[R]) const {
        const uint16_t* x = static_cast<const uint16_t*>(batch.x) + row * batch.stride;
        const int64_t apart = (int64_t)layer.inputs * LANES * sizeof(uint16_t);
        const uint8_t* weights = layer.weights + block * apart;
        for (int i = 0; i < layer.inputs; i += 2, weights += LANES * 4) {
            uint32_t pairs[R];
            for (int r = 0; r < R; r++) pairs[r] = word(x + r * batch.stride + i);
            for (int b = 0; b < B; b++) {
                ask(weights + b * apart, B);
                const Words w = load<Words>(weights + b * apart);
                for (int r = 0; r < R; r++) sums[b][r] = Bfloat16::add_product(sums[b][r], w, pairs[r]);
            }
        }
    }
};

#endif

#ifdef __AVX512VNNI__

constexpr int UNIT = 4;         // inputs that a product takes at once
constexpr int PAIR = 2 * UNIT;  // bytes of such inputs of a row: high and low ones

// Rows as whole numbers: of group g of row r, number i is `scales[g, r] * (128 * high + low)`, and `sums[g, r]` is what
// they add up to. `bytes` [rows / ROWS, inputs / 4, ROWS, 2, 4]: rows that are multiplied at once lie together; by units,
// the high bytes and then the low ones.
struct Whole {
    std::vector<int8_t> bytes;
    std::vector<float> scales;
    std::vector<int32_t> sums;
};

// `R` rows of these, from one on.
template <int R>
struct Part {
    const int8_t* bytes;
    const float* scales;
    const int32_t* sums;
    int64_t apart;  // numbers between groups

    uint32_t high(int row, int input) const { return word(bytes + (input / UNIT * R + row) * PAIR); }
    uint32_t low(int row, int input) const { return word(bytes + (input / UNIT * R + row) * PAIR + UNIT); }
    float scale(int row, int group) const { return scales[group * apart + row]; }
    int32_t sum(int row, int group) const { return sums[group * apart + row]; }
};

inline Ints add_products(Ints sum, Words a, uint32_t b) {
    return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, _mm512_set1_epi32((int)b));
}

// The first `count` numbers, and zeros.
template <class N>
inline Floats some(const typename N::Stored* from, int count) {
    if (count >= LANES) return N::read(from);
    Floats x = {};
    for (int i = 0; i < count; i++) x[i] = N::number(from[i]);
    return x;
}

inline Ints whole_numbers(Floats x) { return (Ints)(x + ROUNDER) - (Ints)all(ROUNDER); }

// The high and the low bytes of the first `count` numbers, by units, which lie `apart` bytes apart.
inline void write_bytes(int8_t* to, Ints x, int count, int apart) {
    const Ints high = (x + 64) >> 7;
    const __m128i highs = _mm512_cvtepi32_epi8((__m512i)high), lows = _mm512_cvtepi32_epi8((__m512i)(x - (high << 7)));
    const __m128i both[2] = {_mm_unpacklo_epi32(highs, lows), _mm_unpackhi_epi32(highs, lows)};
    for (int i = 0; i < count / UNIT; i++) std::memcpy(to + i * apart, (const int8_t*)both + i * PAIR, PAIR);
}

inline Floats converted(Ints x) { return __builtin_convertvector(x, Floats); }

struct Int8 {
    static constexpr int BLOCKS = 1, GROUP = 64;          // GROUP: inputs whose numbers have one scale
    static constexpr int SCALES = LANES * sizeof(float);  // bytes

    static int64_t size(const Linear& layer) { return SCALES + (int64_t)layer.inputs * LANES; }

    template <int R, int B>
    static void add_group(const Linear& layer, int block, int group, const Part<R>& rows, Floats (*out)[R]) {
        Ints highs[B][R] = {}, lows[B][R] = {};
        const int begin = group * GROUP, end = std::min(begin + GROUP, layer.inputs);
        const int64_t apart = size(layer);
        const uint8_t* weights = layer.weights + block * apart + SCALES + begin * LANES;
        for (int i = begin; i < end; i += UNIT, weights += UNIT * LANES)
            for (int b = 0; b < B; b++) {
                ask(weights + b * apart, B);
                const Words w = load<Words>(weights + b * apart);
                for (int r = 0; r < R; r++) {
                    highs[b][r] = add_products(highs[b][r], w, rows.high(r, i));
                    lows[b][r] = add_products(lows[b][r], w, rows.low(r, i));
                }
            }
        for (int r = 0; r < R; r++) {
            const float scale = rows.scale(r, group);
            const int32_t more = rows.sum(r, group) << 7;
            for (int b = 0; b < B; b++) out[b][r] += converted((highs[b][r] << 7) + lows[b][r] - more) * scale;
        }
    }

    static Floats finished(const Linear& layer, int block, Floats sum) {
        return sum * load<Floats>(layer.weights + block * size(layer));
    }
};

struct Int4 {
    static constexpr int BLOCKS = 1, GROUP = 32;
    static constexpr int SCALES = LANES * 2 * sizeof(uint16_t);  // bytes
    static constexpr int SIZE = SCALES + GROUP / 2 * LANES;      // of a group

    template <int R, int B>
    static void add_group(const Linear& layer, int block, int group, const Part<R>& rows, Floats (*out)[R]) {
        const int begin = group * GROUP;
        const int64_t apart = (int64_t)layer.inputs / GROUP * SIZE;
        const uint8_t* from = layer.weights + block * apart + (int64_t)group * SIZE;
        for (int b = 0; b < B; b++, from += apart) {
            ask(from, B);
            const Words pair = load<Words>(from);
            const Floats lowest = (Floats)(pair << 16), scale = (Floats)(pair & 0xffff0000u);
            Ints highs[R] = {}, lows[R] = {};
            for (int i = 0; i < GROUP / 2; i += UNIT) {
                ask(from + SCALES + i * LANES, B);
                const Words both = load<Words>(from + SCALES + i * LANES);
                const Words first = both & 0x0f0f0f0fu, second = both >> 4 & 0x0f0f0f0fu;
                for (int r = 0; r < R; r++) {
                    highs[r] = add_products(highs[r], first, rows.high(r, begin + i));
                    lows[r] = add_products(lows[r], first, rows.low(r, begin + i));
                    highs[r] = add_products(highs[r], second, rows.high(r, begin + i + GROUP / 2));
                    lows[r] = add_products(lows[r], second, rows.low(r, begin + i + GROUP / 2));
                }
            }
            for (int r = 0; r < R; r++) {
                const float of_row = rows.scale(r, group);
                out[b][r] += converted((highs[r] << 7) + lows[r]) * of_row * scale;
                out[b][r] += lowest * ((float)rows.sum(r, group) * of_row);
            }
        }
    }

    static Floats finished(const Linear&, int, Floats sum) { return sum; }
};

template <class Kind, class N>
struct Rounded {
    using Numbers = N;
    static constexpr int BLOCKS = Kind::BLOCKS, GROUP = Kind::GROUP;

    const Linear& layer;
    const Batch& batch;
    Whole& whole;
    const int groups = (layer.inputs + GROUP - 1) / GROUP;

    void begin() const {
#pragma omp for collapse(2)
        for (int row = 0; row < batch.count; row++)
            for (int group = 0; group < groups; group++) round(row, group);
    }

    void round(int row, int group) const {
        const auto* from = static_cast<const typename N::Stored*>(batch.x) + row * batch.stride;
        const int begin = group * GROUP, count = std::min(GROUP, layer.inputs - begin);
        const int there = std::max(0, std::min(count, batch.numbers - begin));
        Floats numbers[GROUP / LANES] = {};
        for (int i = 0; i < there; i += LANES) numbers[i / LANES] = some<N>(from + begin + i, there - i);
        Floats tops = {}, spoils = {};  // `spoils`: nan where a number is not finite
        for (const Floats x : numbers) tops = max(tops, max(x, -x)), spoils += x * 0;
        const float top = _mm512_reduce_max_ps((__m512)tops), spoilt = _mm512_reduce_add_ps((__m512)spoils);
        const float scale = top / (127 * 128) + spoilt, inverse = scale > 0 ? 1 / scale : 0;
        const int first = row / ROWS * ROWS, together = std::min(ROWS, batch.count - first);
        int8_t* bytes = whole.bytes.data() + (int64_t)first * layer.inputs * 2;
        bytes += (begin / UNIT * together + row - first) * PAIR;
        Ints sums = {};
        for (int i = 0; i < count; i += LANES) {
            const Ints x = spoilt == 0 ? whole_numbers(numbers[i / LANES] * inverse) : Ints{};
            write_bytes(bytes + i * 2 * together, x, std::min(LANES, count - i), together * PAIR);
            sums += x;
        }
        whole.scales[(int64_t)group * batch.count + row] = scale;
        whole.sums[(int64_t)group * batch.count + row] = _mm512_reduce_add_epi32((__m512i)sums);
    }

    template <int R, int B>
    void multiply(int block, int row, Floats (*sums)[R]) const {
        const Part<R> rows{whole.bytes.data() + (int64_t)row * layer.inputs * 2, whole.scales.data() + row,
                           whole.sums.data() + row, batch.count};
        for (int group = 0; group < groups; group++) Kind::template add_group<R, B>(layer, block, group, rows, sums);
        for (int b = 0; b < B; b++)
            for (int r = 0; r < R; r++) sums[b][r] = Kind::finished(layer, block + b, sums[b][r]);
    }
};

template <class Kind, class N>
void run(const Linear& layer, const Batch& batch) {
    static thread_local Whole whole;
    const size_t numbers = (size_t)batch.count * layer.inputs;
    const size_t groups = (size_t)batch.count * ((layer.inputs + Kind::GROUP - 1) / Kind::GROUP);
    whole.bytes.resize(2 * numbers);
    whole.scales.resize(groups), whole.sums.resize(groups);
    const Rounded<Kind, N> math{layer, batch, whole};
    Product<Rounded<Kind, N>>{layer, batch, math}.run();
}

#endif

}  // namespace

extern "C" {

#ifdef __AVX512BF16__
void bfloat16_bfloat16(const Linear* layer, const Batch* batch) {
    const AsTheyAre math{*layer, *batch};
    Product<AsTheyAre>{*layer, *batch, math}.run();
}
#endif

#ifdef __AVX512VNNI__
void int8_float32(const Linear* layer, const Batch* batch) { run<Int8, Float32>(*layer, *batch); }
void int8_bfloat16(const Linear* layer, const Batch* batch) { run<Int8, Bfloat16>(*layer, *batch); }
void int4_float32(const Linear* layer, const Batch* batch) { run<Int4, Float32>(*layer, *batch); }
void int4_bfloat16(const Linear* layer, const Batch* batch) { run<Int4, Bfloat16>(*layer, *batch); }
#endif
}
