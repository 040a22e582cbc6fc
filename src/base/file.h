/* file.h - whole files, synced replacement, folders, maps. Any thread. */
#ifndef SV_BASE_FILE_H
#define SV_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

SV_MUST sv_rc sv_file_read(sv_buf *out, const char *path, sv_err *err); /* SV_ELIMIT over out->max */
/* Writes beside, syncs, renames, syncs the folder: after SV_OK a power cut keeps the new bytes, before it the old. */
SV_MUST sv_rc sv_file_replace(const char *path, const void *p, size_t n, mode_t mode, sv_err *err);
SV_MUST sv_rc sv_mkdir_p(const char *path, mode_t mode, sv_err *err); /* existing is fine */
SV_MUST sv_rc sv_sync(const char *path, sv_err *err);        /* a file; or a folder: a rename or a new name in it is on disk only then */
SV_MUST sv_rc sv_sync_parent(const char *path, sv_err *err); /* the folder that holds path */
SV_MUST sv_rc sv_remove_tree(const char *path, sv_err *err);          /* never follows links; absent is fine */
bool sv_file_exists(const char *path);
SV_MUST sv_rc sv_write_all(int fd, const void *p, size_t n, sv_err *err);

/* A read-only private map of a whole file. Empty files are SV_EFORMAT. */
typedef struct sv_map { const uint8_t *p; size_t n; } sv_map;
SV_MUST sv_rc sv_map_open(sv_map *out, const char *path, sv_err *err);
void sv_map_close(sv_map *m); /* NULL and empty are fine */

/* Listening or connected unix stream sockets, CLOEXEC and non-blocking. An existing socket file is replaced. */
SV_MUST sv_rc sv_unix_listen(int *fd, const char *path, int backlog, sv_err *err);
SV_MUST sv_rc sv_unix_connect(int *fd, const char *path, sv_err *err);

#endif
