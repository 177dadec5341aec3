// A small debugger: steps a child, sets breakpoints in it, with an argument also watchpoints; reads and writes registers and memory.
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile uint64_t watched[4];
static pid_t child;

__attribute__((noinline)) static uint64_t work(uint64_t value) {
    for (int i = 0; i < 5; i++) watched[i % 2] = watched[i % 2] * 3 + value;
    return watched[0];
}

asm(".globl stepped, stepped_end\n"
    "stepped: mov $4, %ecx\n"
    "1: dec %ecx\n"
    "jnz 1b\n"
    "push %rcx\n"
    "popf\n"
    "mov $39, %eax\n"
    "syscall\n"
    "lea watched_here(%rip), %rdi\n"
    "mov $3, %ecx\n"
    "rep stosb\n"
    "mov %ss, %ecx\n"
    "mov %ecx, %ss\n"
    "nop\n"
    "int3\n"
    "cpuid\n"
    "stepped_end: ret\n"
    ".bss\nwatched_here: .skip 16\n.text\n");
extern void stepped(void), stepped_end(void);

static struct user_regs_struct registers(void) {
    struct user_regs_struct all;
    ptrace(PTRACE_GETREGS, child, 0, &all);
    return all;
}

static int go(int how, int number) {
    int status;
    ptrace(how, child, 0, number);
    waitpid(child, &status, 0);
    return status;
}

static void steps(void) {
    long address = (long)stepped;
    struct user_regs_struct all = registers(), kept = all;
    all.rip = address, all.rsp -= 256, all.orig_rax = -1;
    ptrace(PTRACE_SETREGS, child, 0, &all);
    printf("steps:");
    for (int i = 0; i < 60 && all.rip != (unsigned long)stepped_end; i++) {
        int status = go(PTRACE_SINGLESTEP, 0);
        siginfo_t info;
        ptrace(PTRACE_GETSIGINFO, child, 0, &info);
        all = registers();
        printf(" %ld/%x/%d/%ld", (long)all.rip - address, status, info.si_code, (long)all.rcx < 100 ? (long)all.rcx : -1);
    }
    printf("\n");
    ptrace(PTRACE_SETREGS, child, 0, &kept);
}

static void breakpoints(void) {
    long first = ptrace(PTRACE_PEEKTEXT, child, work, 0);
    ptrace(PTRACE_POKETEXT, child, work, first & ~0xffL | 0xcc);
    for (int i = 0; i < 3; i++) {
        int status = go(PTRACE_CONT, 0);
        struct user_regs_struct all = registers();
        printf("breakpoint: %x at %+ld argument %d\n", status, (long)all.rip - (long)work, (int)all.rdi);
        all.rip--;
        ptrace(PTRACE_SETREGS, child, 0, &all);
        ptrace(PTRACE_POKETEXT, child, work, first);
        status = go(PTRACE_SINGLESTEP, 0);
        ptrace(PTRACE_POKETEXT, child, work, first & ~0xffL | 0xcc);
        if (WSTOPSIG(status) != SIGTRAP) printf("step: %x\n", status);
    }
    ptrace(PTRACE_POKETEXT, child, work, first);
}

// Debug registers: kind 1 stops after a write, 0 before an execution; length 3 is eight bytes (Intel SDM vol. 3B, debug control register).
static void watchpoint(int slot, const volatile void *address, int kind, int length, int times) {
    size_t at = offsetof(struct user, u_debugreg);
    errno = 0;
    ptrace(PTRACE_POKEUSER, child, at + slot * 8, address);
    ptrace(PTRACE_POKEUSER, child, at + 7 * 8, 1L << slot * 2 | (long)(kind | length << 2) << (16 + slot * 4));
    printf("watch %d %d: errno %d\n", slot, kind, errno);
    for (int i = 0; i < times; i++) {
        ptrace(PTRACE_POKEUSER, child, at + 6 * 8, 0);
        int status = go(PTRACE_CONT, 0);
        uint64_t value = ptrace(PTRACE_PEEKDATA, child, watched, 0);
        siginfo_t info;
        ptrace(PTRACE_GETSIGINFO, child, 0, &info);
        printf("watched: %x code %d dr6 %lx value %lx\n", status, info.si_code, ptrace(PTRACE_PEEKUSER, child, at + 6 * 8, 0) & 0xf, (long)value);
    }
    ptrace(PTRACE_POKEUSER, child, at + 7 * 8, 0);
}

int main(int count, char **arguments) {
    setvbuf(stdout, 0, _IOLBF, 0);
    child = fork();
    if (!child) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        for (uint64_t i = 0; i < 12; i++) work(i);
        _exit(watched[0] & 63);
    }
    int status;
    waitpid(child, &status, 0);
    printf("stopped %x\n", status);
    steps();
    breakpoints();
    if (count > 1) {
        watchpoint(0, &watched[0], 1, 3, 4);
        watchpoint(2, (void *)work, 0, 0, 2);
    }
    status = go(PTRACE_SYSCALL, 0);
    struct user_regs_struct all = registers();
    printf("system call: %x %ld argument %ld\n", status, (long)all.orig_rax, (long)all.rdi);
    all.rdi = 17;
    ptrace(PTRACE_SETREGS, child, 0, &all);
    status = go(PTRACE_CONT, 0);
    printf("ended %x\n", status);
}
