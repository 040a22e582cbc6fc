/* d1_transfer_rest.c - import and export: asked for, asked after, and the files themselves
 *
 * Import: `init` gives an address, to which the client puts the file; `ingest` begins, `poll` asks after it. Export: the first request begins, and the
 * same with `current_bookmark` asks after it; the answer in the end has an address to get the file from. Those addresses lie outside /client/v4 and
 * carry no token: a signature over method, name and end of validity stands for it. What we call a bookmark there only names the transfer.
 *
 * Files lie in the temporary folder, which every start empties. They go with their hour, or when their database has MOST_FILES newer ones: a
 * client that uploads and does not ingest, or exports and does not fetch, fills no disk. An upload is written by the job pool, half a megabyte at a
 * time, and the socket waits meanwhile. Clients poll without a pause, so a poll is answered when something has happened, or after a second. */
#include <dirent.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "account/limits.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/time.h"
#include "d1/d1_http_impl.h"
#include "http/api.h"

#define BASE "/client/v4/accounts/:account/d1/database"
enum { VALID_MS = 3600000, POLL_MS = 1000, TICK_MS = 20, PIECE = 512 << 10, MOST_AT_WORK = 16, MOST_FILES = 8, ID_CHARS = 36, NAME_MOST = 160 };

/* ---- transfers ---- */

struct transfer {
    sv_d1_job job;
    sv_d1_http *h;
    sv_d1_info db;
    bool is_export, done;
    char token[64], file[NAME_MOST];
    json_t *options;  /* of an export */
    sv_err err;
    int64_t n_queries, done_ms;
    sv_buf meta;
    sv_d1_version version;
    transfer *next;
};

static void transfer_free(transfer *t)
{
    sv_buf_done(&t->meta);
    json_decref(t->options);
    free(t);
}

void sv_d1_transfers_free(sv_d1_http *h)
{
    for (transfer *t = h->transfers, *next; t; t = next) {
        next = t->next;
        transfer_free(t);
    }
}

static void file_path(const sv_d1_http *h, const char *name, char out[600]) { snprintf(out, 600, "%s/%s", sv_d1_temp_dir(h->d), name); }

/* With the lock. What ended an hour ago is forgotten. */
static void sweep(sv_d1_http *h)
{
    char path[600];
    for (transfer **p = &h->transfers; *p;) {
        transfer *t = *p;
        if (!t->done || sv_mono_ms() - t->done_ms < VALID_MS) {
            p = &t->next;
            continue;
        }
        *p = t->next;
        if (t->is_export) {
            file_path(h, t->file, path);
            unlink(path);
        }
        transfer_free(t);
    }
}

static transfer *find(sv_d1_http *h, const char *db, const char *token)
{
    for (transfer *t = h->transfers; t; t = t->next)
        if (strcmp(t->token, token) == 0 && strcmp(t->db.id, db) == 0)
            return t;
    return NULL;
}

static bool is_at_work(const sv_d1_http *h, const char *file)
{
    for (const transfer *t = h->transfers; t; t = t->next)
        if (!t->done && strcmp(t->file, file) == 0)
            return true;
    return false;
}

/* Before a file is added to those of a database: removes the oldest when there are MOST_FILES, and what is older than an hour of any. */
static void make_room(sv_d1_http *h, const char *db)
{
    char oldest[NAME_MOST] = "";
    int64_t oldest_ms = 0, now_ms = sv_now_ms();
    int n = 0;
    DIR *dir = opendir(sv_d1_temp_dir(h->d));
    pthread_mutex_lock(&h->lock);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        struct stat st;
        size_t len = strlen(e->d_name);
        bool whole = len > ID_CHARS + 4 && len < NAME_MOST && strcmp(e->d_name + len - 4, ".sql") == 0; /* others are being written */
        if (!whole || is_at_work(h, e->d_name) || fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        int64_t ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
        if (now_ms - ms > VALID_MS) {
            unlinkat(dirfd(dir), e->d_name, 0);
        } else if (strncmp(e->d_name, db, ID_CHARS) == 0 && (++n == 1 || ms < oldest_ms)) {
            snprintf(oldest, sizeof oldest, "%s", e->d_name);
            oldest_ms = ms;
        }
    }
    if (n >= MOST_FILES)
        unlinkat(dirfd(dir), oldest, 0);
    pthread_mutex_unlock(&h->lock);
    if (dir)
        closedir(dir);
}

static void do_import(transfer *t, sv_d1_conn *c, sv_err *err)
{
    char path[600];
    sv_d1_run run = {.limit_ms = sv_limit_value(SV_LIMIT_D1_IMPORT_MS), .cancel = &t->job.cancel};
    file_path(t->h, t->file, path);
    SV_AUTO(sv_fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        (void)!sv_fail_errno(err, "open the uploaded file");
    else if (sv_d1_conn_import(c, fd, &run, &t->meta, err) == SV_OK)
        t->version = sv_d1_conn_version(c);
    t->n_queries = run.n_statements;
    unlink(path);
}

static void do_export(transfer *t, sv_d1_conn *c, sv_err *err)
{
    char path[600];
    const json_t *tables = json_object_get(t->options, "tables");
    size_t n = json_array_size(tables);
    SV_AUTO(sv_freep) const char **names = sv_xcalloc(n + 1, sizeof *names);
    sv_d1_dump opts = {.tables = names, .n_tables = n};
    for (size_t i = 0; i < n; i++)
        names[i] = json_string_value(json_array_get(tables, i));
    opts.no_schema = json_is_true(json_object_get(t->options, "no_schema"));
    opts.no_data = json_is_true(json_object_get(t->options, "no_data"));
    file_path(t->h, t->file, path);
    SV_AUTO(sv_fd_closep) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        (void)!sv_fail_errno(err, "make the export");
    else if (sv_d1_conn_export(c, fd, &opts, &t->job.cancel, err) != SV_OK)
        unlink(path);
}

static void work(sv_d1_job *job, sv_d1_conn *c, const sv_err *why)
{
    transfer *t = (transfer *)job;
    sv_err err = why ? *why : (sv_err){0};
    if (c && t->is_export)
        do_export(t, c, &err);
    else if (c)
        do_import(t, c, &err);
    sv_log(SV_INFO, t->is_export ? "d1.export" : "d1.import", "id=%s ok=%d", t->db.id, err.code == SV_OK);
    pthread_mutex_lock(&t->h->lock);
    t->err = err;
    t->done = true;
    t->done_ms = sv_mono_ms();
    pthread_mutex_unlock(&t->h->lock);
}

static sv_rc begin(sv_d1_http *h, const sv_d1_info *db, bool is_export, const char *file, const json_t *options, char token[64], sv_err *err)
{
    transfer *t = sv_xnew0(transfer);
    t->job.run = work;
    t->job.patient = true;
    t->h = h;
    t->db = *db;
    t->is_export = is_export;
    t->options = options ? json_deep_copy(options) : NULL;
    snprintf(t->file, sizeof t->file, "%s", file);
    sv_buf_init(&t->meta, 4096);
    pthread_mutex_lock(&h->lock);
    sweep(h);
    int at_work = 0;
    for (const transfer *o = h->transfers; o; o = o->next)
        at_work += !o->done && strcmp(o->db.account_id, db->account_id) == 0;
    sv_d1_bookmark(t->token, db->id, (sv_d1_version){(uint32_t)++h->n_transfers, 0});
    snprintf(token, 64, "%s", t->token);
    if (at_work < MOST_AT_WORK) {
        t->next = h->transfers;
        h->transfers = t;
    }
    pthread_mutex_unlock(&h->lock);
    if (at_work >= MOST_AT_WORK) {
        transfer_free(t);
        return sv_fail_api(err, SV_ELIMIT, 7500, "%d imports and exports of the account are at work already", MOST_AT_WORK);
    }
    if (sv_d1_submit(h->d, db->account_id, db->id, &t->job, err) == SV_OK)
        return SV_OK;
    pthread_mutex_lock(&h->lock);
    t->done = true;
    t->err = *err;
    pthread_mutex_unlock(&h->lock);
    return err->code;
}

/* ---- addresses ---- */

static void sign(const sv_d1_http *h, const char *method, sv_str name, int64_t until_s, char out[65])
{
    SV_AUTO(sv_buf_donep) sv_buf b;
    uint8_t mac[32];
    sv_buf_init(&b, 4096);
    sv_buf_addf(&b, "%s %lld ", method, (long long)until_s);
    sv_buf_add(&b, name.p, name.n);
    sv_hmac_sha256(mac, h->key, sizeof h->key, b.p, b.n);
    sv_hex(out, mac, sizeof mac);
}

static char *address(const sv_d1_http *h, sv_req *r, const char *method, const char *name)
{
    char signature[65];
    int64_t until_s = (sv_now_ms() + VALID_MS) / 1000;
    sv_str host = sv_req_header(r, "host"), proto = sv_req_header(r, "x-forwarded-proto");
    sign(h, method, sv_str_of(name), until_s, signature);
    char *out = sv_arena_printf(sv_req_arena(r), "%s://%.*s/d1-files/%s?until=%lld&signature=%s", sv_str_is(proto, "https") ? "https" : "http",
                                (int)host.n, host.p, name, (long long)until_s, signature);
    return out ? out : (char *)"";
}

/* The name in the path, when the signature allows what is asked. */
static bool is_signed(const sv_d1_http *h, sv_req *r, const char *method, char name[NAME_MOST])
{
    char want[65];
    sv_str until, signature, raw = sv_req_param_raw(r, "name");
    int64_t until_s;
    if (!sv_req_query(r, "until", 0, &until) || !sv_req_query(r, "signature", 0, &signature) || !sv_str_to_i64(until, &until_s) ||
        raw.n >= NAME_MOST || raw.n == 0 || raw.p[0] == '.')
        return false;
    for (size_t i = 0; i < raw.n; i++)
        if (raw.p[i] == '/' || raw.p[i] == '%')
            return false;
    sign(h, method, raw, until_s, want);
    snprintf(name, NAME_MOST, "%.*s", (int)raw.n, raw.p);
    return signature.n == 64 && sv_equal_ct(signature.p, want, 64) && until_s * 1000 > sv_now_ms();
}

static void forbid(sv_req *r) { sv_req_send(r, 403, "text/plain; charset=utf-8", SV_STR("The address is not valid, or no longer.\n")); }

/* ---- asking after a transfer ---- */

typedef struct waiter {
    sv_d1_http *h;
    sv_req *r;
    sv_timer *timer;
    int64_t until_ms;
    char db[37], token[64];
} waiter;

static void waiter_free(waiter *w)
{
    sv_timer_free(w->timer);
    free(w);
}

static json_t *result_of(const transfer *t, sv_req *r)
{
    char bookmark[64];
    if (t->is_export)
        return json_pack("{s:s, s:s}", "filename", t->file, "signed_url", address(t->h, r, "GET", t->file));
    sv_err ignored = {0};
    json_t *meta = NULL;
    (void)!sv_json_parse(&meta, sv_buf_str(&t->meta), &ignored);
    sv_d1_bookmark(bookmark, t->db.id, t->version);
    return json_pack("{s:s, s:I, s:o*}", "final_bookmark", bookmark, "num_queries", (json_int_t)t->n_queries, "meta", meta);
}

/* With the lock. */
static json_t *report(const transfer *t, sv_req *r)
{
    bool failed = t->done && t->err.code != SV_OK;
    json_t *o = json_pack("{s:b, s:s, s:s, s:s, s:[]}", "success", 1, "type", t->is_export ? "export" : "import", "at_bookmark", t->token, "status",
                          failed ? "error" : t->done ? "complete" : "active", "messages");
    if (failed) {
        const char *told = sv_err_is_ours(&t->err) ? "internal error" : t->err.msg;
        json_object_set_new(o, "error", json_string(told));
        json_object_set_new(o, "errors", json_pack("[s]", told));
    } else if (t->done) {
        json_object_set_new(o, "result", result_of(t, r));
    }
    return o;
}

static void look(void *arg)
{
    waiter *w = arg;
    json_t *o = NULL;
    pthread_mutex_lock(&w->h->lock);
    const transfer *t = find(w->h, w->db, w->token);
    bool wait = t && !t->done && sv_mono_ms() < w->until_ms;
    if (t && !wait)
        o = report(t, w->r);
    pthread_mutex_unlock(&w->h->lock);
    if (wait) {
        sv_timer_set(w->timer, TICK_MS);
        return;
    }
    sv_req_on_close(w->r, NULL, NULL);
    if (o)
        sv_api_ok(w->r, o);
    else
        sv_api_error(w->r, 404, 7400, "There is no import or export of that bookmark; it may have been before a restart");
    waiter_free(w);
}

static void client_left(sv_req *r, void *arg)
{
    (void)r;
    waiter_free(arg);
}

static void wait_for(sv_d1_http *h, sv_req *r, const char *db, const char *token)
{
    waiter *w = sv_xnew0(waiter);
    w->h = h;
    w->r = r;
    w->until_ms = sv_mono_ms() + POLL_MS;
    snprintf(w->db, sizeof w->db, "%s", db);
    snprintf(w->token, sizeof w->token, "%s", token);
    w->timer = sv_timer_new(h->loop, look, w);
    sv_req_on_close(r, client_left, w);
    look(w);
}

/* ---- the two routes ---- */

static bool open_request(sv_d1_http *h, sv_req *r, sv_d1_info *db, json_t **body)
{
    const char *account;
    sv_err err = {0};
    sv_str id;
    sv_rc rc = sv_d1_account_of(r, &account, &err);
    if (rc == SV_OK)
        rc = sv_req_param(r, "id", &id, &err);
    if (rc == SV_OK)
        rc = sv_d1_find(h->d, account, id, db, &err);
    if (rc == SV_OK && (rc = sv_json_parse(body, sv_req_body(r), &err)) == SV_OK && !json_is_object(*body))
        rc = sv_fail(&err, SV_EINVAL, "the body is an object");
    if (rc == SV_OK)
        return true;
    err.api_code = err.api_code ? err.api_code : 7400;
    sv_d1_rest_fail(r, &err);
    return false;
}

static bool is_md5(const char *s)
{
    return s && strlen(s) == 32 && strspn(s, "0123456789abcdef") == 32;
}

static void import_init(sv_d1_http *h, sv_req *r, const char *file)
{
    sv_api_ok(r, json_pack("{s:b, s:s, s:s}", "success", 1, "filename", file, "upload_url", address(h, r, "PUT", file)));
}

static void import_ingest(sv_d1_http *h, sv_req *r, const sv_d1_info *db, const char *file, const char *given)
{
    char path[600], token[64];
    sv_err err = {0};
    file_path(h, file, path);
    if (!given || strcmp(given, file) != 0 || !sv_file_exists(path))
        sv_api_error(r, 400, 7400, "'filename': no file of that name was uploaded for this database with that etag");
    else if (begin(h, db, false, file, NULL, token, &err) != SV_OK)
        sv_d1_rest_fail(r, &err);
    else
        wait_for(h, r, db->id, token);
}

static void post_import(sv_req *r, void *ctx)
{
    char file[NAME_MOST];
    sv_d1_info db;
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    if (!open_request(ctx, r, &db, &body))
        return;
    const char *action = sv_json_cstr(body, "action"), *etag = sv_json_cstr(body, "etag"), *at = sv_json_cstr(body, "current_bookmark");
    bool is_init = action && strcmp(action, "init") == 0, is_ingest = action && strcmp(action, "ingest") == 0;
    if ((is_init || is_ingest) && !is_md5(etag)) {
        sv_api_error(r, 400, 7400, "'etag' is the MD5 of the file, 32 hexadecimal digits");
        return;
    }
    snprintf(file, sizeof file, "%s.%s.sql", db.id, etag ? etag : "");
    if (is_init)
        import_init(ctx, r, file);
    else if (is_ingest)
        import_ingest(ctx, r, &db, file, sv_json_cstr(body, "filename"));
    else if (action && strcmp(action, "poll") == 0 && at)
        wait_for(ctx, r, db.id, at);
    else
        sv_api_error(r, 400, 7400, "'action' is \"init\", \"ingest\", or \"poll\" with 'current_bookmark'");
}

static sv_rc check_options(const json_t *o, sv_err *err)
{
    bool flag;
    size_t i;
    json_t *t;
    const json_t *tables = json_object_get(o, "tables");
    if (sv_json_bool(o, "no_schema", &flag, err) != SV_OK || sv_json_bool(o, "no_data", &flag, err) != SV_OK)
        return err->code;
    if (tables && !json_is_null(tables) && !json_is_array(tables))
        return sv_fail_api(err, SV_EINVAL, 7400, "'tables' is an array of names");
    json_array_foreach (tables, i, t)
        if (!json_is_string(t))
            return sv_fail_api(err, SV_EINVAL, 7400, "'tables' is an array of names");
    return SV_OK;
}

static void post_export(sv_req *r, void *ctx)
{
    char file[NAME_MOST], random[17], token[64];
    sv_d1_info db;
    sv_err err = {0};
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    if (!open_request(ctx, r, &db, &body))
        return;
    const char *format = sv_json_cstr(body, "output_format"), *at = sv_json_cstr(body, "current_bookmark");
    const json_t *options = json_object_get(body, "dump_options");
    if (!format || strcmp(format, "polling") != 0) {
        sv_api_error(r, 400, 7400, "'output_format' is \"polling\"");
        return;
    }
    if (at) {
        wait_for(ctx, r, db.id, at);
        return;
    }
    make_room(ctx, db.id);
    sv_random_hex(random, 8);
    snprintf(file, sizeof file, "%s.%s.export.sql", db.id, random);
    if ((options && check_options(options, &err) != SV_OK) || begin(ctx, &db, true, file, options, token, &err) != SV_OK)
        sv_d1_rest_fail(r, &err);
    else
        wait_for(ctx, r, db.id, token);
}

/* ---- the files ---- */

static void get_file(sv_req *r, void *ctx)
{
    char name[NAME_MOST], path[600];
    struct stat st;
    if (!is_signed(ctx, r, "GET", name)) {
        forbid(r);
        return;
    }
    file_path(ctx, name, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st) < 0) {
        sv_fd_closep(&fd);
        sv_req_send(r, 404, "text/plain; charset=utf-8", SV_STR("The file is not there any more.\n"));
        return;
    }
    sv_d1_send_file(r, fd, st.st_size, "application/sql");
}

typedef struct upload {
    sv_d1_http *h;
    sv_req *r;         /* NULL: the client has gone. The loop's */
    int fd;
    EVP_MD_CTX *md5;
    sv_buf in, out;    /* what came since; what the pool writes */
    bool writing, ended;
    char path[600], beside[640], want[33];
    sv_err err;
} upload;

static void upload_free(upload *u)
{
    sv_fd_closep(&u->fd);
    EVP_MD_CTX_free(u->md5);
    sv_buf_done(&u->in);
    sv_buf_done(&u->out);
    unlink(u->beside);
    free(u);
}

static void upload_fail(upload *u, int status, const char *why)
{
    sv_req *r = u->r;
    sv_req_on_close(r, NULL, NULL);
    sv_req_on_body(r, NULL, NULL);
    upload_free(u);
    sv_req_send(r, status, "text/plain; charset=utf-8", sv_str_of(why));
}

static void upload_finish(upload *u)
{
    uint8_t md[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    char hex[33], etag[40];
    EVP_DigestFinal_ex(u->md5, md, &n);
    sv_hex(hex, md, 16);
    if (strcmp(hex, u->want) != 0) {
        upload_fail(u, 400, "The MD5 of what arrived is not the etag that was announced.\n");
        return;
    }
    if (rename(u->beside, u->path) < 0) {
        upload_fail(u, 500, "internal error\n");
        return;
    }
    sv_req *r = u->r;
    sv_req_on_close(r, NULL, NULL);
    upload_free(u);
    snprintf(etag, sizeof etag, "\"%s\"", hex);
    sv_req_add_header(r, "ETag", etag);
    sv_req_send(r, 200, "text/plain; charset=utf-8", SV_STR(""));
}

static void upload_written(void *arg);

static void upload_write(void *arg)
{
    upload *u = arg;
    EVP_DigestUpdate(u->md5, u->out.p, u->out.n);
    if (u->err.code == SV_OK && sv_write_all(u->fd, u->out.p, u->out.n, &u->err) != SV_OK)
        sv_log(SV_ERROR, "d1.upload", "error='%s'", u->err.msg);
    sv_buf_reset(&u->out);
    sv_loop_post(u->h->loop, upload_written, u);
}

static void upload_step(upload *u)
{
    if (u->writing || (u->in.n < PIECE && !u->ended))
        return;
    if (u->in.n == 0) {
        upload_finish(u);
        return;
    }
    sv_buf swap = u->in;
    u->in = u->out;
    u->out = swap;
    u->writing = true;
    if (!u->ended)
        sv_req_pause_body(u->r, true);
    if (!sv_jobs_post(u->h->jobs, upload_write, u)) {
        u->writing = false;
        upload_fail(u, 503, "Busy: try again.\n");
    }
}

static void upload_written(void *arg)
{
    upload *u = arg;
    u->writing = false;
    if (!u->r)
        upload_free(u);
    else if (u->err.code != SV_OK)
        upload_fail(u, u->err.code == SV_ELIMIT ? 507 : 500, "The file could not be stored.\n");
    else {
        if (!u->ended)
            sv_req_pause_body(u->r, false);
        upload_step(u);
    }
}

static void upload_left(sv_req *r, void *arg)
{
    upload *u = arg;
    (void)r;
    u->r = NULL;
    if (!u->writing)
        upload_free(u);
}

static void upload_piece(sv_req *r, const char *p, size_t n, void *arg)
{
    upload *u = arg;
    (void)r;
    if (n == 0)
        u->ended = true;
    else if (!sv_buf_add(&u->in, p, n))
        (void)!sv_fail(&u->err, SV_ENOMEM, "no memory for an upload");
    upload_step(u);
}

static void put_file(sv_req *r, void *ctx)
{
    char name[NAME_MOST], random[17];
    sv_d1_http *h = ctx;
    if (!is_signed(h, r, "PUT", name) || strlen(name) != ID_CHARS + 1 + 32 + 4) {
        forbid(r);
        return;
    }
    make_room(h, name);
    upload *u = sv_xnew0(upload);
    u->h = h;
    u->r = r;
    sv_buf_init(&u->in, 8 << 20);
    sv_buf_init(&u->out, 8 << 20);
    sv_random_hex(random, 8);
    file_path(h, name, u->path);
    snprintf(u->want, sizeof u->want, "%.32s", name + ID_CHARS + 1);
    snprintf(u->beside, sizeof u->beside, "%s.%s", u->path, random);
    u->fd = open(u->beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    u->md5 = EVP_MD_CTX_new();
    if (u->fd < 0 || !u->md5 || EVP_DigestInit_ex(u->md5, EVP_md5(), NULL) != 1) {
        upload_fail(u, 500, "internal error\n");
        return;
    }
    sv_req_on_close(r, upload_left, u);
    sv_req_on_body(r, upload_piece, u);
}

void sv_d1_transfer_routes(sv_http *api, sv_d1_http *h)
{
    size_t body = (size_t)sv_limit_value(SV_LIMIT_API_BODY_BYTES);
    const sv_route routes[] = {
        {.method = "POST", .path = BASE "/:id/import", .fn = post_import, .max_body = body},
        {.method = "POST", .path = BASE "/:id/export", .fn = post_export, .max_body = body},
        {.method = "GET", .path = "/d1-files/:name", .fn = get_file},
        {.method = "PUT", .path = "/d1-files/:name", .fn = put_file, .max_body = (size_t)sv_limit_value(SV_LIMIT_D1_IMPORT_BYTES), .flags = SV_ROUTE_STREAM},
    };
    for (size_t i = 0; i < SV_LEN(routes); i++)
        sv_http_route(api, &routes[i], h);
}
