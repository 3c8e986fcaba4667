/* Watches the writes and syncs of a log for tests/integration/test_log_fsync.py (LD_PRELOAD).
 *
 * SHIM_DIR     the directory that holds log.db
 * SHIM_SHADOW  a directory that receives only what was synced: a write goes there when a sync of its file has returned
 * SHIM_ORDER   a file that receives one letter and file per event: W (write), S (sync returned), A (a write to the file SHIM_ACK)
 * SHIM_ACK     the path whose writes are acknowledgements
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

struct pending {
    struct pending *next;
    off_t offset;
    size_t length;
    int truncates;
    char data[];
};

static struct { const char *name; struct pending *first, *last; int shadow; } files[] = {
    {"log.db", NULL, NULL, -1}, {"log.db-wal", NULL, NULL, -1}};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int order = -1;

static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_write)(int, const void *, size_t);
static int (*real_fdatasync)(int);
static int (*real_fsync)(int);
static int (*real_ftruncate)(int, off_t);

__attribute__((constructor)) static void start(void) {
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_write = dlsym(RTLD_NEXT, "write");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    const char *path = getenv("SHIM_ORDER"), *shadow = getenv("SHIM_SHADOW");
    if (!path || !shadow) return;
    order = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    for (int i = 0; i < 2; i++) {
        char name[PATH_MAX];
        snprintf(name, sizeof name, "%s/%s", shadow, files[i].name);
        files[i].shadow = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    }
}

static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return 1;
}

/* The index of a watched file, 2 for the acknowledgements, -1 for anything else. */
static int watched(int fd) {
    char path[PATH_MAX], name[PATH_MAX];
    const char *directory = getenv("SHIM_DIR"), *ack = getenv("SHIM_ACK");
    if (order < 0 || !directory || !path_of(fd, path)) return -1;
    if (ack && !strcmp(path, ack)) return 2;
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "%s/%s", directory, files[i].name);
        if (!strcmp(path, name)) return i;
    }
    return -1;
}

static void note(char what, const char *name) {
    char line[64];
    int length = snprintf(line, sizeof line, "%c %s\n", what, name);
    if (real_write(order, line, length) != length) abort();
}

static void keep(int file, const void *data, size_t length, off_t offset, int truncates) {
    struct pending *entry = malloc(sizeof *entry + length);
    if (!entry) abort();
    entry->next = NULL;
    entry->offset = offset;
    entry->length = length;
    entry->truncates = truncates;
    if (length) memcpy(entry->data, data, length);
    pthread_mutex_lock(&lock);
    if (files[file].last) files[file].last->next = entry; else files[file].first = entry;
    files[file].last = entry;
    note('W', files[file].name);
    pthread_mutex_unlock(&lock);
}

static void synced(int file) {
    pthread_mutex_lock(&lock);
    for (struct pending *entry = files[file].first, *next; entry; entry = next) {
        next = entry->next;
        if (entry->truncates) {
            if (real_ftruncate(files[file].shadow, entry->offset)) abort();
        } else if (real_pwrite(files[file].shadow, entry->data, entry->length, entry->offset) != (ssize_t)entry->length) {
            abort();
        }
        free(entry);
    }
    files[file].first = files[file].last = NULL;
    note('S', files[file].name);
    pthread_mutex_unlock(&lock);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) {
    int file = watched(fd);
    ssize_t written = real_pwrite(fd, data, length, offset);
    if ((file == 0 || file == 1) && written > 0) keep(file, data, written, offset, 0);
    return written;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return pwrite64(fd, data, length, offset); }

ssize_t write(int fd, const void *data, size_t length) {
    int file = watched(fd);
    if (file == 0 || file == 1) abort(); /* SQLite writes at offsets only; anything else would not be in the shadow. */
    if (file == 2) {
        pthread_mutex_lock(&lock);
        note('A', "ack");
        pthread_mutex_unlock(&lock);
    }
    return real_write(fd, data, length);
}

int ftruncate64(int fd, off_t length) {
    int file = watched(fd);
    int result = real_ftruncate(fd, length);
    if ((file == 0 || file == 1) && result == 0) keep(file, NULL, 0, length, 1);
    return result;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int fdatasync(int fd) {
    int file = watched(fd);
    int result = real_fdatasync(fd);
    if ((file == 0 || file == 1) && result == 0) synced(file);
    return result;
}

int fsync(int fd) {
    int file = watched(fd);
    int result = real_fsync(fd);
    if ((file == 0 || file == 1) && result == 0) synced(file);
    return result;
}
