/* Lives on across a snapshot: vector registers that hold one pattern for ever, a timer, a pipe to a child, a clock that only
 * goes up. Writes what it has seen to a file, again and again: `live FILE`. `live --clock` prints the wall clock in
 * nanoseconds, once. */
#include <fcntl.h>
#include <immintrin.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static uint64_t now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* All sixteen registers are loaded, kept through many turns, and compared. Gives the number that changed. */
static unsigned turn_sse(uint64_t seed)
{
	uint64_t in[32], out[32];

	for (int i = 0; i < 32; i++)
		in[i] = seed * 0x9e3779b97f4a7c15u + (uint64_t)i;
	__asm__ volatile(
		"movdqu 0(%0),%%xmm0\n movdqu 16(%0),%%xmm1\n movdqu 32(%0),%%xmm2\n movdqu 48(%0),%%xmm3\n"
		"movdqu 64(%0),%%xmm4\n movdqu 80(%0),%%xmm5\n movdqu 96(%0),%%xmm6\n movdqu 112(%0),%%xmm7\n"
		"movdqu 128(%0),%%xmm8\n movdqu 144(%0),%%xmm9\n movdqu 160(%0),%%xmm10\n movdqu 176(%0),%%xmm11\n"
		"movdqu 192(%0),%%xmm12\n movdqu 208(%0),%%xmm13\n movdqu 224(%0),%%xmm14\n movdqu 240(%0),%%xmm15\n"
		"mov $200000,%%ecx\n1: dec %%ecx\n jnz 1b\n"
		"movdqu %%xmm0,0(%1)\n movdqu %%xmm1,16(%1)\n movdqu %%xmm2,32(%1)\n movdqu %%xmm3,48(%1)\n"
		"movdqu %%xmm4,64(%1)\n movdqu %%xmm5,80(%1)\n movdqu %%xmm6,96(%1)\n movdqu %%xmm7,112(%1)\n"
		"movdqu %%xmm8,128(%1)\n movdqu %%xmm9,144(%1)\n movdqu %%xmm10,160(%1)\n movdqu %%xmm11,176(%1)\n"
		"movdqu %%xmm12,192(%1)\n movdqu %%xmm13,208(%1)\n movdqu %%xmm14,224(%1)\n movdqu %%xmm15,240(%1)\n"
		: : "r"(in), "r"(out)
		: "ecx", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
		  "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
	return memcmp(in, out, sizeof in) != 0;
}

/* The same for the upper halves of the wide registers, where the CPU has them. */
__attribute__((target("avx"))) static unsigned turn_avx(uint64_t seed)
{
	uint64_t in[16], out[16];

	for (int i = 0; i < 16; i++)
		in[i] = seed * 0xd1342543de82ef95u + (uint64_t)i;
	__asm__ volatile(
		"vmovdqu 0(%0),%%ymm0\n vmovdqu 32(%0),%%ymm7\n vmovdqu 64(%0),%%ymm8\n vmovdqu 96(%0),%%ymm15\n"
		"mov $200000,%%ecx\n1: dec %%ecx\n jnz 1b\n"
		"vmovdqu %%ymm0,0(%1)\n vmovdqu %%ymm7,32(%1)\n vmovdqu %%ymm8,64(%1)\n vmovdqu %%ymm15,96(%1)\n"
		: : "r"(in), "r"(out) : "ecx", "memory", "xmm0", "xmm7", "xmm8", "xmm15");
	return memcmp(in, out, sizeof in) != 0;
}

static void echo(int from, int to)
{
	uint64_t number;

	while (read(from, &number, sizeof number) == sizeof number) {
		number++;
		if (write(to, &number, sizeof number) != sizeof number)
			break;
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	struct itimerspec every = {{0, 2000000}, {0, 2000000}};
	uint64_t ticks = 0, turns = 0, wrong = 0, before = 0;
	int there[2], back[2], timer, file;

	if (argc == 2 && strcmp(argv[1], "--clock") == 0)
		return printf("%llu\n", (unsigned long long)now(CLOCK_REALTIME)) < 0;
	if (argc != 2 || pipe(there) || pipe(back))
		return 2;
	if (fork() == 0) {
		close(there[1]);
		echo(there[0], back[1]);
	}
	timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	file = open(argv[1], O_CREAT | O_RDWR | O_TRUNC, 0644);
	if (timer < 0 || file < 0 || timerfd_settime(timer, 0, &every, NULL))
		return 2;
	for (;;) {
		struct pollfd due = {timer, POLLIN, 0};
		uint64_t passed, number = turns, time = now(CLOCK_MONOTONIC);
		char line[160];

		wrong += turn_sse(turns);
		if (__builtin_cpu_supports("avx"))
			wrong += turn_avx(turns);
		if (write(there[1], &number, sizeof number) != sizeof number ||
		    read(back[0], &number, sizeof number) != sizeof number)
			return 3;
		wrong += number != turns + 1;
		wrong += time < before;
		before = time;
		poll(&due, 1, -1);
		if (read(timer, &passed, sizeof passed) == sizeof passed)
			ticks += passed;
		turns++;
		snprintf(line, sizeof line, "%020llu %020llu %020llu\n", (unsigned long long)turns, (unsigned long long)ticks,
			 (unsigned long long)wrong);
		if (pwrite(file, line, strlen(line), 0) < 0)
			return 4;
	}
}
