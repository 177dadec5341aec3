/* Owners, permissions, and the bits that others' actions take away. */
#include "behaviour.h"

#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

#define OWNER 1000
#define GROUP 2000
#define OTHER 3000

static const mode_t modes[] = {0700, 0070, 0007, 0400, 0040, 0004, 0200, 0020, 0002, 0100, 0010, 0001};

static const char *relation;

static void use_all(void) {
    for (size_t i = 0; i < COUNT(modes); i++) {
        const char *file = joined("file-%o", modes[i]), *folder = joined("folder-%o", modes[i]);
        const char *read = outcome(open(file, O_RDONLY)), *write = outcome(open(file, O_WRONLY)), *run = outcome(access(file, X_OK));
        say(joined("%s, file %o", relation, modes[i]), "read %s, write %s, run %s", read, write, run);
        const char *list = outcome(open(folder, O_RDONLY | O_DIRECTORY)), *search = outcome(access(joined("%s/inside", folder), F_OK));
        const char *made = outcome(mkdir(joined("%s/%s", folder, relation), 0755));
        say(joined("%s, directory %o", relation, modes[i]), "list %s, search %s, make %s", list, search, made);
    }
}

static void permissions(void) {
    for (size_t i = 0; i < COUNT(modes); i++) {
        const char *file = joined("file-%o", modes[i]), *folder = joined("folder-%o", modes[i]);
        make_file(file, "x", modes[i]);
        must(chown(file, OWNER, GROUP), "chown");
        must(mkdir(folder, 0700), "mkdir");
        make_file(joined("%s/inside", folder), "x", 0644);
        must(chown(folder, OWNER, GROUP) | chmod(folder, modes[i]), "chown");
    }
    relation = "owner", as_user(OWNER, OTHER, 0, use_all);
    relation = "group", as_user(OTHER, GROUP, 0, use_all);
    relation = "supplementary", as_user(OTHER, OTHER, GROUP, use_all);
    relation = "other", as_user(OTHER, OTHER, 0, use_all);
    relation = "root", use_all();
}

static void change_anothers(void) {
    static const struct timespec some[2] = {{1, 0}, {1, 0}};
    tell(joined("%s, chmod", relation), chmod("f", 0646));
    tell(joined("%s, chown", relation), chown("f", OTHER, -1));
    tell(joined("%s, chgrp", relation), chown("f", -1, GROUP));
    tell(joined("%s, chgrp to a strange group", relation), chown("f", -1, 77));
    tell(joined("%s, utimensat", relation), utimensat(AT_FDCWD, "f", some, 0));
    tell(joined("%s, utimensat with now", relation), utimensat(AT_FDCWD, "f", NULL, 0));
    tell(joined("%s, utimensat with now, unwritable", relation), utimensat(AT_FDCWD, "unwritable", NULL, 0));
    tell(joined("%s, setxattr", relation), setxattr("unwritable", "user.x", "1", 1, 0));
    tell(joined("%s, truncate", relation), truncate("unwritable", 0));
    tell_open(joined("%s, open with O_NOATIME", relation), open("f", O_RDONLY | O_NOATIME));
    tell(joined("%s, unlink in another's directory", relation), unlink("closed/f"));
    tell(joined("%s, mkdir in another's directory", relation), mkdir("closed/d", 0755));
    tell(joined("%s, rename out of another's directory", relation), rename("closed/f", "f2"));
    say(joined("%s, leaves", relation), "%s, %s", about("f"), about("unwritable"));
}

static void anothers(void) {
    make_file("f", "x", 0666);
    make_file("unwritable", "x", 0444);
    must(mkdir("closed", 0755), "mkdir");
    make_file("closed/f", "x", 0666);
    must(chown("f", OWNER, OWNER) | chown("unwritable", OWNER, OWNER), "chown");
    relation = "another", as_user(OTHER, OTHER, GROUP, change_anothers);
    relation = "the owner", as_user(OWNER, OWNER, GROUP, change_anothers);
}

static void in_sticky(void) {
    make_file("mine", "x", 0666);
    tell(joined("%s, unlink in a sticky directory", relation), unlink("sticky/a"));
    tell(joined("%s, rename out of a sticky directory", relation), rename("sticky/b", "sticky/b2"));
    tell(joined("%s, rename over in a sticky directory", relation), rename("mine", "sticky/c"));
    tell(joined("%s, rmdir in a sticky directory", relation), rmdir("sticky/d"));
    tell(joined("%s, create in a sticky directory", relation), mkdir(joined("sticky/%s", relation), 0755));
    unlink("mine");
}

static void sticky(void) {
    must(mkdir("sticky", 0755) | chmod("sticky", 01777) | chown("sticky", OTHER + 1, 0) | mkdir("sticky/d", 0777), "mkdir");
    static const char *const files[] = {"sticky/a", "sticky/b", "sticky/c"};
    for (size_t i = 0; i < COUNT(files); i++) {
        make_file(files[i], "x", 0666);
        must(chown(files[i], OWNER, OWNER), "chown");
    }
    must(chown("sticky/d", OWNER, OWNER), "chown");
    relation = "another", as_user(OTHER, OTHER, 0, in_sticky);
    relation = "the files' owner", as_user(OWNER, OWNER, 0, in_sticky);
    make_file("sticky/a", "x", 0666), make_file("sticky/b", "x", 0666), make_file("sticky/c", "x", 0666);
    relation = "the directory's owner", as_user(OTHER + 1, OTHER, 0, in_sticky);
}

static void make_some(void) {
    umask(0);
    make_file(joined("set/%s", relation), "x", 0644);
    must(mkdir(joined("set/d-%s", relation), 0750), "mkdir");
    must(symlink("x", joined("set/l-%s", relation)) | mkfifo(joined("set/p-%s", relation), 0644), "make");
    int file = must(open(joined("set/s-%s", relation), O_WRONLY | O_CREAT, 02775), "open");
    close(file);
    static const char *const kinds[] = {"", "d-", "l-", "p-", "s-"};
    for (size_t i = 0; i < COUNT(kinds); i++)
        say(joined("%s%s in a setgid directory", kinds[i], relation), "%s", about(joined("set/%s%s", kinds[i], relation)));
}

static void setgid_directory(void) {
    must(mkdir("set", 0755) | chown("set", 5, GROUP) | chmod("set", 02777), "mkdir");
    relation = "stranger", as_user(OTHER, OTHER, 0, make_some);
    relation = "member", as_user(OTHER, OTHER, GROUP, make_some);
    relation = "root", make_some();
    umask(022);
}

static const char *what;

static void do_what(void) {
    if (strcmp(what, "write") == 0 || strcmp(what, "empty write") == 0) {
        int file = must(open("f", O_WRONLY), "open");
        must(write(file, "x", what[0] == 'w'), "write");
        close(file);
    } else if (strcmp(what, "truncate") == 0)
        must(truncate("f", 0), "truncate");
    else if (strcmp(what, "open with O_TRUNC") == 0)
        close(must(open("f", O_WRONLY | O_TRUNC), "open"));
    else if (strcmp(what, "fallocate") == 0) {
        int file = must(open("f", O_WRONLY), "open");
        must(fallocate(file, 0, 0, 100), "fallocate");
        close(file);
    } else if (strcmp(what, "chgrp") == 0)
        tell("chgrp", chown("f", -1, GROUP));
    else if (strcmp(what, "chown to itself") == 0)
        tell("chown to itself", chown("f", OWNER, -1));
    else if (strcmp(what, "chmod") == 0)
        tell("chmod", chmod("f", 06771));
    else if (strcmp(what, "utimes") == 0)
        tell("utimes", utimensat(AT_FDCWD, "f", NULL, 0));
    else if (strcmp(what, "setxattr") == 0)
        tell("setxattr", setxattr("f", "user.x", "1", 1, 0));
    else
        say("a check", "has no such name");
}

static void privileges_lost(void) {
    static const char *const actions[] = {"write", "empty write", "truncate", "open with O_TRUNC", "fallocate", "chgrp", "chown to itself", "chmod", "utimes", "setxattr"};
    static const mode_t kinds[] = {06777, 02767, 04777};
    for (size_t i = 0; i < COUNT(actions); i++)
        for (size_t kind = 0; kind < COUNT(kinds); kind++) {
            make_file("f", "content", 0);
            must(chown("f", OWNER, OWNER) | chmod("f", kinds[kind]), "chown");
            what = actions[i];
            as_user(OWNER, OWNER, GROUP, do_what);
            say(joined("%o after %s by its owner", kinds[kind], what), "%s", about("f"));
            must(chown("f", OWNER, OWNER) | chmod("f", kinds[kind]), "chown");
            do_what();
            say(joined("%o after %s by root", kinds[kind], what), "%s", about("f"));
            unlink("f");
        }
}

static void run_program(void) {
    execl("program", "program", "--user", NULL);
    tell("execute", -1);
}

static void run_exit(void) {
    execl("program", "program", "--exit", "7", NULL);
    tell("execute", -1);
}

static void programs(void) {
    char buffer[65536];
    int from = must(open("/proc/self/exe", O_RDONLY), "open"), to = must(open("program", O_WRONLY | O_CREAT, 0755), "open");
    for (ssize_t got; (got = read(from, buffer, sizeof buffer)) > 0;)
        must(write(to, buffer, got), "write");
    close(from);
    execl("program", "program", "--user", NULL);
    say("execute a file open for writing", "%s", outcome(-1));
    close(to);
    say("execute", "%s", ended(in_child(run_exit)));
    as_user(OWNER, OWNER, 0, run_program);
    must(chown("program", 1234, 5678) | chmod("program", 06755), "chmod");
    as_user(OWNER, OWNER, 0, run_program);
    must(chmod("program", 0644), "chmod");
    as_user(OWNER, OWNER, 0, run_program);
    say("execute by root what nobody may", "%s", ended(in_child(run_exit)));
    make_file("script", "#!./program --user\n", 0755);
    make_file("nonsense", "\1\2\3", 0755);
    must(chmod("program", 0755), "chmod");
    execl("nonsense", "nonsense", NULL);
    say("execute nonsense", "%s", outcome(-1));
    execl(".", ".", NULL);
    say("execute a directory", "%s", outcome(-1));
}

static void owners(void) {
    make_file("f", "x", 0644);
    must(mkdir("d", 0755), "mkdir");
    tell("chown", chown("f", 4294967294, 65536));
    say("gives", "%s", about("f"));
    tell("chown of neither", chown("f", -1, -1));
    tell("chmod of more than the permissions", chmod("f", 0107777));
    say("gives", "%s", about("f"));
    tell("chmod of a directory", chmod("d", 07777));
    say("gives", "%s", about("d"));
    tell("chown of a directory", chown("d", 3, 4));
    say("gives", "%s", about("d"));
    tell("chmod of nothing", chmod("none", 0600));
    tell("chown through a link that leads nowhere", symlink("none", "s") | chown("s", 1, 1));
    umask(0777);
    tell_open("create with a umask of 777", open("masked", O_WRONLY | O_CREAT, 0666));
    say("gives", "%s", about("masked"));
    umask(0);
    tell_open("create without a umask", open("unmasked", O_WRONLY | O_CREAT, 07777));
    say("gives", "%s", about("unmasked"));
    int file = open("kept", O_RDWR | O_CREAT, 0);
    tell("create a file with no permissions for writing", write(file, "x", 1));
    close(file);
    umask(022);
}

void users(void) {
    in_folder("owners", owners);
    in_folder("permissions", permissions);
    in_folder("anothers", anothers);
    in_folder("sticky", sticky);
    in_folder("setgid-directory", setgid_directory);
    in_folder("privileges-lost", privileges_lost);
    in_folder("programs", programs);
}
