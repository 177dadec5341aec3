// Nested functions of GNU C whose address is taken: a trampoline is written on the stack for each call of the function
// around them, and the stack is executable. `nested trampolines` does so, `nested plain` does the same work without.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 16, ROUNDS = 30000 };
static unsigned state = 1;
static int global_key;

static int next(void) {
    state = state * 1103515245 + 12345;
    return state >> 16;
}

static int by_key(int a, int b, int key) {
    return ((a ^ key) > (b ^ key)) - ((a ^ key) < (b ^ key));
}

static int compare_plain(const void *a, const void *b) {
    return by_key(*(const int *)a, *(const int *)b, global_key);
}

static __attribute__((noinline)) void sort_plain(int *values, int count, int key) {
    global_key = key;
    qsort(values, count, sizeof *values, compare_plain);
}

static __attribute__((noinline)) void sort_nested(int *values, int count, int key) {
    int compare(const void *a, const void *b) {
        return by_key(*(const int *)a, *(const int *)b, key);
    }
    qsort(values, count, sizeof *values, compare);
}

static __attribute__((noinline)) long fold(int (*step)(int), int from, int to) {
    long sum = 0;
    for (int i = from; i < to; i++)
        sum = sum * 3 + step(i);
    return sum;
}

static int step_plain(int value) {
    return value * global_key + value / 3;
}

static __attribute__((noinline)) long fold_plain(int key, int depth) {
    global_key = key;
    long sum = fold(step_plain, 0, 12);
    return depth ? sum ^ fold_plain(key + 1, depth - 1) : sum;
}

static __attribute__((noinline)) long fold_nested(int key, int depth) {
    int step(int value) {
        return value * key + value / 3;
    }
    long sum = fold(step, 0, 12);
    return depth ? sum ^ fold_nested(key + 1, depth - 1) : sum;
}

int main(int count, char **words) {
    int nested = count > 1 && !strcmp(words[1], "trampolines");
    unsigned long sum = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int values[MOST], many = 4 + next() % (MOST - 3);
        for (int i = 0; i < many; i++)
            values[i] = next();
        (nested ? sort_nested : sort_plain)(values, many, next());
        for (int i = 0; i < many; i++)
            sum = sum * 31 + values[i];
        sum += (nested ? fold_nested : fold_plain)(round, round % 4);
    }
    printf("%lx\n", sum);
    return 0;
}
