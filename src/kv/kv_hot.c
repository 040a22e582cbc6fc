/* kv_hot.c - a map and a list by last use, under one lock
 *
 * A job thread's read costs two hand-overs, loop to thread and back, which on a busy machine are most of a small KV.get. Counters, sessions and cached
 * answers are read over and over; those that were read lately are answered by the loop itself, in microseconds.
 *
 * Staleness. Keys fall into slots by hash; a slot has a version and a number of commits in progress. A reader notes the version before it asks the disk, and its
 * value is kept only if nothing was written in the slot since and nothing is being written now. So:
 *   1. While a key's write is between writing() and written(), it is not here: readers see the disk, where the commit decides.
 *   2. After written(), only reads that began after it may put the key back.
 * A deleted namespace empties everything: that is rare, and its keys could not be found otherwise. */
#include "kv/kv_hot.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/map.h"

enum { N_SLOTS = 4096, MAX_NAME = 512 + 128, OVERHEAD = 256 };

typedef struct item {
    struct item *prev, *next; /* by use, the latest first */
    int64_t expires_s;
    size_t n, n_name, room;
    char *bytes, *metadata;   /* metadata: NULL: none */
    char name[];              /* the map's key */
} item;

struct sv_kv_hot {
    pthread_mutex_t lock; /* over everything; nothing is taken while it is held */
    sv_smap *by_name;
    item *first, *last;
    size_t bytes, max_bytes;
    struct { uint32_t version, writing; } slots[N_SLOTS];
    uint32_t all_writing; /* namespaces being deleted */
};

sv_kv_hot *sv_kv_hot_new(size_t max_bytes)
{
    sv_kv_hot *h = sv_xnew0(sv_kv_hot);
    pthread_mutex_init(&h->lock, NULL);
    h->by_name = sv_smap_new();
    h->max_bytes = max_bytes;
    return h;
}

/* ---- with the lock ---- */

static void unlink_item(sv_kv_hot *h, item *i)
{
    *(i->prev ? &i->prev->next : &h->first) = i->next;
    *(i->next ? &i->next->prev : &h->last) = i->prev;
}

static void push_front(sv_kv_hot *h, item *i)
{
    i->prev = NULL;
    i->next = h->first;
    *(h->first ? &h->first->prev : &h->last) = i;
    h->first = i;
}

static void drop(sv_kv_hot *h, item *i)
{
    unlink_item(h, i);
    sv_smap_del(h->by_name, (sv_str){i->name, i->n_name});
    h->bytes -= i->room;
    free(i->bytes);
    free(i->metadata);
    free(i);
}

static void clear(sv_kv_hot *h)
{
    while (h->first)
        drop(h, h->first);
}

/* Account and namespace have fixed alphabets without a '/': no two keys have one name. */
static sv_str name_of(char out[MAX_NAME], sv_str account, sv_str ns, sv_str key)
{
    if (account.n + ns.n + key.n + 2 > MAX_NAME)
        return (sv_str){0};
    char *p = mempcpy(out, account.p, account.n);
    *p++ = '/';
    p = mempcpy(p, ns.p, ns.n);
    *p++ = '/';
    p = mempcpy(p, key.p, key.n);
    return (sv_str){out, (size_t)(p - out)};
}

static uint32_t slot_of(sv_str name) { return (uint32_t)(sv_hash64(name.p, name.n, 0x686f74) % N_SLOTS); }

/* ---- */

sv_kv_hot *sv_kv_hot_free(sv_kv_hot *h)
{
    if (!h)
        return NULL;
    clear(h);
    sv_smap_free(h->by_name);
    pthread_mutex_destroy(&h->lock);
    free(h);
    return NULL;
}

static bool copy_out(const item *i, sv_kvs_value *out)
{
    sv_kvs_value v = {.n = (int64_t)i->n, .expires_s = i->expires_s, .fd = -1, .bytes = sv_try_calloc(1, i->n + 1)};
    v.metadata = i->metadata ? strdup(i->metadata) : NULL;
    if (!v.bytes || (i->metadata && !v.metadata)) {
        sv_kvs_value_done(&v);
        return false;
    }
    memcpy(v.bytes, i->bytes, i->n);
    *out = v;
    return true;
}

bool sv_kv_hot_get(sv_kv_hot *h, sv_str account, sv_str ns, sv_str key, int64_t now_s, sv_kvs_value *out)
{
    char text[MAX_NAME];
    bool found = false;
    sv_str name = name_of(text, account, ns, key);
    pthread_mutex_lock(&h->lock);
    item *i = name.n ? sv_smap_get(h->by_name, name) : NULL;
    if (i && i->expires_s && i->expires_s <= now_s) {
        drop(h, i);
    } else if (i) {
        unlink_item(h, i);
        push_front(h, i);
        found = copy_out(i, out);
    }
    pthread_mutex_unlock(&h->lock);
    return found;
}

sv_kv_pass sv_kv_hot_before(sv_kv_hot *h, sv_str account, sv_str ns, sv_str key)
{
    char text[MAX_NAME];
    sv_str name = name_of(text, account, ns, key);
    sv_kv_pass pass = {.slot = slot_of(name)};
    pthread_mutex_lock(&h->lock);
    pass.version = h->slots[pass.slot].version;
    pass.good = name.n && !h->slots[pass.slot].writing && !h->all_writing;
    pthread_mutex_unlock(&h->lock);
    return pass;
}

static item *item_new(sv_str name, const sv_kvs_value *v)
{
    size_t n_metadata = v->metadata ? strlen(v->metadata) : 0;
    item *i = sv_try_calloc(1, sizeof *i + name.n + 1);
    if (!i)
        return NULL;
    *i = (item){.expires_s = v->expires_s, .n = (size_t)v->n, .n_name = name.n, .room = OVERHEAD + 2 * name.n + (size_t)v->n + n_metadata};
    memcpy(i->name, name.p, name.n);
    i->bytes = sv_try_calloc(1, i->n + 1);
    i->metadata = v->metadata ? strdup(v->metadata) : NULL;
    if (i->bytes && (i->metadata || !v->metadata)) {
        memcpy(i->bytes, v->bytes, i->n);
        return i;
    }
    free(i->bytes);
    free(i->metadata);
    free(i);
    return NULL;
}

void sv_kv_hot_keep(sv_kv_hot *h, sv_kv_pass pass, sv_str account, sv_str ns, sv_str key, const sv_kvs_value *v)
{
    char text[MAX_NAME];
    if (!pass.good || v->fd >= 0 || v->n > SV_KV_HOT_VALUE)
        return;
    item *i = item_new(name_of(text, account, ns, key), v);
    if (!i)
        return;
    pthread_mutex_lock(&h->lock);
    bool overtaken = h->slots[pass.slot].writing || h->slots[pass.slot].version != pass.version || h->all_writing;
    if (overtaken || sv_smap_get(h->by_name, (sv_str){i->name, i->n_name})) {
        pthread_mutex_unlock(&h->lock);
        free(i->bytes);
        free(i->metadata);
        free(i);
        return;
    }
    sv_smap_put(h->by_name, (sv_str){i->name, i->n_name}, i);
    push_front(h, i);
    h->bytes += i->room;
    while (h->bytes > h->max_bytes)
        drop(h, h->last);
    pthread_mutex_unlock(&h->lock);
}

/* Every key of the writes: `begin` or end. */
static void mark(sv_kv_hot *h, sv_kvs_write *const *v, size_t n, bool begin)
{
    char text[MAX_NAME];
    pthread_mutex_lock(&h->lock);
    for (size_t k = 0; k < n; k++)
        for (size_t j = 0; j < v[k]->n; j++) {
            const sv_kvs_change *c = &v[k]->v[j];
            if (c->op == SV_KVS_NS_DELETE) {
                h->all_writing += begin ? 1 : -1u;
                for (uint32_t s = 0; s < N_SLOTS; s++)
                    h->slots[s].version++;
                clear(h);
            } else if (c->op == SV_KVS_PUT || c->op == SV_KVS_DELETE) {
                sv_str name = name_of(text, v[k]->account, c->ns, c->key);
                uint32_t s = slot_of(name);
                item *i = name.n ? sv_smap_get(h->by_name, name) : NULL;
                h->slots[s].writing += begin ? 1 : -1u;
                h->slots[s].version++;
                if (i)
                    drop(h, i);
            }
        }
    pthread_mutex_unlock(&h->lock);
}

void sv_kv_hot_writing(sv_kv_hot *h, sv_kvs_write *const *v, size_t n) { mark(h, v, n, true); }
void sv_kv_hot_written(sv_kv_hot *h, sv_kvs_write *const *v, size_t n) { mark(h, v, n, false); }
