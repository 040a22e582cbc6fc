/* hash.h - digests, keyed hashes, random bytes and ids, over OpenSSL. Any thread. */
#ifndef SV_BASE_HASH_H
#define SV_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

void sv_sha256(uint8_t out[32], const void *p, size_t n);
void sv_hmac_sha256(uint8_t out[32], const void *key, size_t key_n, const void *p, size_t n);
uint64_t sv_hash64(const void *p, size_t n, uint64_t seed); /* not cryptographic; for tables */
bool sv_equal_ct(const void *a, const void *b, size_t n);   /* constant time */
void sv_random(void *p, size_t n);                          /* ends the process if the kernel gives none */
void sv_random_hex(char *out /* 2n+1 */, size_t n);
void sv_uuid4(char out[37]);

/* AES-256-GCM with a random nonce in front and the tag behind; `aad` binds the text to its place (a row's key).
 * SV_EFORMAT on open: wrong key, place or bytes. */
SV_MUST sv_rc sv_seal(sv_buf *out, const uint8_t key[32], sv_str aad, sv_str plain, sv_err *err);
SV_MUST sv_rc sv_open_sealed(sv_buf *out, const uint8_t key[32], sv_str aad, sv_str sealed, sv_err *err);

#endif
