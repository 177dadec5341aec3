// Code that programs write themselves: rewritten in place, through another mapping, by another thread, on the stack, across pages.
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

typedef int (*function)(void);
enum { PAGE = 4096, PAGES = 8 };
static sigjmp_buf back;

// mov $value, %eax; ret
static void put(unsigned char *at, int value) {
    at[0] = 0xb8;
    memcpy(at + 1, &value, 4);
    at[5] = 0xc3;
}

static void fault(int number) {
    siglongjmp(back, number);
}

static void in_place(unsigned char *code) {
    long sum = 0;
    for (int i = 0; i < 5000; i++) {
        unsigned char *at = code + i * 37 % (PAGE * 2);
        put(at, i);
        sum = sum * 3 + ((function)at)();
    }
    printf("in place: %ld\n", sum);
    sum = 0;
    put(code + PAGE - 3, 1);
    for (int i = 0; i < 1000; i++) {
        code[PAGE - 2] = i;
        code[PAGE] = i / 256;
        sum += ((function)(code + PAGE - 3))();
    }
    printf("across pages: %ld\n", sum);
}

// A loop that changes an immediate of its own next instruction.
static void own_block(unsigned char *code) {
    const unsigned char loop[] = {
        0x31, 0xc0,                         // xor %eax, %eax
        0xb9, 0x64, 0,    0,    0,          // mov $100, %ecx
        0x88, 0x0d, 1,    0,    0,    0,    // 1: mov %cl, 1(%rip)
        0x05, 0,    0,    0,    0,          // add $0, %eax
        0xff, 0xc9,                         // dec %ecx
        0x75, 0xf1,                         // jne 1b
        0xc3,
    };
    memcpy(code, loop, sizeof loop);
    printf("own block: %d\n", ((function)code)());
}

static void other_mapping(void) {
    int file = memfd_create("code", 0);
    ftruncate(file, PAGE);
    unsigned char *write = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    unsigned char *run = mmap(0, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
    long sum = 0;
    for (int i = 0; i < 3000; i++) {
        put(write + i % 64, i);
        sum = sum * 3 + ((function)(run + i % 64))();
    }
    printf("other mapping: %ld\n", sum);
    munmap(write, PAGE);
    munmap(run, PAGE);
    close(file);
}

static void by_the_kernel(unsigned char *code) {
    int pipes[2];
    long sum = 0;
    pipe(pipes);
    for (int i = 0; i < 500; i++) {
        unsigned char small[6];
        put(small, i * 5);
        if (write(pipes[1], small, 6) != 6 || read(pipes[0], code + 100, 6) != 6) abort();
        sum = sum * 3 + ((function)(code + 100))();
    }
    printf("by the kernel: %ld\n", sum);
}

static void rights(unsigned char *code) {
    long sum = 0, faults = 0;
    signal(SIGSEGV, fault);
    for (volatile int i = 0; i < 200; i++) {
        mprotect(code, PAGE, PROT_READ | PROT_WRITE);
        put(code, i);
        if (sigsetjmp(back, 1) == 0) sum += ((function)code)();
        else faults++;
        mprotect(code, PAGE, PROT_READ | PROT_EXEC);
        sum = sum * 3 + ((function)code)();
        if (sigsetjmp(back, 1) == 0) code[1] = 7;
        else faults++;
    }
    mprotect(code, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    printf("rights: %ld with %ld faults\n", sum, faults);
}

static void remapped(void) {
    long sum = 0;
    for (int i = 0; i < 500; i++) {
        unsigned char *code = mmap((void *)0x20000000, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        put(code, i);
        sum = sum * 3 + ((function)code)();
        if (i % 3 == 0) munmap(code, PAGE);
    }
    printf("remapped: %ld\n", sum);
}

static void forked(unsigned char *code) {
    put(code, 1);
    printf("before fork: %d\n", ((function)code)());
    fflush(stdout);
    for (int i = 0; i < 20; i++) {
        int status;
        pid_t child = fork();
        if (!child) {
            put(code, 50 + i);
            _exit(((function)code)());
        }
        waitpid(child, &status, 0);
        printf("child %d, parent %d\n", WEXITSTATUS(status), ((function)code)());
    }
}

static void on_stack(void) {
    unsigned char code[64];
    unsigned char *first = (unsigned char *)((uintptr_t)code & ~(uintptr_t)(PAGE - 1));
    mprotect(first, PAGE * 2, PROT_READ | PROT_WRITE | PROT_EXEC);
    volatile long sum = 0;
    for (int i = 0; i < 3000; i++) {
        put(code, i);
        sum = sum * 3 + ((function)code)();
    }
    printf("on the stack: %ld\n", sum);
    mprotect(first, PAGE * 2, PROT_READ | PROT_WRITE);
}

static void *patcher(void *at) {
    unsigned char *code = at;
    for (int i = 1; i <= 2000; i++) {
        __atomic_store_n((uint32_t *)(code + 4), i, __ATOMIC_SEQ_CST);
        if (i % 50 == 0) usleep(0);
    }
    return 0;
}

// The immediate is aligned and written whole, so that each call sees an old or a new value.
static void by_a_thread(unsigned char *code) {
    pthread_t thread;
    int last = 0, backwards = 0;
    put(code + 3, 0);
    pthread_create(&thread, 0, patcher, code);
    while (last < 2000) {
        int now = ((function)(code + 3))();
        backwards += now < last;
        last = now;
    }
    pthread_join(thread, 0);
    printf("by a thread: %d, went back %d times\n", last, backwards);
}

int main(void) {
    unsigned char *code = mmap(0, PAGE * PAGES, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    in_place(code);
    own_block(code);
    other_mapping();
    by_the_kernel(code);
    rights(code);
    remapped();
    forked(code);
    on_stack();
    by_a_thread(code);
}
