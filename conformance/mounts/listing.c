/* Prints every entry below a directory with all its attributes, one line each, without leaving the file system:
 *
 *   PATH type mode uid gid size mtime device links group target xattrs content
 *
 * `listing ROOT [PATH-TO-LEAVE-OUT ...]`; paths are given and printed from ROOT. PATH, TARGET and XATTRS are in hexadecimal or quoted
 * by %XX, so that a line is a line. GROUP is the inode number of files with several links: whoever compares two
 * listings compares which paths share one. Sizes and links of directories are the file system's own affair and printed as 0.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define NAME_BYTES 65536

static dev_t device;
static char **left_out;
static int failures;

static void complain(const char *what, const char *path) {
    fprintf(stderr, "listing: %s %s: %s\n", what, path, strerror(errno));
    failures++;
}

static void print_quoted(const char *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = bytes[i];
        if (byte > ' ' && byte < 0x7f && byte != '%')
            putchar(byte);
        else
            printf("%%%02X", byte);
    }
    if (length == 0)
        putchar('-');
}

/* FNV-1a over words of eight bytes: not against malice, only against mistakes. */
static uint64_t content(const char *path) {
    static uint64_t words[1 << 16];
    uint64_t hash = 0xcbf29ce484222325;
    int file = open(path, O_RDONLY | O_NOFOLLOW);
    if (file < 0) {
        complain("cannot open", path);
        return 0;
    }
    for (;;) {
        size_t filled = 0;
        ssize_t got;
        while (filled < sizeof words && (got = read(file, (char *)words + filled, sizeof words - filled)) > 0)
            filled += got;
        if (got < 0)
            complain("cannot read", path);
        memset((char *)words + filled, 0, -filled & 7);
        for (size_t i = 0; i < (filled + 7) / 8; i++)
            hash = (hash ^ words[i]) * 0x100000001b3;
        if (filled < sizeof words)
            break;
    }
    close(file);
    return hash;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All attributes in the order of their names, as NAME=VALUE,... */
static void print_xattrs(const char *path) {
    static char names[NAME_BYTES], value[NAME_BYTES];
    char *sorted[1024];
    size_t count = 0;
    ssize_t length = llistxattr(path, names, sizeof names);
    if (length < 0 && errno != EOPNOTSUPP)
        complain("cannot list the attributes of", path);
    for (char *name = names; length > 0 && name < names + length && count < 1024; name += strlen(name) + 1)
        sorted[count++] = name;
    qsort(sorted, count, sizeof *sorted, by_name);
    for (size_t i = 0; i < count; i++) {
        ssize_t bytes = lgetxattr(path, sorted[i], value, sizeof value);
        if (bytes < 0)
            complain("cannot read an attribute of", path);
        printf("%s%s=", i ? "," : "", sorted[i]);
        print_quoted(value, bytes < 0 ? 0 : bytes);
    }
    if (count == 0)
        putchar('-');
}

static const char *type_of(mode_t mode) {
    switch (mode & S_IFMT) {
    case S_IFREG: return "file";
    case S_IFDIR: return "directory";
    case S_IFLNK: return "symlink";
    case S_IFCHR: return "character";
    case S_IFBLK: return "block";
    case S_IFIFO: return "fifo";
    default: return "socket";
    }
}

static void print_entry(const char *path, const char *shown, const struct stat *entry) {
    static char target[NAME_BYTES];
    int directory = S_ISDIR(entry->st_mode), node = S_ISCHR(entry->st_mode) || S_ISBLK(entry->st_mode);
    ssize_t length = S_ISLNK(entry->st_mode) ? readlink(path, target, sizeof target) : 0;
    if (length < 0)
        complain("cannot read the link", path);
    print_quoted(shown, strlen(shown));
    printf(" %s %o %u %u %lld %lld %u:%u", type_of(entry->st_mode), entry->st_mode & 07777, entry->st_uid, entry->st_gid,
           directory ? 0LL : (long long)entry->st_size, (long long)entry->st_mtime, node ? major(entry->st_rdev) : 0,
           node ? minor(entry->st_rdev) : 0);
    printf(" %lu %llu ", directory ? 0UL : (unsigned long)entry->st_nlink,
           !directory && entry->st_nlink > 1 ? (unsigned long long)entry->st_ino : 0ULL);
    print_quoted(target, length < 0 ? 0 : length);
    putchar(' ');
    print_xattrs(path);
    printf(" %016llx\n", S_ISREG(entry->st_mode) ? (unsigned long long)content(path) : 0ULL);
}

static int is_left_out(const char *shown) {
    for (char **one = left_out; *one; one++)
        if (strcmp(*one, shown) == 0)
            return 1;
    return 0;
}

/* `path` is what to open, `shown` the path from the root. */
static void walk(const char *path, const char *shown) {
    struct stat entry;
    if (is_left_out(shown))
        return;
    if (lstat(path, &entry) < 0) {
        complain("cannot look at", path);
        return;
    }
    if (S_ISDIR(entry.st_mode) && entry.st_dev != device)
        return;
    print_entry(path, shown, &entry);
    if (!S_ISDIR(entry.st_mode))
        return;
    DIR *stream = opendir(path);
    if (!stream) {
        complain("cannot list", path);
        return;
    }
    for (struct dirent *found; (found = readdir(stream));) {
        if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0)
            continue;
        char *below, *below_shown;
        if (asprintf(&below, "%s/%s", path, found->d_name) < 0 || asprintf(&below_shown, "%s/%s", shown, found->d_name) < 0)
            abort();
        walk(below, below_shown);
        free(below);
        free(below_shown);
    }
    closedir(stream);
}

int main(int argc, char **argv) {
    struct stat root;
    if (argc < 2 || lstat(argv[1], &root) < 0) {
        fprintf(stderr, "usage: listing ROOT [PATH-TO-LEAVE-OUT ...]\n");
        return 2;
    }
    device = root.st_dev;
    left_out = argv + 2;
    walk(strcmp(argv[1], "/") == 0 ? "/." : argv[1], "");
    return failures ? 1 : 0;
}
