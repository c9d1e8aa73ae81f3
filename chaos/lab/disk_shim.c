/* Disk faults for one process (LD_PRELOAD). Whoever maps STELE_DISK_CONTROL as well switches them on and off.
   Only files below STELE_DISK_ROOT are touched; sockets and the log never. mmap is not seen. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NONE, NO_SPACE, WRITE_FAILS, SYNC_FAILS, SLOW };
struct control { volatile uint32_t mode, delay_us; volatile uint64_t hits; };
static struct control *control;
static const char *root;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("STELE_DISK_CONTROL");
    root = getenv("STELE_DISK_ROOT");
    int file = path && root ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) control = mapped;
    close(file);
}

static int ours(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    return size > 0 && !strncmp(path, root, strlen(root));
}

/* 0, or the error that this call shall end with. */
static int fault(int fd, int sync) {
    uint32_t mode = control ? control->mode : NONE;
    if (mode == NONE || (sync && mode != SYNC_FAILS && mode != SLOW) || (!sync && mode == SYNC_FAILS)) return 0;
    if (!ours(fd)) return 0;
    __sync_fetch_and_add(&control->hits, 1);
    if (mode != SLOW) return mode == NO_SPACE ? ENOSPC : EIO;
    usleep(control->delay_us);
    return 0;
}

#define WRAP(type, name, parameters, arguments, sync)                          \
    type name parameters {                                                     \
        static type (*real) parameters;                                        \
        if (!real) real = (type (*) parameters) dlsym(RTLD_NEXT, #name);       \
        int error = fault(fd, sync);                                           \
        if (error) { errno = error; return -1; }                               \
        return real arguments;                                                 \
    }
/* What of a file is on disk for certain stands beside it, so that a power loss can take the rest (disks.py). */
static void note_synced(int fd, off_t size_before) {
    uint64_t size = size_before;
    if (control && ours(fd)) fsetxattr(fd, "user.stele_synced", &size, sizeof size, 0);
}

#define WRAP_SYNC(name)                                                        \
    int name(int fd) {                                                         \
        static int (*real)(int);                                               \
        if (!real) real = (int (*)(int)) dlsym(RTLD_NEXT, #name);              \
        int error = fault(fd, 1);                                              \
        if (error) { errno = error; return -1; }                               \
        /* Before: what is written during the sync is not certain. */          \
        struct stat status;                                                    \
        int regular = !fstat(fd, &status) && S_ISREG(status.st_mode);          \
        int failed = real(fd);                                                 \
        if (!failed && regular) note_synced(fd, status.st_size);               \
        return failed;                                                         \
    }
WRAP_SYNC(fsync)
WRAP_SYNC(fdatasync)

WRAP(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size), 0)
WRAP(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at), 0)
WRAP(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at), 0)
WRAP(ssize_t, writev, (int fd, const struct iovec *parts, int count), (fd, parts, count), 0)
