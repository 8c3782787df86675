/* Loaded before the C library: makes chosen calls fail, or writes them down so that a power cut can be replayed.

   faults_arm(kind, path, at, error)   the calls of a kind on files whose path contains `path` are counted from 1;
                                       call number `at` fails with `error` (0: never), and with at = -1 all of them
   faults_count()                      how many were counted since
   faults_delay(path, ms)              opening and looking up files whose path contains `path` takes that much longer
   faults_trace(path, log)             calls that change files whose path contains `path` are written into `log`

   Kinds: 1 open, 2 write and pwrite, 4 fsync and fdatasync, 8 rename, 16 unlink, 32 ftruncate, 64 a write of which
   half arrives before it fails. A record of the log: kind (1 byte), descriptor's path and second path (length as
   4 bytes, text), offset and length (8 bytes each), data. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { OPEN = 1, WRITE = 2, SYNC = 4, RENAME = 8, UNLINK = 16, TRUNCATE = 32, TORN = 64 };

static int kinds, at, failure, counted, log_fd = -1;
static char part[512], traced[512], delayed[512];
static int delay; /* milliseconds */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, name)

void faults_arm(int new_kinds, const char *path, int number, int error) {
    kinds = new_kinds, at = number, failure = error, counted = 0;
    snprintf(part, sizeof part, "%s", path);
}

void faults_delay(const char *path, int milliseconds) {
    snprintf(delayed, sizeof delayed, "%s", path);
    delay = milliseconds;
}

static void linger(const char *path) {
    if (delay && path && strstr(path, delayed)) usleep(delay * 1000);
}

int faults_count(void) { return counted; }

void faults_trace(const char *path, const char *log) {
    if (log_fd >= 0) close(log_fd);
    snprintf(traced, sizeof traced, "%s", path);
    log_fd = *log ? open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
}

/* 0: go on; 1: fail with errno set; 2: tear. */
static int struck(int kind, const char *path) {
    if (!(kinds & kind) && !(kind == WRITE && (kinds & TORN))) return 0;
    if (!path || !strstr(path, part)) return 0;
    pthread_mutex_lock(&lock);
    int now = ++counted == at || at == -1;
    pthread_mutex_unlock(&lock);
    if (!now) return 0;
    errno = failure;
    return kind == WRITE && (kinds & TORN) ? 2 : 1;
}

static const char *path_of(int fd, char *buffer, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, buffer, size - 1);
    if (length < 0) return NULL;
    buffer[length] = 0;
    return buffer;
}

static void put(const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (real(log_fd, data, size) < 0) abort();
}

static void note(int kind, const char *path, const char *other, int64_t offset, const void *data, int64_t size) {
    if (log_fd < 0 || !path || !strstr(path, traced)) return;
    pthread_mutex_lock(&lock);
    uint8_t byte = kind;
    uint32_t first = strlen(path), second = other ? strlen(other) : 0;
    put(&byte, 1), put(&first, 4), put(path, first), put(&second, 4);
    if (second) put(other, second);
    put(&offset, 8), put(&size, 8);
    if (data && size) put(data, size);
    pthread_mutex_unlock(&lock);
}

static int opened(const char *path, int flags, int fd) {
    char full[4096];
    if (fd >= 0 && (flags & (O_CREAT | O_TRUNC)) && log_fd >= 0 && fd != log_fd)
        note(OPEN, path_of(fd, full, sizeof full), NULL, flags & O_TRUNC ? 0 : -1, NULL, 0);
    (void)path;
    return fd;
}

#define OPENING(name) \
    int name(const char *path, int flags, ...) { \
        va_list more; va_start(more, flags); \
        int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, int) : 0; \
        va_end(more); \
        REAL(int, #name, const char *, int, ...); \
        linger(path); \
        return struck(OPEN, path) ? -1 : opened(path, flags, real(path, flags, mode)); \
    }
OPENING(open)
OPENING(open64)

#define OPENING_AT(name) \
    int name(int directory, const char *path, int flags, ...) { \
        va_list more; va_start(more, flags); \
        int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, int) : 0; \
        va_end(more); \
        REAL(int, #name, int, const char *, int, ...); \
        linger(path); \
        return struck(OPEN, path) ? -1 : opened(path, flags, real(directory, path, flags, mode)); \
    }
OPENING_AT(openat)
OPENING_AT(openat64)

DIR *opendir(const char *path) {
    REAL(DIR *, "opendir", const char *);
    linger(path);
    return real(path);
}

#define LOOKING_UP(name) \
    int name(const char *path, struct stat *found) { \
        REAL(int, #name, const char *, struct stat *); \
        linger(path); \
        return real(path, found); \
    }
LOOKING_UP(stat)
LOOKING_UP(lstat)

ssize_t write(int fd, const void *data, size_t size) {
    char full[4096];
    REAL(ssize_t, "write", int, const void *, size_t);
    if (kinds || log_fd >= 0) {
        const char *path = path_of(fd, full, sizeof full);
        int how = struck(WRITE, path);
        if (how == 1) return -1;
        if (how == 2 && size > 1) size /= 2;
        off_t here = log_fd >= 0 ? lseek(fd, 0, SEEK_CUR) : 0;
        ssize_t done = real(fd, data, size);
        if (done > 0) note(WRITE, path, NULL, fcntl(fd, F_GETFL) & O_APPEND ? -1 : here, data, done);
        if (how == 2) { errno = failure; return -1; }
        return done;
    }
    return real(fd, data, size);
}

#define WRITING_AT(name, type) \
    ssize_t name(int fd, const void *data, size_t size, type offset) { \
        char full[4096]; \
        REAL(ssize_t, #name, int, const void *, size_t, type); \
        const char *path = kinds || log_fd >= 0 ? path_of(fd, full, sizeof full) : NULL; \
        int how = struck(WRITE, path); \
        if (how == 1) return -1; \
        if (how == 2 && size > 1) size /= 2; \
        ssize_t done = real(fd, data, size, offset); \
        if (done > 0) note(WRITE, path, NULL, offset, data, done); \
        if (how == 2) { errno = failure; return -1; } \
        return done; \
    }
WRITING_AT(pwrite, off_t)
WRITING_AT(pwrite64, off64_t)

#define SYNCING(name) \
    int name(int fd) { \
        char full[4096]; \
        REAL(int, #name, int); \
        const char *path = kinds || log_fd >= 0 ? path_of(fd, full, sizeof full) : NULL; \
        if (struck(SYNC, path)) return -1; \
        int done = real(fd); \
        if (!done) note(SYNC, path, NULL, 0, NULL, 0); \
        return done; \
    }
SYNCING(fsync)
SYNCING(fdatasync)

#define TRUNCATING(name, type) \
    int name(int fd, type size) { \
        char full[4096]; \
        REAL(int, #name, int, type); \
        const char *path = kinds || log_fd >= 0 ? path_of(fd, full, sizeof full) : NULL; \
        if (struck(TRUNCATE, path)) return -1; \
        int done = real(fd, size); \
        if (!done) note(TRUNCATE, path, NULL, size, NULL, 0); \
        return done; \
    }
TRUNCATING(ftruncate, off_t)
TRUNCATING(ftruncate64, off64_t)

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    if (struck(RENAME, from)) return -1;
    int done = real(from, to);
    if (!done) note(RENAME, from, to, 0, NULL, 0);
    return done;
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    if (struck(UNLINK, path)) return -1;
    int done = real(path);
    if (!done) note(UNLINK, path, NULL, 0, NULL, 0);
    return done;
}

int unlinkat(int directory, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    if (!flags && struck(UNLINK, path)) return -1;
    int done = real(directory, path, flags);
    if (!done && !flags) note(UNLINK, path, NULL, 0, NULL, 0);
    return done;
}
