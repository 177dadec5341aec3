// Vector code of several levels beside each other: the resolver takes what CPUID offers, the results must be the same.
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#if defined(__GLIBC__)
#define CLONES __attribute__((noinline, optimize("O3"), target_clones("avx2", "sse4.2", "ssse3", "popcnt", "default")))
#else
#define CLONES __attribute__((noinline, optimize("O3")))
#endif
enum { COUNT = 4096 };
static uint8_t bytes[COUNT], more[COUNT];
static int16_t words[COUNT], other[COUNT];
static int32_t longs[COUNT], others[COUNT];
static int64_t quads[COUNT];
static float floats[COUNT];
static double doubles[COUNT];

CLONES void on_bytes(void) {
    for (int i = 0; i < COUNT; i++) {
        int sum = bytes[i] + more[i];
        bytes[i] = sum > 255 ? 255 : sum;
        more[i] = (bytes[i] + more[i] + 1) >> 1;
    }
    for (int i = 0; i < COUNT; i++) more[i] = more[i] > bytes[i] ? more[i] - bytes[i] : bytes[i] - more[i];
}

CLONES void on_words(void) {
    for (int i = 0; i < COUNT; i++) {
        words[i] = words[i] > other[i] ? words[i] : other[i];
        other[i] = words[i] * other[i] >> 3;
        words[i] = other[i] < 0 ? -other[i] : other[i];
    }
    for (int i = 0; i < COUNT; i++) longs[i] += words[i] * other[COUNT - 1 - i];
}

CLONES void on_longs(void) {
    for (int i = 0; i < COUNT; i++) {
        longs[i] = longs[i] * 1664525 + 1013904223;
        others[i] = longs[i] < others[i] ? longs[i] ^ others[i] : others[i] >> (i & 15);
        quads[i] += (int64_t)longs[i] * others[i] + (quads[i] > others[i]);
        bytes[i] = longs[i] >> 8;
    }
}

CLONES void on_floats(void) {
    for (int i = 0; i < COUNT; i++) {
        floats[i] = floats[i] * 0.75f + (float)longs[i];
        doubles[i] = doubles[i] / 3 + floats[i] + (doubles[i] > 1e6 ? -1e6 : 1);
        others[i] = (int32_t)(floats[i] * 0.125f);
    }
    for (int i = 0; i < COUNT; i++) floats[i] = __builtin_floorf(floats[i]) + __builtin_ceilf(floats[i] / 3) + __builtin_rintf(floats[i] / 7);
}

CLONES uint64_t count_bits(void) {
    uint64_t sum = 0;
    for (int i = 0; i < COUNT; i++) sum += __builtin_popcountll(quads[i]);
    return sum;
}

typedef uint8_t block __attribute__((vector_size(16)));
typedef int32_t ints __attribute__((vector_size(16)));
typedef float reals __attribute__((vector_size(16)));

CLONES block shuffled(block a, block b, block order) {
    return __builtin_shuffle(a, b, order) + (a > b) - (a & b);
}

CLONES ints arithmetic(ints a, ints b) {
    return (a * b) ^ (a >> 3) ^ (b << 2) ^ (a > b) ^ (a == b) ^ __builtin_shuffle(a, (ints){3, 1, 0, 2});
}

static uint64_t hash(const void *data, size_t size) {
    uint64_t sum = 14695981039346656037u;
    for (size_t i = 0; i < size; i++) sum = (sum ^ ((const uint8_t *)data)[i]) * 1099511628211u;
    return sum;
}

int main(void) {
    uint32_t x = 12345;
    for (int i = 0; i < COUNT; i++) {
        x = x * 1103515245 + 12345;
        bytes[i] = x >> 16, more[i] = x >> 8, words[i] = x >> 13, other[i] = x >> 5, longs[i] = x, others[i] = x ^ x << 7;
        quads[i] = (int64_t)x * x, floats[i] = (int32_t)x / 1000.0f, doubles[i] = (int32_t)x * 1.5;
    }
    for (int round = 0; round < 40; round++) {
        on_bytes(), on_words(), on_longs(), on_floats();
        if (round % 8) continue;
        printf("%d: %016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %016" PRIx64 "\n", round, hash(bytes, sizeof bytes), hash(more, sizeof more),
               hash(words, sizeof words), hash(other, sizeof other));
        printf("   %016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %ju\n", hash(longs, sizeof longs), hash(others, sizeof others),
               hash(quads, sizeof quads), hash(floats, sizeof floats), hash(doubles, sizeof doubles), (uintmax_t)count_bits());
    }
    block a, b, order;
    ints c = {1, -2, 300000, 4}, d = {7, 7, -7, 4};
    for (int i = 0; i < 16; i++) a[i] = i * 13, b[i] = i * 29 + 3, order[i] = i * 7 % 32;
    for (int i = 0; i < 100; i++) {
        a = shuffled(a, b, order), b = shuffled(b, a, order + (uint8_t)i);
        c = arithmetic(c, d), d = arithmetic(d, c);
    }
    printf("%016" PRIx64 " %016" PRIx64 "\n", hash(&a, 16) ^ hash(&b, 16), hash(&c, 16) ^ hash(&d, 16));
}
