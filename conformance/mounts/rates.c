/* `rates FOLDER`: how fast files are made, looked at, read, listed and removed in an empty folder, and how fast a big one is written and
 * read. One line for each, `name rate unit`.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILES 1000
#define CHUNK (1 << 20)
#define CHUNKS 64

static char chunk[CHUNK];

static long must(long result, const char *what) {
    if (result < 0) {
        fprintf(stderr, "rates: %s: %s\n", what, strerror(errno));
        exit(1);
    }
    return result;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void tell(const char *name, double start, double count, const char *unit) {
    printf("%s %.1f %s/s\n", name, count / (now() - start), unit);
    fflush(stdout);
}

static const char *name_of(int number) {
    static char name[32];
    snprintf(name, sizeof name, "file-%05d", number);
    return name;
}

static void small_files(void) {
    struct stat entry;
    double start = now();
    for (int i = 0; i < FILES; i++) {
        int file = must(open(name_of(i), O_WRONLY | O_CREAT | O_EXCL, 0644), "create");
        must(write(file, chunk, 100), "write");
        close(file);
    }
    tell("create", start, FILES, "files");
    start = now();
    for (int i = 0; i < FILES; i++)
        must(stat(name_of(i), &entry), "stat");
    tell("stat", start, FILES, "files");
    start = now();
    for (int i = 0; i < FILES; i++) {
        int file = must(open(name_of(i), O_RDONLY), "open");
        must(read(file, chunk, sizeof chunk), "read");
        close(file);
    }
    tell("open-read", start, FILES, "files");
    start = now();
    DIR *stream = opendir(".");
    for (struct dirent *found; (found = readdir(stream));)
        must(fstatat(dirfd(stream), found->d_name, &entry, AT_SYMLINK_NOFOLLOW), "stat");
    closedir(stream);
    tell("list-stat", start, FILES, "files");
    start = now();
    for (int i = 0; i < FILES; i++)
        must(unlink(name_of(i)), "unlink");
    tell("unlink", start, FILES, "files");
}

static void read_all(int file, const char *name) {
    double start = now();
    must(lseek(file, 0, SEEK_SET), "lseek");
    for (int i = 0; i < CHUNKS; i++)
        must(read(file, chunk, CHUNK), "read");
    tell(name, start, CHUNKS, "MiB");
}

static void big_file(void) {
    int file = must(open("big", O_RDWR | O_CREAT | O_EXCL, 0644), "create");
    double start = now();
    for (int i = 0; i < CHUNKS; i++)
        must(write(file, chunk, CHUNK), "write");
    tell("write", start, CHUNKS, "MiB");
    must(fsync(file), "fsync");
    must(posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED), "fadvise");
    /* Out of the guest's memory; in the host's still. */
    read_all(file, "read-first");
    read_all(file, "read-again");
    close(file);
    must(unlink("big"), "unlink");
}

int main(int argc, char **argv) {
    if (argc != 2 || chdir(argv[1]) < 0) {
        fprintf(stderr, "usage: rates FOLDER\n");
        return 2;
    }
    memset(chunk, 'r', sizeof chunk);
    small_files();
    big_file();
    return 0;
}
