// Mappings that change under a program: random map, protect, move, discard, fork and share, checked against a plain copy.
#define _GNU_SOURCE
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 64, SIZE = PAGE * PAGES };
static uint64_t state = 42;
static sigjmp_buf back;

static uint64_t next(void) {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static void fault(int number) {
    siglongjmp(back, 1);
}

struct page {
    int mapped, writable;
    uint64_t words[4];
};
static struct page model[PAGES];
static char *area;
static uint64_t faults, refused, lost, sum;

static volatile uint64_t *word(int page, int which) {
    return (volatile uint64_t *)(area + page * PAGE + which * 1016);
}

static void touch(int page, int which, int write) {
    struct page *p = &model[page];
    uint64_t value = next();
    if (sigsetjmp(back, 1)) {
        faults++;
        if (p->mapped && (!write || p->writable)) refused++;
        return;
    }
    if (write) {
        *word(page, which) = value;
        p->words[which] = value;
    } else {
        value = *word(page, which);
        lost += value != p->words[which];
        sum = sum * 31 + value;
    }
    if (!p->mapped || write && !p->writable) lost += 1000000;
}

static void change(int page, int count) {
    char *at = area + page * PAGE;
    switch (next() % 6) {
    case 0:
        munmap(at, count * PAGE);
        for (int i = page; i < page + count; i++) model[i] = (struct page){0};
        break;
    case 1:
        mmap(at, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        for (int i = page; i < page + count; i++) model[i] = (struct page){1, 1, {0}};
        break;
    case 2:
    case 3: {
        int writable = next() & 1;
        for (int i = page; i < page + count; i++)
            if (model[i].mapped) mprotect(area + i * PAGE, PAGE, PROT_READ | (writable ? PROT_WRITE : 0)), model[i].writable = writable;
        break;
    }
    case 4:
        for (int i = page; i < page + count; i++)
            if (model[i].mapped && !madvise(area + i * PAGE, PAGE, MADV_DONTNEED)) memset(model[i].words, 0, sizeof model[i].words);
        break;
    case 5: {
        int to = next() % PAGES;
        if (to != page && model[page].mapped && mremap(at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, area + to * PAGE) != MAP_FAILED) {
            model[to] = model[page];
            model[page] = (struct page){0};
        }
    }
    }
}

static void churn(void) {
    area = mmap(0, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(area, SIZE);
    for (int i = 0; i < 30000; i++) {
        int page = next() % PAGES;
        if (i % 8 == 0) change(page, 1 + next() % (PAGES - page < 8 ? PAGES - page : 8));
        else touch(page, next() % 4, i % 3 == 0);
    }
    printf("churn: %ju faults, %ju refused, %ju lost, sum %016jx\n", (uintmax_t)faults, (uintmax_t)refused, (uintmax_t)lost, (uintmax_t)sum);
    munmap(area, SIZE);
}

// The same address means other memory in each of two processes that take turns.
static void turns(void) {
    int to[2], from[2], status;
    uint64_t *private = mmap((void *)0x30000000, PAGE * 4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    char byte = 0;
    pipe(to), pipe(from);
    fflush(stdout);
    if (!fork()) {
        uint64_t bad = 0;
        for (int i = 0; i < 400; i++) {
            if (read(to[0], &byte, 1) != 1) _exit(99);
            bad += private[i % 4 * 512] != (i < 4 ? 0 : i - 4) * 3u;
            private[i % 4 * 512] = i * 3;
            write(from[1], &byte, 1);
        }
        _exit(bad > 90 ? 90 : bad);
    }
    uint64_t bad = 0;
    for (int i = 0; i < 400; i++) {
        bad += private[i % 4 * 512] != (i < 4 ? 0 : i - 4) * 7u;
        private[i % 4 * 512] = i * 7;
        write(to[1], &byte, 1);
        read(from[0], &byte, 1);
    }
    wait(&status);
    printf("turns: %ju bad here, %d there\n", (uintmax_t)bad, WEXITSTATUS(status));
}

static void large(void) {
    size_t size = 32 << 20;
    char *memory = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(memory, size, MADV_HUGEPAGE);
    for (size_t at = 0; at < size; at += PAGE) memory[at + at / PAGE % PAGE] = at / PAGE;
    // Splits large pages, if there are any.
    mprotect(memory + (5 << 20), PAGE, PROT_READ);
    munmap(memory + (9 << 20) + PAGE * 3, PAGE * 2);
    madvise(memory + (13 << 20), PAGE * 7, MADV_DONTNEED);
    fflush(stdout);
    if (!fork()) {
        for (size_t at = 16 << 20; at < size; at += PAGE) memory[at]++;
        _exit(0);
    }
    wait(0);
    uint64_t total = 0;
    for (size_t at = 0; at < size; at += PAGE)
        if (at < (9 << 20) + PAGE * 3 || at >= (9 << 20) + PAGE * 5) total = total * 31 + (unsigned char)memory[at + at / PAGE % PAGE] + (unsigned char)memory[at];
    int stopped = sigsetjmp(back, 1);
    if (!stopped) memory[5 << 20] = 1;
    printf("large: %016jx, write-protected %d\n", (uintmax_t)total, stopped);
}

static void shared(void) {
    int file = memfd_create("shared", 0);
    ftruncate(file, PAGE * 8);
    uint64_t bad = 0;
    char *one = mmap(0, PAGE * 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0), *window = 0;
    for (int i = 0; i < 2000; i++) {
        int page = next() % 8;
        window = mmap(window, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | (window ? MAP_FIXED : 0), file, page * PAGE);
        uint64_t value = next();
        memcpy(window + i % 500 * 8, &value, 8);
        bad += memcmp(one + page * PAGE + i % 500 * 8, &value, 8) != 0;
        pwrite(file, &i, 4, page * PAGE + 4000);
        bad += memcmp(window + 4000, &i, 4) != 0;
    }
    printf("shared: %ju bad\n", (uintmax_t)bad);
}

int main(void) {
    signal(SIGSEGV, fault);
    signal(SIGBUS, fault);
    churn();
    turns();
    large();
    shared();
}
