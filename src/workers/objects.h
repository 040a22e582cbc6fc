/* objects.h - Durable Objects of a script: which classes it has, how migrations change that, where their storage lies
 *
 * `objects` is {"tag": the last migration's, "classes": [{"class", "id", "sqlite"}]}; id is the namespace's, 32 hex digits, and never changes: the
 * ids of objects derive from it. workerd keeps each object in DATA/objects/KEY/ID/. No two processes may have that folder at once (runtime.h).
 * Threads: values; sv_objects_alarm blocks. */
#ifndef SV_WORKERS_OBJECTS_H
#define SV_WORKERS_OBJECTS_H

#include "workers/workers_impl.h"

/* `migrations` of an upload's metadata: SV_EINVAL with what is wrong. NULL and empty are fine. */
SV_MUST sv_rc sv_objects_check(const json_t *migrations, sv_err *err);
/* *objects after them, all or nothing. SV_EINVAL 10079 another tag was expected, 10074 the class is there, 10061 it is not. */
SV_MUST sv_rc sv_objects_migrate(json_t **objects, const json_t *migrations, sv_err *err);
const json_t *sv_objects_find(const json_t *objects, const char *class_name); /* NULL: no such class */
static inline bool sv_objects_any(const json_t *objects) { return json_array_size(json_object_get(objects, "classes")) > 0; }

void sv_objects_folder(const sv_workers *w, const char *key, char out[4096]);
/* When the next alarm of the script's objects is due, in ms; -1: none. For while its process does not run. */
SV_MUST sv_rc sv_objects_alarm(const sv_workers *w, const char *key, const json_t *objects, int64_t *due_ms, sv_err *err);
/* Removes the storage of classes that are in `before` and not in `after` (NULL: of all, and the folder). */
void sv_objects_drop(const sv_workers *w, const char *key, const json_t *before, const json_t *after);

#endif
