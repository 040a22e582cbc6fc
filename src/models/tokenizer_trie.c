/* tokenizer_trie.c - strings to ids, one byte after the other
 *
 * Unigram and WordPiece ask for every token that a text begins with, or the longest; a trie answers while it walks. Edges lie in
 * one open-addressing table of (node, byte) -> node: no array of 256 children a node, no list to search. */
#include "models/tokenizer_impl.h"

#include "base/mem.h"

static uint32_t hash_edge(uint64_t key)
{
    key *= 0x9e3779b97f4a7c15u;
    return (uint32_t)(key >> 32);
}

uint32_t sv_tok_trie_next(const tok_trie *t, uint32_t node, uint8_t byte)
{
    uint64_t key = ((uint64_t)node << 8 | byte) + 1;
    for (uint32_t i = hash_edge(key) & t->mask; t->edge[i]; i = (i + 1) & t->mask)
        if (t->edge[i] == key)
            return t->child[i];
    return 0;
}

static void put(tok_trie *t, uint64_t key, uint32_t child)
{
    uint32_t i = hash_edge(key) & t->mask;
    while (t->edge[i])
        i = (i + 1) & t->mask;
    t->edge[i] = key;
    t->child[i] = child;
}

static sv_rc grow_edges(tok_trie *t, sv_err *err)
{
    tok_trie old = *t;
    size_t n = t->edge ? 2 * ((size_t)t->mask + 1) : 1024;
    uint64_t *edge = n > 1u << 30 ? NULL : sv_try_calloc(n, sizeof *edge);
    uint32_t *child = edge ? sv_try_calloc(n, sizeof *child) : NULL;
    if (!child) {
        free(edge);
        return sv_fail(err, SV_ENOMEM, "no memory for a trie of %zu edges", n);
    }
    t->edge = edge;
    t->child = child;
    t->mask = (uint32_t)(n - 1);
    for (size_t i = 0; old.edge && i <= old.mask; i++)
        if (old.edge[i])
            put(t, old.edge[i], old.child[i]);
    free(old.edge);
    free(old.child);
    return SV_OK;
}

static sv_rc new_node(tok_trie *t, uint32_t *node, sv_err *err)
{
    if (t->n_nodes == t->cap_nodes) {
        size_t cap = t->cap_nodes ? 2 * (size_t)t->cap_nodes : 256;
        int32_t *id = cap > 1u << 30 ? NULL : sv_try_realloc(t->id, cap, sizeof *id);
        if (!id)
            return sv_fail(err, SV_ENOMEM, "no memory for a trie of %zu nodes", cap);
        t->id = id;
        t->cap_nodes = (uint32_t)cap;
    }
    t->id[t->n_nodes] = -1;
    *node = t->n_nodes++;
    return SV_OK;
}

sv_rc sv_tok_trie_add(tok_trie *t, const char *p, size_t n, int32_t id, sv_err *err)
{
    uint32_t node = 0;
    if ((!t->edge && grow_edges(t, err) != SV_OK) || (t->n_nodes == 0 && new_node(t, &node, err) != SV_OK))
        return err->code;
    for (size_t i = 0; i < n; i++) {
        uint32_t next = sv_tok_trie_next(t, node, (uint8_t)p[i]);
        if (next == 0) {
            if (2 * (size_t)t->n_edges > t->mask && grow_edges(t, err) != SV_OK)
                return err->code;
            if (new_node(t, &next, err) != SV_OK)
                return err->code;
            put(t, ((uint64_t)node << 8 | (uint8_t)p[i]) + 1, next);
            t->n_edges++;
        }
        node = next;
    }
    if (t->id[node] < 0)
        t->id[node] = id;
    return SV_OK;
}

void sv_tok_trie_done(tok_trie *t)
{
    free(t->edge);
    free(t->child);
    free(t->id);
}

/* UNIGRAM: every text that text can be cut into; WORDPIECE: pieces, a space in front of those that begin a word. */
sv_rc sv_tok_trie_build(sv_tokenizer *t, sv_err *err)
{
    if (sv_tok_trie_add(&t->trie, "", 0, -1, err) != SV_OK)
        return err->code;
    for (int32_t id = 0; id < t->n_vocab; id++) {
        bool normal = t->type[id] == TOK_NORMAL || t->type[id] == TOK_USER || t->type[id] == TOK_UNUSED;
        sv_str s = t->kind == KIND_WORDPIECE ? t->piece[id] : t->text[id];
        if (normal && s.n > 0 && sv_tok_trie_add(&t->trie, s.p, s.n, id, err) != SV_OK)
            return err->code;
    }
    return SV_OK;
}
