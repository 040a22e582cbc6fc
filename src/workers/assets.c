/* assets.c - static files of an account: stored once by their hash, laid out anew for each version by hard links
 *
 * The hash is the client's (a cut BLAKE3 over the base64 text and the extension) and is only a name to us: a client that lies
 * about it harms the files of its own account. Each version has a folder of its own, since it must look like a site to workerd's
 * asset service; links make that cheap, and keep a file's time, from which its ETag is made.
 *
 * A session lives in the store; its token is a signed statement in the form of a JWT (the client reads `exp` out of it). The
 * token of a finished upload says so, and is what the upload form carries.
 *
 *   session: OPEN --every file of its manifest is there--> complete (nothing is written: the token says it) --1 hour--> forgotten
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "account/limits.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/map.h"
#include "base/time.h"
#include "workers/workers_impl.h"

enum { SESSION_MS = 60 * 60 * 1000, MAX_DEPTH = 32, HASH_CHARS = 32 };

/* ---- names ---- */

static bool is_hash(sv_str s)
{
    bool good = s.n == HASH_CHARS;
    for (size_t i = 0; i < s.n && good; i++)
        good = (s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] >= 'a' && s.p[i] <= 'f');
    return good;
}

static void stored_path(const sv_workers *w, const char *account, const char *hash, char out[4300])
{
    snprintf(out, 4300, "%s/assets/%s/%s", w->root, account, hash);
}

/* "/a%20b/c.html" -> "a b/c.html": decoded, and inside the folder whatever it says. */
static sv_rc site_path(sv_str *out, sv_arena *a, const char *path, sv_err *err)
{
    sv_str p = sv_str_of(path);
    if (sv_limit_check(SV_LIMIT_ASSET_PATH_BYTES, (int64_t)p.n, "asset path", err) != SV_OK)
        return err->code;
    if (p.n < 2 || p.p[0] != '/')
        return sv_fail_api(err, SV_EINVAL, 10021, "asset path '%s' does not start with '/'", path);
    if (sv_percent_decode(out, a, (sv_str){p.p + 1, p.n - 1}, err) != SV_OK) {
        err->api_code = 10021;
        return sv_wrap(err, "asset path '%s'", path);
    }
    int depth = 0;
    for (size_t at = 0; at <= out->n;) {
        const char *seg = out->p + at, *slash = at < out->n ? memchr(seg, '/', out->n - at) : NULL;
        size_t n = slash ? (size_t)(slash - seg) : out->n - at;
        bool dots = (n == 1 && seg[0] == '.') || (n == 2 && seg[0] == '.' && seg[1] == '.');
        if (n == 0 || n > 255 || dots || ++depth > MAX_DEPTH)
            return sv_fail_api(err, SV_EINVAL, 10021,
                               "asset path '%s' is no path of a file (names of 1 to 255 bytes, at most %d deep)", path,
                               MAX_DEPTH);
        at += n + 1;
    }
    return SV_OK;
}

/* ---- manifests ---- */

static sv_rc check_entry(const char *path, const json_t *e, sv_arena *a, sv_err *err)
{
    const json_t *hash = json_object_get(e, "hash");
    int64_t size = -1;
    sv_str decoded;
    if (site_path(&decoded, a, path, err) != SV_OK)
        return err->code;
    if (!json_is_string(hash) || !is_hash((sv_str){json_string_value(hash), json_string_length(hash)}))
        return sv_fail_api(err, SV_EINVAL, 10021, "asset '%s': its hash is not %d hex digits", path, HASH_CHARS);
    if (sv_json_int(e, "size", 0, INT64_MAX, &size, err) != SV_OK || size < 0)
        return sv_fail_api(err, SV_EINVAL, 10021, "asset '%s' has no size", path);
    return sv_limit_check(SV_LIMIT_ASSET_BYTES, size, path, err);
}

sv_rc sv_assets_check(sv_workers *w, const char *account, const json_t *manifest, json_t **missing, sv_err *err)
{
    if (!json_is_object(manifest))
        return sv_fail_api(err, SV_EINVAL, 10021, "'manifest' is not an object");
    if (sv_limit_check(SV_LIMIT_ASSETS, (int64_t)json_object_size(manifest), "assets", err) != SV_OK)
        return err->code;
    SV_AUTO(sv_arena_freep) sv_arena *a = sv_arena_create(0);
    SV_AUTO(sv_json_decrefp) json_t *list = json_array();
    SV_AUTO(sv_json_decrefp) json_t *seen = json_object();
    const char *path;
    json_t *e;
    json_object_foreach ((json_t *)(uintptr_t)manifest, path, e) {
        sv_arena_reset(a);
        if (check_entry(path, e, a, err) != SV_OK)
            return err->code;
        const char *hash = sv_json_cstr(e, "hash");
        if (json_object_get(seen, hash))
            continue;
        json_object_set_new(seen, hash, json_true());
        char file[4300];
        stored_path(w, account, hash, file);
        if (!sv_file_exists(file))
            json_array_append(list, json_object_get(e, "hash"));
    }
    *missing = SV_TAKE(list);
    return SV_OK;
}

/* ---- tokens ---- */

static void sign(const sv_workers *w, sv_str text, sv_buf *out)
{
    static const char purpose[] = "workers asset session";
    uint8_t key[32], mac[32];
    sv_hmac_sha256(key, sv_accounts_seal_key(w->accounts), 32, purpose, sizeof purpose - 1);
    sv_hmac_sha256(mac, key, sizeof key, text.p, text.n);
    sv_base64url_encode(out, mac, sizeof mac);
}

static void make_token(const sv_workers *w, const char *id, bool complete, sv_buf *out)
{
    static const char head[] = "{\"alg\":\"HS256\",\"typ\":\"JWT\"}";
    SV_AUTO(sv_buf_donep) sv_buf body;
    sv_buf_init(&body, 4096);
    sv_buf_addf(&body, "{\"exp\":%lld,\"session\":\"%s\",\"complete\":%s}", (long long)((sv_now_ms() + SESSION_MS) / 1000), id,
                complete ? "true" : "false");
    size_t start = out->n;
    sv_base64url_encode(out, head, sizeof head - 1);
    sv_buf_addc(out, '.');
    sv_base64url_encode(out, body.p, body.n);
    SV_AUTO(sv_buf_donep) sv_buf mac;
    sv_buf_init(&mac, 4096);
    sign(w, (sv_str){out->p + start, out->n - start}, &mac);
    sv_buf_addc(out, '.');
    sv_buf_add(out, mac.p, mac.n);
}

void sv_assets_complete_token(sv_workers *w, const sv_asset_session *s, sv_buf *token) { make_token(w, s->id, true, token); }

typedef struct session_args {
    const char *id, *account, *script;
    const json_t *manifest;
    sv_asset_session *out;
    int64_t now_ms;
} session_args;

/* Manifests are large, and a client that begins sessions and ends none must not fill the disk. */
static sv_rc end_oldest(sv_dbw *w, const char *account, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w,
                     "DELETE FROM asset_session WHERE account = ?1 AND id NOT IN (SELECT id FROM asset_session WHERE account = ?1 ORDER BY expires_ms DESC, "
                     "rowid DESC LIMIT ?2)",
                     err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, account);
    sv_bind_i64(&q, 2, sv_limit_value(SV_LIMIT_ASSET_SESSIONS));
    return sv_stmt_run(&q, err);
}

static sv_rc insert_session(sv_dbw *w, void *arg, sv_err *err)
{
    const session_args *k = arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    SV_AUTO(sv_buf_donep) sv_buf text;
    sv_buf_init(&text, 0);
    sv_json_add_value(&text, k->manifest);
    if (sv_stmt_prep(&q, w, "INSERT INTO asset_session (id, account, script, expires_ms, manifest) VALUES (?1, ?2, ?3, ?4, ?5)",
                     err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, k->id);
    sv_bind_cstr(&q, 2, k->account);
    sv_bind_cstr(&q, 3, k->script);
    sv_bind_i64(&q, 4, k->now_ms + SESSION_MS);
    sv_bind_str(&q, 5, sv_buf_str(&text));
    return sv_stmt_run(&q, err) != SV_OK ? err->code : end_oldest(w, k->account, err);
}

static sv_rc delete_expired(sv_dbw *w, void *arg, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "DELETE FROM asset_session WHERE expires_ms < ?1", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, *(int64_t *)arg);
    return sv_stmt_run(&q, err);
}

static sv_rc forget_expired(sv_workers *w, sv_err *err)
{
    int64_t now = sv_now_ms();
    return sv_db_write(w->db, delete_expired, &now, err);
}

sv_rc sv_assets_session(sv_workers *w, const char *account, const char *script, const json_t *manifest, bool complete,
                        sv_buf *token, sv_err *err)
{
    char id[33];
    sv_random_hex(id, 16);
    session_args k = {.id = id, .account = account, .script = script, .manifest = manifest, .now_ms = sv_now_ms()};
    if (forget_expired(w, err) != SV_OK || sv_db_write(w->db, insert_session, &k, err) != SV_OK)
        return err->code;
    make_token(w, id, complete, token);
    return SV_OK;
}

static sv_rc find_session(sv_dbw *r, void *arg, sv_err *err)
{
    const session_args *k = arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    bool row;
    if (sv_stmt_prep(&q, r, "SELECT account, script, manifest FROM asset_session WHERE id = ?1 AND expires_ms >= ?2", err) !=
        SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, k->id);
    sv_bind_i64(&q, 2, k->now_ms);
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    if (!row)
        return sv_fail_api(err, SV_EINVAL, 10021, "the asset upload session has ended; start the deployment again");
    sv_str account = sv_col_str(&q, 0), script = sv_col_str(&q, 1);
    snprintf(k->out->account, sizeof k->out->account, "%.*s", (int)account.n, account.p);
    snprintf(k->out->script, sizeof k->out->script, "%.*s", (int)script.n, script.p);
    return sv_json_parse(&k->out->manifest, sv_col_str(&q, 2), err);
}

sv_rc sv_assets_open_token(sv_workers *w, sv_str token, sv_asset_session *out, sv_err *err)
{
    SV_AUTO(sv_buf_donep) sv_buf mac, body;
    SV_AUTO(sv_json_decrefp) json_t *claims = NULL;
    sv_err ignore = {0};
    sv_buf_init(&mac, 4096);
    sv_buf_init(&body, 4096);
    const char *dot1 = token.n && token.n < 4096 ? memchr(token.p, '.', token.n) : NULL;
    const char *dot2 = dot1 ? memrchr(token.p, '.', token.n) : NULL;
    sv_asset_session s = {0};
    if (dot1 && dot2 > dot1) {
        sv_str sig = {dot2 + 1, token.n - (size_t)(dot2 + 1 - token.p)};
        sign(w, (sv_str){token.p, (size_t)(dot2 - token.p)}, &mac);
        if (sig.n == mac.n && sv_equal_ct(sig.p, mac.p, mac.n) &&
            sv_base64_decode(&body, (sv_str){dot1 + 1, (size_t)(dot2 - dot1 - 1)}, &ignore) == SV_OK &&
            sv_json_parse(&claims, sv_buf_str(&body), &ignore) == SV_OK && sv_json_cstr(claims, "session"))
            snprintf(s.id, sizeof s.id, "%s", sv_json_cstr(claims, "session"));
    }
    if (!s.id[0])
        return sv_fail_api(err, SV_EINVAL, 10021, "the asset upload token is not one of ours");
    s.complete = json_is_true(json_object_get(claims, "complete"));
    session_args k = {.id = s.id, .out = &s, .now_ms = sv_now_ms()};
    if (sv_db_read(w->db, find_session, &k, err) != SV_OK)
        return err->code;
    *out = s;
    return SV_OK;
}

void sv_asset_session_done(sv_asset_session *s)
{
    json_decref(s->manifest);
    s->manifest = NULL;
}

/* ---- files ---- */

/* Folders that workerd reads as another user, whatever our umask is. */
static sv_rc make_folder(const char *path, sv_err *err)
{
    struct stat st;
    if (mkdir(path, 0755) < 0 && (errno != EEXIST || lstat(path, &st) < 0 || !S_ISDIR(st.st_mode)))
        return sv_fail_errno(err, "make folder '%s'", path);
    return chmod(path, 0755) == 0 ? SV_OK : sv_fail_errno(err, "mode of '%s'", path);
}

sv_rc sv_assets_put(sv_workers *w, const sv_asset_session *s, sv_str hash, sv_str bytes, sv_err *err)
{
    if (!is_hash(hash))
        return sv_fail_api(err, SV_EINVAL, 10021, "a part of the asset upload is not named by a hash");
    if (sv_limit_check(SV_LIMIT_ASSET_BYTES, (int64_t)bytes.n, "asset", err) != SV_OK)
        return err->code;
    const char *path;
    json_t *e;
    int64_t size = -1;
    json_object_foreach (s->manifest, path, e)
        if (sv_str_is(hash, sv_json_cstr(e, "hash"))) {
            size = json_integer_value(json_object_get(e, "size"));
            break;
        }
    if (size != (int64_t)bytes.n)
        return sv_fail_api(err, SV_EINVAL, 10021,
                           size < 0 ? "asset %.*s is not in the manifest" : "asset %.*s has not the size that the manifest says",
                           (int)hash.n, hash.p);
    char name[HASH_CHARS + 1], file[4300];
    snprintf(name, sizeof name, "%.*s", (int)hash.n, hash.p);
    snprintf(file, sizeof file, "%s/assets/%s", w->root, s->account);
    if (sv_mkdir_p(file, 0755, err) != SV_OK)
        return err->code;
    stored_path(w, s->account, name, file);
    return sv_file_exists(file) ? SV_OK : sv_file_replace(file, bytes.p, bytes.n, 0644, err);
}

static sv_rc copy_file(const char *from, const char *to, sv_err *err)
{
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, (size_t)sv_limit_value(SV_LIMIT_ASSET_BYTES));
    if (sv_file_read(&b, from, err) != SV_OK)
        return err->code;
    return sv_file_replace(to, b.p, b.n, 0644, err);
}

/* One file into the site at `base`; folders it makes are remembered in `dirs`, to be synced once. */
static sv_rc lay_out_one(sv_workers *w, const char *account, const char *path, const char *hash, const char *base, sv_arena *a,
                         sv_smap *dirs, sv_err *err)
{
    sv_str p;
    if (site_path(&p, a, path, err) != SV_OK)
        return err->code;
    char from[4300], to[6000];
    stored_path(w, account, hash, from);
    int base_n = snprintf(to, sizeof to, "%s/%.*s", base, (int)p.n, p.p);
    if (base_n < 0 || (size_t)base_n >= sizeof to)
        return sv_fail_api(err, SV_EINVAL, 10021, "asset path '%s' is too long", path);
    for (char *slash = strchr(to + strlen(base) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (!sv_smap_get(dirs, sv_str_of(to))) {
            if (make_folder(to, err) != SV_OK)
                return err->code == SV_ECONFLICT
                           ? sv_fail_api(err, SV_EINVAL, 10021, "asset '%s' lies below a path that is a file itself", path)
                           : err->code;
            sv_smap_put(dirs, sv_str_of(to), dirs);
        }
        *slash = '/';
    }
    if (link(from, to) == 0)
        return SV_OK;
    if (errno == EMLINK)
        return copy_file(from, to, err);
    if (errno == ENOENT)
        return sv_fail_api(err, SV_EINVAL, 10021, "asset '%s' (%s) was never uploaded", path, hash);
    if (errno == EEXIST)
        return sv_fail_api(err, SV_EINVAL, 10021, "asset '%s' is a file and a folder, or twice in the manifest", path);
    return sv_fail_errno(err, "link asset '%s'", path);
}

static sv_rc lay_out_all(sv_workers *w, const char *account, const json_t *manifest, const char *base, sv_smap *dirs, sv_err *err)
{
    SV_AUTO(sv_arena_freep) sv_arena *a = sv_arena_create(0);
    const char *path;
    json_t *e;
    json_object_foreach ((json_t *)(uintptr_t)manifest, path, e) {
        sv_arena_reset(a);
        if (lay_out_one(w, account, path, sv_json_cstr(e, "hash"), base, a, dirs, err) != SV_OK)
            return err->code;
    }
    size_t i = 0;
    sv_str dir;
    void *v;
    while (sv_smap_next(dirs, &i, &dir, &v)) {
        char name[6000];
        snprintf(name, sizeof name, "%.*s", (int)dir.n, dir.p);
        if (sv_sync(name, err) != SV_OK)
            return err->code;
    }
    return sv_sync(base, err);
}

sv_rc sv_assets_lay_out(sv_workers *w, const char *account, const json_t *manifest, const char *folder, sv_err *err)
{
    char path[4300];
    snprintf(path, sizeof path, "%.4200s/assets", folder);
    if (make_folder(path, err) != SV_OK)
        return err->code;
    sv_smap *dirs = sv_smap_new();
    sv_rc rc = lay_out_all(w, account, manifest, path, dirs, err);
    sv_smap_free(dirs);
    if (rc != SV_OK)
        return rc;
    SV_AUTO(sv_buf_donep) sv_buf text;
    sv_buf_init(&text, 0);
    sv_json_add_value(&text, manifest);
    snprintf(path, sizeof path, "%.4200s/assets.json", folder);
    return text.failed ? sv_fail(err, SV_ENOMEM, "no memory for the manifest") : sv_file_replace(path, text.p, text.n, 0600, err);
}

sv_rc sv_assets_manifest_of(sv_workers *w, const char *key, const char *folder, json_t **out, sv_err *err)
{
    char dir[4096], path[4300];
    sv_version_folder(w, key, folder, dir);
    snprintf(path, sizeof path, "%s/assets.json", dir);
    SV_AUTO(sv_buf_donep) sv_buf text;
    sv_buf_init(&text, 0);
    if (sv_file_read(&text, path, err) != SV_OK)
        return err->code;
    return sv_json_parse(out, sv_buf_str(&text), err);
}
