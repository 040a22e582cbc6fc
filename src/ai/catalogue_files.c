/* catalogue_files.c - how weights come and go: import, pull, remove, verify
 *
 * An import is a file first and a row second: inspect the source, copy it to DATA/models/.in-<random> while hashing, sync, rename to
 * <first 16 digits of its hash>-<name>.gguf, sync the folder, then commit the row. A power cut at any point leaves either no model or a
 * whole one; what lies around without a row (.in-*, or a renamed file) is swept by the next import. Two imports at once are
 * serialised by a lock file, so that the sweep of one never takes the other's half-written copy.
 *
 * A model of several files (a GGUF in parts, a Hugging Face folder) is a folder there, with those files that belong to it and no
 * others; its hash is that of the list of theirs, one "<hash>  <name>" a line, as sha256sum writes.
 *
 * We copy rather than refer to the user's file, because a model that vanishes with somebody's download folder is no
 * model; on file systems that share blocks (FICLONE) the copy costs nothing, and `link` asks for a hard link. The hash is of the
 * bytes as they lie in our folder, read back after a clone or link: it is what `verify` compares.
 *
 * Invariants:
 *   1. A row's file is complete and synced before the row is committed, and removed after the row.
 *   2. File names in the database have no slash: they stay in DATA/models/. */
#include <curl/curl.h>
#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "account/limits.h"
#include "ai/catalogue_impl.h"
#include "ai/task.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/time.h"

enum { COPY_BYTES = 4 << 20 };

/* ---- copying and hashing ---- */

typedef struct tell { const sv_import_opts *o; const char *what; int64_t total; } tell;

static void tell_progress(const tell *t, int64_t done)
{
    if (t->o->progress)
        t->o->progress(t->what, done, t->total, t->o->arg);
}

static void md_freep(EVP_MD_CTX **c) { EVP_MD_CTX_free(*c); }

/* Reads `from` to its end, hashes, and writes what it read to `to` (or nowhere: -1). */
static sv_rc copy_hashed(int from, int to, char hex[65], const tell *t, sv_err *err)
{
    SV_AUTO(md_freep) EVP_MD_CTX *md = EVP_MD_CTX_new();
    SV_AUTO(sv_freep) char *buf = sv_try_calloc(1, COPY_BYTES);
    if (!md || !buf || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1)
        return sv_fail(err, SV_ENOMEM, "no memory to hash a file");
    int64_t done = 0;
    for (;;) {
        ssize_t n = read(from, buf, COPY_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return sv_fail_errno(err, "read at byte %lld", (long long)done);
        if (n == 0)
            break;
        EVP_DigestUpdate(md, buf, (size_t)n);
        if (to >= 0 && sv_write_all(to, buf, (size_t)n, err) != SV_OK)
            return err->code;
        done += n;
        tell_progress(t, done);
    }
    uint8_t digest[32];
    unsigned len = 0;
    EVP_DigestFinal_ex(md, digest, &len);
    sv_hex(hex, digest, sizeof digest);
    return SV_OK;
}

static sv_rc hash_file(const char *path, char hex[65], const tell *t, sv_err *err)
{
    SV_AUTO(sv_fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return sv_fail_errno(err, "open '%s'", path);
    return copy_hashed(fd, -1, hex, t, err) == SV_OK ? SV_OK : sv_wrap(err, "'%s'", path);
}

/* The bytes of `path` at `to`, synced, and their hash. */
static sv_rc bring_in(const sv_import_opts *o, const char *path, const char *to, int64_t size, char hex[65], sv_err *err)
{
    tell copying = {o, "copying", size}, hashing = {o, "hashing", size};
    if (o->link) {
        if (linkat(AT_FDCWD, path, AT_FDCWD, to, AT_SYMLINK_FOLLOW) != 0) /* downloads are often links into a store */
            return sv_fail_errno(err, "link '%s' into the data directory (without --link it is copied)", path);
        return hash_file(to, hex, &hashing, err);
    }
    SV_AUTO(sv_fd_closep) int in = open(path, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return sv_fail_errno(err, "open '%s'", path);
    SV_AUTO(sv_fd_closep) int dst = open(to, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (dst < 0)
        return sv_fail_errno(err, "make '%s'", to);
    bool cloned = ioctl(dst, FICLONE, in) == 0;
    sv_rc rc = cloned ? copy_hashed(dst, -1, hex, &hashing, err) : copy_hashed(in, dst, hex, &copying, err);
    if (rc != SV_OK)
        return sv_wrap(err, "copy '%s'", path);
    if (fsync(dst) != 0)
        return sv_fail_errno(err, "sync '%s'", to);
    return SV_OK;
}

/* ---- models of several files ---- */

static bool is_single(const sv_model_files *f)
{
    return f->is_gguf && f->n == 1;
}

static int64_t size_of(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (int64_t)st.st_size : 0;
}

/* Calls `one` for each file with its path, and hashes the list of the hashes it gives. */
typedef sv_rc (*hash_one)(const sv_import_opts *o, const char *path, const char *name, const char *to, char hex[65], sv_err *err);
static sv_rc hash_all(const sv_model_files *f, const sv_import_opts *o, hash_one one, const char *to, char hex[65], sv_err *err)
{
    SV_AUTO(sv_buf_donep) sv_buf list;
    uint8_t digest[32];
    sv_buf_init(&list, 0);
    for (size_t i = 0; i < f->n; i++) {
        SV_AUTO(sv_freep) char *path = sv_model_files_path(f, i);
        if (one(o, path, f->names[i], to, hex, err) != SV_OK)
            return err->code;
        sv_buf_addf(&list, "%s  %s\n", hex, f->names[i]);
    }
    sv_sha256(digest, list.p, list.n);
    sv_hex(hex, digest, sizeof digest);
    return SV_OK;
}

static sv_rc bring_one(const sv_import_opts *o, const char *path, const char *name, const char *to, char hex[65], sv_err *err)
{
    SV_AUTO(sv_freep) char *in = sv_xasprintf("%s/%s", to, name);
    return bring_in(o, path, in, size_of(path), hex, err);
}

static sv_rc hash_in_place(const sv_import_opts *o, const char *path, const char *name, const char *to, char hex[65], sv_err *err)
{
    (void)name, (void)to;
    return hash_file(path, hex, &(tell){o, "hashing", size_of(path)}, err);
}

/* All files of a model at `to`, which is a file or becomes a folder; synced. */
static sv_rc bring_model(const sv_import_opts *o, const sv_model_files *f, const char *to, char hex[65], sv_err *err)
{
    if (is_single(f)) {
        SV_AUTO(sv_freep) char *path = sv_model_files_path(f, 0);
        return bring_in(o, path, to, (int64_t)f->n_bytes, hex, err);
    }
    if (mkdir(to, 0700) != 0)
        return sv_fail_errno(err, "make '%s'", to);
    return hash_all(f, o, bring_one, to, hex, err) == SV_OK ? sv_sync(to, err) : err->code;
}

/* The hash of a model that lies here. */
static sv_rc hash_model(const char *path, char hex[65], sv_err *err)
{
    static const sv_import_opts quiet;
    sv_model_files f = {0};
    if (sv_model_files_find(&f, path, err) != SV_OK)
        return err->code;
    sv_rc rc = is_single(&f) ? hash_file(path, hex, &(tell){&quiet, "hashing", 0}, err) : hash_all(&f, &quiet, hash_in_place, NULL, hex, err);
    sv_model_files_done(&f);
    return rc;
}

/* ---- the folder ---- */

/* Held until the fd is closed: one process changes the folder at a time. */
static sv_rc lock_store(const sv_catalogue *c, int *fd, sv_err *err)
{
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/.lock", c->store_dir);
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*fd < 0 || flock(*fd, LOCK_EX) != 0)
        return sv_fail_errno(err, "lock '%s'", path);
    return SV_OK;
}

static void drop(const char *folder, const char *name)
{
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/%s", folder, name);
    sv_err err = {0};
    if (sv_remove_tree(path, &err) != SV_OK)
        sv_log(SV_WARN, "models.sweep", "path='%s' error='%s'", path, err.msg);
}

/* Files that no row names: remains of an import that was cut off. Under the lock. */
static void sweep(sv_catalogue *c)
{
    sv_err err = {0};
    if (sv_catalogue_refresh(c, true, &err) != SV_OK)
        return;
    DIR *d = opendir(c->store_dir);
    if (!d)
        return;
    sv_model_list all = sv_catalogue_list(c);
    for (struct dirent *e; (e = readdir(d));) {
        bool used = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || strcmp(e->d_name, ".lock") == 0;
        for (size_t i = 0; i < all.n && !used; i++) {
            const char *file = all.models[i]->path && all.models[i]->origin == SV_MODEL_IMPORTED ? strrchr(all.models[i]->path, '/') + 1 : "";
            used = strcmp(file, e->d_name) == 0;
        }
        if (!used)
            drop(c->store_dir, e->d_name);
    }
    sv_model_list_done(&all);
    closedir(d);
}

static void removep(char **path)
{
    sv_err none = {0};
    if (*path)
        (void)!sv_remove_tree(*path, &none); /* what stays is swept by the next import */
    free(*path);
}

/* ---- rows ---- */

typedef struct row_arg { const char *id, *file, *sha256; const sv_model_facts *f; } row_arg;

static sv_rc put_row(sv_dbw *w, void *arg, sv_err *err)
{
    const row_arg *a = arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w,
                     "INSERT INTO models (id, file, sha256, size_bytes, arch, name, weights, n_params, n_ctx, n_vocab, has_template, created_ms,"
                     " kind, dim, cls_pooling) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)"
                     " ON CONFLICT (id) DO UPDATE SET file = ?2, created_ms = ?12 WHERE sha256 = ?3",
                     err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, a->id);
    sv_bind_cstr(&q, 2, a->file);
    sv_bind_cstr(&q, 3, a->sha256);
    sv_bind_i64(&q, 4, (int64_t)a->f->size_bytes);
    sv_bind_cstr(&q, 5, a->f->arch);
    sv_bind_cstr(&q, 6, a->f->name);
    sv_bind_cstr(&q, 7, a->f->weights);
    sv_bind_i64(&q, 8, a->f->n_params);
    sv_bind_i64(&q, 9, a->f->n_ctx);
    sv_bind_i64(&q, 10, a->f->n_vocab);
    sv_bind_i64(&q, 11, a->f->has_template);
    sv_bind_i64(&q, 12, sv_now_ms());
    sv_bind_cstr(&q, 13, sv_model_kind_name(a->f->kind));
    sv_bind_i64(&q, 14, a->f->dim);
    sv_bind_i64(&q, 15, a->f->last_pooling ? 2 : a->f->cls_pooling);
    if (sv_stmt_run(&q, err) != SV_OK)
        return err->code;
    if (sv_db_changes(w) == 0)
        return sv_fail(err, SV_ECONFLICT, "%s is another file already: remove it first (selvedge models remove %s)", a->id, a->id);
    return SV_OK;
}

static sv_rc drop_row(sv_dbw *w, void *arg, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "DELETE FROM models WHERE id = ?1", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, arg);
    return sv_stmt_run(&q, err);
}

/* ---- import ---- */

/* May this file stand under this id? */
static sv_rc check_id(sv_catalogue *c, const char *id, sv_err *err)
{
    if (!sv_model_id_valid(sv_str_of(id)))
        return sv_fail(err, SV_EINVAL, "'%s' is no model id: vendor/name or @cf/vendor/name, of letters, digits, '-', '_' and '.', at most %lld bytes",
                       id, (long long)sv_limit_value(SV_LIMIT_MODEL_NAME_BYTES));
    SV_AUTO(sv_model_unrefp) const sv_model *m = NULL;
    sv_err none = {0};
    if (sv_catalogue_find(c, sv_str_of(id), &m, &none) != SV_OK)
        return SV_OK;
    if (strcmp(m->id, id) != 0)
        return sv_fail(err, SV_ECONFLICT, "%s is another name of %s: import as that", id, m->id);
    if (m->origin == SV_MODEL_DEFAULT)
        return sv_fail(err, SV_ECONFLICT, "%s is a default model of this node: choose another id", id);
    if (!sv_task_of(m))
        return sv_fail(err, SV_EINVAL, "%s is a model for %s, which this release does not run", id, m->task);
    return SV_OK;
}

/* Can what was found at `path` do what is asked of this id? */
static sv_rc check_kind(sv_catalogue *c, const char *id, const char *path, const sv_model_facts *f, sv_err *err)
{
    SV_AUTO(sv_model_unrefp) const sv_model *m = NULL;
    const char *kind = sv_model_kind_name(f->kind);
    const sv_task *own = sv_task_of_kind(f->kind);
    sv_err none = {0};
    bool listed = sv_catalogue_find(c, sv_str_of(id), &m, &none) == SV_OK && m->listed;
    const sv_task *task = listed ? sv_task_of(m) : own;
    if (!task || !own)
        return sv_fail(err, SV_EINVAL, "'%s' is a %s (%s), for which this release has no task", path, kind, f->arch);
    if (!(task->kinds >> f->kind & 1))
        return sv_fail(err, SV_EINVAL, "'%s' is a %s (%s), for %s; %s is a model for %s", path, kind, f->arch, own->name, id, task->name);
    return SV_OK;
}

/* "<hash>-<last part of the id>", with ".gguf" where it is a file: readable, and two imports of different bytes never meet. */
static char *store_name(const char *id, const char *sha256, bool single)
{
    return sv_xasprintf("%.16s-%s%s", sha256, strrchr(id, '/') + 1, single ? ".gguf" : "");
}

/* Puts temp where models lie. The same bytes may be there already: for a file the rename replaces them, a folder stays. */
static sv_rc settle(const sv_catalogue *c, const char *temp, const char *file, sv_err *err)
{
    SV_AUTO(sv_freep) char *final = sv_xasprintf("%s/%s", c->store_dir, file);
    if (rename(temp, final) != 0 && errno != ENOTEMPTY && errno != EEXIST)
        return sv_fail_errno(err, "rename to '%s'", final);
    return sv_sync(c->store_dir, err);
}

static sv_rc import_files(sv_catalogue *c, const sv_import_opts *o, const sv_model_files *files, const sv_model_facts *facts, sv_err *err)
{
    SV_AUTO(sv_fd_closep) int lock = -1;
    if (lock_store(c, &lock, err) != SV_OK)
        return err->code;
    char random[17], sha256[65];
    sv_random_hex(random, 8);
    SV_AUTO(removep) char *temp = sv_xasprintf("%s/.in-%s", c->store_dir, random);
    if (bring_model(o, files, temp, sha256, err) != SV_OK)
        return err->code;
    SV_AUTO(sv_freep) char *file = store_name(o->id, sha256, is_single(files));
    if (settle(c, temp, file, err) != SV_OK)
        return err->code;
    row_arg row = {o->id, file, sha256, facts};
    sv_rc rc = sv_db_write(c->db, put_row, &row, err); /* inv. 1 */
    sweep(c);                                          /* the new file too, if its row was refused */
    return rc;
}

static sv_rc import_model(sv_catalogue *c, const sv_import_opts *o, const char *path, sv_err *err)
{
    sv_model_facts facts = {0};
    sv_model_files files = {0};
    if (sv_model_files_find(&files, path, err) != SV_OK)
        return err->code;
    sv_rc rc = sv_engine_inspect(path, &facts, err);
    if (rc == SV_OK)
        rc = check_kind(c, o->id, path, &facts, err);
    if (rc == SV_OK)
        rc = import_files(c, o, &files, &facts, err);
    sv_model_files_done(&files);
    return rc;
}

sv_rc sv_catalogue_import(sv_catalogue *c, const sv_import_opts *o, sv_err *err)
{
    if (check_id(c, o->id, err) != SV_OK)
        return err->code;
    return import_model(c, o, o->path, err);
}

/* ---- pull ---- */

typedef struct pull { int fd; tell t; int64_t done; sv_err err; } pull;

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    pull *d = arg;
    if (sv_write_all(d->fd, p, size * n, &d->err) != SV_OK)
        return 0;
    d->done += (int64_t)(size * n);
    return size * n;
}

static int on_progress(void *arg, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up)
{
    pull *d = arg;
    (void)up_total, (void)up;
    d->t.total = total;
    if (total > 0)
        tell_progress(&d->t, now);
    return 0;
}

static sv_rc download(const char *url, pull *d, sv_err *err)
{
    char why[CURL_ERROR_SIZE] = "";
    CURL *h = curl_easy_init();
    if (!h)
        return sv_fail(err, SV_ENOMEM, "no memory for a download");
    curl_easy_setopt(h, CURLOPT_URL, url);
    curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "file,http,https");
    curl_easy_setopt(h, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(h, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(h, CURLOPT_MAXREDIRS, 5L);
    curl_easy_setopt(h, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT, 15L);
    curl_easy_setopt(h, CURLOPT_LOW_SPEED_LIMIT, 1L); /* a minute without a byte is the end */
    curl_easy_setopt(h, CURLOPT_LOW_SPEED_TIME, 60L);
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, d);
    curl_easy_setopt(h, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(h, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(h, CURLOPT_XFERINFODATA, d);
    CURLcode rc = curl_easy_perform(h);
    curl_easy_cleanup(h);
    if (rc == CURLE_WRITE_ERROR && d->err.code != SV_OK) {
        *err = d->err;
        return sv_wrap(err, "download '%s'", url);
    }
    if (rc != CURLE_OK)
        return sv_fail(err, SV_EIO, "download '%s': %s", url, why[0] ? why : curl_easy_strerror(rc));
    return SV_OK;
}

static sv_rc pull_url(sv_catalogue *c, const sv_import_opts *o, sv_err *err)
{
    char random[17];
    sv_random_hex(random, 8);
    /* Beside the data, not in DATA/models/: another import's sweep must not take it while it grows. */
    SV_AUTO(removep) char *temp = sv_xasprintf("%s/.pull-%s", c->data_dir, random);
    SV_AUTO(sv_fd_closep) int fd = open(temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return sv_fail_errno(err, "make '%s'", temp);
    pull d = {.fd = fd, .t = {o, "downloading", 0}};
    if (download(o->path, &d, err) != SV_OK)
        return err->code;
    if (fsync(fd) != 0)
        return sv_fail_errno(err, "sync '%s'", temp);
    sv_import_opts local = *o;
    local.link = true; /* it is ours already, and on the same file system */
    return import_model(c, &local, temp, err) == SV_OK ? SV_OK : sv_wrap(err, "what '%s' gave", o->path);
}

static sv_rc explain_id(sv_catalogue *c, const char *id, sv_err *err)
{
    SV_AUTO(sv_model_unrefp) const sv_model *m = NULL;
    if (sv_catalogue_find(c, sv_str_of(id), &m, err) != SV_OK)
        return sv_fail(err, SV_ENOENT, "'%s' is neither a known model nor an URL (file://, http://, https://)", id);
    if (m->path)
        return SV_OK; /* nothing to do: its weights are here */
    return sv_fail(err, SV_ENOENT,
                   "%s has no download of its own: its weights are published by their maker%s%s. Get them, then: selvedge models import PATH --as %s "
                   "(or: selvedge models pull URL --as %s)",
                   m->id, m->source ? " as " : "", m->source ? m->source : "", m->id, m->id);
}

sv_rc sv_catalogue_pull(sv_catalogue *c, const sv_import_opts *o, sv_err *err)
{
    if (!strstr(o->path, "://"))
        return explain_id(c, o->path, err);
    if (!o->id)
        return sv_fail(err, SV_EINVAL, "an URL needs a name: --as ID");
    if (check_id(c, o->id, err) != SV_OK)
        return err->code;
    return pull_url(c, o, err);
}

/* ---- remove, verify ---- */

sv_rc sv_catalogue_remove(sv_catalogue *c, const char *id, sv_err *err)
{
    SV_AUTO(sv_fd_closep) int lock = -1;
    if (lock_store(c, &lock, err) != SV_OK)
        return err->code;
    SV_AUTO(sv_model_unrefp) const sv_model *m = NULL;
    if (sv_catalogue_find(c, sv_str_of(id), &m, err) != SV_OK)
        return err->code;
    if (m->origin == SV_MODEL_DEFAULT)
        return sv_fail(err, SV_EINVAL, "%s is a default model: take its file out of the models folder instead (%s)", id, m->path);
    if (m->origin == SV_MODEL_KNOWN)
        return sv_fail(err, SV_ENOENT, "%s was never imported: there is nothing to remove", id);
    if (sv_db_write(c->db, drop_row, (void *)(uintptr_t)m->id, err) != SV_OK)
        return err->code;
    sweep(c);
    return SV_OK;
}

static sv_rc verify_one(const sv_model *m, sv_err *err)
{
    sv_model_facts facts = {0};
    if (!m->path)
        return sv_fail(err, SV_EFORMAT, "its file is gone");
    if (sv_engine_inspect(m->path, &facts, err) != SV_OK)
        return err->code;
    if (!m->sha256)
        return SV_OK;
    if (facts.size_bytes != m->facts.size_bytes)
        return sv_fail(err, SV_EFORMAT, "%zu bytes, imported with %zu", facts.size_bytes, m->facts.size_bytes);
    char hex[65];
    if (hash_model(m->path, hex, err) != SV_OK)
        return err->code;
    if (strcmp(hex, m->sha256) != 0)
        return sv_fail(err, SV_EFORMAT, "its bytes have changed: sha256 %.16s..., imported with %.16s...", hex, m->sha256);
    return SV_OK;
}

sv_rc sv_catalogue_verify(sv_catalogue *c, void (*each)(const sv_model *m, const sv_err *wrong, void *arg), void *arg, sv_err *err)
{
    int bad = 0, n = 0;
    sv_model_list all = sv_catalogue_list(c);
    for (size_t i = 0; i < all.n; i++) {
        const sv_model *m = all.models[i];
        if (m->origin == SV_MODEL_KNOWN)
            continue;
        sv_err wrong = {0};
        sv_rc rc = verify_one(m, &wrong);
        each(m, rc == SV_OK ? NULL : &wrong, arg);
        n++;
        bad += rc != SV_OK;
    }
    sv_model_list_done(&all);
    return bad ? sv_fail(err, SV_EFORMAT, "%d of %d models are damaged", bad, n) : SV_OK;
}
