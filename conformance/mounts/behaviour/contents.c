/* Contents and attributes: reading, writing, sizes, holes, copies, times, extended attributes, the file system itself. */
#include "behaviour.h"

#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>

#define KIB 1024L
#define MIB (1024 * KIB)
/* Longer than a clock tick of any kernel's files. */
#define TICK_US 20000

static void reading_and_writing(void) {
    char buffer[64] = "";
    make_file("f", "0123456789", 0644);
    int file = must(open("f", O_RDWR), "open"), reader = must(open("f", O_RDONLY), "open"), writer = must(open("f", O_WRONLY), "open");
    say("read at the end", "%ld", (long)pread(file, buffer, 4, 10));
    say("read over the end", "%ld", (long)pread(file, buffer, 8, 6));
    say("read beyond the end", "%ld", (long)pread(file, buffer, 8, 1000));
    tell("read at a negative offset", pread(file, buffer, 1, -1));
    tell("write at a negative offset", pwrite(file, "x", 1, -1));
    tell("write to a file open for reading", write(reader, "x", 1));
    tell("read from a file open for writing", read(writer, buffer, 1));
    tell("lseek before the beginning", lseek(file, -1, SEEK_SET));
    say("lseek to the end", "%ld", (long)lseek(file, 0, SEEK_END));
    say("lseek beyond the end", "%ld", (long)lseek(file, 5, SEEK_END));
    say("write there", "%ld", (long)write(file, "x", 1));
    say("a file with a gap", "%s: %s", about("f"), content("f"));
    say("the gap is", "%s", pread(file, buffer, 16, 0) == 16 && !buffer[12] && buffer[15] == 'x' ? "zeros" : "not zeros");
    say("write nothing", "%ld", (long)write(file, "", 0));
    struct iovec pieces[] = {{"ab", 2}, {"", 0}, {"cde", 3}};
    say("writev", "%ld", (long)pwritev(file, pieces, 3, 2));
    say("pwritev2 with RWF_APPEND", "%ld", (long)pwritev2(file, pieces, 3, 0, RWF_APPEND));
    say("pwritev2 with RWF_DSYNC", "%ld", (long)pwritev2(file, pieces, 1, 0, RWF_DSYNC));
    say("the result", "%s", about("f"));
    say("seen by another descriptor", "%ld %.7s", (long)pread(reader, buffer, 7, 0), buffer);
    int folder = must(open(".", O_RDONLY), "open");
    tell("read a directory", read(folder, buffer, 1));
    tell("fsync a directory", fsync(folder));
    tell("ftruncate a directory", ftruncate(folder, 0));
    tell("truncate a directory", truncate(".", 0));
    tell("fsync", fsync(file));
    tell("fdatasync", fdatasync(file));
    tell("fsync of a file open for reading", fsync(reader));
    tell("sync_file_range", sync_file_range(file, 0, 0, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER));
    tell("syncfs", syncfs(file));
    tell("posix_fadvise", posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED));
    tell("readahead", readahead(file, 0, 4096));
    tell("fcntl F_SETFL O_APPEND", fcntl(file, F_SETFL, O_APPEND));
    close(file), close(reader), close(writer), close(folder);
}

#define RECORD "0123456789abcde\n"
#define RECORDS 500

static void append_records(void) {
    int file = must(open("log", O_WRONLY | O_APPEND), "open");
    for (int i = 0; i < RECORDS; i++)
        must(write(file, RECORD, 16), "write");
    close(file);
}

static void appending(void) {
    char record[16];
    make_file("a", "one", 0644);
    int file = must(open("a", O_RDWR | O_APPEND), "open");
    say("pwrite with O_APPEND", "%ld", (long)pwrite(file, "two", 3, 0));
    say("goes to the end", "%s", content("a"));
    make_file("b", "longer than it was", 0644);
    must(rename("b", "a"), "rename");
    must(write(file, "x", 1), "write");
    say("append to a replaced file leaves the new one", "%s", content("a"));
    close(file);
    make_file("log", "", 0644);
    fflush(stdout);
    pid_t child = must(fork(), "fork");
    append_records();
    if (child == 0)
        _exit(0);
    waitpid(child, NULL, 0);
    int whole = 0;
    file = must(open("log", O_RDONLY), "open");
    while (read(file, record, 16) == 16)
        whole += memcmp(record, RECORD, 16) == 0;
    say("records that two processes append", "%d whole, %s", whole, about("log"));
    close(file);
}

static void direct(void) {
    char *page = aligned_alloc(4096, 8192);
    memset(page, 'd', 8192);
    int file = open("d", O_RDWR | O_CREAT | O_DIRECT, 0644);
    tell("O_DIRECT", file);
    say("O_DIRECT write", "%ld", (long)pwrite(file, page, 8192, 0));
    memset(page, 0, 8192);
    say("O_DIRECT read", "%ld %c", (long)pread(file, page, 4096, 4096), page[4095]);
    say("O_DIRECT read at the end", "%ld", (long)pread(file, page, 4096, 8192));
    make_file("e", "x", 0644);
    say("O_DIRECT seen by others", "%.3s %s", content("d"), about("d"));
    close(file);
    free(page);
}

static void sizes(void) {
    struct stat entry;
    make_file("f", "0123456789", 0644);
    int file = must(open("f", O_RDWR), "open"), reader = must(open("f", O_RDONLY), "open");
    tell("ftruncate longer", ftruncate(file, 100));
    say("is", "%s", about("f"));
    tell("ftruncate shorter", ftruncate(file, 4));
    tell("and longer again", ftruncate(file, 8));
    char bytes[8] = "";
    say("shows", "%ld %.4s %s", (long)pread(file, bytes, 8, 0), bytes, bytes[4] ? "what was there" : "zeros");
    tell("ftruncate to a negative size", ftruncate(file, -1));
    tell("ftruncate of a file open for reading", ftruncate(reader, 1));
    tell("ftruncate to 4 GiB and more", ftruncate(file, 5000 * MIB));
    say("write beyond 4 GiB", "%ld", (long)pwrite(file, "far", 3, 4999 * MIB));
    say("read beyond 4 GiB", "%ld %.3s", (long)pread(file, bytes, 3, 4999 * MIB), bytes);
    must(fstat(file, &entry), "fstat");
    say("its blocks", "%s", entry.st_blocks < 1000 ? "few" : "many");
    tell("ftruncate to 2^62", ftruncate(file, 1L << 62));
    tell("truncate by name", truncate("f", 0));
    tell("truncate what is not there", truncate("none", 0));
    tell("truncate a name below a file", truncate("f/x", 0));
    tell("fallocate", fallocate(file, 0, 0, 100 * KIB));
    say("gives", "%s", about("f"));
    tell("fallocate with KEEP_SIZE", fallocate(file, FALLOC_FL_KEEP_SIZE, 0, MIB));
    say("gives", "%s", about("f"));
    must(fstat(file, &entry), "fstat");
    say("blocks", "%s", entry.st_blocks >= 2048 ? "are there" : "are not there");
    tell("fallocate of no length", fallocate(file, 0, 0, 0));
    tell("fallocate at a negative offset", fallocate(file, 0, -1, 1));
    tell("fallocate of a file open for reading", fallocate(reader, 0, 0, 1));
    for (long at = 0; at < 100 * KIB; at += 4 * KIB)
        must(pwrite(file, "data", 4, at), "write");
    tell("punch a hole", fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8 * KIB, 8 * KIB));
    say("in the hole", "%ld %s", (long)pread(file, bytes, 4, 12 * KIB), bytes[0] ? "data" : "zeros");
    say("beside the hole", "%ld %.4s", (long)pread(file, bytes, 4, 16 * KIB), bytes);
    tell("punch a hole and change the size", fallocate(file, FALLOC_FL_PUNCH_HOLE, 0, 4096));
    tell("zero a range", fallocate(file, FALLOC_FL_ZERO_RANGE, 20 * KIB, 4 * KIB));
    say("in the range", "%ld %s", (long)pread(file, bytes, 4, 20 * KIB), bytes[0] ? "data" : "zeros");
    tell("collapse a range", fallocate(file, FALLOC_FL_COLLAPSE_RANGE, 0, 4 * KIB));
    tell("insert a range", fallocate(file, FALLOC_FL_INSERT_RANGE, 0, 4 * KIB));
    say("fallocate's results", "%s", about("f"));
    close(file), close(reader);
}

static void holes(void) {
    int file = must(open("h", O_RDWR | O_CREAT | O_TRUNC, 0644), "open");
    must(ftruncate(file, MIB), "ftruncate");
    must(pwrite(file, "x", 1, 256 * KIB), "write");
    must(pwrite(file, "x", 1, 512 * KIB), "write");
    static const struct {
        const char *name;
        int whence;
        long at;
    } seeks[] = {{"data from the beginning", SEEK_DATA, 0}, {"a hole from the beginning", SEEK_HOLE, 0}, {"data from data", SEEK_DATA, 256 * KIB},
                 {"a hole from data", SEEK_HOLE, 256 * KIB}, {"data from the second hole", SEEK_DATA, 300 * KIB}, {"data in the last hole", SEEK_DATA, 600 * KIB},
                 {"a hole in the last hole", SEEK_HOLE, 600 * KIB}, {"data beyond the end", SEEK_DATA, 2 * MIB}, {"a hole beyond the end", SEEK_HOLE, 2 * MIB}};
    for (size_t i = 0; i < COUNT(seeks); i++) {
        long at = lseek(file, seeks[i].at, seeks[i].whence);
        say(joined("seek %s", seeks[i].name), "%s %ld", outcome(at), at);
    }
    close(file);
}

static void copies(void) {
    make_file("from", "0123456789", 0644);
    make_file("to", "", 0600);
    int from = must(open("from", O_RDWR), "open"), to = must(open("to", O_RDWR), "open"), appending = must(open("to", O_RDWR | O_APPEND), "open");
    loff_t in = 2, out = 4;
    say("copy_file_range", "%ld", (long)copy_file_range(from, &in, to, &out, 5, 0));
    say("moves the offsets to", "%ld %ld", (long)in, (long)out);
    say("copies", "%s, %d", about("to"), memcmp(content("from"), "0123456789", 10));
    in = 8, out = 0;
    say("copy_file_range over the end", "%ld", (long)copy_file_range(from, &in, to, &out, 50, 0));
    in = 100;
    say("copy_file_range beyond the end", "%ld", (long)copy_file_range(from, &in, to, &out, 50, 0));
    in = 0, out = 2;
    tell("copy_file_range onto itself", copy_file_range(from, &in, from, &out, 5, 0));
    tell("copy_file_range to the end of an appending file", copy_file_range(from, NULL, appending, NULL, 5, 0));
    tell("copy_file_range with flags", copy_file_range(from, NULL, to, NULL, 5, 1));
    off_t at = 0;
    say("sendfile", "%ld", (long)sendfile(to, from, &at, 10));
    say("sent", "%s", content("to"));
    int pipes[2];
    must(pipe(pipes), "pipe");
    loff_t where = 3;
    say("splice to a pipe", "%ld", (long)splice(from, &where, pipes[1], NULL, 4, 0));
    where = 0;
    say("splice from a pipe", "%ld", (long)splice(pipes[0], NULL, to, &where, 4, 0));
    say("spliced", "%s", content("to"));
    close(from), close(to), close(appending), close(pipes[0]), close(pipes[1]);
}

static void write_much(void) {
    int file = must(open("limited", O_WRONLY | O_CREAT, 0644), "open");
    say("write up to RLIMIT_FSIZE", "%ld", (long)write(file, "0123456789", 10));
    tell("write beyond RLIMIT_FSIZE", write(file, "x", 1));
}

static void limited_size(void) {
    struct rlimit limit = {4, RLIM_INFINITY};
    must(setrlimit(RLIMIT_FSIZE, &limit), "setrlimit");
    write_much();
}

static void file_size_limit(void) {
    say("without a handler", "%s", ended(in_child(limited_size)));
}

static char times_of(const struct timespec *before, const struct timespec *after) {
    return before->tv_sec == after->tv_sec && before->tv_nsec == after->tv_nsec ? '-' : '+';
}

static void change_something(int which) {
    static const char *const value = "v";
    int file;
    switch (which) {
    case 0: file = must(open("d/f", O_WRONLY), "open"); must(write(file, "x", 1), "write"); close(file); break;
    case 1: must(chmod("d/f", 0600), "chmod"); break;
    case 2: must(chown("d/f", 1, 1), "chown"); break;
    case 3: must(link("d/f", "d/l"), "link"); break;
    case 4: must(unlink("d/l"), "unlink"); break;
    case 5: must(rename("d/f", "d/g"), "rename"); must(rename("d/g", "d/f"), "rename"); break;
    case 6: must(truncate("d/f", 100), "truncate"); break;
    case 7: must(truncate("d/f", 100), "truncate"); break;
    case 8: must(setxattr("d/f", "user.n", value, 1, 0), "setxattr"); break;
    case 9: file = must(open("d/f", O_WRONLY | O_TRUNC), "open"); close(file); break;
    case 10: make_file("d/new", "", 0644); break;
    case 11: must(mkdir("d/below", 0755), "mkdir"); break;
    case 12: must(rmdir("d/below"), "rmdir"); break;
    case 13: file = must(open("d/f", O_RDWR), "open"); must(fallocate(file, 0, 0, 200), "fallocate"); close(file); break;
    default: file = must(open("d/f", O_RDONLY), "open"); close(file);
    }
}

static void changed_times(void) {
    static const char *const steps[] = {"write", "chmod", "chown", "link", "unlink of a link", "rename", "truncate", "truncate to the same size", "setxattr",
                                        "open with O_TRUNC", "create beside", "mkdir beside", "rmdir beside", "fallocate", "open"};
    must(mkdir("d", 0755), "mkdir");
    make_file("d/f", "x", 0644);
    for (size_t step = 0; step < COUNT(steps); step++) {
        struct stat file[2], folder[2];
        usleep(TICK_US);
        must(stat("d/f", &file[0]) | stat("d", &folder[0]), "stat");
        usleep(TICK_US);
        change_something(step);
        must(stat("d/f", &file[1]) | stat("d", &folder[1]), "stat");
        say(joined("times that %s changes", steps[step]), "file m%c c%c, directory m%c c%c", times_of(&file[0].st_mtim, &file[1].st_mtim),
            times_of(&file[0].st_ctim, &file[1].st_ctim), times_of(&folder[0].st_mtim, &folder[1].st_mtim), times_of(&folder[0].st_ctim, &folder[1].st_ctim));
    }
}

static const char *times(const char *path) {
    struct stat entry;
    must(lstat(path, &entry), path);
    return joined("%ld.%09ld %ld.%09ld", entry.st_atim.tv_sec, entry.st_atim.tv_nsec, entry.st_mtim.tv_sec, entry.st_mtim.tv_nsec);
}

static void setting_times(void) {
    static const struct {
        const char *name;
        struct timespec times[2];
    } cases[] = {{"both", {{1000000000, 123456789}, {1100000000, 987654321}}}, {"the first only", {{1200000000, 1}, {0, UTIME_OMIT}}},
                 {"the second only", {{0, UTIME_OMIT}, {1300000000, 999999999}}}, {"neither", {{0, UTIME_OMIT}, {0, UTIME_OMIT}}}, {"the epoch", {{0, 0}, {0, 0}}},
                 {"before the epoch", {{-1, 0}, {-1000, 5}}}, {"after 2038", {{4000000000, 0}, {5000000000, 7}}}, {"nonsense", {{1, 1000000000}, {1, -5}}}};
    make_file("f", "x", 0644);
    must(symlink("f", "s"), "symlink");
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *result = outcome(utimensat(AT_FDCWD, "f", cases[i].times, 0));
        say(joined("utimensat %s", cases[i].name), "%s, %s", result, times("f"));
    }
    tell("utimensat of a link itself", utimensat(AT_FDCWD, "s", cases[0].times, AT_SYMLINK_NOFOLLOW));
    say("gives", "%s", times("s"));
    int file = must(open("f", O_RDONLY), "open");
    tell("futimens of a file open for reading", futimens(file, cases[0].times));
    say("gives", "%s", times("f"));
    close(file);
    tell("utimensat of a directory", utimensat(AT_FDCWD, ".", cases[0].times, 0));
    say("gives", "%s", times("."));
    struct stat entry;
    must(utimensat(AT_FDCWD, "f", NULL, 0) | stat("f", &entry), "utimensat");
    long off = entry.st_mtim.tv_sec - time(NULL);
    say("utimensat with now", "%s", off >= -2 && off <= 2 ? "is now" : joined("is %ld s off", off));
    struct statx more;
    must(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS | STATX_BTIME, &more), "statx");
    say("statx", "%s basic, %s birth", more.stx_mask & STATX_BASIC_STATS ? "has" : "lacks", more.stx_mask & STATX_BTIME ? "has" : "lacks");
}

static void extended_attributes(void) {
    static char value[100 * KIB], names[KIB];
    memset(value, 'v', sizeof value);
    make_file("f", "x", 0644);
    must(symlink("f", "s") | mkdir("d", 0755) | mkfifo("p", 0644), "make");
    static const char *const spaces[] = {"user.a", "trusted.a", "security.a", "system.a", "unknown.a", "user.", "a", ""};
    for (size_t i = 0; i < COUNT(spaces); i++)
        tell(joined("setxattr %s", *spaces[i] ? spaces[i] : "without a name"), setxattr("f", spaces[i], "1", 1, 0));
    say("getxattr", "%ld %c", (long)getxattr("f", "user.a", value, sizeof value), value[0]);
    tell("setxattr with CREATE where it is", setxattr("f", "user.a", "2", 1, XATTR_CREATE));
    tell("setxattr with REPLACE where it is not", setxattr("f", "user.b", "2", 1, XATTR_REPLACE));
    tell("setxattr of nothing", setxattr("f", "user.empty", "", 0, 0));
    say("getxattr of nothing", "%ld", (long)getxattr("f", "user.empty", value, sizeof value));
    tell("setxattr of 1,000 bytes", setxattr("f", "user.big", value, 1000, 0));
    say("getxattr's size", "%ld", (long)getxattr("f", "user.big", NULL, 0));
    tell("getxattr into too little room", getxattr("f", "user.big", value, 10));
    tell("getxattr of what is not there", getxattr("f", "user.none", value, 10));
    tell("removexattr of what is not there", removexattr("f", "user.none"));
    tell("setxattr of 64 KiB and one byte", setxattr("f", "user.huge", value, 64 * KIB + 1, 0));
    char name[300] = "user.";
    memset(name + 5, 'n', 251);
    tell("setxattr with a name of 256 bytes", setxattr("f", name, "", 0, 0));
    name[255] = 0;
    tell("setxattr with a name of 255 bytes", setxattr("f", name, "", 0, 0));
    tell("removexattr", removexattr("f", name) | removexattr("f", "user.a"));
    ssize_t length = listxattr("f", names, sizeof names);
    int count = 0;
    for (char *at = names; at < names + length; at += strlen(at) + 1)
        count += strncmp(at, "user.", 5) == 0;
    say("listxattr", "%d of the user", count);
    say("listxattr into too little room", "%s", outcome(listxattr("f", names, 3)));
    tell("setxattr of a directory", setxattr("d", "user.d", "1", 1, 0));
    tell("setxattr of a link itself", lsetxattr("s", "user.s", "1", 1, 0));
    tell("setxattr of a fifo", setxattr("p", "user.p", "1", 1, 0));
    tell("setxattr of a capability", setxattr("f", "security.capability", "\1\0\0\2\0\40\0\0\0\0\0\0\0\0\0\0\0\0\0", 20, 0));
    say("getxattr of a capability", "%ld", (long)getxattr("f", "security.capability", value, sizeof value));
    int file = must(open("f", O_WRONLY), "open");
    must(write(file, "y", 1), "write");
    say("getxattr of a capability after a write", "%s", outcome(getxattr("f", "security.capability", value, sizeof value)));
    tell("setxattr of an ACL", setxattr("f", "system.posix_acl_access", "\2\0\0\0\1\0\6\0\377\377\377\377\4\0\4\0\377\377\377\377\40\0\4\0\377\377\377\377", 28, 0));
    int flags = 0;
    tell("FS_IOC_GETFLAGS", ioctl(file, FS_IOC_GETFLAGS, &flags));
    close(file);
}

static void file_system(void) {
    struct statvfs about_it, below;
    must(mkdir("d", 0755) | statvfs(".", &about_it) | statvfs("d", &below), "statvfs");
    say("statvfs", "names of %lu, blocks of %lu and %lu, %s", about_it.f_namemax, about_it.f_bsize, about_it.f_frsize,
        about_it.f_blocks && about_it.f_bfree <= about_it.f_blocks && about_it.f_bavail <= about_it.f_bfree ? "sane counts" : "odd counts");
    say("statvfs below", "%s", about_it.f_blocks == below.f_blocks ? "is the same" : "is another");
    struct stat entry;
    make_file("f", "12345", 0644);
    must(stat("f", &entry), "stat");
    say("blocks", "of %ld, %ld used", (long)entry.st_blksize, (long)entry.st_blocks);
}

void contents(void) {
    in_folder("reading-and-writing", reading_and_writing);
    in_folder("appending", appending);
    in_folder("direct", direct);
    in_folder("sizes", sizes);
    in_folder("holes", holes);
    in_folder("copies", copies);
    in_folder("file-size-limit", file_size_limit);
    in_folder("changed-times", changed_times);
    in_folder("setting-times", setting_times);
    in_folder("extended-attributes", extended_attributes);
    in_folder("file-system", file_system);
}
