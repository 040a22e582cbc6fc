/* map.h - string-keyed hash table of pointers. Keys are copied, values are not owned. One thread at a time. */
#ifndef SV_BASE_MAP_H
#define SV_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

typedef struct sv_smap sv_smap;
sv_smap *sv_smap_new(void);
sv_smap *sv_smap_free(sv_smap *m);
void *sv_smap_get(const sv_smap *m, sv_str key);           /* NULL: absent */
void *sv_smap_put(sv_smap *m, sv_str key, void *value);    /* value not NULL; returns the one it replaced, or NULL */
void *sv_smap_del(sv_smap *m, sv_str key);                 /* returns what was there */
size_t sv_smap_count(const sv_smap *m);
/* Iterates: start with *i = 0; false at the end. No put or del in between. */
bool sv_smap_next(const sv_smap *m, size_t *i, sv_str *key, void **value);

#endif
