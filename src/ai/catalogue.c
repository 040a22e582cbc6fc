/* catalogue.c - what is known of models, as immutable snapshots
 *
 * A request holds the model it runs for as long as it runs, while another process may remove or replace that very model. So the
 * catalogue is never changed: a reload builds a whole new snapshot (a few hundred small structs in one arena, about a millisecond) and
 * swaps the pointer; whoever holds the old one keeps it until the last reference goes. Weights that a running engine has mapped
 * outlive their removal too, by the rules of unlink.
 *
 * Whether something changed is asked of the file system, not of the database: a commit by any process changes models.db or its
 * WAL, and a default model appears or goes as a directory entry. Those few stats make the stamp (sv_hash64).
 *
 * Prices. A catalogue model has the neurons of the published table. A model of one's own is metered as the table's smallest Llama
 * (llama-3.2-1b: 2,457 neurons per million tokens in, 18,252 out) in proportion to its parameters, so that a cost exists, grows with the work,
 * and a tenant's day can be summed over own and catalogue models.
 *
 * Invariants:
 *   1. A snapshot does not change once it is current.
 *   2. by_id never points to a model outside its own snapshot.
 *   3. path is absolute, and NULL exactly when this node cannot run the model. */
#include "ai/catalogue.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "account/limits.h"
#include "ai/catalogue_impl.h"
#include "ai/task.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/time.h"

extern const unsigned char sv_catalogue_json[]; /* catalogue.json, embedded at build time */
extern const size_t sv_catalogue_json_size;

enum { WATCH_MS = 200, MAX_MODELS = 4096, ARENA_BYTES = 32 << 20 };
#define OWN_NEURONS_IN 2457.0
#define OWN_NEURONS_OUT 18252.0
#define USD_PER_NEURON 0.000011

static const char *const migrations[] = {
    "CREATE TABLE models (id TEXT PRIMARY KEY, file TEXT NOT NULL, sha256 TEXT NOT NULL, size_bytes INTEGER NOT NULL,"
    " arch TEXT NOT NULL, name TEXT NOT NULL, weights TEXT NOT NULL, n_params INTEGER NOT NULL, n_ctx INTEGER NOT NULL,"
    " n_vocab INTEGER NOT NULL, has_template INTEGER NOT NULL, created_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "ALTER TABLE models ADD COLUMN kind TEXT NOT NULL DEFAULT 'language model';"
    "ALTER TABLE models ADD COLUMN dim INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE models ADD COLUMN cls_pooling INTEGER NOT NULL DEFAULT 0",
};

/* ---- snapshots ---- */

static sv_models *models_unref(sv_models *s)
{
    if (s && atomic_fetch_sub(&s->refs, 1) == 1) {
        sv_smap_free(s->by_id);
        sv_arena_free(s->arena);
        free(s);
    }
    return NULL;
}
SV_DEFINE_AUTO(sv_models, models_unref)

static sv_models *models_new(void)
{
    sv_models *s = sv_xnew0(sv_models);
    atomic_init(&s->refs, 1);
    s->arena = sv_arena_create(ARENA_BYTES);
    s->by_id = sv_smap_new();
    s->cap = MAX_MODELS;
    s->all = sv_arena_new(s->arena, sv_model *, s->cap);
    return s;
}

/* The model of that id, made if absent. NULL: too many. */
static sv_model *models_put(sv_models *s, const char *id)
{
    sv_model *m = sv_smap_get(s->by_id, sv_str_of(id));
    if (m)
        return m;
    if (s->n == s->cap || !(m = sv_arena_new(s->arena, sv_model, 1)) || !(m->id = sv_arena_strndup(s->arena, id, strlen(id))))
        return NULL;
    m->owner = s;
    m->task = "Text Generation";
    m->shape = "prompt-or-messages";
    m->status = "active";
    sv_smap_put(s->by_id, sv_str_of(m->id), m);
    s->all[s->n++] = m;
    return m;
}

static const char *keep(sv_models *s, const char *text)
{
    return text ? sv_arena_strndup(s->arena, text, strlen(text)) : NULL;
}

/* ---- the three sources ---- */

static bool can(const json_t *entry, const char *what)
{
    size_t i;
    json_t *v;
    json_array_foreach (json_object_get(entry, "can"), i, v)
        if (strcmp(json_string_value(v), what) == 0)
            return true;
    return false;
}

static void price_of(const json_t *entry, const char *unit, double *neurons, double *usd)
{
    const json_t *pair = json_object_get(json_object_get(entry, "price"), unit);
    if (!pair)
        return;
    *neurons = json_number_value(json_array_get(pair, 0));
    if (usd)
        *usd = json_number_value(json_array_get(pair, 1));
}

static void add_known(sv_models *s, const json_t *e)
{
    sv_model *m = models_put(s, sv_json_cstr(e, "id"));
    SV_ASSERT(m);
    m->listed = true;
    m->task = keep(s, sv_json_cstr(e, "task"));
    m->vendor = keep(s, sv_json_cstr(e, "vendor"));
    m->description = keep(s, sv_json_cstr(e, "about"));
    m->shape = keep(s, sv_json_cstr(e, "shape"));
    m->status = json_object_get(e, "status") ? keep(s, sv_json_cstr(e, "status")) : "active";
    m->deprecation_date = keep(s, sv_json_cstr(e, "ends"));
    m->source = keep(s, sv_json_cstr(e, "source"));
    m->n_ctx = (int32_t)json_integer_value(json_object_get(e, "n_ctx"));
    m->tools = can(e, "tools");
    m->lora = can(e, "lora");
    m->async_queue = can(e, "batch");
    m->reasoning = can(e, "reasoning");
    m->vision = can(e, "vision");
    m->beta = can(e, "beta");
    m->paid = can(e, "paid");
    m->priced = json_object_get(e, "price") != NULL;
    price_of(e, "in", &m->neurons_in, &m->usd_in);
    price_of(e, "cached", &m->neurons_cached, NULL);
    price_of(e, "out", &m->neurons_out, &m->usd_out);
    price_of(e, "minute", &m->neurons_minute, &m->usd_minute);
    size_t i;
    json_t *alias;
    json_array_foreach (json_object_get(e, "aliases"), i, alias)
        sv_smap_put(s->by_id, (sv_str){json_string_value(alias), json_string_length(alias)}, m);
}

static void load_known(sv_models *s)
{
    sv_err err = {0};
    json_t *all = NULL;
    if (sv_json_parse(&all, (sv_str){(const char *)sv_catalogue_json, sv_catalogue_json_size}, &err) != SV_OK)
        SV_ASSERT(!"catalogue.json parses"); /* it is ours, and a test reads it */
    size_t i;
    json_t *e;
    json_array_foreach (all, i, e)
        add_known(s, e);
    json_decref(all);
}

/* The file's facts over what the catalogue said of the id; task is what such files do. */
static void give_weights(sv_models *s, sv_model *m, const sv_task *task, const char *path, const sv_model_facts *f, int64_t created_ms)
{
    m->path = keep(s, path);
    m->facts = *f;
    m->created_ms = created_ms;
    if (!m->listed) {
        m->task = task->name;
        m->shape = task->own_shape;
    }
    if (f->n_ctx > 0 && (m->n_ctx == 0 || f->n_ctx < m->n_ctx))
        m->n_ctx = f->n_ctx;
    if (!m->priced) {
        double billions = (double)f->n_params / 1e9;
        m->neurons_in = m->neurons_cached = OWN_NEURONS_IN * billions;
        m->neurons_out = OWN_NEURONS_OUT * billions;
    }
    if (m->usd_in == 0 && m->usd_out == 0) {
        m->usd_in = m->neurons_in * USD_PER_NEURON;
        m->usd_out = m->neurons_out * USD_PER_NEURON;
    }
    bool named = f->name[0] && sv_utf8_valid(sv_str_of(f->name));
    if (!m->description)
        m->description = sv_arena_printf(s->arena, "%s, %s, %.3g M parameters, %s", named ? f->name : "a model of this node", f->arch,
                                         (double)f->n_params / 1e6, f->weights);
}

static const sv_model *known_file(const sv_models *old, const char *path, const struct stat *st, int64_t mtime_ms)
{
    for (size_t i = 0; old && i < old->n; i++) {
        const sv_model *m = old->all[i];
        if (m->path && m->created_ms == mtime_ms && m->facts.size_bytes == (size_t)st->st_size && strcmp(m->path, path) == 0)
            return m;
    }
    return NULL;
}

static void load_default(sv_models *s, const sv_models *old, const char *dir, const char *file)
{
    size_t stem = sv_model_files_stem(file);
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/%s", dir, file);
    SV_AUTO(sv_freep) char *id = sv_xasprintf("@cf/selvedge/%.*s", (int)stem, file);
    struct stat st;
    sv_err err = {0};
    if (stem == 0 || stat(path, &st) != 0 || !S_ISREG(st.st_mode))
        return;
    if (!sv_model_id_valid(sv_str_of(id))) {
        sv_log(SV_WARN, "models.skip", "file='%s' error='its name is no model name'", path);
        return;
    }
    int64_t mtime_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
    const sv_model *same = known_file(old, path, &st, mtime_ms);
    sv_model_facts facts = same ? same->facts : (sv_model_facts){0};
    if (!same && sv_engine_inspect(path, &facts, &err) != SV_OK) {
        sv_log(SV_WARN, "models.skip", "file='%s' error='%s'", path, err.msg);
        return;
    }
    const sv_task *task = sv_task_of_kind(facts.kind);
    sv_model *m = task ? models_put(s, id) : NULL;
    if (!m)
        return;
    m->origin = SV_MODEL_DEFAULT;
    m->vendor = "Selvedge";
    give_weights(s, m, task, path, &facts, mtime_ms);
}

static int is_gguf(const struct dirent *d)
{
    size_t n = strlen(d->d_name);
    return d->d_name[0] != '.' && n > 5 && strcmp(d->d_name + n - 5, ".gguf") == 0;
}

static void load_defaults(sv_models *s, const sv_models *old, const char *dir)
{
    struct dirent **names = NULL;
    int n = dir ? scandir(dir, &names, is_gguf, alphasort) : 0;
    for (int i = 0; i < n; i++) {
        load_default(s, old, dir, names[i]->d_name);
        free(names[i]);
    }
    free(names);
}

static void copy_col(char *to, size_t size, sv_stmt *q, int i)
{
    sv_str v = sv_col_str(q, i);
    snprintf(to, size, "%.*s", (int)v.n, v.p ? v.p : "");
}

typedef struct load_arg { const sv_catalogue *c; sv_models *s; } load_arg;

static sv_rc add_imported(load_arg *a, sv_stmt *q, sv_err *err)
{
    char id[160], file[256], sha[80], kind[48];
    sv_model_facts f = {0};
    const sv_task *task = NULL;
    copy_col(id, sizeof id, q, 0);
    copy_col(file, sizeof file, q, 1);
    copy_col(sha, sizeof sha, q, 2);
    f.size_bytes = (size_t)sv_col_i64(q, 3);
    copy_col(f.arch, sizeof f.arch, q, 4);
    copy_col(f.name, sizeof f.name, q, 5);
    copy_col(f.weights, sizeof f.weights, q, 6);
    f.n_params = sv_col_i64(q, 7);
    f.n_ctx = (int32_t)sv_col_i64(q, 8);
    f.n_vocab = (int32_t)sv_col_i64(q, 9);
    f.has_template = sv_col_i64(q, 10) != 0;
    copy_col(kind, sizeof kind, q, 12);
    f.dim = (int32_t)sv_col_i64(q, 13);
    f.cls_pooling = sv_col_i64(q, 14) == 1;
    f.last_pooling = sv_col_i64(q, 14) == 2;
    if (!sv_model_kind_named(kind, &f.kind) || !(task = sv_task_of_kind(f.kind)))
        return sv_fail(err, SV_EFORMAT, "model %s is a %s: a newer release of this program imported it", id, kind);
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/%s", a->c->store_dir, file);
    sv_model *m = models_put(a->s, id);
    if (!m) /* never leave one out: its file would look like nobody's */
        return sv_fail(err, SV_ELIMIT, "more than %d models", MAX_MODELS);
    m->origin = SV_MODEL_IMPORTED;
    m->sha256 = keep(a->s, sha);
    if (!m->vendor) {
        const char *from = id[0] == '@' ? strchr(id, '/') + 1 : id;
        m->vendor = sv_arena_strndup(a->s->arena, from, strcspn(from, "/"));
    }
    give_weights(a->s, m, task, path, &f, sv_col_i64(q, 11));
    if (!sv_file_exists(path))
        m->path = NULL; /* inv. 3; resolve says what to do */
    return SV_OK;
}

static sv_rc load_imported(sv_dbw *r, void *arg, sv_err *err)
{
    load_arg *a = arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r,
                     "SELECT id, file, sha256, size_bytes, arch, name, weights, n_params, n_ctx, n_vocab, has_template, created_ms, kind, dim, cls_pooling"
                     " FROM models ORDER BY created_ms",
                     err) != SV_OK)
        return err->code;
    bool row = false;
    while (sv_stmt_step(&q, &row, err) == SV_OK) {
        if (!row)
            return SV_OK;
        if (add_imported(a, &q, err) != SV_OK)
            return err->code;
    }
    return err->code;
}

/* Imported, default, then the catalogue in its own order: a stable partition. */
static bool runnable_first(sv_models *s)
{
    sv_model **sorted = sv_arena_new(s->arena, sv_model *, s->n ? s->n : 1);
    if (!sorted)
        return false;
    size_t k = 0;
    for (int pass = 0; pass < 3; pass++)
        for (size_t i = 0; i < s->n; i++) {
            const sv_model *m = s->all[i];
            int of = !m->path ? 2 : m->origin == SV_MODEL_IMPORTED ? 0 : 1;
            if (of == pass)
                sorted[k++] = s->all[i];
        }
    s->all = sorted;
    return true;
}

/* ---- reloading ---- */

static uint64_t stamp_file(uint64_t h, const char *path)
{
    struct stat st;
    int64_t v[4] = {0};
    if (stat(path, &st) == 0) {
        v[0] = (int64_t)st.st_ino;
        v[1] = st.st_size;
        v[2] = st.st_mtim.tv_sec;
        v[3] = st.st_mtim.tv_nsec;
    }
    return sv_hash64(v, sizeof v, h);
}

static uint64_t stamp_of(const sv_catalogue *c)
{
    char path[PATH_MAX];
    uint64_t h = 1;
    snprintf(path, sizeof path, "%s/models.db", c->data_dir);
    h = stamp_file(h, path);
    snprintf(path, sizeof path, "%s/models.db-wal", c->data_dir);
    h = stamp_file(h, path);
    struct dirent **names = NULL;
    int n = c->models_dir ? scandir(c->models_dir, &names, is_gguf, alphasort) : 0;
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", c->models_dir, names[i]->d_name);
        h = sv_hash64(names[i]->d_name, strlen(names[i]->d_name), stamp_file(h, path));
        free(names[i]);
    }
    free(names);
    return h;
}

static sv_models *current_ref(sv_catalogue *c)
{
    pthread_mutex_lock(&c->lock);
    sv_models *s = c->current;
    atomic_fetch_add(&s->refs, 1);
    pthread_mutex_unlock(&c->lock);
    return s;
}

static bool unchanged(sv_catalogue *c, uint64_t stamp)
{
    pthread_mutex_lock(&c->lock);
    bool same = c->current && c->stamp == stamp;
    pthread_mutex_unlock(&c->lock);
    return same;
}

static sv_rc reload(sv_catalogue *c, uint64_t stamp, sv_err *err)
{
    SV_AUTO(models_unrefp) sv_models *s = models_new();
    load_known(s);
    load_defaults(s, c->current, c->models_dir); /* only a reload changes current, and we hold `loading` */
    load_arg arg = {c, s};
    if (sv_db_read(c->db, load_imported, &arg, err) != SV_OK)
        return err->code;
    if (!runnable_first(s))
        return sv_fail(err, SV_ENOMEM, "no memory for the catalogue");
    pthread_mutex_lock(&c->lock);
    sv_models *old = c->current;
    c->current = SV_TAKE(s);
    c->stamp = stamp;
    pthread_mutex_unlock(&c->lock);
    models_unref(old);
    return SV_OK;
}

sv_rc sv_catalogue_refresh(sv_catalogue *c, bool force, sv_err *err)
{
    if (!force && unchanged(c, stamp_of(c)))
        return SV_OK;
    pthread_mutex_lock(&c->loading);
    uint64_t stamp = stamp_of(c); /* before reading: a change while we read is seen next time */
    sv_rc rc = !force && unchanged(c, stamp) ? SV_OK : reload(c, stamp, err);
    pthread_mutex_unlock(&c->loading);
    return rc;
}

static void watch(void *arg)
{
    sv_err err = {0};
    static sv_log_gate gate;
    if (sv_catalogue_refresh(arg, false, &err) != SV_OK && sv_log_may(&gate, 2))
        sv_log(SV_WARN, "models.reload", "error='%s'", err.msg);
}

void sv_catalogue_watch(sv_catalogue *c)
{
    if (!c->watcher)
        c->watcher = sv_ticker_new("models", WATCH_MS, watch, c);
}

/* ---- open, close ---- */

/* Absolute, also while the folder is not there yet: it is looked at again and again. */
static char *absolute(const char *path)
{
    char cwd[PATH_MAX];
    char *real = realpath(path, NULL);
    if (real || path[0] == '/' || !getcwd(cwd, sizeof cwd))
        return real ? real : sv_xstrdup(path);
    return sv_xasprintf("%s/%s", cwd, path);
}

sv_rc sv_catalogue_open(sv_catalogue **out, const char *data_dir, const char *models_dir, sv_err *err)
{
    SV_AUTO(sv_catalogue_closep) sv_catalogue *c = sv_xnew0(sv_catalogue);
    pthread_mutex_init(&c->lock, NULL);
    pthread_mutex_init(&c->loading, NULL);
    if (sv_mkdir_p(data_dir, 0700, err) != SV_OK)
        return err->code;
    if (!(c->data_dir = realpath(data_dir, NULL)))
        return sv_fail_errno(err, "data directory '%s'", data_dir);
    c->models_dir = models_dir && *models_dir ? absolute(models_dir) : NULL;
    c->store_dir = sv_xasprintf("%s/models", c->data_dir);
    if (sv_mkdir_p(c->store_dir, 0700, err) != SV_OK)
        return err->code;
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/models.db", c->data_dir);
    if (sv_db_open(&c->db, path, migrations, SV_LEN(migrations), err) != SV_OK || sv_catalogue_refresh(c, true, err) != SV_OK)
        return err->code;
    *out = SV_TAKE(c);
    return SV_OK;
}

sv_catalogue *sv_catalogue_close(sv_catalogue *c)
{
    if (!c)
        return NULL;
    sv_ticker_free(c->watcher);
    models_unref(c->current);
    sv_db_close(c->db);
    pthread_mutex_destroy(&c->lock);
    pthread_mutex_destroy(&c->loading);
    free(c->data_dir);
    free(c->models_dir);
    free(c->store_dir);
    free(c);
    return NULL;
}

/* ---- asking ---- */

static const sv_model *look_up(sv_catalogue *c, sv_str id)
{
    sv_models *s = current_ref(c);
    const sv_model *m = sv_smap_get(s->by_id, id);
    if (!m)
        models_unref(s);
    return m; /* its reference is the snapshot's */
}

sv_rc sv_catalogue_find(sv_catalogue *c, sv_str id, const sv_model **out, sv_err *err)
{
    const sv_model *m = look_up(c, id);
    if (!m || !m->path || !sv_file_exists(m->path)) { /* imported or removed by another process a moment ago */
        sv_err ignored = {0};
        m = sv_model_unref(m);
        if (sv_catalogue_refresh(c, false, &ignored) != SV_OK) {
            /* the old state still answers; the watch thread logs why */
        }
        m = look_up(c, id);
    }
    if (!m)
        return sv_fail_api(err, SV_ENOENT, 5007, "No such model %.*s or task", (int)(id.n > 128 ? 128 : id.n), id.p ? id.p : "");
    *out = m;
    return SV_OK;
}

sv_rc sv_catalogue_resolve(sv_catalogue *c, sv_str id, const sv_model **out, sv_err *err)
{
    SV_AUTO(sv_model_unrefp) const sv_model *m = NULL;
    if (sv_catalogue_find(c, id, &m, err) != SV_OK)
        return err->code;
    if (!m->path && m->origin == SV_MODEL_IMPORTED)
        return sv_fail_api(err, SV_ENOENT, 5007, "No such model %s here: its imported file is gone; import it again", m->id);
    if (!m->path && !sv_task_of(m))
        return sv_fail_api(err, SV_ENOENT, 5007, "No such model %s here: this release does not run the task %s", m->id, m->task);
    if (!m->path)
        return sv_fail_api(err, SV_ENOENT, 5007,
                           "No such model %s here: it is known, but its weights are not on this node. Import %s of %s with: selvedge models import "
                           "PATH --as %s",
                           m->id, strcmp(m->task, "Text Generation") == 0 ? "a GGUF file" : "the files", m->source ? m->source : "it", m->id);
    *out = SV_TAKE(m);
    return SV_OK;
}

const sv_model *sv_model_unref(const sv_model *m)
{
    if (m)
        models_unref(m->owner);
    return NULL;
}

sv_model_list sv_catalogue_list(sv_catalogue *c)
{
    sv_models *s = current_ref(c);
    return (sv_model_list){(const sv_model *const *)s->all, s->n, s};
}

void sv_model_list_done(sv_model_list *l)
{
    models_unref(l->owner);
    *l = (sv_model_list){0};
}

static bool id_part(sv_str part)
{
    if (part.n == 0 || part.p[0] == '.' || part.p[0] == '-')
        return false;
    for (size_t i = 0; i < part.n; i++) {
        unsigned char ch = (unsigned char)part.p[i];
        bool fine = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') || ch == '-' || ch == '_' || ch == '.';
        if (!fine)
            return false;
    }
    return true;
}

bool sv_model_id_valid(sv_str id)
{
    if (id.n == 0 || (int64_t)id.n > sv_limit_value(SV_LIMIT_MODEL_NAME_BYTES))
        return false;
    if (id.p[0] == '@') {
        const char *slash = memchr(id.p, '/', id.n);
        size_t n = slash ? (size_t)(slash - id.p) : 0;
        if (n < 2 || !id_part((sv_str){id.p + 1, n - 1}))
            return false;
        id = (sv_str){slash + 1, id.n - n - 1};
    }
    const char *slash = memchr(id.p, '/', id.n);
    if (!slash)
        return false;
    size_t n = (size_t)(slash - id.p);
    return id_part((sv_str){id.p, n}) && id_part((sv_str){slash + 1, id.n - n - 1});
}
