// Floating point and vector state across preemption, signals, fork and exec: every thread keeps its own, whoever runs between.
#define _GNU_SOURCE
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

enum { THREADS = 6 };
static volatile int ticks;
static volatile int done;
static uint64_t wrong[THREADS];

static void on_tick(int number) {
    // Spoils what the frame must keep.
    asm volatile("pxor %%xmm0, %%xmm0; pxor %%xmm7, %%xmm7; pxor %%xmm15, %%xmm15; fninit; fldpi; fldz" ::: "xmm0", "xmm7", "xmm15");
    ticks++;
}

// Loads every SSE register and four of the x87 with values of this thread, waits, and counts what is not there any more.
static uint64_t keep(uint64_t seed, long rounds) {
    uint64_t in[32], out[32], bad = 0;
    double deep[4], back[4];
    uint32_t mxcsr = 0x1f80 | (seed % 4) << 13 | (seed & 4 ? 0x8000 : 0), after;
    for (int i = 0; i < 32; i++) in[i] = seed * 0x9e3779b97f4a7c15u + i;
    for (int i = 0; i < 4; i++) deep[i] = seed + i * 0.125;
    asm volatile(
        "ldmxcsr %[mxcsr]\n"
        "fninit; fldl 24(%[deep]); fldl 16(%[deep]); fldl 8(%[deep]); fldl (%[deep])\n"
        "movdqu (%[in]), %%xmm0; movdqu 16(%[in]), %%xmm1; movdqu 32(%[in]), %%xmm2; movdqu 48(%[in]), %%xmm3\n"
        "movdqu 64(%[in]), %%xmm4; movdqu 80(%[in]), %%xmm5; movdqu 96(%[in]), %%xmm6; movdqu 112(%[in]), %%xmm7\n"
        "movdqu 128(%[in]), %%xmm8; movdqu 144(%[in]), %%xmm9; movdqu 160(%[in]), %%xmm10; movdqu 176(%[in]), %%xmm11\n"
        "movdqu 192(%[in]), %%xmm12; movdqu 208(%[in]), %%xmm13; movdqu 224(%[in]), %%xmm14; movdqu 240(%[in]), %%xmm15\n"
        "1: dec %[rounds]; jnz 1b\n"
        "movdqu %%xmm0, (%[out]); movdqu %%xmm1, 16(%[out]); movdqu %%xmm2, 32(%[out]); movdqu %%xmm3, 48(%[out])\n"
        "movdqu %%xmm4, 64(%[out]); movdqu %%xmm5, 80(%[out]); movdqu %%xmm6, 96(%[out]); movdqu %%xmm7, 112(%[out])\n"
        "movdqu %%xmm8, 128(%[out]); movdqu %%xmm9, 144(%[out]); movdqu %%xmm10, 160(%[out]); movdqu %%xmm11, 176(%[out])\n"
        "movdqu %%xmm12, 192(%[out]); movdqu %%xmm13, 208(%[out]); movdqu %%xmm14, 224(%[out]); movdqu %%xmm15, 240(%[out])\n"
        "fstpl (%[back]); fstpl 8(%[back]); fstpl 16(%[back]); fstpl 24(%[back])\n"
        "stmxcsr %[after]\n"
        : [rounds] "+r"(rounds), [after] "=m"(after)
        : [mxcsr] "m"(mxcsr), [in] "r"(in), [out] "r"(out), [deep] "r"(deep), [back] "r"(back)
        : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
          "xmm13", "xmm14", "xmm15", "st", "st(1)", "st(2)", "st(3)");
    uint32_t plain = 0x1f80;
    asm volatile("ldmxcsr %0" ::"m"(plain));
    for (int i = 0; i < 32; i++) bad += in[i] != out[i];
    for (int i = 0; i < 4; i++) bad += deep[i] != back[i];
    return bad + (after != mxcsr);
}

static void *worker(void *number) {
    uintptr_t seed = (uintptr_t)number;
    while (!done) wrong[seed] += keep(seed + 1, 20000);
    return 0;
}

static void preempted(void) {
    pthread_t all[THREADS];
    signal(SIGALRM, on_tick);
    struct itimerval every = {{0, 3000}, {0, 3000}}, never = {0};
    for (uintptr_t i = 0; i < THREADS; i++) pthread_create(&all[i], 0, worker, (void *)i);
    setitimer(ITIMER_REAL, &every, 0);
    while (ticks < 60) usleep(1000);
    done = 1;
    for (int i = 0; i < THREADS; i++) pthread_join(all[i], 0);
    setitimer(ITIMER_REAL, &never, 0);
    for (int i = 0; i < THREADS; i++) printf("thread %d: %d wrong\n", i, (int)wrong[i]);
}

static void change(int number, siginfo_t *info, void *context) {
    ucontext_t *frame = context;
    struct _libc_fpstate *state = (void *)frame->uc_mcontext.fpregs;
    uint64_t value = 0x0123456789abcdef;
    // XMM3 lies at 160 + 3 * 16 of an FXSAVE image, MXCSR at 24.
    memcpy((char *)state + 160 + 48, &value, 8);
    uint32_t mxcsr;
    memcpy(&mxcsr, (char *)state + 24, 4);
    printf("in the frame: mxcsr %x control %x\n", mxcsr, *(uint16_t *)state);
    mxcsr |= 0x6000;
    memcpy((char *)state + 24, &mxcsr, 4);
}

static void frames(void) {
    struct sigaction action = {.sa_sigaction = change, .sa_flags = SA_SIGINFO};
    uint64_t low = 0;
    uint32_t mxcsr, plain = 0x1f80;
    long pid = getpid(), result;
    sigaction(SIGUSR1, &action, 0);
    fflush(stdout);
    asm volatile("pxor %%xmm3, %%xmm3; syscall; movq %%xmm3, %1; stmxcsr %2; ldmxcsr %4"
                 : "=a"(result), "=r"(low), "=m"(mxcsr)
                 : "0"(62), "m"(plain), "D"(pid), "S"(SIGUSR1)
                 : "rcx", "r11", "xmm3", "memory");
    printf("after the frame: %lx mxcsr %x\n", (unsigned long)low, mxcsr);
}

static void children(void) {
    fesetround(FE_UPWARD);
    fflush(stdout);
    int status;
    if (!fork()) {
        volatile double one = 1, three = 3;
        printf("child: round %d %a\n", fegetround(), one / three);
        printf("keeps %d\n", (int)keep(99, 1000));
        fflush(stdout);
        execl("/proc/self/exe", "state", "again", (char *)0);
        _exit(1);
    }
    wait(&status);
    printf("status %x, still round %d\n", status, fegetround());
    fesetround(FE_TONEAREST);
}

int main(int count, char **arguments) {
    if (count > 1) {
        uint32_t mxcsr;
        uint16_t control;
        asm volatile("stmxcsr %0; fnstcw %1" : "=m"(mxcsr), "=m"(control));
        printf("after exec: mxcsr %x control %x\n", mxcsr & ~0x3f, control);
        return 0;
    }
    preempted();
    frames();
    children();
}
