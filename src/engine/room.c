/* room.c - the memory for models */
#include "engine/room.h"

#include <stdio.h>
#include <unistd.h>

#include "base/mem.h"

enum { MAX_USERS = 8 };

struct sv_room {
    size_t max, used;
    sv_room_user users[MAX_USERS];
    int n_users;
};

size_t sv_memory_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    size_t bytes = pages > 0 && size > 0 ? (size_t)pages * (size_t)size : (size_t)1 << 30;
    FILE *f = fopen("/sys/fs/cgroup/memory.max", "re");
    unsigned long long max = 0;
    if (f && fscanf(f, "%llu", &max) == 1 && max > 0 && max < bytes) /* "max" is no number */
        bytes = (size_t)max;
    if (f)
        fclose(f);
    return bytes;
}

sv_room *sv_room_new(size_t max_bytes)
{
    sv_room *r = sv_xnew0(sv_room);
    r->max = max_bytes ? max_bytes : sv_memory_bytes() / 4 * 3;
    return r;
}

sv_room *sv_room_free(sv_room *r)
{
    SV_ASSERT(!r || r->n_users == 0);
    free(r);
    return NULL;
}

void sv_room_join(sv_room *r, const sv_room_user *user)
{
    SV_ASSERT(r->n_users < MAX_USERS);
    r->users[r->n_users++] = *user;
}

void sv_room_leave(sv_room *r, const void *arg)
{
    int at = 0;
    while (at < r->n_users && r->users[at].arg != arg)
        at++;
    SV_ASSERT(at < r->n_users);
    r->users[at] = r->users[--r->n_users];
}

static sv_room_user *with_oldest(sv_room *r)
{
    sv_room_user *found = NULL;
    int64_t oldest = INT64_MAX;
    for (int i = 0; i < r->n_users; i++) {
        int64_t ms = r->users[i].oldest(r->users[i].arg);
        if (ms < oldest) {
            oldest = ms;
            found = &r->users[i];
        }
    }
    return found;
}

sv_rc sv_room_take(sv_room *r, size_t n_bytes, sv_err *err)
{
    if (n_bytes > r->max)
        return sv_fail(err, SV_ELIMIT, "the model does not fit into memory: its files have %zu MiB, and the engine has %zu MiB for models", n_bytes >> 20,
                       r->max >> 20);
    while (n_bytes > r->max - r->used) {
        sv_room_user *u = with_oldest(r);
        if (!u)
            return sv_fail_api(err, SV_ELIMIT, 3040, "out of capacity: the models in use leave no room for another one");
        u->drop(u->arg);
    }
    r->used += n_bytes;
    return SV_OK;
}

void sv_room_give(sv_room *r, size_t n_bytes)
{
    SV_ASSERT(n_bytes <= r->used);
    r->used -= n_bytes;
}
