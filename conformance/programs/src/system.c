// Processes, threads and what they share: results that do not depend on who runs first.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 8, ROUNDS = 5000 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_rwlock_t readers = PTHREAD_RWLOCK_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Thread_local uint64_t mine;
static uint64_t shared, turn, first;
static _Atomic uint64_t counter, wide_or;

static void only_once(void) {
    first++;
}

static void *worker(void *argument) {
    uint64_t number = (uintptr_t)argument;
    pthread_once(&once, only_once);
    for (int i = 0; i < ROUNDS; i++) {
        mine += number;
        atomic_fetch_add(&counter, number);
        atomic_fetch_or(&wide_or, 1ull << (number * 7 + i % 7) % 64);
        uint64_t seen = atomic_load(&counter);
        while (!atomic_compare_exchange_weak(&counter, &seen, seen + 1)) continue;
        pthread_mutex_lock(&lock);
        shared += 3;
        pthread_mutex_unlock(&lock);
        if (i % 100 == 0) sched_yield();
    }
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 50; i++) {
        pthread_mutex_lock(&lock);
        while (turn % THREADS != number) pthread_cond_wait(&changed, &lock);
        turn++;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
    pthread_rwlock_rdlock(&readers);
    uint64_t result = mine + turn * 0;
    pthread_rwlock_unlock(&readers);
    return (void *)result;
}

static void threads(void) {
    pthread_t all[THREADS];
    pthread_barrier_init(&barrier, 0, THREADS);
    for (uintptr_t i = 0; i < THREADS; i++) pthread_create(&all[i], 0, worker, (void *)i);
    for (int i = 0; i < THREADS; i++) {
        void *result;
        pthread_join(all[i], &result);
        printf("thread %d: %ju\n", i, (uintmax_t)(uintptr_t)result);
    }
    printf("shared %ju counter %ju or %jx turn %ju once %ju\n", (uintmax_t)shared, (uintmax_t)counter, (uintmax_t)wide_or, (uintmax_t)turn, (uintmax_t)first);
}

static void processes(void) {
    struct { sem_t ping, pong; uint64_t value; _Atomic int done; } *both = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    sem_init(&both->ping, 1, 0);
    sem_init(&both->pong, 1, 0);
    fflush(stdout);
    if (!fork()) {
        for (int i = 0; i < 500; i++) {
            sem_wait(&both->ping);
            both->value = both->value * 3 + 1;
            sem_post(&both->pong);
        }
        _exit(0);
    }
    for (int i = 0; i < 500; i++) {
        both->value += i;
        sem_post(&both->ping);
        sem_wait(&both->pong);
    }
    wait(0);
    printf("ping pong %jx\n", (uintmax_t)both->value);
    int statuses = 0;
    char *private = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(private, 1, 1 << 20);
    for (int i = 0; i < 50; i++) {
        if (!fork()) {
            for (int at = i; at < 1 << 20; at += 4096) private[at]++;
            _exit((private[i] + private[i + 4096] + i) & 127);
        }
        int status;
        wait(&status);
        statuses = statuses * 3 + WEXITSTATUS(status);
    }
    printf("children %d, own page %d\n", statuses, private[0]);
}

static void pipes(void) {
    int ends[2], pair[2];
    static char out[100000], in[100000];
    for (size_t i = 0; i < sizeof out; i++) out[i] = i * 7 + i / 256;
    pipe(ends);
    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair);
    fflush(stdout);
    if (!fork()) {
        close(ends[0]);
        for (size_t at = 0; at < sizeof out;) at += write(ends[1], out + at, sizeof out - at);
        for (int i = 1; i <= 20; i++) write(pair[1], out, i * 50);
        _exit(0);
    }
    close(ends[1]);
    size_t got = 0;
    for (ssize_t more; (more = read(ends[0], in + got, sizeof in - got)) > 0;) got += more;
    printf("pipe %zu %d;", got, memcmp(in, out, sizeof out));
    for (int i = 0; i < 20; i++) printf(" %zd", read(pair[0], in, sizeof in));
    printf("\n");
    wait(0);
    struct iovec parts[3] = {{"abc", 3}, {"defg", 4}, {"\n", 1}};
    printf("writev %zd\n", writev(pair[1], parts, 3));
    int event = eventfd(5, EFD_NONBLOCK), timer = timerfd_create(CLOCK_MONOTONIC, 0), set = epoll_create1(0);
    struct itimerspec soon = {{0, 0}, {0, 1000000}};
    timerfd_settime(timer, 0, &soon, 0);
    struct epoll_event wanted = {EPOLLIN, {.u32 = 1}}, ready = {0};
    epoll_ctl(set, EPOLL_CTL_ADD, timer, &wanted);
    uint64_t value;
    int count = epoll_wait(set, &ready, 1, 5000);
    read(timer, &value, 8);
    printf("timer %d %u %ju;", count, ready.data.u32, (uintmax_t)value);
    read(event, &value, 8);
    printf(" event %ju", (uintmax_t)value);
    printf(" again %zd %d\n", read(event, &value, 8), errno == EAGAIN);
}

static void files(void) {
    int file = open("file", O_RDWR | O_CREAT | O_TRUNC, 0640);
    struct stat about;
    for (int i = 0; i < 300; i++) {
        char text[32];
        pwrite(file, text, sprintf(text, "line %d\n", i * i), i * 1000);
    }
    fstat(file, &about);
    printf("size %ld mode %o links %ld\n", (long)about.st_size, about.st_mode, (long)about.st_nlink);
    char *map = mmap(0, about.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    uint64_t sum = 0;
    for (long i = 0; i < about.st_size; i++) sum = sum * 31 + (unsigned char)map[i];
    memcpy(map + 5000, "through the map", 15);
    msync(map, about.st_size, MS_SYNC);
    char text[16] = {0};
    pread(file, text, 15, 5000);
    printf("sum %016jx, read back %s\n", (uintmax_t)sum, text);
    ftruncate(file, 1234);
    map = mremap(map, about.st_size, 1 << 20, MREMAP_MAYMOVE);
    printf("truncated %d, lseek %ld %ld\n", fstat(file, &about) + (int)about.st_size, (long)lseek(file, 0, SEEK_END), (long)lseek(file, -4, SEEK_SET));
    const char *wrong[] = {"/no/such", "/etc", "file/x"};
    for (int i = 0; i < 3; i++) printf("%s: %d", wrong[i], open(wrong[i], O_WRONLY)), printf(" %s\n", strerror(errno));
}

static sigjmp_buf far;
static void deeper(int level) {
    volatile char fill[100];
    fill[0] = level;
    if (level == 0) longjmp(far, 33);
    deeper(level - 1 + fill[0] * 0);
}

int main(void) {
    threads();
    processes();
    pipes();
    files();
    int from = setjmp(far);
    if (!from) deeper(200);
    printf("long jump %d\n", from);
    struct timespec one, two;
    clock_gettime(CLOCK_MONOTONIC, &one);
    nanosleep(&(struct timespec){0, 20000000}, 0);
    clock_gettime(CLOCK_MONOTONIC, &two);
    double slept = (two.tv_sec - one.tv_sec) * 1e3 + (two.tv_nsec - one.tv_nsec) / 1e6;
    printf("slept long enough %d, and not for ever %d\n", slept >= 20, slept < 5000);
}
