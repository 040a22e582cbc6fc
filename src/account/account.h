/* account.h - accounts, API tokens, and the bearer check in front of every API route
 *
 * Tokens are stored as HMAC-SHA256 under DATA/secrets/token.key (32 random bytes, 0600), never in clear; the first start writes the first token to
 * DATA/token and the account id to DATA/account (0600). DATA/secrets/seal.key seals Worker secrets (sv_seal).
 * The daemon checks tokens in memory: the table is loaded at open and re-read when `selvedge token` changed it (a generation row is polled
 * at most once a second).
 * Threads: open/close by the owner; sv_accounts_check and the getters on any thread; the rest blocks. */
#ifndef SV_ACCOUNT_ACCOUNT_H
#define SV_ACCOUNT_ACCOUNT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "db/db.h"

typedef struct sv_accounts sv_accounts;

/* Opens or makes DATA/account.db and the files above. */
SV_MUST sv_rc sv_accounts_open(sv_accounts **out, const char *data_dir, sv_err *err); /* makes the first account and token */
sv_accounts *sv_accounts_close(sv_accounts *a);
SV_DEFINE_AUTO(sv_accounts, sv_accounts_close)

typedef struct sv_principal { char account_id[33]; char token_id[33]; char name[64]; } sv_principal;
/* authorization: the header's value ("Bearer ..."). SV_ENOENT: absent or malformed header; SV_EINVAL: unknown or revoked token. */
SV_MUST sv_rc sv_accounts_check(sv_accounts *a, sv_str authorization, sv_principal *out, sv_err *err);
/* Of S3: the access key's id is a token's id, its secret the SHA-256 of the token in hex. It is kept sealed under seal.key, and found here for
 * the check of a signature. SV_ENOENT: no live token of that id, or one that an older release made and that nobody has shown since. */
typedef struct sv_s3_key { sv_principal who; char secret[65]; } sv_s3_key; /* the caller wipes it */
SV_MUST sv_rc sv_accounts_s3_key(sv_accounts *a, sv_str token_id, sv_s3_key *out, sv_err *err);
typedef struct sv_account_info { char id[33]; char name[64]; int64_t created_ms; } sv_account_info;
bool sv_accounts_find(sv_accounts *a, sv_str account_id, sv_account_info *out); /* false: no such account; out may be NULL */
static inline bool sv_accounts_exists(sv_accounts *a, sv_str account_id) { return sv_accounts_find(a, account_id, NULL); }
const char *sv_accounts_first_id(sv_accounts *a);   /* borrowed */
const uint8_t *sv_accounts_seal_key(sv_accounts *a); /* 32 bytes, borrowed */

/* The token is shown here and never again. Names are unique among an account's live tokens (SV_ECONFLICT), 1 to 63 bytes; SV_ELIMIT: too many. */
SV_MUST sv_rc sv_token_create(sv_accounts *a, const char *account_id, const char *name, char out_token[64], char out_id[33], sv_err *err);
SV_MUST sv_rc sv_token_list(sv_accounts *a, json_t **out, sv_err *err);     /* [{id,name,account_id,created_on,status}] */
/* By id, or by name in every account. SV_ENOENT: no live token of that id or name. */
SV_MUST sv_rc sv_token_revoke(sv_accounts *a, const char *id_or_name, sv_err *err);

#endif
