/* `behaviour FOLDER`: what a file system in an empty folder does, one line for each check. Whoever runs it on two file systems compares
 * the lines. `behaviour --user` prints its effective user and group, `behaviour --exit N` ends with N: what the suite runs itself.
 */
#include "behaviour.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <grp.h>
#include <sys/wait.h>

#define ROOM 512

/* The folder that the checks run in, which begins each line. */
static char section[64];

static char *next_room(void) {
    static char rooms[8][ROOM];
    static unsigned turn;
    return rooms[turn++ % COUNT(rooms)];
}

void say(const char *name, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("%s: %s: ", section, name);
    vprintf(format, arguments);
    putchar('\n');
    va_end(arguments);
}

const char *outcome(long result) {
    return result < 0 ? strerrorname_np(errno) : "ok";
}

void tell(const char *name, long result) {
    say(name, "%s", outcome(result));
}

void tell_open(const char *name, int file) {
    tell(name, file);
    if (file >= 0)
        close(file);
}

const char *joined(const char *format, ...) {
    char *room = next_room();
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(room, ROOM, format, arguments);
    va_end(arguments);
    return room;
}

const char *about(const char *path) {
    static const char *const types[] = {[S_IFREG >> 12] = "file", [S_IFDIR >> 12] = "directory", [S_IFLNK >> 12] = "symlink",
                                        [S_IFIFO >> 12] = "fifo", [S_IFSOCK >> 12] = "socket", [S_IFCHR >> 12] = "character",
                                        [S_IFBLK >> 12] = "block"};
    struct stat entry;
    if (lstat(path, &entry) < 0)
        return outcome(-1);
    const char *type = types[entry.st_mode >> 12];
    return S_ISDIR(entry.st_mode)
               ? joined("%s %o %u:%u", type, entry.st_mode & 07777, entry.st_uid, entry.st_gid)
               : joined("%s %o %u:%u links %lu size %lld", type, entry.st_mode & 07777, entry.st_uid, entry.st_gid,
                        (unsigned long)entry.st_nlink, (long long)entry.st_size);
}

const char *content(const char *path) {
    char *room = next_room();
    int file = open(path, O_RDONLY | O_NONBLOCK);
    if (file < 0)
        return outcome(-1);
    ssize_t got = read(file, room, 64);
    const char *error = outcome(got);
    close(file);
    if (got < 0)
        return error;
    room[got] = 0;
    for (ssize_t i = 0; i < got; i++)
        if (room[i] < ' ')
            room[i] = '.';
    return room;
}

long must(long result, const char *what) {
    if (result < 0) {
        printf("cannot go on: %s: %s\n", what, outcome(-1));
        exit(1);
    }
    return result;
}

void make_file(const char *path, const char *text, mode_t mode) {
    int file = must(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600), path);
    must(write(file, text, strlen(text)), path);
    must(fchmod(file, mode), path);
    close(file);
}

void in_folder(const char *name, void (*checks)(void)) {
    must(mkdir(name, 0755), name);
    must(chmod(name, 0777), name);
    must(chdir(name), name);
    snprintf(section, sizeof section, "%s", name);
    checks();
    must(chdir(".."), "..");
}

int in_child(void (*work)(void)) {
    int status;
    fflush(stdout);
    pid_t child = must(fork(), "fork");
    if (child == 0) {
        work();
        fflush(stdout);
        _exit(0);
    }
    must(waitpid(child, &status, 0), "wait");
    return status;
}

const char *ended(int status) {
    return WIFSIGNALED(status) ? joined("SIG%s", sigabbrev_np(WTERMSIG(status))) : joined("exit %d", WEXITSTATUS(status));
}

static struct {
    uid_t user;
    gid_t group, more;
    void (*work)(void);
} other;

static void become_other(void) {
    must(setgroups(other.more ? 1 : 0, &other.more), "setgroups");
    must(setresgid(other.group, other.group, other.group), "setresgid");
    must(setresuid(other.user, other.user, other.user), "setresuid");
    other.work();
}

void as_user(uid_t user, gid_t group, gid_t more, void (*work)(void)) {
    other.user = user, other.group = group, other.more = more, other.work = work;
    int status = in_child(become_other);
    if (status)
        say("a child", "%s", ended(status));
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--user") == 0)
        return printf("programs: a program: runs as %u:%u\n", geteuid(), getegid()) < 0;
    if (argc == 3 && strcmp(argv[1], "--exit") == 0)
        return atoi(argv[2]);
    if (argc != 2 || chdir(argv[1]) < 0) {
        fprintf(stderr, "usage: behaviour FOLDER\n");
        return 2;
    }
    umask(022);
    in_folder("names", names);
    in_folder("contents", contents);
    in_folder("users", users);
    in_folder("locks-and-maps", locks_and_maps);
    return 0;
}
