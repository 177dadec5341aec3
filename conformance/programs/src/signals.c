// Faults and signals as a program sees them: numbers, codes, addresses, registers; handlers on other stacks, jumps out of them.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf back;
static volatile siginfo_t last;
static volatile uint64_t last_error, last_trap, on_stack, steps;
static volatile int alarms;
static char *page;
static stack_t other;

static void jump_back(int number, siginfo_t *info, void *context) {
    ucontext_t *frame = context;
    char here;
    last = *info;
    last_error = frame->uc_mcontext.gregs[REG_ERR];
    last_trap = frame->uc_mcontext.gregs[REG_TRAPNO];
    on_stack = &here >= (char *)other.ss_sp && &here < (char *)other.ss_sp + other.ss_size;
    siglongjmp(back, number);
}

static void report(const char *what, int number) {
    long offset = (char *)last.si_addr - page;
    printf("%s: signal %d code %d trap %d error %d other stack %d", what, number, last.si_code, (int)last_trap, (int)last_error, (int)on_stack);
    if (offset >= -65536 && offset < 65536) printf(" at page%+ld", offset);
    printf("\n");
}

#define TRY(what, ...)                                     \
    do {                                                   \
        int number = sigsetjmp(back, 1);                   \
        if (!number) {                                     \
            __VA_ARGS__;                                   \
            printf("%s: no signal\n", what);               \
        } else {                                           \
            report(what, number);                          \
        }                                                  \
    } while (0)

// Invalid operation and division by zero, of SSE and of the x87: bits 0 and 2 of its control word, 7 and 9 of MXCSR.
static void unmask(int yes) {
    uint32_t mxcsr = yes ? 0x1f80 & ~0x280 : 0x1f80;
    uint16_t control = yes ? 0x37f & ~5 : 0x37f;
    asm volatile("fnclex; fldcw %0; ldmxcsr %1" ::"m"(control), "m"(mxcsr));
}

static void faults(void) {
    volatile int zero = 0, one = 1, minimum = INT32_MIN, minus = -1;
    volatile double real = 1, nothing = 0;
    TRY("read unmapped", *(volatile char *)(page + 4096));
    TRY("write unmapped", *(volatile char *)(page + 4097) = 1);
    TRY("write across the edge", *(volatile uint64_t *)(page + 4092) = 1);
    TRY("read not canonical", *(volatile char *)0x8000000000000000u);
    TRY("read kernel", *(volatile char *)0xffffffff81000000u);
    TRY("execute data", ((void (*)(void))page)());
    mprotect(page, 4096, PROT_READ);
    TRY("write read-only", page[8] = 1);
    TRY("lock read-only", __atomic_fetch_add((int *)(page + 16), 1, __ATOMIC_SEQ_CST));
    mprotect(page, 4096, PROT_READ | PROT_WRITE);
    TRY("divide by zero", zero = one / zero);
    TRY("divide overflow", zero = minimum / minus);
    TRY("ud2", asm volatile("ud2"));
    TRY("int3", asm volatile("int3"));
    TRY("hlt", asm volatile("hlt"));
    TRY("cli", asm volatile("cli"));
    TRY("in", asm volatile("inb $0x70, %%al" ::: "rax"));
    TRY("mov from cr0", asm volatile("mov %%cr0, %%rax" ::: "rax"));
    TRY("rdmsr", asm volatile("rdmsr" ::"c"(0x10) : "rax", "rdx"));
    TRY("movaps unaligned", asm volatile("movaps (%0), %%xmm0" ::"r"(page + 1) : "xmm0"));
    TRY("movups unaligned", asm volatile("movups (%0), %%xmm0" ::"r"(page + 1) : "xmm0"));
    TRY("int 0x0d", asm volatile("int $0x0d"));
    TRY("lock nop", asm volatile(".byte 0xf0, 0x90"));
    TRY("load a wrong selector", asm volatile("mov %0, %%fs" ::"r"(0x1235)));
    unmask(1);
    TRY("float divide", real = real / nothing);
    unmask(1);
    TRY("float invalid", real = nothing / nothing);
    unmask(0);
    TRY("abort", raise(SIGABRT));
    TRY("stack overflow", { volatile char *deep = (volatile char *)&zero; for (;;) { deep -= 4096; *deep = 0; } });
}

// Skips the instruction that faulted, `mov (%rax), %rbx` of three bytes, and gives its register a value.
static void mend(int number, siginfo_t *info, void *context) {
    ucontext_t *frame = context;
    frame->uc_mcontext.gregs[REG_RBX] = 0x1122334455667788;
    frame->uc_mcontext.gregs[REG_RIP] += 3;
}

static void step(int number, siginfo_t *info, void *context) {
    steps++;
}

static void on_alarm(int number) {
    alarms++;
}

static void handle(int number, void (*handler)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    sigaction(number, &action, 0);
}

static void contexts(void) {
    uint64_t value = 0;
    handle(SIGSEGV, mend, 0);
    asm volatile("xor %%eax, %%eax; mov (%%rax), %%rbx; mov %%rbx, %0" : "=r"(value)::"rax", "rbx");
    printf("mended: %lx\n", (unsigned long)value);
    handle(SIGTRAP, step, 0);
    // Sets TF, runs eleven instructions among them a REP and a branch, clears TF.
    asm volatile("pushfq; orq $0x100, (%%rsp); popfq\n"
                 "nop; mov $3, %%ecx; lea (%1), %%rdi; xor %%eax, %%eax; cld; rep stosb; cmp $0, %%eax; je 1f; nop\n"
                 "1: add $1, %%eax\n"
                 "pushfq; andq $~0x100, (%%rsp); popfq"
                 : "=m"(*page)
                 : "r"(page)
                 : "rax", "rcx", "rdi", "memory", "cc");
    printf("single steps: %d\n", (int)steps);
}

static void waiting(void) {
    sigset_t set, old;
    signal(SIGALRM, on_alarm);
    struct itimerval every = {{0, 20000}, {0, 20000}};
    setitimer(ITIMER_REAL, &every, 0);
    volatile double work = 1;
    while (alarms < 5)
        for (int i = 0; i < 1000; i++) work = work * 1.0000001 + 1e-9;
    every = (struct itimerval){{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &every, 0);
    printf("alarms: at least 5 %d, sum sane %d\n", alarms >= 5, work > 1);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, &old);
    union sigval with = {.sival_int = 4711};
    sigqueue(getpid(), SIGUSR1, with);
    siginfo_t got;
    int number = sigwaitinfo(&set, &got);
    printf("queued: %d with %d code %d\n", number, got.si_value.sival_int, got.si_code);
    for (int i = 0; i < 4; i++) {
        pid_t child = fork();
        int status;
        if (!child) {
            signal(SIGSEGV, SIG_DFL), signal(SIGFPE, SIG_DFL), signal(SIGILL, SIG_DFL);
            if (i == 0) _exit(42);
            if (i == 1) *(volatile char *)16 = 1;
            if (i == 2) asm volatile("ud2");
            kill(getpid(), SIGKILL);
        }
        waitpid(child, &status, 0);
        printf("child %d: status %x\n", i, status & ~0x80);
    }
}

int main(void) {
    setvbuf(stdout, 0, _IOLBF, 0);
    page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(page + 4096, 4096);
    other.ss_size = 65536;
    other.ss_sp = malloc(other.ss_size);
    sigaltstack(&other, 0);
    for (const int *number = (const int[]){SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, 0}; *number; number++)
        handle(*number, jump_back, SA_ONSTACK);
    faults();
    contexts();
    waiting();
}
