/* Locks between processes of one machine, and maps. */
#include "behaviour.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define PAGE 4096

static int record(int file, int command, short type, long from, long length) {
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = from, .l_len = length};
    return fcntl(file, command, &lock);
}

/* What another process finds of a byte: by whom it is not told, that would be a process number. */
static long probed;

static void probe(void) {
    int file = must(open("f", O_RDWR), "open");
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = probed, .l_len = 1};
    must(fcntl(file, F_GETLK, &lock), "F_GETLK");
    if (lock.l_type == F_UNLCK)
        say(joined("byte %ld", probed), "free");
    else
        say(joined("byte %ld", probed), "%s from %ld, %ld bytes, by %s", lock.l_type == F_RDLCK ? "read lock" : "write lock", (long)lock.l_start, (long)lock.l_len,
            lock.l_pid == getppid() ? "its parent" : "nobody it knows");
}

static void probe_byte(long byte) {
    probed = byte;
    in_child(probe);
}

static void take_write(void) {
    tell("another takes a write lock", record(must(open("f", O_RDWR), "open"), F_SETLK, F_WRLCK, 0, 0));
}

static void take_read(void) {
    tell("another takes a read lock", record(must(open("f", O_RDONLY), "open"), F_SETLK, F_RDLCK, 0, 0));
}

static void record_locks(void) {
    make_file("f", "0123456789", 0666);
    int file = must(open("f", O_RDWR), "open"), reader = must(open("f", O_RDONLY), "open");
    tell("lock 10 bytes", record(file, F_SETLK, F_WRLCK, 0, 10));
    probe_byte(5);
    tell("unlock the middle", record(file, F_SETLK, F_UNLCK, 4, 2));
    probe_byte(3), probe_byte(5), probe_byte(7), probe_byte(20);
    tell("make part of it a read lock", record(file, F_SETLK, F_RDLCK, 6, 2));
    probe_byte(6), probe_byte(8);
    in_child(take_write), in_child(take_read);
    tell("write lock on a file open for reading", record(reader, F_SETLK, F_WRLCK, 0, 1));
    tell("lock from beyond the beginning", record(file, F_SETLK, F_WRLCK, -5, 2));
    close(reader);
    probe_byte(0);
    tell("read lock of the whole file", record(file, F_SETLK, F_RDLCK, 0, 0));
    in_child(take_write), in_child(take_read);
    tell("unlock all", record(file, F_SETLK, F_UNLCK, 0, 0));
    in_child(take_write);
    int one = must(open("f", O_RDWR), "open");
    tell("a lock of the open file", record(one, F_OFD_SETLK, F_WRLCK, 0, 0));
    tell("and of another open file", record(file, F_OFD_SETLK, F_WRLCK, 0, 0));
    close(one);
    tell("after the first was closed", record(file, F_OFD_SETLK, F_WRLCK, 0, 0));
    close(file);
}

static void lock_and_hold(int ready, int go) {
    int file = must(open("f", O_RDWR), "open");
    must(record(file, F_SETLK, F_WRLCK, 0, 0), "lock");
    must(flock(must(open("g", O_RDWR), "open"), LOCK_EX), "flock");
    must(write(ready, "", 1), "write");
    char byte;
    must(read(go, &byte, 1), "read");
    _exit(0);
}

/* Waits for a lock that another process has, which is told to end only once this one waits. */
static void waiting(void) {
    int ready[2], go[2];
    char byte;
    make_file("f", "", 0666), make_file("g", "", 0666);
    must(pipe(ready) | pipe(go), "pipe");
    fflush(stdout);
    pid_t holder = must(fork(), "fork");
    if (holder == 0)
        lock_and_hold(ready[1], go[0]);
    must(read(ready[0], &byte, 1), "read");
    int file = must(open("f", O_RDWR), "open"), other = must(open("g", O_RDWR), "open");
    tell("a lock that another has", record(file, F_SETLK, F_WRLCK, 0, 0));
    tell("an flock that another has", flock(other, LOCK_EX | LOCK_NB));
    must(write(go[1], "", 1), "write");
    tell("wait for the lock of one that ends", record(file, F_SETLKW, F_WRLCK, 0, 0));
    tell("wait for the flock of one that ends", flock(other, LOCK_EX));
    waitpid(holder, NULL, 0);
    close(file), close(other);
}

static int inherited;

static void unlock_inherited(void) {
    tell("a child unlocks what it inherited", flock(inherited, LOCK_UN));
}

static void whole_file_locks(void) {
    make_file("f", "", 0666);
    int one = must(open("f", O_RDONLY), "open"), two = must(open("f", O_RDONLY), "open");
    tell("flock exclusive", flock(one, LOCK_EX));
    tell("flock exclusive again", flock(two, LOCK_EX | LOCK_NB));
    tell("flock shared beside it", flock(two, LOCK_SH | LOCK_NB));
    tell("flock made shared", flock(one, LOCK_SH));
    tell("flock shared beside it", flock(two, LOCK_SH | LOCK_NB));
    tell("flock made exclusive", flock(one, LOCK_EX | LOCK_NB));
    tell("flock unlocked", flock(two, LOCK_UN));
    tell("flock made exclusive", flock(one, LOCK_EX | LOCK_NB));
    inherited = one;
    in_child(unlock_inherited);
    tell("then it is free", flock(two, LOCK_EX | LOCK_NB));
    close(two);
    tell("and once closed", flock(one, LOCK_EX | LOCK_NB));
    tell("a record lock beside an flock", record(must(open("f", O_RDWR), "open"), F_SETLK, F_WRLCK, 0, 0));
    int folder = must(open(".", O_RDONLY), "open");
    tell("flock of a directory", flock(folder, LOCK_EX | LOCK_NB));
    close(folder), close(one);
}

static char *mapped;

static void touch_beyond(void) {
    mapped[2 * PAGE] = 'x';
}

static void touch_shared(void) {
    mapped[10] = 'c';
}

static void maps(void) {
    char bytes[16] = "";
    make_file("f", "0123456789", 0644);
    int file = must(open("f", O_RDWR), "open"), reader = must(open("f", O_RDONLY), "open"), folder = must(open(".", O_RDONLY), "open");
    must(ftruncate(file, 3 * PAGE), "ftruncate");
    tell("map shared for writing a file open for reading", mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, reader, 0) == MAP_FAILED ? -1 : 0);
    tell("map private for writing a file open for reading", mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, reader, 0) == MAP_FAILED ? -1 : 0);
    tell("map a directory", mmap(NULL, PAGE, PROT_READ, MAP_SHARED, folder, 0) == MAP_FAILED ? -1 : 0);
    tell("map for execution", mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, reader, 0) == MAP_FAILED ? -1 : 0);
    mapped = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    must(mapped == MAP_FAILED ? -1 : 0, "mmap");
    say("a shared map shows", "%.4s", mapped);
    mapped[0] = 'a';
    say("a write to the map is read", "%ld %c", (long)pread(reader, bytes, 1, 0), bytes[0]);
    must(pwrite(file, "b", 1, 1), "write");
    say("a write to the file is in the map", "%c", mapped[1]);
    in_child(touch_shared);
    say("a child's write is in the map", "%c", mapped[10]);
    tell("msync", msync(mapped, 3 * PAGE, MS_SYNC));
    say("after msync", "%s", content("f"));
    char *private = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    private[2] = 'P';
    say("a private write in the file", "%ld %c", (long)pread(file, bytes, 1, 2), bytes[0]);
    must(ftruncate(file, PAGE), "ftruncate");
    say("touch a map beyond the end", "%s", ended(in_child(touch_beyond)));
    must(ftruncate(file, 3 * PAGE), "ftruncate");
    say("touch it once the file is longer", "%s", ended(in_child(touch_beyond)));
    mapped[PAGE - 1] = 'z';
    unlink("f");
    close(file);
    mapped[3] = 'u';
    say("a map of an unlinked file", "%ld %c, map %c", (long)pread(reader, bytes, 1, 3), bytes[0], mapped[3]);
    munmap(mapped, 3 * PAGE);
    say("after it is unmapped", "%ld %c", (long)pread(reader, bytes, 1, 3), bytes[0]);
    struct stat entry;
    make_file("m", "0123456789", 0644);
    file = must(open("m", O_RDWR), "open");
    mapped = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    mapped[100] = 'x';
    munmap(mapped, PAGE);
    must(fsync(file) | fstat(file, &entry), "fsync");
    say("a write in the last page behind the end", "size %ld", (long)entry.st_size);
    must(ftruncate(file, 200), "ftruncate");
    say("and once the file is longer", "%ld %s", (long)pread(file, bytes, 1, 100), bytes[0] ? "is there" : "is zero");
    close(file), close(reader), close(folder);
}

void locks_and_maps(void) {
    in_folder("record-locks", record_locks);
    in_folder("waiting", waiting);
    in_folder("whole-file-locks", whole_file_locks);
    in_folder("maps", maps);
}
