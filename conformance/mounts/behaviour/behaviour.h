/* What every file of the suite uses: one line of output for each check, `name: what happened`. */
#ifndef BEHAVIOUR_H
#define BEHAVIOUR_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

/* A line of any text. */
void say(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The result of a system call: `ok`, or its error's name. A descriptor is not closed. */
void tell(const char *name, long result);
/* The same, for calls that open: what was opened is closed. */
void tell_open(const char *name, int file);
/* A name put together from pieces, good for the next few calls. */
const char *joined(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* `ok`, or the name of `errno`. */
const char *outcome(long result);
/* Type, mode, owners, links and, of files, size of what the path names; links are not followed. */
const char *about(const char *path);
/* The first bytes of a file, or the error. */
const char *content(const char *path);
/* Makes a file with this content and mode, whatever the umask is; the suite ends when that fails. */
void make_file(const char *path, const char *text, mode_t mode);
/* Ends the suite with the error when `result` is negative: for what is not itself a check. */
long must(long result, const char *what);
/* Goes into a new directory, runs the checks, and comes back. */
void in_folder(const char *name, void (*checks)(void));
/* Runs in a child with this user, group and supplementary group (0: none). */
void as_user(uid_t user, gid_t group, gid_t more, void (*work)(void));
/* Runs in a child; gives its wait status. */
int in_child(void (*work)(void));
/* What a wait status says. */
const char *ended(int status);

void names(void);
void contents(void);
void users(void);
void locks_and_maps(void);

#define COUNT(array) (sizeof(array) / sizeof *(array))

#endif
