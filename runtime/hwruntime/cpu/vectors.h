// Vectors of 16 numbers, by the compiler's own vector types: it splits them where a CPU has narrower ones. What a CPU has
// of its own for bfloat16 is used where it is there.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

constexpr int LANES = 16;

typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(32)));

template <class V>
static inline V load(const void* from) {
    V vector;
    std::memcpy(&vector, from, sizeof(V));
    return vector;
}

template <class V>
static inline void store(void* to, V vector) {
    std::memcpy(to, &vector, sizeof(V));
}

static inline uint32_t word(const void* from) {
    uint32_t bits;
    std::memcpy(&bits, from, 4);
    return bits;
}

// Compilers widen and narrow halves by pieces, where a CPU does it at once.

static inline Words widened(Halves x) {
#ifdef __AVX512F__
    return (Words)_mm512_cvtepu16_epi32((__m256i)x);
#else
    return __builtin_convertvector(x, Words);
#endif
}

static inline Halves narrowed(Words x) {
#ifdef __AVX512F__
    return (Halves)_mm512_cvtepi32_epi16((__m512i)x);
#else
    return __builtin_convertvector(x, Halves);
#endif
}

static inline Floats all(float x) { return Floats{} + x; }

constexpr float ROUNDER = 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded to whole numbers

static inline Floats max(Floats a, Floats b) { return a > b ? a : b; }

// 2^x, to a unit or two in the last place; 2^-126, which is next to nothing, for all that is less. x at most 127.
static inline Floats exp2(Floats x) {
    const Floats clamped = max(x, all(-126.0f));
    const Floats shifted = clamped + ROUNDER;
    const Floats f = clamped - (shifted - ROUNDER);  // -0.5 .. 0.5
    Floats y = all(1.535336188319500e-4f);           // Cephes' exp2f
    y = y * f + 1.339887440266574e-3f;
    y = y * f + 9.618437357674640e-3f;
    y = y * f + 5.550332471162809e-2f;
    y = y * f + 2.402264791363012e-1f;
    y = y * f + 6.931472028550421e-1f;
    y = y * f + 1.0f;
    return (Floats)((Ints)y + ((Ints)shifted << 23));
}

static inline Floats tanh(Floats x) {
    const Floats e = exp2(max(all(-43.0f), -max(all(-43.0f), -x * 2.885390081777927f)));  // e^2x, x within +-15
    return (e - 1.0f) / (e + 1.0f);
}

// Numbers as they are stored, and the units of 4 bytes that products are made of: one float32, or two bfloat16.

struct Float32 {
    using Stored = float;
    static constexpr int UNIT = 1;

    static float number(Stored x) { return x; }
    static Stored rounded(float x) { return x; }
    static Floats read(const Stored* from) { return load<Floats>(from); }
    static void write(Stored* to, Floats x) { store(to, x); }
    // Units of the numbers of `UNIT` rows.
    static Words paired(const Stored* const* rows) { return load<Words>(rows[0]); }

    static Floats add_product(Floats sum, Words a, uint32_t b) {
        float factor;
        std::memcpy(&factor, &b, 4);
        return sum + (Floats)a * factor;
    }
    // Units of the numbers of `UNIT` vectors: the first of each, the second of each, ...
    static Words units(const Floats* x) { return (Words)x[0]; }
};

struct Bfloat16 {
    using Stored = uint16_t;
    static constexpr int UNIT = 2;

    static float number(Stored x) {
        const uint32_t bits = (uint32_t)x << 16;
        float number;
        std::memcpy(&number, &bits, 4);
        return number;
    }
    static Stored rounded(float x) {  // to the nearest, ties to even
        uint32_t bits;
        std::memcpy(&bits, &x, 4);
        if (x != x) return (Stored)(bits >> 16 | 0x40);
        return (Stored)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
    static Words words(const Stored* from) { return widened(load<Halves>(from)); }
    static Floats read(const Stored* from) { return (Floats)(words(from) << 16); }
    static void write(Stored* to, Floats x) {
        const Words bits = (Words)x, even = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
        store(to, narrowed(x == x ? even : bits >> 16 | 0x40u));
    }
    static Words paired(const Stored* const* rows) { return words(rows[0]) | words(rows[1]) << 16; }

    static Floats add_product(Floats sum, Words a, uint32_t b) {
#ifdef __AVX512BF16__
        return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)_mm512_set1_epi32((int)b));
#else
        sum += (Floats)(a << 16) * number((Stored)b);
        return sum + (Floats)(a & 0xffff0000u) * number((Stored)(b >> 16));
#endif
    }
    static Words units(const Floats* x) {  // of finite numbers
#ifdef __AVX512BF16__
        const Halves evens = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        const Words order = widened(evens) * 0x10001u + 0x100000u;  // 0, 16, 1, 17, ...
        const __m512bh both = _mm512_cvtne2ps_pbh((__m512)x[1], (__m512)x[0]);
        return (Words)_mm512_permutexvar_epi16((__m512i)order, (__m512i)both);
#endif
        const Words low = (Words)x[0], high = (Words)x[1];
        return (low + 0x7fffu + (low >> 16 & 1u)) >> 16 | ((high + 0x7fffu + (high >> 16 & 1u)) & 0xffff0000u);
    }
};
