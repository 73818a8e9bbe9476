// Cascade attention of one layer over a pass's plan: stores the layer's new K/V, attends every stretch of
// every block once for all the rows that see it, and merges each row's partial results by log-sum-exp.
//
// Rows lie in the lanes of vectors. A key's numbers are broadcast to them as they lie in the cache, so that keys are
// neither copied nor transposed; what is summed up, the softmax and partial results are float32.

#include <algorithm>
#include <cfloat>
#include <cstddef>
#include <memory>

#include "vectors.h"

namespace {

constexpr int TILE = 64;       // keys whose scores are held at once
constexpr int MOST = 2;        // vectors of rows that are attended together
constexpr int TOGETHER = 8;    // keys, and
constexpr int ROWS = 4;        // rows, and
constexpr int COLUMNS = 4;     // vectors of values that are in registers at once
constexpr int WIDEST = 512;    // dimensions of a head
constexpr float LOG2_E = 1.4426950408889634f;

int padded(int n, int to) { return (n + to - 1) / to * to; }

}  // namespace

extern "C" {

// Keys of one request that lie next to each other, and its gathered queries. `first`: which of the block's the first key
// is; `slot`: where the storage has it; `place`: which partial result is the first query's.
struct Task {
    int32_t first, slot, length, query, queries, causal, place;
};

// A pass, for all layers. `rows`, `positions` [gathered queries] as in the plan; `slots` [tokens]: where the storage
// keeps their K/V; the partial results of token t are `parts[starts[t]:starts[t + 1]]`.
struct Pass {
    const Task* tasks;
    const int32_t *rows, *positions, *slots, *starts, *parts;
    int32_t count, tokens, places;
};

// A layer. `softcap`, `window`: 0 for none; `sinks` [heads] or null. Queries are turned by `cosines`, `sines`
// [gathered queries, pairs] where they are not null: pair i of a head is its dimensions (start + i, start + pairs + i), or
// (start + 2i, start + 2i + 1) where `interleaved`.
struct Layer {
    const float *sinks, *cosines, *sines;
    int32_t heads, kv_heads, dim, value_dim, window, pairs, start, interleaved;
    float scale, softcap;
};

// Numbers somewhere: row r of head h begins at `data + r * row + h * head`; numbers, not bytes.
struct Rows {
    void* data;
    int64_t row, head;
};

// What a layer reads and writes: the pass; q, k, v of its tokens; the cache's keys and values, by slots; the output; and
// room for partial results, `attention_room` floats.
struct Arrays {
    const Pass* pass;
    Rows q, k, v, keys, values, out;
    float* room;
};

// Floats that the partial results of a layer take.
int64_t attention_room(int64_t places, int32_t heads, int32_t value_dim) {
    return places * heads * (padded(value_dim, LANES) + 2);
}

}  // extern "C"

namespace {

template <class N>
struct Attention {
    using Stored = typename N::Stored;

    const Pass& pass;
    const Layer& layer;
    const Arrays& arrays;
    const int shares = layer.heads / layer.kv_heads;    // query heads of a K/V head
    const int width = padded(layer.value_dim, LANES);   // of a partial result
    const int apart = width + 2;                        // floats between partial results
    const int units = layer.dim / N::UNIT;

    // What one thread works with, for `MOST` vectors of rows.
    struct Scratch {
        alignas(64) uint32_t q[WIDEST * MOST * LANES];               // [units, rows]
        alignas(64) float scores[TILE * MOST * LANES];               // [keys, rows]
        alignas(64) uint32_t weights[TILE * MOST * LANES];           // [keys / UNIT, rows]
        alignas(64) uint32_t values[TILE * WIDEST];                  // [keys / UNIT, width]
        alignas(64) float top[MOST * LANES], total[MOST * LANES];    // [rows]
        alignas(64) int32_t positions[MOST * LANES];                 // [rows]
        int nearest, farthest;                                       // of the positions
    };

    static Stored* at(const Rows& rows, int64_t row, int64_t head) {
        return static_cast<Stored*>(rows.data) + row * rows.row + head * rows.head;
    }

    // Partial results: out, then the top score (in powers of 2) and the sum of the weights below it.
    float* partial(int kv_head, int place, int share) const {
        const int64_t index = ((int64_t)kv_head * pass.places + place) * shares + share;
        return arrays.room + index * apart;
    }

    void keep(int token) const {
        for (int head = 0; head < layer.kv_heads; head++) {
            const int slot = pass.slots[token];
            std::memcpy(at(arrays.keys, slot, head), at(arrays.k, token, head), layer.dim * sizeof(Stored));
            std::memcpy(at(arrays.values, slot, head), at(arrays.v, token, head), layer.value_dim * sizeof(Stored));
        }
    }

    void attend(const Task& task, int kv_head, Scratch& s) const {
        const int rows = task.queries * shares;
        for (int first = 0; first < rows; first += MOST * LANES) {
            const int count = std::min(rows - first, MOST * LANES);
            if (count <= LANES)
                attend_rows<1>(task, kv_head, first, count, s);
            else
                attend_rows<MOST>(task, kv_head, first, count, s);
        }
    }

    template <int VECTORS>
    void attend_rows(const Task& task, int kv_head, int first, int count, Scratch& s) const {
        constexpr int LANED = VECTORS * LANES;
        take_queries(task, kv_head, first, count, LANED, s);
        float* out = partial(kv_head, task.place + first / shares, first % shares);
        bool begun = false;
        std::fill_n(s.total, LANED, 0.0f);
        std::fill_n(s.top, LANED, -FLT_MAX);
        for (int tile = 0; tile < task.length; tile += TILE) {
            const int keys = std::min(task.length - tile, TILE), place = task.first + tile;
            if (hidden_to_all(task, place, keys, s)) continue;
            fetch(arrays.values, task.slot + tile, keys, kv_head, layer.value_dim);
            fetch(arrays.keys, task.slot + tile + TILE, std::min(task.length - tile - TILE, TILE), kv_head, layer.dim);
            score<VECTORS>(at(arrays.keys, task.slot + tile, kv_head), keys, s);
            if (hidden_to_some(task, place, keys, s)) hide<VECTORS>(task, place, keys, s);
            weigh<VECTORS>(keys, begun ? count : 0, out, s);
            take_values(at(arrays.values, task.slot + tile, kv_head), keys, s);
            add_values<VECTORS>(padded(keys, N::UNIT) / N::UNIT, count, out, begun, s);
            begun = true;
        }
        for (int row = 0; !begun && row < count; row++) std::fill_n(out + row * apart, width, 0.0f);
        for (int row = 0; row < count; row++) {
            out[row * apart + width] = s.top[row];
            out[row * apart + width + 1] = s.total[row];
        }
    }

    // Ask memory for rows that are read soon: it has nothing else to do while there is something to compute.
    static void fetch(const Rows& rows, int64_t first, int count, int head, int numbers) {
        for (int row = 0; row < count; row++)
            for (int i = 0; i < numbers; i += 64 / (int)sizeof(Stored)) __builtin_prefetch(at(rows, first + row, head) + i, 0, 2);
    }

    // Queries, turned on for the block, as units of rows.
    void take_queries(const Task& task, int kv_head, int first, int count, int laned, Scratch& s) const {
        std::fill_n(s.q, units * laned, 0u);
        s.nearest = INT32_MAX, s.farthest = 0;
        for (int row = 0; row < laned; row++) {
            const int query = task.query + (first + std::min(row, count - 1)) / shares;
            s.positions[row] = pass.positions[query];
            s.nearest = std::min(s.nearest, s.positions[row]);
            s.farthest = std::max(s.farthest, s.positions[row]);
            if (row >= count) continue;
            const Stored* from = at(arrays.q, pass.rows[query], kv_head * shares + (first + row) % shares);
            Stored turned[WIDEST];
            std::copy_n(from, layer.dim, turned);
            if (layer.cosines) turn(from, query, turned);
            for (int unit = 0; unit < units; unit++) s.q[unit * laned + row] = word(turned + unit * N::UNIT);
        }
    }

    void turn(const Stored* from, int query, Stored* to) const {
        const float* cosines = layer.cosines + (int64_t)query * layer.pairs;
        const float* sines = layer.sines + (int64_t)query * layer.pairs;
        const int step = layer.interleaved ? 2 : 1, apart = layer.interleaved ? 1 : layer.pairs;
        int pair = 0;
        for (; !layer.interleaved && pair + LANES <= layer.pairs; pair += LANES) {
            const int a = layer.start + pair, b = a + apart;
            const Floats x = N::read(from + a), y = N::read(from + b);
            const Floats cosine = load<Floats>(cosines + pair), sine = load<Floats>(sines + pair);
            N::write(to + a, x * cosine - y * sine);
            N::write(to + b, y * cosine + x * sine);
        }
        for (; pair < layer.pairs; pair++) {
            const int a = layer.start + pair * step, b = a + apart;
            const float x = N::number(from[a]), y = N::number(from[b]);
            to[a] = N::rounded(x * cosines[pair] - y * sines[pair]);
            to[b] = N::rounded(y * cosines[pair] + x * sines[pair]);
        }
    }

    bool hidden_to_all(const Task& task, int place, int keys, const Scratch& s) const {
        return (task.causal && place > s.farthest) || (layer.window && s.nearest - (place + keys - 1) >= layer.window);
    }

    bool hidden_to_some(const Task& task, int place, int keys, const Scratch& s) const {
        return (task.causal && place + keys - 1 > s.nearest) || (layer.window && s.farthest - place >= layer.window);
    }

    // Scores in powers of 2.
    template <int VECTORS>
    void score(const Stored* keys, int count, Scratch& s) const {
        int key = 0;
        for (; key + TOGETHER <= count; key += TOGETHER) score_keys<VECTORS, TOGETHER>(keys, key, s);
        for (; key < count; key++) score_keys<VECTORS, 1>(keys, key, s);
    }

    template <int VECTORS, int KEYS>
    void score_keys(const Stored* keys, int key, Scratch& s) const {
        Floats sums[KEYS][VECTORS] = {};
        const Stored* from = keys + key * arrays.keys.row;
        for (int unit = 0; unit < units; unit++) {
            Words q[VECTORS];
            for (int v = 0; v < VECTORS; v++) q[v] = load<Words>(s.q + (unit * VECTORS + v) * LANES);
            for (int k = 0; k < KEYS; k++) {
                const uint32_t b = word(from + k * arrays.keys.row + unit * N::UNIT);
                for (int v = 0; v < VECTORS; v++) sums[k][v] = N::add_product(sums[k][v], q[v], b);
            }
        }
        for (int k = 0; k < KEYS; k++)
            for (int v = 0; v < VECTORS; v++) {
                Floats x = sums[k][v] * layer.scale;
                if (layer.softcap != 0) x = layer.softcap * tanh(x / layer.softcap);
                store(s.scores + ((key + k) * VECTORS + v) * LANES, x * LOG2_E);
            }
    }

    template <int VECTORS>
    void hide(const Task& task, int place, int keys, Scratch& s) const {
        for (int v = 0; v < VECTORS; v++) {
            const Ints positions = load<Ints>(s.positions + v * LANES);
            for (int key = 0; key < keys; key++) {
                const Ints distance = positions - (place + key);
                Ints hidden = {};
                if (task.causal) hidden |= distance < 0;
                if (layer.window) hidden |= distance >= layer.window;
                float* scores = s.scores + (key * VECTORS + v) * LANES;
                store(scores, hidden ? all(-INFINITY) : load<Floats>(scores));
            }
        }
    }

    // Scores become weights below the top score; what was summed up below a lower one, of `count` rows, is made less.
    template <int VECTORS>
    void weigh(int keys, int count, float* out, Scratch& s) const {
        for (int v = 0; v < VECTORS; v++) {
            float* scores = s.scores + v * LANES;
            const Floats before = load<Floats>(s.top + v * LANES);
            Floats top = before, total = {};
            for (int key = 0; key < keys; key++) top = max(top, load<Floats>(scores + key * VECTORS * LANES));
            for (int key = 0; key < keys; key += N::UNIT) {
                Floats weights[N::UNIT];
                for (int k = 0; k < N::UNIT; k++) {
                    weights[k] = exp2(load<Floats>(scores + (key + k) * VECTORS * LANES) - top);
                    if (key + k >= keys) weights[k] = Floats{};
                    total += weights[k];
                }
                store(s.weights + (key / N::UNIT * VECTORS + v) * LANES, N::units(weights));
            }
            const Floats less = exp2(before - top);
            store(s.total + v * LANES, load<Floats>(s.total + v * LANES) * less + total);
            store(s.top + v * LANES, top);
            for (int row = v * LANES; row < std::min(count, (v + 1) * LANES); row++)
                for (int x = 0; x < width; x++) out[row * apart + x] *= less[row - v * LANES];
        }
    }

    // Values as units of keys, [keys / UNIT, width]; what is missing is 0.
    void take_values(const Stored* values, int keys, Scratch& s) const {
        alignas(64) Stored last[N::UNIT][LANES];
        for (int key = 0; key < keys; key += N::UNIT)
            for (int column = 0; column < width; column += LANES) {
                const Stored* rows[N::UNIT];
                const int there = std::min(LANES, layer.value_dim - column);
                for (int k = 0; k < N::UNIT; k++) {
                    rows[k] = values + (key + k) * arrays.values.row + column;
                    if (key + k < keys && there == LANES) continue;
                    std::fill_n(last[k], LANES, Stored{});
                    if (key + k < keys) std::copy_n(rows[k], there, last[k]);
                    rows[k] = last[k];
                }
                store(s.values + key / N::UNIT * width + column, N::paired(rows));
            }
    }

    template <int VECTORS>
    void add_values(int count, int rows, float* out, bool begun, const Scratch& s) const {
        int row = 0;
        for (; row + ROWS <= rows; row += ROWS) add_rows<VECTORS, ROWS>(row, count, out, begun, s);
        if (rows - row == 3) add_rows<VECTORS, 3>(row, count, out, begun, s);
        if (rows - row == 2) add_rows<VECTORS, 2>(row, count, out, begun, s);
        if (rows - row == 1) add_rows<VECTORS, 1>(row, count, out, begun, s);
    }

    template <int VECTORS, int R>
    void add_rows(int row, int count, float* out, bool begun, const Scratch& s) const {
        for (int column = 0; column < width; column += COLUMNS * LANES) {
            const int vectors = std::min(COLUMNS, (width - column) / LANES);
            float* to = out + row * apart + column;
            if (vectors == 4) add_block<VECTORS, R, 4>(row, column, count, to, begun, s);
            if (vectors == 3) add_block<VECTORS, R, 3>(row, column, count, to, begun, s);
            if (vectors == 2) add_block<VECTORS, R, 2>(row, column, count, to, begun, s);
            if (vectors == 1) add_block<VECTORS, R, 1>(row, column, count, to, begun, s);
        }
    }

    template <int VECTORS, int R, int WIDE>
    void add_block(int row, int column, int count, float* out, bool begun, const Scratch& s) const {
        Floats sums[R][WIDE] = {};
        for (int r = 0; begun && r < R; r++)
            for (int x = 0; x < WIDE; x++) sums[r][x] = load<Floats>(out + r * apart + x * LANES);
        for (int unit = 0; unit < count; unit++) {
            Words values[WIDE];
            for (int x = 0; x < WIDE; x++) values[x] = load<Words>(s.values + unit * width + column + x * LANES);
            for (int r = 0; r < R; r++) {
                const uint32_t weight = s.weights[unit * VECTORS * LANES + row + r];
                for (int x = 0; x < WIDE; x++) sums[r][x] = N::add_product(sums[r][x], values[x], weight);
            }
        }
        for (int r = 0; r < R; r++)
            for (int x = 0; x < WIDE; x++) store(out + r * apart + x * LANES, sums[r][x]);
    }

    // A token's output for one head, of its partial results. Each token has a finite one: its own key's.
    void merge(int token, int head) const {
        const int kv_head = head / shares, share = head % shares;
        const int begin = pass.starts[token], end = pass.starts[token + 1];
        float top = layer.sinks ? layer.sinks[head] * LOG2_E : -FLT_MAX;
        for (int i = begin; i < end; i++) top = std::max(top, partial(kv_head, pass.parts[i], share)[width]);
        float total = layer.sinks ? std::exp2(layer.sinks[head] * LOG2_E - top) : 0;
        alignas(64) float out[WIDEST] = {};
        for (int i = begin; i < end; i += LANES) {
            const int count = std::min(LANES, end - i);
            Floats tops = all(-INFINITY);
            for (int j = 0; j < count; j++) tops[j] = partial(kv_head, pass.parts[i + j], share)[width];
            const Floats weights = exp2(tops - top);
            for (int j = 0; j < count; j++) {
                const float* part = partial(kv_head, pass.parts[i + j], share);
                total += weights[j] * part[width + 1];
                for (int x = 0; x < width; x += LANES)
                    store(out + x, load<Floats>(out + x) + load<Floats>(part + x) * weights[j]);
            }
        }
        Stored* to = at(arrays.out, token, head);
        int x = 0;
        for (; x + LANES <= layer.value_dim; x += LANES) N::write(to + x, load<Floats>(out + x) / total);
        for (; x < layer.value_dim; x++) to[x] = N::rounded(out[x] / total);
    }

    void run() const {
#pragma omp parallel
        {
            // Behind a pointer: compilers would look anew for the thread's own at every use of it.
            static thread_local const auto own = std::make_unique<Scratch>();
            Scratch& scratch = *own;
#pragma omp for
            for (int token = 0; token < pass.tokens; token++) keep(token);
#pragma omp for collapse(2) schedule(dynamic)
            for (int task = 0; task < pass.count; task++)
                for (int head = 0; head < layer.kv_heads; head++) attend(pass.tasks[task], head, scratch);
#pragma omp for collapse(2)
            for (int token = 0; token < pass.tokens; token++)
                for (int head = 0; head < layer.heads; head++) merge(token, head);
        }
    }
};

}  // namespace

extern "C" {

void attend_float32(const Layer* layer, const Arrays* arrays) {
    Attention<Float32>{*arrays->pass, *layer, *arrays}.run();
}

void attend_bfloat16(const Layer* layer, const Arrays* arrays) {
    Attention<Bfloat16>{*arrays->pass, *layer, *arrays}.run();
}
}
