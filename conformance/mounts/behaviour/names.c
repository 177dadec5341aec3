/* Names: opening, making, linking, renaming, removing, listing. */
#include "behaviour.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#define ENTRIES 5000
/* Linux's limit of links that one path may follow. */
#define LINKS_MAX 40

static void make_socket(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int socket_file = must(socket(AF_UNIX, SOCK_STREAM, 0), "socket");
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    tell(joined("bind %s", path), bind(socket_file, (struct sockaddr *)&address, sizeof address));
    close(socket_file);
}

/* Makes something of a kind at a path. */
static void make(const char *kind, const char *path) {
    if (strcmp(kind, "file") == 0)
        make_file(path, "content", 0644);
    else if (strcmp(kind, "fifo") == 0)
        must(mkfifo(path, 0644), path);
    else if (strcmp(kind, "symlink") == 0)
        must(symlink("nowhere", path), path);
    else if (strncmp(kind, "directory", 9) == 0 || strcmp(kind, "full") == 0)
        must(mkdir(path, 0755), path);
    if (strcmp(kind, "full") == 0)
        make_file(joined("%s/inside", path), "x", 0644);
}

static void clear(const char *path) {
    unlink(joined("%s/inside", path));
    if (unlink(path) < 0)
        rmdir(path);
}

static void open_flags(void) {
    static const char *const objects[] = {"none", "file", "directory", "to-file", "to-directory", "dangling", "loop", "fifo", "socket", "file/", "file/below", "none/below"};
    static const struct {
        const char *name;
        int flags;
    } ways[] = {{"read", O_RDONLY}, {"write", O_WRONLY}, {"read-write", O_RDWR}, {"create", O_WRONLY | O_CREAT},
                {"exclusive", O_WRONLY | O_CREAT | O_EXCL}, {"truncate", O_WRONLY | O_TRUNC}, {"truncate-read", O_RDONLY | O_TRUNC},
                {"append", O_WRONLY | O_APPEND}, {"directory", O_RDONLY | O_DIRECTORY}, {"nofollow", O_RDONLY | O_NOFOLLOW},
                {"path", O_PATH}, {"path-nofollow", O_PATH | O_NOFOLLOW}, {"noatime", O_RDONLY | O_NOATIME}, {"sync", O_WRONLY | O_SYNC}};
    must(symlink("file", "to-file"), "symlink");
    must(symlink("directory", "to-directory"), "symlink");
    must(symlink("loop", "loop"), "symlink");
    must(symlink("target", "dangling"), "symlink");
    must(mkfifo("fifo", 0644), "mkfifo");
    must(mkdir("directory", 0755), "mkdir");
    make_socket("socket");
    for (size_t object = 0; object < COUNT(objects); object++)
        for (size_t way = 0; way < COUNT(ways); way++) {
            make_file("file", "content", 0644);
            unlink("none");
            unlink("target");
            tell_open(joined("open %s %s", objects[object], ways[way].name), open(objects[object], ways[way].flags | O_NONBLOCK, 0644));
        }
    say("open what truncating leaves", "%s", about("file"));
}

static void rename_all(void) {
    static const char *const sources[] = {"none", "file", "symlink", "fifo", "directory", "full"};
    static const char *const targets[] = {"none", "file", "symlink", "fifo", "directory", "full"};
    static const struct {
        const char *name;
        unsigned flags;
    } ways[] = {{"rename", 0}, {"noreplace", 1}, {"exchange", 2}};
    for (size_t way = 0; way < COUNT(ways); way++)
        for (size_t source = 0; source < COUNT(sources); source++)
            for (size_t target = 0; target < COUNT(targets); target++) {
                make(sources[source], "a");
                make(targets[target], "b");
                const char *result = outcome(syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "b", ways[way].flags));
                say(joined("%s %s to %s", ways[way].name, sources[source], targets[target]), "%s, %s, %s", result, about("a"), about("b"));
                clear("a");
                clear("b");
            }
}

static void rename_more(void) {
    make_file("a", "a", 0644);
    must(link("a", "b"), "link");
    tell("rename to a link of the same file", rename("a", "b"));
    say("rename to a link of the same file leaves", "%s, %s", about("a"), about("b"));
    must(mkdir("d", 0755), "mkdir");
    must(mkdir("d/e", 0755), "mkdir");
    tell("rename a directory into itself", rename("d", "d/e/f"));
    tell("rename a directory onto its parent", rename("d/e", "d"));
    tell("rename to the same name", rename("d", "d"));
    tell("rename .", rename("d/.", "x"));
    tell("rename ..", rename("d/..", "x"));
    tell("rename a file to a name with a slash", rename("a", "x/"));
    tell("rename a directory to a name with a slash", rename("d", "x/"));
    tell("rename into a directory that is not", rename("a", "none/a"));
    tell("rename with unknown flags", syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "y", 64));
    tell("rename with two flags that exclude each other", syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "y", 3));
    int file = must(open("a", O_RDWR), "open");
    make_file("new", "new", 0644);
    tell("rename over an open file", rename("new", "a"));
    char byte = 0;
    say("what was replaced is read", "%s", read(file, &byte, 1) == 1 && byte == 'a' ? "as it was" : "differently");
    close(file);
}

static void links(void) {
    struct stat entry;
    make_file("a", "a", 0644);
    must(mkdir("d", 0755), "mkdir");
    must(symlink("a", "s"), "symlink");
    tell("link a file", link("a", "b"));
    say("link a file gives", "%s", about("a"));
    tell("link over a file", link("a", "b"));
    tell("link a directory", link("d", "e"));
    tell("link what is not there", link("none", "e"));
    tell("link into what is no directory", link("a", "b/c"));
    tell("link a symbolic link", link("s", "s2"));
    say("link a symbolic link gives", "%s", about("s2"));
    tell("link what a symbolic link leads to", linkat(AT_FDCWD, "s", AT_FDCWD, "s3", AT_SYMLINK_FOLLOW));
    say("link what a symbolic link leads to gives", "%s", about("s3"));
    int file = must(open("a", O_RDONLY), "open");
    unlink("a"), unlink("b"), unlink("s3");
    say("links of an open file without a name", "%s", fstat(file, &entry) < 0 ? "none" : joined("%lu", (unsigned long)entry.st_nlink));
    tell("link an open file without a name", linkat(AT_FDCWD, joined("/proc/self/fd/%d", file), AT_FDCWD, "again", AT_SYMLINK_FOLLOW));
    close(file);
    must(stat("d", &entry), "stat");
    unsigned long before = entry.st_nlink;
    must(mkdir("d/below", 0755), "mkdir");
    must(stat("d", &entry), "stat");
    say("links that a directory below adds", "%ld", (long)(entry.st_nlink - before));
}

static void symbolic_links(void) {
    static char target[5000];
    char buffer[8];
    memset(target, 'x', sizeof target - 1);
    tell("symlink with an empty target", symlink("", "empty"));
    tell("symlink over a name", symlink("x", "."));
    target[PATH_MAX] = 0;
    tell("symlink of 4,096 bytes", symlink(target, "long"));
    target[PATH_MAX - 1] = 0;
    tell("symlink of 4,095 bytes", symlink(target, "long"));
    say("symlink of 4,095 bytes gives", "%s", about("long"));
    must(symlink("0123456789", "short"), "symlink");
    say("readlink into too little room", "%ld", (long)readlink("short", buffer, sizeof buffer));
    make_file("c0", "end", 0644);
    tell("readlink of a file", readlink("c0", buffer, sizeof buffer));
    for (int i = 1; i <= LINKS_MAX + 1; i++)
        must(symlink(joined("c%d", i - 1), joined("c%d", i)), "symlink");
    say("a chain of 40 links", "%s", content(joined("c%d", LINKS_MAX)));
    say("a chain of 41 links", "%s", content(joined("c%d", LINKS_MAX + 1)));
    must(symlink(".", "here"), "symlink");
    say("a link in the middle of a path", "%s", content("here/here/c0"));
    tell("chmod of a link itself", fchmodat(AT_FDCWD, "short", 0600, AT_SYMLINK_NOFOLLOW));
    tell("chown of a link itself", lchown("short", 12, 34));
    say("a link that was given away", "%s", about("short"));
}

static void directories(void) {
    char path[PATH_MAX];
    must(mkdir("d", 0755), "mkdir");
    make_file("f", "f", 0644);
    must(symlink("d", "s"), "symlink");
    tell("mkdir over a directory", mkdir("d", 0755));
    tell("mkdir over a file", mkdir("f", 0755));
    tell("mkdir over a link", mkdir("s", 0755));
    tell("mkdir below a file", mkdir("f/x", 0755));
    tell("mkdir below nothing", mkdir("none/x", 0755));
    tell("mkdir with a slash behind", mkdir("slash/", 0755));
    tell("mkdir .", mkdir(".", 0755));
    umask(027);
    must(mkdir("masked", 0777), "mkdir");
    umask(0);
    must(mkdir("sticky", 01777), "mkdir");
    umask(022);
    say("mkdir with a umask", "%s", about("masked"));
    say("mkdir with the sticky bit", "%s", about("sticky"));
    tell("rmdir of a file", rmdir("f"));
    tell("rmdir of a link", rmdir("s"));
    tell("rmdir of .", rmdir("d/."));
    tell("rmdir of ..", rmdir("d/.."));
    tell("rmdir of nothing", rmdir("none"));
    tell("unlink of a directory", unlink("d"));
    tell("unlink of a name with a slash", unlink("f/"));
    must(mkdir("d/e", 0755), "mkdir");
    tell("rmdir of a full directory", rmdir("d"));
    int here = must(open(".", O_RDONLY | O_DIRECTORY), "open");
    int folder = must(open("d/e", O_RDONLY | O_DIRECTORY), "open");
    must(chdir("d/e"), "chdir");
    tell("rmdir of the working directory", rmdir("../e"));
    tell("getcwd where there is nothing", syscall(SYS_getcwd, path, sizeof path));
    tell_open("create in a removed directory", open("x", O_WRONLY | O_CREAT, 0644));
    tell("mkdir in a removed directory", mkdirat(folder, "x", 0755));
    tell("list a removed directory", syscall(SYS_getdents64, folder, path, sizeof path));
    must(fchdir(here), "fchdir");
    close(folder), close(here);
}

static void limits(void) {
    static char name[300], path[5000];
    memset(name, 'n', sizeof name - 1);
    name[NAME_MAX] = 0;
    tell_open("a name of 255 bytes", open(name, O_WRONLY | O_CREAT, 0644));
    tell("unlink a name of 255 bytes", unlink(name));
    name[NAME_MAX] = 'n', name[NAME_MAX + 1] = 0;
    tell_open("a name of 256 bytes", open(name, O_WRONLY | O_CREAT, 0644));
    tell("mkdir with a name of 256 bytes", mkdir(name, 0755));
    tell("symlink with a name of 256 bytes", symlink("x", name));
    tell("stat with a name of 256 bytes", access(name, F_OK));
    make_file("f", "f", 0644);
    tell("rename to a name of 256 bytes", rename("f", name));
    tell("link to a name of 256 bytes", link("f", name));
    for (size_t i = 0; i < sizeof path - 1; i += 2)
        memcpy(path + i, "./", 2);
    path[PATH_MAX - 2] = 'f', path[PATH_MAX - 1] = 0;
    tell("a path of 4,095 bytes", access(path, F_OK));
    path[PATH_MAX - 1] = 'f', path[PATH_MAX] = 0;
    tell("a path of 4,096 bytes", access(path, F_OK));
    int made = 0, kept = 0;
    for (int byte = 1; byte < 256; byte++) {
        char odd[] = {'o', (char)byte, 0};
        if (byte != '/') {
            int file = open(odd, O_WRONLY | O_CREAT | O_EXCL, 0644);
            made += file >= 0;
            close(file);
        }
    }
    DIR *stream = opendir(".");
    for (struct dirent *entry; (entry = readdir(stream));)
        kept += entry->d_name[0] == 'o' && strlen(entry->d_name) == 2;
    closedir(stream);
    say("names of every byte", "%d made, %d listed", made, kept);
    int depth = 0;
    while (depth < 200 && mkdir("deep", 0755) == 0 && chdir("deep") == 0)
        depth++;
    say("directories in directories", "%d", depth);
    for (int up = 0; up < depth; up++)
        must(chdir(".."), "..");
}

static void listing(void) {
    static char seen[ENTRIES];
    int count = 0, twice = 0, left = 0, listed = 0;
    for (int i = 0; i < ENTRIES; i++)
        make_file(joined("%04d", i), "", 0644);
    DIR *stream = opendir(".");
    for (struct dirent *entry; (entry = readdir(stream));) {
        if (entry->d_name[0] == '.')
            continue;
        int which = atoi(entry->d_name);
        twice += seen[which]++;
        count++;
        must(unlink(entry->d_name), "unlink");
    }
    rewinddir(stream);
    while (readdir(stream))
        left++;
    closedir(stream);
    say("list 5,000 files and remove each", "%d seen, %d twice, %d left", count, twice, left - 2);
    make("file", "file"), make("symlink", "symlink"), make("fifo", "fifo"), make("directory", "directory");
    stream = opendir(".");
    unsigned types = 0;
    long place = 0;
    char name[NAME_MAX + 1] = "";
    for (struct dirent *entry; (entry = readdir(stream)); listed++) {
        struct stat status;
        types |= 1u << entry->d_type;
        if (fstatat(dirfd(stream), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0 || (entry->d_name[0] != '.' && status.st_ino != entry->d_ino))
            say("a listed inode number", "is wrong");
        if (listed == 2)
            place = telldir(stream);
        if (listed == 3)
            strcpy(name, entry->d_name);
    }
    say("list types", "%d entries, types %x", listed, types);
    seekdir(stream, place);
    struct dirent *again = readdir(stream);
    say("seekdir", "%s", again && strcmp(again->d_name, name) == 0 ? "comes back to the same entry" : "comes to another entry");
    make_file("later", "", 0644);
    rewinddir(stream);
    int found = 0;
    for (struct dirent *entry; (entry = readdir(stream));)
        found |= strcmp(entry->d_name, "later") == 0;
    say("rewinddir shows a new file", "%s", found ? "yes" : "no");
    closedir(stream);
}

static void unlinked(void) {
    char buffer[16] = "";
    make_file("f", "before", 0644);
    int file = must(open("f", O_RDWR), "open");
    tell("unlink an open file", unlink("f"));
    say("its name", "%s", about("f"));
    tell("write to it", pwrite(file, "AFTER", 5, 0));
    say("read from it", "%ld %s", (long)pread(file, buffer, sizeof buffer - 1, 0), buffer);
    tell("fchmod it", fchmod(file, 0600));
    tell("fchown it", fchown(file, 1, 2));
    tell("ftruncate it", ftruncate(file, 3));
    tell("fallocate it", fallocate(file, 0, 0, 10000));
    tell("fsync it", fsync(file));
    struct stat entry;
    must(fstat(file, &entry), "fstat");
    say("fstat it", "%o %u:%u links %lu size %lld", entry.st_mode, entry.st_uid, entry.st_gid, (unsigned long)entry.st_nlink, (long long)entry.st_size);
    tell_open("open it again through /proc", open(joined("/proc/self/fd/%d", file), O_RDWR));
    make_file("f", "new", 0644);
    say("a new file of the same name", "%s", content("f"));
    say("and the old one", "%ld", (long)pread(file, buffer, 3, 0));
    close(file);
    file = open(".", O_TMPFILE | O_RDWR, 0640);
    tell("O_TMPFILE", file);
    tell("O_TMPFILE write", write(file, "temporary", 9));
    tell("O_TMPFILE given a name", linkat(AT_FDCWD, joined("/proc/self/fd/%d", file), AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
    close(file);
    say("O_TMPFILE by its name", "%s, %s", about("named"), content("named"));
    file = open(".", O_TMPFILE | O_RDWR | O_EXCL, 0640);
    tell("O_TMPFILE with O_EXCL", file);
    tell("O_TMPFILE with O_EXCL given a name", linkat(AT_FDCWD, joined("/proc/self/fd/%d", file), AT_FDCWD, "named2", AT_SYMLINK_FOLLOW));
    close(file);
    tell_open("O_TMPFILE for reading only", open(".", O_TMPFILE | O_RDONLY, 0640));
}

static void special(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "s"};
    int server = must(socket(AF_UNIX, SOCK_STREAM, 0), "socket"), client = must(socket(AF_UNIX, SOCK_STREAM, 0), "socket");
    tell("bind a socket", bind(server, (struct sockaddr *)&address, sizeof address));
    tell("connect before listen", connect(client, (struct sockaddr *)&address, sizeof address));
    must(listen(server, 1), "listen");
    tell("connect", connect(client, (struct sockaddr *)&address, sizeof address));
    tell("bind over a socket", bind(client, (struct sockaddr *)&address, sizeof address));
    close(server), close(client);
    say("a socket", "%s", about("s"));
    must(mkfifo("p", 0620), "mkfifo");
    say("a fifo", "%s", about("p"));
    tell_open("write to a fifo without a reader", open("p", O_WRONLY | O_NONBLOCK));
    int both = must(open("p", O_RDWR | O_NONBLOCK), "open");
    char byte = 0;
    must(write(both, "!", 1), "write");
    say("through a fifo", "%s", read(both, &byte, 1) == 1 && byte == '!' ? "what was written" : "something else");
    close(both);
    tell("mknod a file", mknod("f", S_IFREG | 0600, 0));
    tell("mknod a character device", mknod("c", S_IFCHR | 0600, 0x103));
    tell("mknod a block device", mknod("b", S_IFBLK | 0600, 0x700));
    tell("mknod a directory", mknod("d", S_IFDIR | 0700, 0));
    tell("whiteout by rename", syscall(SYS_renameat2, AT_FDCWD, "f", AT_FDCWD, "g", 4));
}

static void watching(void) {
    static char buffer[8192] __attribute__((aligned(8)));
    must(mkdir("w", 0755), "mkdir");
    make_file("outside", "x", 0644);
    int watch = must(inotify_init1(IN_NONBLOCK), "inotify");
    must(inotify_add_watch(watch, "w", IN_ALL_EVENTS), "inotify");
    static const char *const steps[] = {"create", "append", "chmod", "link", "rename inside", "rename in", "truncate", "unlink", "mkdir", "rmdir", "list", "remove itself"};
    for (size_t step = 0; step < COUNT(steps); step++) {
        switch (step) {
        case 0: close(open("w/a", O_WRONLY | O_CREAT, 0644)); break;
        case 1: { int file = open("w/a", O_WRONLY | O_APPEND); must(write(file, "x", 1), "write"); close(file); break; }
        case 2: chmod("w/a", 0600); break;
        case 3: must(link("w/a", "w/l"), "link"); break;
        case 4: rename("w/a", "w/b"); break;
        case 5: rename("outside", "w/c"); break;
        case 6: must(truncate("w/b", 0), "truncate"); break;
        case 7: unlink("w/l"), unlink("w/b"), unlink("w/c"); break;
        case 8: mkdir("w/d", 0755); break;
        case 9: rmdir("w/d"); break;
        case 10: closedir(opendir("w")); break;
        default: rmdir("w");
        }
        printf("watching: %s: events", steps[step]);
        ssize_t got = read(watch, buffer, sizeof buffer);
        for (char *at = buffer; got > 0 && at < buffer + got;) {
            struct inotify_event *event = (struct inotify_event *)at;
            printf(" %x%s%s", event->mask, event->len ? "=" : "", event->len ? event->name : "");
            at += sizeof *event + event->len;
        }
        putchar('\n');
    }
    close(watch);
}

void names(void) {
    in_folder("open", open_flags);
    in_folder("rename", rename_all);
    in_folder("rename-more", rename_more);
    in_folder("links", links);
    in_folder("symbolic-links", symbolic_links);
    in_folder("directories", directories);
    in_folder("limits", limits);
    in_folder("listing", listing);
    in_folder("unlinked", unlinked);
    in_folder("special", special);
    in_folder("watching", watching);
}
