/* hash.c - OpenSSL for what must be secret or unforgeable, a multiply-mix of our own for tables */
#include "base/hash.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <string.h>
#include <sys/random.h>

void sv_sha256(uint8_t out[32], const void *p, size_t n) { SHA256(p ? p : "", n, out); }

void sv_hmac_sha256(uint8_t out[32], const void *key, size_t key_n, const void *p, size_t n)
{
    unsigned int len = 32;
    SV_ASSERT(HMAC(EVP_sha256(), key, (int)key_n, p ? p : (const void *)"", n, out, &len) != NULL);
}

/* 128-bit products folded to 64, eight bytes a step (as wyhash and its relatives do). */
static uint64_t mix(uint64_t a, uint64_t b)
{
    __extension__ unsigned __int128 r = (unsigned __int128)a * b;
    return (uint64_t)r ^ (uint64_t)(r >> 64);
}

uint64_t sv_hash64(const void *p, size_t n, uint64_t seed)
{
    const uint8_t *b = p;
    uint64_t h = seed ^ 0x9E3779B97F4A7C15u, v;
    for (size_t left = n; left > 0;) {
        size_t k = left < 8 ? left : 8;
        v = 0;
        memcpy(&v, b, k);
        h = mix(h ^ v, 0xD6E8FEB86659FD93u);
        b += k;
        left -= k;
    }
    return mix(h ^ n, 0xA0761D6478BD642Fu);
}

bool sv_equal_ct(const void *a, const void *b, size_t n) { return CRYPTO_memcmp(a, b, n) == 0; }

void sv_random(void *p, size_t n)
{
    for (uint8_t *b = p; n > 0;) {
        ssize_t k = getrandom(b, n < 256 ? n : 256, 0); /* up to 256 bytes a call are never interrupted */
        SV_ASSERT(k > 0);
        b += k;
        n -= (size_t)k;
    }
}

void sv_random_hex(char *out, size_t n)
{
    uint8_t bytes[32];
    for (size_t done = 0; done < n;) {
        size_t k = n - done < sizeof bytes ? n - done : sizeof bytes;
        sv_random(bytes, k);
        sv_hex(out + 2 * done, bytes, k);
        done += k;
    }
    out[2 * n] = 0;
}

void sv_uuid4(char out[37])
{
    uint8_t b[16];
    char h[33];
    sv_random(b, sizeof b);
    b[6] = (uint8_t)((b[6] & 0x0F) | 0x40);
    b[8] = (uint8_t)((b[8] & 0x3F) | 0x80);
    sv_hex(h, b, sizeof b);
    static const struct { int at, n; } group[] = {{0, 8}, {8, 4}, {12, 4}, {16, 4}, {20, 12}};
    for (size_t i = 0; i < SV_LEN(group); i++) {
        memcpy(out, h + group[i].at, (size_t)group[i].n);
        out += group[i].n;
        *out++ = '-';
    }
    out[-1] = 0;
}

enum { NONCE = 12, TAG = 16 };

static void cipher_freep(EVP_CIPHER_CTX **c) { EVP_CIPHER_CTX_free(*c); }

sv_rc sv_seal(sv_buf *out, const uint8_t key[32], sv_str aad, sv_str plain, sv_err *err)
{
    SV_AUTO(cipher_freep) EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    if (plain.n > INT32_MAX / 2 || aad.n > INT32_MAX / 2)
        return sv_fail(err, SV_ELIMIT, "%zu bytes are too many to seal", plain.n);
    uint8_t *to = (uint8_t *)sv_buf_room(out, NONCE + plain.n + TAG);
    int n = 0, tail = 0;
    if (!c || !to)
        return sv_fail(err, SV_ENOMEM, "no memory to seal %zu bytes", plain.n);
    sv_random(to, NONCE);
    if (EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, to) != 1 ||
        (aad.n && EVP_EncryptUpdate(c, NULL, &n, (const uint8_t *)aad.p, (int)aad.n) != 1))
        return sv_fail(err, SV_EIO, "seal: the cipher failed");
    n = 0;
    if ((plain.n && EVP_EncryptUpdate(c, to + NONCE, &n, (const uint8_t *)plain.p, (int)plain.n) != 1) ||
        EVP_EncryptFinal_ex(c, to + NONCE + n, &tail) != 1 ||
        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, TAG, to + NONCE + plain.n) != 1)
        return sv_fail(err, SV_EIO, "seal: the cipher failed");
    out->n += NONCE + plain.n + TAG;
    out->p[out->n] = 0;
    return SV_OK;
}

sv_rc sv_open_sealed(sv_buf *out, const uint8_t key[32], sv_str aad, sv_str sealed, sv_err *err)
{
    SV_AUTO(cipher_freep) EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    if (sealed.n < NONCE + TAG || sealed.n > INT32_MAX || aad.n > INT32_MAX)
        return sv_fail(err, SV_EFORMAT, "sealed value of %zu bytes is damaged", sealed.n);
    size_t plain_n = sealed.n - NONCE - TAG;
    const uint8_t *in = (const uint8_t *)sealed.p;
    uint8_t *to = (uint8_t *)sv_buf_room(out, plain_n), tag[TAG];
    int n = 0, tail = 0;
    if (!c || !to)
        return sv_fail(err, SV_ENOMEM, "no memory to open %zu bytes", plain_n);
    memcpy(tag, in + NONCE + plain_n, TAG);
    if (EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, in) != 1 ||
        (aad.n && EVP_DecryptUpdate(c, NULL, &n, (const uint8_t *)aad.p, (int)aad.n) != 1))
        return sv_fail(err, SV_EIO, "open sealed: the cipher failed");
    n = 0;
    if ((plain_n && EVP_DecryptUpdate(c, to, &n, in + NONCE, (int)plain_n) != 1) ||
        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, TAG, tag) != 1 || EVP_DecryptFinal_ex(c, to + n, &tail) != 1) {
        OPENSSL_cleanse(to, plain_n);
        to[0] = 0;
        return sv_fail(err, SV_EFORMAT, "sealed value does not open: another key, another place, or damaged");
    }
    out->n += plain_n;
    out->p[out->n] = 0;
    return SV_OK;
}
