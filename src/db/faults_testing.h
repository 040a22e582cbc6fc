/* faults_testing.h - a disk that fills up, lies or loses power, and a memory that runs out, under SQLite. For tests.
 *
 * The disk is a VFS over the normal one and becomes the default, so that the code under test opens it unknowingly. A power cut
 * gives back what the real thing may: of the writes since each file's last sync, a random subset. */
#ifndef SV_DB_FAULTS_TESTING_H
#define SV_DB_FAULTS_TESTING_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

typedef struct undo { /* one write that has not been synced */
    sqlite3_int64 at, size_before;
    int n;
    char *before, *after;
    struct undo *older;
} undo;

typedef struct faulty_file {
    sqlite3_file base;
    undo *unsynced; /* newest first */
    struct faulty_file *next;
    sqlite3_file *real; /* behind this struct */
} faulty_file;

static struct {
    pthread_mutex_t lock; /* guards everything below but the atomics; held for ever after a power cut */
    faulty_file *files;
    bool keep_undo;
    atomic_bool lies;         /* syncs say OK and do nothing */
    atomic_llong room;        /* bytes by which files may still grow */
    atomic_llong n_syncs;
    sqlite3_vfs vfs, *real;
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER, .room = 1ll << 50};

#define REAL(f) (((faulty_file *)(f))->real)

static void forget(faulty_file *f)
{
    for (undo *u = f->unsynced, *older; u; u = older) {
        older = u->older;
        free(u->before);
        free(u->after);
        free(u);
    }
    f->unsynced = NULL;
}

static void remember(faulty_file *f, const void *p, int n, sqlite3_int64 at)
{
    undo *u = sv_xnew0(undo);
    *u = (undo){.at = at, .n = n, .older = f->unsynced, .before = sv_xcalloc(1, (size_t)n), .after = sv_xcalloc(1, (size_t)n)};
    memcpy(u->after, p, (size_t)n);
    f->real->pMethods->xFileSize(f->real, &u->size_before);
    f->real->pMethods->xRead(f->real, u->before, n, at); /* past the end reads zeros */
    f->unsynced = u;
}

static int faulty_write(sqlite3_file *file, const void *p, int n, sqlite3_int64 at)
{
    faulty_file *f = (faulty_file *)file;
    sqlite3_int64 size = 0;
    pthread_mutex_lock(&disk.lock);
    f->real->pMethods->xFileSize(f->real, &size);
    sqlite3_int64 growth = at + n > size ? at + n - size : 0;
    int rc = SQLITE_FULL;
    if (growth <= atomic_load(&disk.room)) {
        atomic_fetch_sub(&disk.room, growth);
        if (disk.keep_undo)
            remember(f, p, n, at);
        rc = f->real->pMethods->xWrite(f->real, p, n, at);
    }
    pthread_mutex_unlock(&disk.lock);
    return rc;
}

static int faulty_sync(sqlite3_file *file, int flags)
{
    faulty_file *f = (faulty_file *)file;
    pthread_mutex_lock(&disk.lock);
    atomic_fetch_add(&disk.n_syncs, 1);
    int rc = SQLITE_OK;
    if (!atomic_load(&disk.lies)) {
        rc = f->real->pMethods->xSync(f->real, flags);
        forget(f);
    }
    pthread_mutex_unlock(&disk.lock);
    return rc;
}

static int faulty_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    pthread_mutex_lock(&disk.lock); /* so that none happens after a power cut */
    int rc = REAL(file)->pMethods->xTruncate(REAL(file), size);
    pthread_mutex_unlock(&disk.lock);
    return rc;
}

static int faulty_close(sqlite3_file *file)
{
    faulty_file *f = (faulty_file *)file;
    pthread_mutex_lock(&disk.lock);
    for (faulty_file **at = &disk.files; *at; at = &(*at)->next)
        if (*at == f) {
            *at = f->next;
            break;
        }
    forget(f);
    pthread_mutex_unlock(&disk.lock);
    return f->real->pMethods->xClose(f->real);
}

static int f_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at) { return REAL(f)->pMethods->xRead(REAL(f), p, n, at); }
static int f_size(sqlite3_file *f, sqlite3_int64 *n) { return REAL(f)->pMethods->xFileSize(REAL(f), n); }
static int f_lock(sqlite3_file *f, int l) { return REAL(f)->pMethods->xLock(REAL(f), l); }
static int f_unlock(sqlite3_file *f, int l) { return REAL(f)->pMethods->xUnlock(REAL(f), l); }
static int f_reserved(sqlite3_file *f, int *l) { return REAL(f)->pMethods->xCheckReservedLock(REAL(f), l); }
static int f_control(sqlite3_file *f, int op, void *arg) { return REAL(f)->pMethods->xFileControl(REAL(f), op, arg); }
static int f_sector(sqlite3_file *f) { return REAL(f)->pMethods->xSectorSize(REAL(f)); }
static int f_kind(sqlite3_file *f) { return REAL(f)->pMethods->xDeviceCharacteristics(REAL(f)); }
static int f_shm_map(sqlite3_file *f, int page, int n, int extend, void volatile **p)
{
    return REAL(f)->pMethods->xShmMap(REAL(f), page, n, extend, p);
}
static int f_shm_lock(sqlite3_file *f, int at, int n, int flags) { return REAL(f)->pMethods->xShmLock(REAL(f), at, n, flags); }
static void f_shm_barrier(sqlite3_file *f) { REAL(f)->pMethods->xShmBarrier(REAL(f)); }
static int f_shm_unmap(sqlite3_file *f, int del) { return REAL(f)->pMethods->xShmUnmap(REAL(f), del); }

static const sqlite3_io_methods faulty_methods = {
    .iVersion = 2, .xClose = faulty_close, .xRead = f_read, .xWrite = faulty_write, .xTruncate = faulty_truncate, .xSync = faulty_sync,
    .xFileSize = f_size, .xLock = f_lock, .xUnlock = f_unlock, .xCheckReservedLock = f_reserved, .xFileControl = f_control,
    .xSectorSize = f_sector, .xDeviceCharacteristics = f_kind, .xShmMap = f_shm_map, .xShmLock = f_shm_lock,
    .xShmBarrier = f_shm_barrier, .xShmUnmap = f_shm_unmap,
};

static int faulty_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
    (void)vfs;
    faulty_file *f = (faulty_file *)file;
    memset(f, 0, sizeof *f);
    f->real = (sqlite3_file *)(f + 1);
    int rc = disk.real->xOpen(disk.real, name, f->real, flags, out_flags);
    if (rc != SQLITE_OK)
        return rc; /* pMethods is NULL: xClose is not called */
    f->base.pMethods = &faulty_methods;
    pthread_mutex_lock(&disk.lock);
    f->next = disk.files;
    disk.files = f;
    pthread_mutex_unlock(&disk.lock);
    return SQLITE_OK;
}

static void faulty_disk_install(void)
{
    disk.real = sqlite3_vfs_find(NULL);
    disk.vfs = *disk.real;
    disk.vfs.zName = "faulty";
    disk.vfs.szOsFile += (int)sizeof(faulty_file);
    disk.vfs.xOpen = faulty_open;
    disk.vfs.pNext = NULL;
    SV_ASSERT(sqlite3_vfs_register(&disk.vfs, 1) == SQLITE_OK);
}

/* Undoes what was not synced, does a random part of it again, and ends the process. */
static _Noreturn void power_cut(unsigned seed)
{
    pthread_mutex_lock(&disk.lock);
    for (faulty_file *f = disk.files; f; f = f->next) {
        undo *oldest_first = NULL;
        for (undo *u = f->unsynced, *older; u; u = older) {
            older = u->older;
            f->real->pMethods->xWrite(f->real, u->before, u->n, u->at);
            f->real->pMethods->xTruncate(f->real, u->size_before);
            u->older = oldest_first;
            oldest_first = u;
        }
        for (undo *u = oldest_first; u; u = u->older)
            if (rand_r(&seed) % 2)
                f->real->pMethods->xWrite(f->real, u->after, u->n, u->at);
    }
    _exit(0);
}

/* ---- memory ---- */

static struct { sqlite3_mem_methods real; atomic_llong left; } memory = {.left = 1ll << 50};

static bool memory_ok(void) { return atomic_fetch_sub(&memory.left, 1) > 0; }
static void *faulty_malloc(int n) { return memory_ok() ? memory.real.xMalloc(n) : NULL; }
static void *faulty_realloc(void *p, int n) { return memory_ok() ? memory.real.xRealloc(p, n) : NULL; }

/* Before anything else of SQLite is called. */
static void faulty_memory_install(void)
{
    SV_ASSERT(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &memory.real) == SQLITE_OK);
    sqlite3_mem_methods faulty = memory.real;
    faulty.xMalloc = faulty_malloc;
    faulty.xRealloc = faulty_realloc;
    SV_ASSERT(sqlite3_config(SQLITE_CONFIG_MALLOC, &faulty) == SQLITE_OK);
}

#endif
