/* d1_usage.c - a ring of hours a database, in memory: figures for people, not for bills, so a restart may begin anew */
#include "d1/d1_usage.h"

#include <pthread.h>

#include "base/map.h"
#include "base/mem.h"

#define HOUR_MS ((int64_t)3600 * 1000)

typedef struct ring { sv_d1_hour hours[SV_D1_USAGE_HOURS]; } ring;

struct sv_d1_usage {
    pthread_mutex_t lock; /* over the map and its rings; nothing is taken while it is held */
    sv_smap *by_id;
};

sv_d1_usage *sv_d1_usage_new(void)
{
    sv_d1_usage *u = sv_xnew0(sv_d1_usage);
    pthread_mutex_init(&u->lock, NULL);
    u->by_id = sv_smap_new();
    return u;
}

sv_d1_usage *sv_d1_usage_free(sv_d1_usage *u)
{
    size_t i = 0;
    sv_str key;
    void *v;
    if (!u)
        return NULL;
    while (sv_smap_next(u->by_id, &i, &key, &v))
        free(v);
    sv_smap_free(u->by_id);
    pthread_mutex_destroy(&u->lock);
    free(u);
    return NULL;
}

void sv_d1_usage_add(sv_d1_usage *u, const char *id, const sv_d1_run *run, int64_t now_ms)
{
    int64_t hour = now_ms / HOUR_MS;
    pthread_mutex_lock(&u->lock);
    ring *r = sv_smap_get(u->by_id, sv_str_of(id));
    if (!r)
        sv_smap_put(u->by_id, sv_str_of(id), r = sv_xnew0(ring));
    sv_d1_hour *h = &r->hours[hour % SV_D1_USAGE_HOURS];
    if (h->hour != hour)
        *h = (sv_d1_hour){.hour = hour};
    *(run->wrote ? &h->write_queries : &h->read_queries) += run->n_statements;
    h->rows_read += run->rows_read;
    h->rows_written += run->rows_written;
    pthread_mutex_unlock(&u->lock);
}

int sv_d1_usage_get(sv_d1_usage *u, const char *id, int64_t now_ms, sv_d1_hour out[SV_D1_USAGE_HOURS])
{
    int64_t hour = now_ms / HOUR_MS;
    int n = 0;
    pthread_mutex_lock(&u->lock);
    const ring *r = sv_smap_get(u->by_id, sv_str_of(id));
    for (int64_t h = hour; r && h > hour - SV_D1_USAGE_HOURS; h--)
        if (r->hours[h % SV_D1_USAGE_HOURS].hour == h)
            out[n++] = r->hours[h % SV_D1_USAGE_HOURS];
    pthread_mutex_unlock(&u->lock);
    return n;
}

void sv_d1_usage_forget(sv_d1_usage *u, const char *id)
{
    pthread_mutex_lock(&u->lock);
    free(sv_smap_get(u->by_id, sv_str_of(id)));
    sv_smap_del(u->by_id, sv_str_of(id));
    pthread_mutex_unlock(&u->lock);
}
