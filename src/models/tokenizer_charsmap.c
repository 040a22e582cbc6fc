/* tokenizer_charsmap.c - SentencePiece's table of replacements: what it does to a text before it looks for tokens
 *
 * The "precompiled charsmap" of a SentencePiece model, as GGUF and tokenizer.json carry it, little-endian:
 *     0  u32 size of the trie, bytes     4  u32 units of a double-array trie (Darts-clone)     then  the replacements, NUL-ended
 * A unit: bits 0-7 the label (and bit 31 for a leaf), bit 8 that a value follows, bits 10-30 the offset to the children, shifted
 * by 8 more where bit 9 is set; a leaf's bits 0-30 are the value: where its replacement begins.
 *
 * Nothing in it is trusted: a child outside the table ends the walk, and replacements are checked to lie inside, with their NUL. */
#include "models/tokenizer_impl.h"

#include <string.h>

#include "base/mem.h"

struct tok_charsmap {
    uint32_t *unit;
    size_t n_units;
    char *text; /* NUL-ended */
    size_t n_text;
};

tok_charsmap *sv_tok_charsmap_free(tok_charsmap *m)
{
    if (m) {
        free(m->unit);
        free(m->text);
        free(m);
    }
    return NULL;
}

sv_rc sv_tok_charsmap_new(tok_charsmap **out, const void *p, size_t n, sv_err *err)
{
    uint32_t size;
    if (n < sizeof size)
        return sv_fail(err, SV_EFORMAT, "precompiled charsmap: %zu bytes, no room for a header", n);
    memcpy(&size, p, sizeof size);
    if (size % 4 != 0 || size == 0 || size > n - sizeof size)
        return sv_fail(err, SV_EFORMAT, "precompiled charsmap: a trie of %u bytes in %zu", size, n);
    tok_charsmap *m = sv_xnew0(tok_charsmap);
    m->n_units = size / 4;
    m->n_text = n - sizeof size - size;
    m->unit = sv_try_calloc(m->n_units, sizeof *m->unit);
    m->text = sv_try_calloc(m->n_text + 1, 1);
    if (!m->unit || !m->text) {
        sv_tok_charsmap_free(m);
        return sv_fail(err, SV_ENOMEM, "no memory for a charsmap of %zu bytes", n);
    }
    memcpy(m->unit, (const char *)p + sizeof size, size);
    memcpy(m->text, (const char *)p + sizeof size + size, m->n_text);
    *out = m;
    return SV_OK;
}

static uint32_t offset(uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }

bool sv_tok_charsmap_find(const tok_charsmap *m, sv_str text, size_t *n, sv_str *to)
{
    size_t at = 0;
    bool found = false;
    at ^= offset(m->unit[at]);
    for (size_t i = 0; i < text.n && text.p[i]; i++) {
        uint8_t c = (uint8_t)text.p[i];
        at ^= c;
        if (at >= m->n_units || (m->unit[at] & (1u << 31 | 0xff)) != c)
            break;
        uint32_t unit = m->unit[at];
        at ^= offset(unit);
        if (!(unit & 1u << 8) || at >= m->n_units)
            continue;
        uint32_t value = m->unit[at] & 0x7fffffff;
        if (value <= m->n_text) {
            *to = sv_str_of(m->text + value);
            *n = i + 1;
            found = true;
        }
    }
    return found;
}
