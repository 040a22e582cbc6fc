/* kv_hot.h - values that were read lately, in memory, so that reading them again needs no thread and no disk
 *
 * What it gives is what the store would give at that moment: a write takes its keys out before it is committed, and keeps readers from putting
 * an older value back until it is.
 * Threads: any; nothing blocks but for a short lock. */
#ifndef SV_KV_KV_HOT_H
#define SV_KV_KV_HOT_H

#include "kv/kv.h"

enum { SV_KV_HOT_VALUE = 32 << 10 }; /* larger values are not kept */

typedef struct sv_kv_hot sv_kv_hot;
sv_kv_hot *sv_kv_hot_new(size_t max_bytes); /* values, keys and their bookkeeping */
sv_kv_hot *sv_kv_hot_free(sv_kv_hot *h);    /* NULL is fine */

/* false: not here, or expired. *out is the caller's, as from sv_kvs_get. */
bool sv_kv_hot_get(sv_kv_hot *h, sv_str account, sv_str ns, sv_str key, int64_t now_s, sv_kvs_value *out);

/* A reader asks for a pass before it reads from the disk, and hands it in with what it found: a value that a write overtook is not kept. */
typedef struct sv_kv_pass { uint32_t slot, version; bool good; } sv_kv_pass;
sv_kv_pass sv_kv_hot_before(sv_kv_hot *h, sv_str account, sv_str ns, sv_str key);
void sv_kv_hot_keep(sv_kv_hot *h, sv_kv_pass pass, sv_str account, sv_str ns, sv_str key, const sv_kvs_value *v);

/* Around the commit of a group of writes. */
void sv_kv_hot_writing(sv_kv_hot *h, sv_kvs_write *const *v, size_t n);
void sv_kv_hot_written(sv_kv_hot *h, sv_kvs_write *const *v, size_t n);

#endif
