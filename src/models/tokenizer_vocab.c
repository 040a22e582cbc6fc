/* tokenizer_vocab.c - the vocabulary: texts by id, ids by text, and what each token looks like inside a text
 *
 * Text to id is a flat table of our own and not base/map.h: the keys already lie in the vocabulary, and a quarter of a million
 * small allocations would be most of the time it takes to open a model.
 *
 * A token has a text, as the file spells it, and a piece, as it appears in what a person reads. SentencePiece writes a space as
 * U+2581 and single bytes as <0x0A>; GPT-2 writes every byte as a printable character ("Ġ" is a space), since its vocabulary
 * once had to be a text file without white space; WordPiece marks what continues a word.
 *
 * Invariant: texts and pieces point into `bytes`, whose size was fixed by sv_tok_vocab_init; it never moves. */
#include "models/tokenizer_impl.h"

#include <string.h>

#include "base/mem.h"

/* ---- GPT-2's spelling of bytes: printable ones of Latin-1 as themselves, the others from U+0100 on, in order ---- */

static bool is_itself(uint32_t b)
{
    return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
}

uint32_t sv_tok_byte_char(uint8_t b)
{
    if (is_itself(b))
        return b;
    return 0x100u + (b <= 0x20 ? b : b <= 0xa0 ? b - 0x7fu + 0x21u : 0x43u); /* 0-20, 7f-a0, ad */
}

int sv_tok_char_byte(uint32_t c)
{
    if (c < 0x100)
        return is_itself(c) ? (int)c : -1;
    c -= 0x100;
    return c <= 0x20 ? (int)c : c <= 0x42 ? (int)(c - 0x21 + 0x7f) : c == 0x43 ? 0xad : -1;
}

int sv_tok_byte_of(sv_str text)
{
    uint8_t b;
    if (text.n != 6 || memcmp(text.p, "<0x", 3) != 0 || text.p[5] != '>' || !sv_unhex(&b, 1, (sv_str){text.p + 3, 2}))
        return -1;
    return b;
}

/* ---- building ---- */

sv_rc sv_tok_vocab_init(sv_tokenizer *t, size_t n, size_t n_bytes, sv_err *err)
{
    if (n == 0 || n > SV_TOK_MAX_VOCAB)
        return sv_fail(err, SV_EFORMAT, "%zu tokens, must be 1 to %d", n, SV_TOK_MAX_VOCAB);
    t->n_vocab = (int32_t)n;
    t->bos = t->eos = t->unk = -1;
    t->text = sv_try_calloc(n, sizeof *t->text);
    t->piece = sv_try_calloc(n, sizeof *t->piece);
    t->type = sv_try_calloc(n, sizeof *t->type);
    t->score = sv_try_calloc(n, sizeof *t->score);
    t->eog = sv_try_calloc(n / 64 + 1, sizeof *t->eog);
    t->cap_bytes = 3 * n_bytes + 4 * n; /* a text, and a piece of at most twice that and 4 */
    t->bytes = sv_try_calloc(t->cap_bytes, 1);
    if (!t->text || !t->piece || !t->type || !t->score || !t->eog || !t->bytes)
        return sv_fail(err, SV_ENOMEM, "no memory for %zu tokens of %zu bytes", n, n_bytes);
    for (size_t i = 0; i < n; i++) {
        t->text[i] = t->piece[i] = SV_STR("");
        t->type[i] = TOK_UNUSED;
    }
    return SV_OK;
}

static sv_str keep(sv_tokenizer *t, const char *p, size_t n)
{
    SV_ASSERT(t->cap_bytes - t->n_bytes >= n);
    char *to = t->bytes + t->n_bytes;
    memcpy(to, p, n);
    t->n_bytes += n;
    return (sv_str){to, n};
}

void sv_tok_vocab_set(sv_tokenizer *t, int32_t id, sv_str text, int type, float score)
{
    t->text[id] = keep(t, text.p, text.n);
    t->type[id] = (uint8_t)type;
    t->score[id] = score;
    t->max_text = text.n > t->max_text ? text.n : t->max_text;
}

void sv_tok_vocab_piece(sv_tokenizer *t, int32_t id, sv_str piece)
{
    t->piece[id] = keep(t, piece.p, piece.n);
}

static uint32_t hash_bytes(const char *p, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a: keys are a few bytes long */
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)p[i]) * 0x100000001b3u;
    return (uint32_t)(h ^ h >> 32);
}

int32_t sv_tok_find(const sv_tokenizer *t, const char *p, size_t n)
{
    if (n > t->max_text || n == 0)
        return -1;
    for (uint32_t i = hash_bytes(p, n) & t->slot_mask; t->slots[i]; i = (i + 1) & t->slot_mask) {
        sv_str have = t->text[t->slots[i] - 1];
        if (have.n == n && memcmp(have.p, p, n) == 0)
            return (int32_t)t->slots[i] - 1;
    }
    return -1;
}

sv_rc sv_tok_vocab_index(sv_tokenizer *t, sv_err *err)
{
    uint32_t n_slots = 16;
    while (n_slots < 2 * (uint32_t)t->n_vocab)
        n_slots *= 2;
    t->slots = sv_try_calloc(n_slots, sizeof *t->slots);
    if (!t->slots)
        return sv_fail(err, SV_ENOMEM, "no memory to index %d tokens", t->n_vocab);
    t->slot_mask = n_slots - 1;
    for (int32_t id = 0; id < t->n_vocab; id++) {
        sv_str s = t->text[id];
        uint32_t i = hash_bytes(s.p, s.n) & t->slot_mask;
        if (s.n == 0)
            continue;
        /* Of two tokens with one text the first is found: padding and reserved ones come last. */
        while (t->slots[i] && !sv_str_eq(t->text[t->slots[i] - 1], s))
            i = (i + 1) & t->slot_mask;
        if (!t->slots[i])
            t->slots[i] = (uint32_t)id + 1;
    }
    return SV_OK;
}

void sv_tok_vocab_bytes(sv_tokenizer *t)
{
    memset(t->byte_id, -1, sizeof t->byte_id);
    if (t->byte_level) {
        for (int b = 0; b < 256; b++) {
            char u[4];
            t->byte_id[b] = sv_tok_find(t, u, sv_uni_put(u, sv_tok_byte_char((uint8_t)b)));
        }
        return;
    }
    for (int32_t id = t->n_vocab - 1; id >= 0; id--)
        if (t->type[id] == TOK_BYTE && sv_tok_byte_of(t->text[id]) >= 0)
            t->byte_id[sv_tok_byte_of(t->text[id])] = id;
}

/* ---- pieces ---- */

/* A text in GPT-2's spelling, as bytes at `to`; false: it is not in that spelling. */
static bool unspell(sv_str s, char *to, size_t *n)
{
    *n = 0;
    for (size_t i = 0; i < s.n;) {
        uint32_t c;
        i += sv_uni_get(s.p + i, s.n - i, &c);
        int b = sv_tok_char_byte(c);
        if (b < 0)
            return false;
        to[(*n)++] = (char)b;
    }
    return true;
}

/* Writes what a normal token stands for at `to`, which has room for its text; returns its length. */
static size_t write_piece(const sv_tokenizer *t, sv_str s, char *to)
{
    size_t n = 0, n_end = t->word_end ? strlen(t->word_end) : 0;
    bool ends = n_end > 0 && s.n >= n_end && memcmp(s.p + s.n - n_end, t->word_end, n_end) == 0;
    s.n -= ends ? n_end : 0;
    if (t->byte_level) {
        if (!unspell(s, to, &n)) {
            memcpy(to, s.p, s.n);
            n = s.n;
        }
    } else {
        for (size_t i = 0; i < s.n; n++) {
            bool space = s.n - i >= 3 && memcmp(s.p + i, "\xe2\x96\x81", 3) == 0;
            to[n] = space ? ' ' : s.p[i];
            i += space ? 3 : 1;
        }
    }
    if (ends)
        to[n++] = ' ';
    return n;
}

static void set_piece(sv_tokenizer *t, int32_t id)
{
    sv_str s = t->text[id];
    char *to = t->bytes + t->n_bytes;
    int b = sv_tok_byte_of(s);
    if (t->type[id] == TOK_CONTROL || t->type[id] == TOK_UNKNOWN || s.n == 0)
        return;
    if (t->type[id] == TOK_USER) {
        t->piece[id] = s;
        return;
    }
    SV_ASSERT(t->cap_bytes - t->n_bytes >= s.n + 1);
    size_t n = 0;
    if (t->type[id] != TOK_BYTE)
        n = write_piece(t, s, to);
    else if (b >= 0)
        to[n++] = (char)b;
    t->piece[id] = (sv_str){to, n};
    t->n_bytes += n;
}

void sv_tok_vocab_pieces(sv_tokenizer *t)
{
    size_t longest = 4; /* a character without a token of its own */
    for (int32_t id = 0; id < t->n_vocab; id++) {
        if (t->kind != KIND_WORDPIECE)
            set_piece(t, id);
        longest = t->text[id].n > longest ? t->text[id].n : longest;
        longest = t->piece[id].n > longest ? t->piece[id].n : longest;
    }
    /* A token of a family that fuses what it does not know, or drops spaces, has no bound. */
    bool lossy = t->kind == KIND_WORDPIECE || t->kind == KIND_UNIGRAM || t->fuse_unk;
    for (size_t i = 0; i < t->normalizer.n; i++)
        lossy = lossy || (t->normalizer.v[i].op != STEP_PREPEND && t->normalizer.v[i].op != STEP_REPLACE);
    for (size_t i = 0; i < t->splitter.n; i++)
        lossy = lossy || (t->splitter.v[i].op == STEP_SPLIT && t->splitter.v[i].keep == KEEP_NOT);
    for (size_t i = 0; i < t->raw.n; i++)
        lossy = lossy || t->raw.v[i].left || t->raw.v[i].right;
    for (size_t i = 0; i < t->normalized.n; i++)
        lossy = lossy || t->normalized.v[i].left || t->normalized.v[i].right;
    t->max_piece = lossy ? 0 : longest;
}

/* ---- end of generation ---- */

void sv_tok_mark_eog(sv_tokenizer *t, int32_t id)
{
    if (id >= 0 && id < t->n_vocab)
        t->eog[id / 64] |= 1ull << (id % 64);
}

/* Many files name only eos, so the control tokens by which the known chat formats end a turn count as well. */
void sv_tok_mark_turn_ends(sv_tokenizer *t)
{
    static const char *const turn_ends[] = {
        "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<|end|>", "<|end_of_turn|>",
        "<|EOT|>", "<|END_OF_TURN_TOKEN|>", "<\xef\xbd\x9c" "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>",
    };
    for (size_t i = 0; i < SV_LEN(turn_ends); i++) {
        int32_t id = sv_tok_find(t, turn_ends[i], strlen(turn_ends[i]));
        if (id >= 0 && (t->type[id] == TOK_CONTROL || t->type[id] == TOK_USER || t->type[id] == TOK_UNKNOWN))
            sv_tok_mark_eog(t, id);
    }
}

/* ---- added tokens ---- */

static int by_bytes(const void *a, const void *b)
{
    sv_str x = ((const tok_added *)a)->text, y = ((const tok_added *)b)->text;
    int c = memcmp(x.p, y.p, x.n < y.n ? x.n : y.n);
    if (c == 0)
        c = (x.n > y.n) - (x.n < y.n);
    return c ? c : (((const tok_added *)a)->id > ((const tok_added *)b)->id) - (((const tok_added *)a)->id < ((const tok_added *)b)->id);
}

sv_rc sv_tok_added_close(sv_tokenizer *t, tok_added *all, size_t n, sv_err *err)
{
    for (int k = 0; k < 2; k++) {
        tok_added_list *list = k ? &t->normalized : &t->raw;
        list->v = sv_try_calloc(n + 1, sizeof *list->v);
        if (!list->v)
            return sv_fail(err, SV_ENOMEM, "no memory for %zu added tokens", n);
        for (size_t i = 0; i < n; i++) {
            tok_added *a = &all[i];
            if (a->normalized != (k == 1))
                continue;
            if (!a->normalized)
                a->text = t->text[a->id];
            if (a->text.n == 0)
                continue;
            list->v[list->n++] = *a;
            list->first[(uint8_t)a->text.p[0]] = true;
        }
        qsort(list->v, list->n, sizeof *list->v, by_bytes);
    }
    return SV_OK;
}
