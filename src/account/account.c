/* account.c - who may call: accounts and tokens in DATA/account.db, keys in DATA/secrets, and the check in memory
 *
 * A token is 30 random bytes in base64url behind "sv_"; the table holds HMAC-SHA256(token.key, token). Who reads the database alone can
 * neither use nor guess at tokens; and a look-up by a keyed hash tells nothing by its time.
 *
 * The check runs on a loop thread and must not touch the disk. So all live tokens sit in a table in memory; a watch thread reads the
 * generation row once a second and loads the table anew when another process (`selvedge token`) has raised it. Changes made through this
 * object are in the table before they return.
 *
 * First start, with DATA locked against a second first start: keys, then DATA/account and DATA/token, then one transaction with both rows.
 * A crash before the commit leaves files that the next start replaces, as long as there is no account; after it nothing is missing.
 *
 * A request of S3 brings no token but a signature made with the token's SHA-256, so that this must be known to check it: it lies in the row
 * sealed under seal.key, bound to the row's id, and opened in the table in memory.
 *
 * Invariants:
 *   1. Keys are made only while the database holds no account. A missing key beside accounts is an error: a new one would silently
 *      turn every token and every sealed secret into noise.
 *   2. `table` is immutable; `lock` guards the pointer to it and is held for a look-up or a swap, never across I/O. */
#include "account/account.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "account/limits.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/thread.h"
#include "base/time.h"

enum { KEY_BYTES = 32, ID_BYTES = 16, TOKEN_BYTES = 30, MAX_TOKEN_CHARS = 256, POLL_MS = 1000, REVOKED_KEPT = 100 };

static const char *const migrations[] = {
    "CREATE TABLE accounts (id TEXT PRIMARY KEY, name TEXT NOT NULL, created_ms INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE tokens (id TEXT PRIMARY KEY, account_id TEXT NOT NULL REFERENCES accounts(id), name TEXT NOT NULL,"
    "                     hash BLOB NOT NULL UNIQUE, created_ms INTEGER NOT NULL, revoked_ms INTEGER);"
    "CREATE UNIQUE INDEX tokens_live_name ON tokens(account_id, name) WHERE revoked_ms IS NULL;"
    "CREATE TABLE generation (n INTEGER NOT NULL);"
    "INSERT INTO generation VALUES (1);",
    "ALTER TABLE tokens ADD COLUMN s3_secret BLOB;",
};

typedef struct table { /* inv. 2 */
    int64_t generation;
    sv_smap *by_hash;  /* 32 bytes -> sv_principal */
    sv_smap *by_id;    /* id of a token -> sv_s3_key */
    const uint8_t *seal_key; /* borrowed */
    sv_smap *accounts; /* id -> sv_account_info */
} table;

struct sv_accounts {
    sv_db *db;
    uint8_t token_key[KEY_BYTES], seal_key[KEY_BYTES];
    char first_id[33];
    pthread_rwlock_t lock; /* guards `table`; nothing is taken while it is held */
    table *table;
    sv_ticker *watch;
};

/* ---- the table in memory ---- */

static table *table_free(table *t)
{
    if (!t)
        return NULL;
    sv_str key;
    void *value;
    for (size_t i = 0; sv_smap_next(t->by_hash, &i, &key, &value);)
        free(value);
    for (size_t i = 0; sv_smap_next(t->by_id, &i, &key, &value);) {
        explicit_bzero(value, sizeof(sv_s3_key));
        free(value);
    }
    for (size_t i = 0; sv_smap_next(t->accounts, &i, &key, &value);)
        free(value);
    sv_smap_free(t->by_id);
    sv_smap_free(t->by_hash);
    sv_smap_free(t->accounts);
    free(t);
    return NULL;
}
SV_DEFINE_AUTO(table, table_free)

static void copy_col(sv_stmt *q, int i, char *out, size_t size)
{
    sv_str s = sv_col_str(q, i);
    snprintf(out, size, "%.*s", (int)s.n, s.p ? s.p : "");
}

/* A secret that does not open (another seal.key) is no secret: S3 refuses the key, everything else goes on. */
static void load_secret(table *t, const sv_principal *who, sv_str sealed)
{
    SV_AUTO(sv_buf_donep) sv_buf plain;
    sv_err why = {0};
    sv_buf_init(&plain, 4096);
    if (sealed.n == 0 || sv_open_sealed(&plain, t->seal_key, sv_str_of(who->token_id), sealed, &why) != SV_OK || plain.n != 64)
        return;
    sv_s3_key *k = sv_xnew0(sv_s3_key);
    k->who = *who;
    memcpy(k->secret, plain.p, 64);
    explicit_bzero(plain.p, plain.n);
    free(sv_smap_put(t->by_id, sv_str_of(who->token_id), k));
}

static sv_rc load_tokens(sv_dbw *r, table *t, sv_err *err)
{
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT hash, account_id, id, name, s3_secret FROM tokens WHERE revoked_ms IS NULL", err) != SV_OK)
        return err->code;
    while (sv_stmt_step(&q, &row, err) == SV_OK) {
        if (!row)
            return SV_OK;
        sv_str hash = sv_col_str(&q, 0);
        sv_principal *p = sv_xnew0(sv_principal);
        copy_col(&q, 1, p->account_id, sizeof p->account_id);
        copy_col(&q, 2, p->token_id, sizeof p->token_id);
        copy_col(&q, 3, p->name, sizeof p->name);
        free(sv_smap_put(t->by_hash, hash, p));
        load_secret(t, p, sv_col_str(&q, 4));
    }
    return err->code;
}

static sv_rc load_accounts(sv_dbw *r, table *t, sv_err *err)
{
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT id, name, created_ms FROM accounts", err) != SV_OK)
        return err->code;
    while (sv_stmt_step(&q, &row, err) == SV_OK) {
        if (!row)
            return SV_OK;
        sv_account_info *i = sv_xnew0(sv_account_info);
        copy_col(&q, 0, i->id, sizeof i->id);
        copy_col(&q, 1, i->name, sizeof i->name);
        i->created_ms = sv_col_i64(&q, 2);
        free(sv_smap_put(t->accounts, sv_str_of(i->id), i));
    }
    return err->code;
}

static sv_rc read_generation(sv_dbw *r, void *out, sv_err *err)
{
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT n FROM generation", err) != SV_OK || sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    if (!row)
        return sv_fail(err, SV_EFORMAT, "account.db has no generation");
    *(int64_t *)out = sv_col_i64(&q, 0);
    return SV_OK;
}

static sv_rc load_table(sv_dbw *r, void *arg, sv_err *err) /* one snapshot: rows and generation belong together */
{
    table *t = arg;
    if (read_generation(r, &t->generation, err) != SV_OK || load_accounts(r, t, err) != SV_OK)
        return err->code;
    return load_tokens(r, t, err);
}

static sv_rc reload(sv_accounts *a, sv_err *err)
{
    SV_AUTO(table_freep) table *t = sv_xnew0(table);
    t->by_hash = sv_smap_new();
    t->by_id = sv_smap_new();
    t->seal_key = a->seal_key;
    t->accounts = sv_smap_new();
    if (sv_db_read(a->db, load_table, t, err) != SV_OK)
        return err->code;
    pthread_rwlock_wrlock(&a->lock);
    /* Two reloads may cross: the older snapshot must not win. The loser is freed by the brace. */
    if (!a->table || t->generation >= a->table->generation) {
        table *old = a->table;
        a->table = SV_TAKE(t);
        t = old;
    }
    pthread_rwlock_unlock(&a->lock);
    return SV_OK;
}

/* Another process may have made or revoked a token. */
static void look_for_changes(void *arg)
{
    static sv_log_gate gate;
    sv_accounts *a = arg;
    int64_t now = 0;
    sv_err err = {0};
    pthread_rwlock_rdlock(&a->lock);
    int64_t known = a->table->generation;
    pthread_rwlock_unlock(&a->lock);
    sv_rc rc = sv_db_read(a->db, read_generation, &now, &err);
    if (rc == SV_OK && now != known)
        rc = reload(a, &err);
    if (rc != SV_OK && sv_log_may(&gate, 1))
        sv_log(SV_WARN, "account.watch", "error='%s' tokens=unchanged", err.msg);
}

/* ---- keys and the first start ---- */

/* Reads DATA/secrets/<name>, or makes it when `may_make`. */
static sv_rc load_key(uint8_t out[KEY_BYTES], const char *dir, const char *name, bool may_make, sv_err *err)
{
    struct stat st;
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/secrets/%s", dir, name);
    if (stat(path, &st) < 0) {
        if (errno != ENOENT)
            return sv_fail_errno(err, "'%s'", path);
        if (!may_make) /* inv. 1 */
            return sv_fail(err, SV_ENOENT, "'%s' is missing, and accounts exist: put it back from the backup", path);
        sv_random(out, KEY_BYTES);
        return sv_file_replace(path, out, KEY_BYTES, 0600, err);
    }
    if (st.st_mode & 077)
        return sv_fail(err, SV_EINVAL, "'%s' is open to others (mode %03o): chmod 600 it", path, st.st_mode & 0777);
    SV_AUTO(sv_buf_donep) sv_buf key;
    sv_buf_init(&key, 4096);
    if (sv_file_read(&key, path, err) != SV_OK)
        return err->code;
    if (key.n != KEY_BYTES)
        return sv_fail(err, SV_EFORMAT, "'%s' has %zu bytes, a key has %d", path, key.n, KEY_BYTES);
    memcpy(out, key.p, KEY_BYTES);
    return SV_OK;
}

static sv_rc read_first_id(sv_dbw *r, void *arg, sv_err *err) /* leaves "" when there is no account */
{
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT id FROM accounts ORDER BY created_ms, id LIMIT 1", err) != SV_OK ||
        sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    if (row)
        copy_col(&q, 0, arg, 33);
    return SV_OK;
}

typedef struct new_token {
    sv_accounts *a;
    const char *account_id, *name;
    char text[64], id[33];
    uint8_t hash[32];
    sv_buf sealed; /* the secret of S3 */
    bool first; /* its account is made with it */
} new_token;

/* The secret of S3 that belongs to a token, sealed for its row. */
static sv_rc seal_secret(const sv_accounts *a, sv_str token, const char *id, sv_buf *out, sv_err *err)
{
    uint8_t sum[32];
    char hex[65];
    sv_sha256(sum, token.p, token.n);
    sv_hex(hex, sum, sizeof sum);
    sv_rc rc = sv_seal(out, a->seal_key, sv_str_of(id), sv_str_of(hex), err);
    explicit_bzero(hex, sizeof hex);
    return rc;
}

static sv_rc token_make(new_token *t, sv_err *err)
{
    uint8_t bytes[TOKEN_BYTES];
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    sv_random(bytes, sizeof bytes);
    sv_buf_adds(&b, "sv_");
    sv_base64url_encode(&b, bytes, sizeof bytes);
    SV_ASSERT(!b.failed && b.n < sizeof t->text);
    memcpy(t->text, b.p, b.n + 1);
    sv_random_hex(t->id, ID_BYTES);
    sv_hmac_sha256(t->hash, t->a->token_key, KEY_BYTES, t->text, b.n);
    sv_buf_init(&t->sealed, 4096);
    return seal_secret(t->a, sv_buf_str(&b), t->id, &t->sealed, err);
}

static sv_rc insert_account(sv_dbw *w, const char *id, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "INSERT INTO accounts VALUES (?1, 'Selvedge', ?2)", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, id);
    sv_bind_i64(&q, 2, sv_now_ms());
    return sv_stmt_run(&q, err);
}

static sv_rc raise_generation(sv_dbw *w, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "UPDATE generation SET n = n + 1", err) != SV_OK)
        return err->code;
    return sv_stmt_run(&q, err);
}

static sv_rc count_live(sv_dbw *w, const char *account_id, int64_t *out, sv_err *err)
{
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "SELECT count(*) FROM tokens WHERE account_id = ?1 AND revoked_ms IS NULL", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, account_id);
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    *out = sv_col_i64(&q, 0);
    return SV_OK;
}

static sv_rc insert_token(sv_dbw *w, void *arg, sv_err *err)
{
    const new_token *t = arg;
    int64_t live = 0;
    if ((t->first && insert_account(w, t->account_id, err) != SV_OK) || count_live(w, t->account_id, &live, err) != SV_OK)
        return err->code;
    if (live >= sv_limit_value(SV_LIMIT_TOKENS))
        return sv_fail(err, SV_ELIMIT, "%lld live tokens, at most %lld: revoke one", (long long)live,
                       (long long)sv_limit_value(SV_LIMIT_TOKENS));
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "INSERT INTO tokens (id, account_id, name, hash, created_ms, s3_secret) VALUES (?1, ?2, ?3, ?4, ?5, ?6)", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, t->id);
    sv_bind_cstr(&q, 2, t->account_id);
    sv_bind_cstr(&q, 3, t->name);
    sv_bind_blob(&q, 4, t->hash, sizeof t->hash);
    sv_bind_i64(&q, 5, sv_now_ms());
    sv_bind_blob(&q, 6, t->sealed.p, t->sealed.n);
    sv_rc rc = sv_stmt_run(&q, err);
    if (rc == SV_ECONFLICT)
        return sv_fail(err, rc, "a live token is named '%s': revoke it, or choose another name", t->name);
    return rc == SV_OK ? raise_generation(w, err) : rc;
}

static sv_rc write_file(const char *dir, const char *name, const char *text, sv_err *err)
{
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/%s", dir, name);
    return sv_file_replace(path, text, strlen(text), 0600, err);
}

static sv_rc first_start(sv_accounts *a, const char *dir, sv_err *err)
{
    sv_random_hex(a->first_id, ID_BYTES);
    new_token t = {.a = a, .account_id = a->first_id, .name = "first", .first = true};
    sv_rc rc = token_make(&t, err);
    if (rc == SV_OK)
        rc = write_file(dir, "account", a->first_id, err);
    if (rc == SV_OK)
        rc = write_file(dir, "token", t.text, err);
    if (rc == SV_OK)
        rc = sv_db_write(a->db, insert_token, &t, err);
    sv_buf_done(&t.sealed);
    return rc;
}

/* ---- tokens of releases that knew no S3: the one in DATA/token can be had ---- */

typedef struct old_token { uint8_t hash[32]; char id[33]; sv_buf sealed; } old_token;

static sv_rc find_without_secret(sv_dbw *r, void *arg, sv_err *err)
{
    old_token *t = arg;
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT id FROM tokens WHERE hash = ?1 AND s3_secret IS NULL", err) != SV_OK)
        return err->code;
    sv_bind_blob(&q, 1, t->hash, sizeof t->hash);
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    if (row)
        copy_col(&q, 0, t->id, sizeof t->id);
    return SV_OK;
}

static sv_rc set_secret(sv_dbw *w, void *arg, sv_err *err)
{
    const old_token *t = arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "UPDATE tokens SET s3_secret = ?2 WHERE id = ?1", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, t->id);
    sv_bind_blob(&q, 2, t->sealed.p, t->sealed.n);
    return sv_stmt_run(&q, err) == SV_OK ? raise_generation(w, err) : err->code;
}

static sv_rc give_first_secret(sv_accounts *a, const char *dir, sv_err *err)
{
    old_token t = {0};
    sv_err why = {0};
    SV_AUTO(sv_buf_donep) sv_buf text;
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/token", dir);
    sv_buf_init(&text, 4096);
    if (sv_file_read(&text, path, &why) != SV_OK)
        return SV_OK; /* somebody took it away: good */
    sv_str token = sv_str_trim(sv_buf_str(&text));
    sv_hmac_sha256(t.hash, a->token_key, KEY_BYTES, token.p, token.n);
    sv_rc rc = sv_db_read(a->db, find_without_secret, &t, err);
    if (rc != SV_OK || !t.id[0])
        return rc;
    sv_buf_init(&t.sealed, 4096);
    rc = seal_secret(a, token, t.id, &t.sealed, err);
    if (rc == SV_OK)
        rc = sv_db_write(a->db, set_secret, &t, err);
    sv_buf_done(&t.sealed);
    return rc;
}

static sv_rc open_files(sv_accounts *a, const char *dir, sv_err *err)
{
    SV_AUTO(sv_freep) char *secrets = sv_xasprintf("%s/secrets", dir);
    SV_AUTO(sv_freep) char *db_path = sv_xasprintf("%s/account.db", dir);
    if (sv_mkdir_p(dir, 0700, err) != SV_OK || sv_mkdir_p(secrets, 0700, err) != SV_OK)
        return err->code;
    SV_AUTO(sv_fd_closep) int lock = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* released with the fd */
    if (lock < 0 || flock(lock, LOCK_EX) < 0)
        return sv_fail_errno(err, "lock '%s'", dir);
    if (sv_db_open(&a->db, db_path, migrations, (int)SV_LEN(migrations), err) != SV_OK ||
        sv_db_read(a->db, read_first_id, a->first_id, err) != SV_OK)
        return err->code;
    bool first = a->first_id[0] == '\0';
    if (load_key(a->token_key, dir, "token.key", first, err) != SV_OK || load_key(a->seal_key, dir, "seal.key", first, err) != SV_OK)
        return err->code;
    return first ? first_start(a, dir, err) : give_first_secret(a, dir, err);
}

sv_rc sv_accounts_open(sv_accounts **out, const char *data_dir, sv_err *err)
{
    SV_AUTO(sv_accounts_closep) sv_accounts *a = sv_xnew0(sv_accounts);
    pthread_rwlock_init(&a->lock, NULL);
    if (open_files(a, data_dir, err) != SV_OK || reload(a, err) != SV_OK)
        return err->code;
    a->watch = sv_ticker_new("account", POLL_MS, look_for_changes, a);
    *out = SV_TAKE(a);
    return SV_OK;
}

sv_accounts *sv_accounts_close(sv_accounts *a)
{
    if (!a)
        return NULL;
    sv_ticker_free(a->watch);
    sv_db_close(a->db);
    table_free(a->table);
    pthread_rwlock_destroy(&a->lock);
    explicit_bzero(a, sizeof *a);
    free(a);
    return NULL;
}

/* ---- the check ---- */

/* "Bearer TOKEN", the scheme in any case (RFC 7235). */
static bool bearer(sv_str authorization, sv_str *token)
{
    sv_str s = sv_str_trim(authorization);
    if (s.n < 8 || !sv_str_ieq((sv_str){s.p, 6}, "bearer") || s.p[6] != ' ')
        return false;
    *token = sv_str_trim((sv_str){s.p + 7, s.n - 7});
    if (token->n == 0 || token->n > MAX_TOKEN_CHARS)
        return false;
    for (size_t i = 0; i < token->n; i++)
        if (token->p[i] <= ' ' || token->p[i] == 0x7f)
            return false;
    return true;
}

sv_rc sv_accounts_check(sv_accounts *a, sv_str authorization, sv_principal *out, sv_err *err)
{
    sv_str token;
    uint8_t hash[32];
    if (!bearer(authorization, &token))
        return sv_fail(err, SV_ENOENT, "no bearer token");
    sv_hmac_sha256(hash, a->token_key, KEY_BYTES, token.p, token.n);
    pthread_rwlock_rdlock(&a->lock);
    const sv_principal *p = sv_smap_get(a->table->by_hash, (sv_str){(const char *)hash, sizeof hash});
    if (p)
        *out = *p;
    pthread_rwlock_unlock(&a->lock);
    return p ? SV_OK : sv_fail(err, SV_EINVAL, "unknown or revoked token");
}

sv_rc sv_accounts_s3_key(sv_accounts *a, sv_str token_id, sv_s3_key *out, sv_err *err)
{
    pthread_rwlock_rdlock(&a->lock);
    const sv_s3_key *k = token_id.n == 32 ? sv_smap_get(a->table->by_id, token_id) : NULL;
    if (k)
        *out = *k;
    pthread_rwlock_unlock(&a->lock);
    return k ? SV_OK : sv_fail(err, SV_ENOENT, "no access key of that id");
}

bool sv_accounts_find(sv_accounts *a, sv_str account_id, sv_account_info *out)
{
    pthread_rwlock_rdlock(&a->lock);
    const sv_account_info *i = sv_smap_get(a->table->accounts, account_id);
    if (i && out)
        *out = *i;
    pthread_rwlock_unlock(&a->lock);
    return i != NULL;
}

const char *sv_accounts_first_id(sv_accounts *a) { return a->first_id; }
const uint8_t *sv_accounts_seal_key(sv_accounts *a) { return a->seal_key; }

/* ---- tokens ---- */

static bool is_hex_id(const char *s) { return strlen(s) == 32 && strspn(s, "0123456789abcdef") == 32; }

static sv_rc check_name(const char *name, sv_err *err)
{
    size_t n = strlen(name);
    if (n == 0 || (int64_t)n > sv_limit_value(SV_LIMIT_TOKEN_NAME_BYTES))
        return sv_fail(err, SV_EINVAL, "a token's name has 1 to %lld bytes, not %zu",
                       (long long)sv_limit_value(SV_LIMIT_TOKEN_NAME_BYTES), n);
    if (is_hex_id(name))
        return sv_fail(err, SV_EINVAL, "a token's name must not look like an id");
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)name[i] < ' ' || name[i] == 0x7f)
            return sv_fail(err, SV_EINVAL, "a token's name has no control characters");
    return sv_utf8_valid(sv_str_of(name)) ? SV_OK : sv_fail(err, SV_EINVAL, "a token's name is UTF-8");
}

sv_rc sv_token_create(sv_accounts *a, const char *account_id, const char *name, char out_token[64], char out_id[33], sv_err *err)
{
    if (check_name(name, err) != SV_OK)
        return err->code;
    if (!sv_accounts_exists(a, sv_str_of(account_id)))
        return sv_fail(err, SV_ENOENT, "no account '%.40s'", account_id);
    new_token t = {.a = a, .account_id = account_id, .name = name};
    sv_rc rc = token_make(&t, err);
    if (rc == SV_OK)
        rc = sv_db_write(a->db, insert_token, &t, err);
    sv_buf_done(&t.sealed);
    if (rc != SV_OK)
        return rc;
    sv_err later = {0}; /* the token is made and this is its only chance to be told; the watch thread tries the load again */
    if (reload(a, &later) != SV_OK)
        sv_log(SV_WARN, "account.reload", "error='%s' again_in_ms=%d", later.msg, POLL_MS);
    memcpy(out_token, t.text, sizeof t.text);
    memcpy(out_id, t.id, sizeof t.id);
    return SV_OK;
}

static json_t *token_json(sv_stmt *q)
{
    char id[33], account_id[33], name[64], created[32];
    copy_col(q, 0, id, sizeof id);
    copy_col(q, 1, account_id, sizeof account_id);
    copy_col(q, 2, name, sizeof name);
    sv_iso8601(created, sv_col_i64(q, 3));
    return json_pack("{s:s, s:s, s:s, s:s, s:s}", "id", id, "name", name, "account_id", account_id, "created_on", created, "status",
                     sv_col_null(q, 4) ? "active" : "revoked");
}

static sv_rc list_tokens(sv_dbw *r, void *all, sv_err *err)
{
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT id, account_id, name, created_ms, revoked_ms FROM tokens ORDER BY created_ms, id", err) != SV_OK)
        return err->code;
    while (sv_stmt_step(&q, &row, err) == SV_OK) {
        if (!row)
            return SV_OK;
        if (json_array_append_new(all, token_json(&q)) < 0)
            return sv_fail(err, SV_ENOMEM, "list of tokens");
    }
    return err->code;
}

sv_rc sv_token_list(sv_accounts *a, json_t **out, sv_err *err)
{
    SV_AUTO(sv_json_decrefp) json_t *all = json_array();
    if (sv_db_read(a->db, list_tokens, all, err) != SV_OK)
        return err->code;
    *out = SV_TAKE(all);
    return SV_OK;
}

static sv_rc revoke_token(sv_dbw *w, void *arg, sv_err *err)
{
    const char *which = arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0}, old = {0};
    if (sv_stmt_prep(&q, w, "UPDATE tokens SET revoked_ms = ?2 WHERE (id = ?1 OR name = ?1) AND revoked_ms IS NULL", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, which);
    sv_bind_i64(&q, 2, sv_now_ms());
    if (sv_stmt_run(&q, err) != SV_OK)
        return err->code;
    if (sv_db_changes(w) == 0)
        return sv_fail(err, SV_ENOENT, "no live token '%.64s'", which);
    if (sv_stmt_prep(&old, w, "DELETE FROM tokens WHERE id IN (SELECT id FROM tokens WHERE revoked_ms IS NOT NULL"
                              " ORDER BY revoked_ms DESC LIMIT -1 OFFSET ?1)", err) != SV_OK)
        return err->code;
    sv_bind_i64(&old, 1, REVOKED_KEPT);
    if (sv_stmt_run(&old, err) != SV_OK)
        return err->code;
    return raise_generation(w, err);
}

sv_rc sv_token_revoke(sv_accounts *a, const char *id_or_name, sv_err *err)
{
    if (sv_db_write(a->db, revoke_token, (void *)(uintptr_t)id_or_name, err) != SV_OK)
        return err->code;
    return reload(a, err);
}
