/* checkpoint.c - what was derived from the log, in a file, so that the next open need not derive it again
 *
 * Arrays by slot as they lie in memory, each with a hash, behind a head that names the log (its identity) and how far it is covered.
 * The file is written beside and renamed, so there is the old one or the new one. Everything in it is checked when it is read, and
 * whatever is wrong with it (a hash, a size, another log, a log that is shorter than what is covered, a slot that points nowhere)
 * has one consequence: it is thrown away and the log is read from its start.
 *
 *     head    "SVVECCP2", then struct head, then its hash
 *     parts   u64 bytes, u64 hash, the bytes: mean; fields; namespaces; at, died, ns, hash, inverse, codes, words, bit_scale,
 *             bit_bias; links if there is a graph
 *
 * died is written as 0 or NONE, and becomes mutation 1: who died before the checkpoint is dead for every later view. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "vec/vec_impl.h"

static const char magic[8] = "SVVECCP2";
enum { N_COLUMNS = 10 }; /* of state.c's arrays, without links; prev is not kept */

typedef struct head {
    uint64_t identity, covered, garbage_bytes, n_live;
    uint32_t n, n_graph, dimensions, metric;
    uint32_t trained_n, bits_effort, graph_effort, calibrated_n;
    float norm2_max, bits_us, graph_us;
    uint32_t n_fields, n_namespaces, calibrated_graph;
    int64_t last_ms;
    char last_mutation[SV_VEC_MAX_MUTATION + 8];
} head;

typedef struct column_part {
    void *p;
    size_t bytes;
} column_part;

/* The arrays that are kept as they are; blocks of sign bits are whole. */
static size_t columns(const sv_vec_state *s, uint32_t n, uint32_t n_graph, column_part out[N_COLUMNS])
{
    size_t m = n, blocks = (m + SV_VEC_BLOCK - 1) / SV_VEC_BLOCK * SV_VEC_BLOCK;
    const column_part parts[] = {
        {s->at, m * sizeof *s->at},
        {(void *)s->died, m * sizeof(uint32_t)},
        {s->ns, m * sizeof *s->ns},
        {s->hash, m * sizeof *s->hash},
        {s->inverse, m * sizeof *s->inverse},
        {s->codes, m * s->coder.stride},
        {s->words, blocks * (size_t)s->coder.n_words * 8},
        {s->bit_scale, blocks * sizeof(float)},
        {s->bit_bias, blocks * sizeof(float)},
        {(void *)s->links, (size_t)n_graph * SV_VEC_LINKS * 4},
    };
    memcpy(out, parts, sizeof parts);
    return n_graph ? N_COLUMNS : N_COLUMNS - 1;
}

/* --- writing -------------------------------------------------------------------------------------------------------- */

static sv_rc write_part(int fd, const void *p, size_t n, sv_err *err)
{
    uint64_t front[2] = {n, sv_hash64(p, n, n)};
    return sv_write_all(fd, front, sizeof front, err) != SV_OK ? err->code : sv_write_all(fd, p, n, err);
}

static sv_rc write_died(int fd, const sv_vec_state *s, sv_err *err)
{
    SV_AUTO(sv_freep) uint32_t *died = sv_try_calloc((size_t)s->n + 1, sizeof *died);
    if (!died)
        return sv_fail(err, SV_ENOMEM, "no memory for a checkpoint");
    for (uint32_t i = 0; i < s->n; i++)
        died[i] = s->died[i] == SV_VEC_NONE ? SV_VEC_NONE : 0;
    return write_part(fd, died, (size_t)s->n * sizeof *died, err);
}

static sv_rc write_names(int fd, const sv_vec_state *s, sv_err *err)
{
    const sv_vec_fields *f = atomic_load(&s->fields);
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, (size_t)1 << 30);
    if (write_part(fd, f->field, f->n * sizeof f->field[0], err) != SV_OK)
        return err->code;
    for (uint32_t i = 1; i < s->n_namespaces; i++) {
        const sv_vec_namespace *ns = atomic_load(&s->namespaces[i]);
        sv_buf_addc(&b, (char)ns->n);
        sv_buf_add(&b, ns->name, ns->n);
    }
    return b.failed ? sv_fail(err, SV_ENOMEM, "no memory for a checkpoint") : write_part(fd, b.p ? b.p : "", b.n, err);
}

static sv_rc write_all(int fd, const sv_vec_state *s, uint64_t covered, sv_err *err)
{
    column_part part[N_COLUMNS];
    head h = {.identity = sv_vec_log_identity(s->log), .covered = covered, .garbage_bytes = s->garbage_bytes, .n_live = s->n_live, .n = s->n,
              .n_graph = s->n_graph, .dimensions = (uint32_t)s->config.dimensions, .metric = (uint32_t)s->config.metric, .trained_n = s->trained_n,
              .bits_effort = s->bits_effort, .graph_effort = s->graph_effort, .calibrated_n = s->calibrated_n, .norm2_max = s->coder.norm2_max,
              .bits_us = s->bits_us, .graph_us = s->graph_us, .n_fields = (uint32_t)atomic_load(&s->fields)->n, .n_namespaces = s->n_namespaces,
              .calibrated_graph = s->calibrated_graph, .last_ms = s->last_ms};
    memcpy(h.last_mutation, s->last_mutation, sizeof s->last_mutation);
    if (sv_write_all(fd, magic, sizeof magic, err) != SV_OK || write_part(fd, &h, sizeof h, err) != SV_OK)
        return err->code;
    if (write_part(fd, s->coder.mean, (size_t)s->config.dimensions * sizeof(float), err) != SV_OK || write_names(fd, s, err) != SV_OK)
        return err->code;
    size_t n = columns(s, s->n, s->n_graph, part);
    for (size_t i = 0; i < n; i++)
        if ((i == 1 ? write_died(fd, s, err) : write_part(fd, part[i].p, part[i].bytes, err)) != SV_OK)
            return err->code;
    return fdatasync(fd) < 0 ? sv_fail_errno(err, "sync a checkpoint") : SV_OK;
}

sv_rc sv_vec_checkpoint_save(const sv_vec_state *s, uint64_t covered, const char *path, sv_err *err)
{
    SV_AUTO(sv_freep) char *beside = sv_xasprintf("%s.new", path);
    SV_AUTO(sv_fd_closep) int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return sv_fail_errno(err, "create '%s'", beside);
    if (write_all(fd, s, covered, err) != SV_OK) {
        unlink(beside);
        return err->code;
    }
    if (rename(beside, path) < 0)
        return sv_fail_errno(err, "rename '%s'", beside);
    return SV_OK; /* if the rename is lost in a power cut, the log is read from an earlier place, that is all */
}

/* --- reading -------------------------------------------------------------------------------------------------------- */

static sv_rc read_exactly(int fd, void *p, size_t n, sv_err *err)
{
    for (char *at = p; n > 0;) {
        ssize_t k = read(fd, at, n);
        if (k < 0)
            return sv_fail_errno(err, "read a checkpoint");
        if (k == 0)
            return sv_fail(err, SV_EFORMAT, "it ends early");
        at += k;
        n -= (size_t)k;
    }
    return SV_OK;
}

static sv_rc read_part(int fd, void *p, size_t n, sv_err *err)
{
    uint64_t front[2];
    if (read_exactly(fd, front, sizeof front, err) != SV_OK)
        return err->code;
    if (front[0] != n)
        return sv_fail(err, SV_EFORMAT, "a part has %llu bytes instead of %zu", (unsigned long long)front[0], n);
    if (read_exactly(fd, p, n, err) != SV_OK)
        return err->code;
    return front[1] == sv_hash64(p, n, n) ? SV_OK : sv_fail(err, SV_EFORMAT, "a part of %zu bytes is damaged", n);
}

static sv_rc check_head(const head *h, const sv_vec_state *s, sv_err *err)
{
    if (h->identity != sv_vec_log_identity(s->log))
        return sv_fail(err, SV_EFORMAT, "it belongs to another log");
    if (h->dimensions != (uint32_t)s->config.dimensions || h->metric != (uint32_t)s->config.metric)
        return sv_fail(err, SV_EFORMAT, "it has another shape");
    if (h->covered > sv_vec_log_end(s->log))
        return sv_fail(err, SV_EFORMAT, "it covers %llu bytes of a log of %llu", (unsigned long long)h->covered, (unsigned long long)sv_vec_log_end(s->log));
    if (h->n > s->cap || h->n_graph > h->n || h->n_live > h->n || h->n_fields > SV_VEC_MAX_FIELDS || h->n_namespaces < 1)
        return sv_fail(err, SV_EFORMAT, "its counts make no sense");
    return SV_OK;
}

static sv_rc read_names(int fd, sv_vec_state *s, const head *h, sv_err *err)
{
    sv_vec_fields *f = atomic_load(&s->fields);
    uint64_t front[2], at = 0;
    sv_str name;
    if (read_part(fd, f->field, h->n_fields * sizeof f->field[0], err) != SV_OK)
        return err->code;
    f->n = h->n_fields;
    if (read_exactly(fd, front, sizeof front, err) != SV_OK)
        return err->code;
    if (front[0] > (uint64_t)h->n_namespaces * (SV_VEC_MAX_NAMESPACE + 1))
        return sv_fail(err, SV_EFORMAT, "its namespaces are too long");
    SV_AUTO(sv_freep) char *text = sv_try_calloc(front[0] + 1, 1);
    if (!text)
        return sv_fail(err, SV_ENOMEM, "no memory for a checkpoint");
    if (read_exactly(fd, text, front[0], err) != SV_OK)
        return err->code;
    if (front[1] != sv_hash64(text, front[0], front[0]))
        return sv_fail(err, SV_EFORMAT, "its namespaces are damaged");
    while (sv_vec_log_id((sv_str){text, front[0]}, &at, &name))
        if (sv_vec_state_add_namespace(s, name) == SV_VEC_NONE)
            return sv_fail(err, SV_ENOMEM, "no memory for namespaces");
    return s->n_namespaces == h->n_namespaces ? SV_OK : sv_fail(err, SV_EFORMAT, "it lacks namespaces");
}

/* A hash says that bytes are what was written, this that what was written makes sense: nothing below is checked later. */
static sv_rc adopt(sv_vec_state *s, const head *h, sv_err *err)
{
    uint64_t least = 16 + (uint64_t)h->dimensions * 4 + 8;
    for (uint32_t i = 0; i < h->n; i++) {
        if (s->at[i] % 8 != 0 || s->at[i] < SV_VEC_LOG_HEAD || s->at[i] > h->covered || h->covered - s->at[i] < least || s->ns[i] >= h->n_namespaces)
            return sv_fail(err, SV_EFORMAT, "slot %u points nowhere", i);
        s->prev[i] = SV_VEC_NONE;
        if (s->died[i] != SV_VEC_NONE) {
            s->died[i] = 1;
            continue;
        }
        s->n_live++;
        atomic_fetch_add(&atomic_load(&s->namespaces[s->ns[i]])->n_live, 1);
        sv_vec_state_link_id(s, i); /* dead ids need no entry: nobody has an older view */
    }
    for (size_t i = 0; i < (size_t)h->n_graph * SV_VEC_LINKS; i++)
        if (s->links[i] != SV_VEC_NONE && s->links[i] >= h->n)
            return sv_fail(err, SV_EFORMAT, "a link of the graph points nowhere");
    return s->n_live == h->n_live ? SV_OK : sv_fail(err, SV_EFORMAT, "%llu vectors live, its head says %llu", (unsigned long long)s->n_live,
                                                    (unsigned long long)h->n_live);
}

sv_rc sv_vec_checkpoint_load(sv_vec_state *s, const char *path, uint64_t *covered, sv_err *err)
{
    char start[sizeof magic];
    column_part part[N_COLUMNS];
    head h;
    SV_AUTO(sv_fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return sv_fail_errno(err, "open '%s'", path);
    if (read_exactly(fd, start, sizeof start, err) != SV_OK)
        return err->code;
    if (memcmp(start, magic, sizeof magic) != 0)
        return sv_fail(err, SV_EFORMAT, "it is no checkpoint of this version");
    if (read_part(fd, &h, sizeof h, err) != SV_OK || check_head(&h, s, err) != SV_OK)
        return err->code;
    size_t budget = s->config.memory_bytes;
    s->config.memory_bytes = 0;
    sv_rc rc = sv_vec_state_make_room(s, h.n, err);
    s->config.memory_bytes = budget;
    if (rc != SV_OK || read_part(fd, s->coder.mean, (size_t)h.dimensions * sizeof(float), err) != SV_OK || read_names(fd, s, &h, err) != SV_OK)
        return err->code;
    sv_vec_coder_set_mean(&s->coder, s->coder.mean, h.norm2_max);
    size_t n = columns(s, h.n, h.n_graph, part);
    for (size_t i = 0; i < n; i++)
        if (read_part(fd, part[i].p, part[i].bytes, err) != SV_OK)
            return err->code;
    s->seq = 1;
    if (adopt(s, &h, err) != SV_OK)
        return err->code;
    s->n = h.n;
    s->garbage_bytes = h.garbage_bytes;
    s->n_graph = h.n_graph;
    s->trained = true;
    s->trained_n = h.trained_n;
    s->bits_effort = h.bits_effort;
    s->graph_effort = h.graph_effort;
    s->bits_us = h.bits_us;
    s->graph_us = h.graph_us;
    s->calibrated_n = h.calibrated_n;
    s->calibrated_graph = h.calibrated_graph;
    s->checkpoint_end = *covered = h.covered;
    s->checkpoint_graph = h.n_graph;
    s->last_ms = h.last_ms;
    memcpy(s->last_mutation, h.last_mutation, sizeof s->last_mutation);
    s->last_mutation[SV_VEC_MAX_MUTATION] = 0;
    sv_vec_state_publish(s, sv_vec_applied(s));
    return SV_OK;
}
