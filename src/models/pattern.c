/* pattern.c - an automaton that finds the leftmost match, the first alternative first, and looks at each character about once
 *
 * A backtracking matcher is what these patterns were written for, and what a stranger's megabyte of spaces turns into hours. We
 * make a deterministic automaton instead, when the pattern is compiled. Its states are ordered lists of the places in the code
 * where a backtracking matcher could be; the order is that in which it would have tried them, so a match at some place cuts off
 * all places behind it in the list, and that is the whole of "first alternative wins" (Cox, "Regular expression matching: the
 * virtual machine approach", 2009, with the lists made beforehand).
 *
 * A lookahead for one character stays in the list as a place of its own and is decided when the next character is seen, or the
 * end; so "a match ends here" is a property of a state and the character after it. One table holds both: bits 0 to 14 the next
 * state, 0 for dead; bit 15 that a match ends before this character.
 *
 * Characters: two code points that no set of the pattern tells apart are one class. Patterns have some 5 to 40 classes; pages of
 * 256 code points, equal ones stored once, give the class of each.
 *
 * A search may run far ahead and come back: "\s+$" looks through all spaces to find no end behind them, at each of them. What
 * such a run proves is kept: bit s of memo[i] says that from state s at byte i no match can end any more. The next run that meets
 * this pair stops there, so no pair is walked twice, and the whole stays linear. Bits are for the first 64 states; the patterns
 * we know have up to 33. */
#include "models/pattern_impl.h"

#include "base/mem.h"
#include "models/unicode.h"

enum {
    MAX_STATES = 2048,
    MAX_CLASSES = 256,
    MAX_WORK = 1 << 22, /* places looked at while the table is made: 100 times what the largest known pattern takes */
    ACCEPT = 0x8000,
    FAR = 32, /* bytes: a shorter look ahead is not worth a memo */
};

struct sv_pattern {
    uint32_t n_classes, n_states; /* class n_classes - 1 is the end of the text; state 0 is dead, 1 the start */
    uint16_t *table;              /* [n_states][n_classes] */
    uint16_t page[SV_UNI_MAX / 256 + 1];
    uint8_t (*row)[256];          /* [n_rows] classes */
};

sv_pattern *sv_pattern_free(sv_pattern *p)
{
    if (p) {
        free(p->table);
        free(p->row);
        free(p);
    }
    return NULL;
}

/* ---- classes ---- */

typedef struct builder {
    pat_program prog;
    sv_pattern *out;
    uint64_t sets_of[MAX_CLASSES]; /* class -> bits of the sets it is in */
    uint32_t n_known;
    int32_t *places; /* the lists of all states, one behind another */
    size_t n_places, cap_places;
    struct { size_t at; uint32_t n; uint32_t chain; } state[MAX_STATES];
    uint32_t bucket[4096]; /* hash of a list -> state, chained */
    uint8_t seen[PAT_MAX_CODE], looked[PAT_MAX_CODE];
    int32_t list[PAT_MAX_CODE], stack[2 * PAT_MAX_CODE + 2];
    uint32_t n_list;
    long work;
} builder;

static sv_rc class_of_sets(builder *b, uint64_t sets, uint8_t *class, sv_err *err)
{
    for (uint32_t i = 0; i < b->n_known; i++)
        if (b->sets_of[i] == sets) {
            *class = (uint8_t)i;
            return SV_OK;
        }
    if (b->n_known == MAX_CLASSES - 1) /* one is kept for the end */
        return sv_fail(err, SV_EFORMAT, "pattern: more than %d kinds of characters", MAX_CLASSES - 1);
    b->sets_of[*class = (uint8_t)b->n_known++] = sets;
    return SV_OK;
}

static sv_rc make_classes(builder *b, sv_err *err)
{
    sv_pattern *p = b->out;
    size_t at[PAT_MAX_SETS] = {0}, n_rows = 0, cap_rows = 0;
    for (uint32_t page = 0; page <= SV_UNI_MAX / 256; page++) {
        uint8_t row[256];
        for (uint32_t c = page * 256, next; c < page * 256 + 256; c = next) {
            uint64_t sets = 0;
            uint8_t class = 0;
            next = page * 256 + 256;
            for (int32_t s = 0; s < b->prog.n_sets; s++) { /* each set walks along; next is where some set changes */
                const pat_set *set = &b->prog.sets[s];
                while (at[s] < set->n && set->r[at[s]][1] < c)
                    at[s]++;
                if (at[s] == set->n)
                    continue;
                bool in = set->r[at[s]][0] <= c;
                uint32_t change = in ? set->r[at[s]][1] + 1 : set->r[at[s]][0];
                sets |= (uint64_t)in << s;
                next = change < next ? change : next;
            }
            if (class_of_sets(b, sets, &class, err) != SV_OK)
                return err->code;
            memset(row + (c & 255), class, next - c);
        }
        size_t same = n_rows;
        while (same-- > 0)
            if (memcmp(p->row[same], row, 256) == 0)
                break;
        if (same == SIZE_MAX) {
            if (n_rows == cap_rows) {
                cap_rows = cap_rows ? 2 * cap_rows : 16;
                void *more = sv_try_realloc(p->row, cap_rows, 256);
                if (!more)
                    return sv_fail(err, SV_ENOMEM, "no memory for a pattern");
                p->row = more;
            }
            memcpy(p->row[same = n_rows++], row, 256);
        }
        p->page[page] = (uint16_t)same;
    }
    p->n_classes = b->n_known + 1;
    return SV_OK;
}

/* ---- states ---- */

/* Appends to the list what is reached from `pc` without reading: sets, looks, matches, in order of preference. */
static void follow(builder *b, int32_t pc)
{
    int32_t n = 0;
    b->stack[n++] = pc;
    while (n > 0) {
        int32_t at = b->stack[--n];
        const pat_inst *i = &b->prog.code[at];
        if (b->seen[at])
            continue;
        b->seen[at] = 1;
        b->work++;
        if (i->op == OP_JUMP) {
            b->stack[n++] = at + i->a;
        } else if (i->op == OP_SPLIT) {
            b->stack[n++] = at + i->b;
            b->stack[n++] = at + i->a;
        } else {
            b->list[b->n_list++] = at;
        }
    }
}

/* The list becomes a state, if it is not one. */
static sv_rc intern(builder *b, uint32_t *state, sv_err *err)
{
    uint32_t h = 2166136261u;
    for (uint32_t i = 0; i < b->n_list; i++)
        h = (h ^ (uint32_t)b->list[i]) * 16777619u;
    h = (h ^ h >> 15) % SV_LEN(b->bucket);
    for (uint32_t s = b->bucket[h]; s; s = b->state[s].chain)
        if (b->state[s].n == b->n_list && memcmp(b->places + b->state[s].at, b->list, b->n_list * sizeof *b->list) == 0) {
            *state = s;
            return SV_OK;
        }
    if (b->out->n_states == MAX_STATES)
        return sv_fail(err, SV_EFORMAT, "pattern: more than %d states", MAX_STATES);
    if (b->n_places + b->n_list > b->cap_places) {
        size_t cap = 2 * (b->n_places + b->n_list) + 256;
        int32_t *places = sv_try_realloc(b->places, cap, sizeof *places);
        if (!places)
            return sv_fail(err, SV_ENOMEM, "no memory for a pattern");
        b->places = places;
        b->cap_places = cap;
    }
    uint32_t s = b->out->n_states++;
    if (b->n_list > 0) /* the list of the dead state is empty, and it is never looked for */
        memcpy(b->places + b->n_places, b->list, b->n_list * sizeof *b->list);
    b->state[s].at = b->n_places;
    b->state[s].n = b->n_list;
    b->state[s].chain = b->bucket[h];
    b->bucket[h] = s;
    b->n_places += b->n_list;
    *state = s;
    return SV_OK;
}

static bool look_holds(const builder *b, const pat_inst *look, uint32_t class)
{
    if (class == b->n_known)
        return look->end;
    return (b->sets_of[class] >> look->a & 1) != look->negate;
}

/* What state s does at a character of the class (or at the end): the list of the next state; true: a match ends here. */
static bool step(builder *b, uint32_t s, uint32_t class)
{
    int32_t stack[2 * PAT_MAX_CODE + 2];
    memset(b->seen, 0, (size_t)b->prog.n_code);
    memset(b->looked, 0, (size_t)b->prog.n_code);
    b->n_list = 0;
    for (uint32_t i = 0; i < b->state[s].n; i++) {
        int32_t n = 0;
        stack[n++] = b->places[b->state[s].at + i];
        while (n > 0) {
            int32_t at = stack[--n];
            const pat_inst *inst = &b->prog.code[at];
            if (b->looked[at])
                continue;
            b->looked[at] = 1;
            b->work++;
            if (inst->op == OP_MATCH)
                return true;
            if (inst->op == OP_SET) {
                if (class < b->n_known && (b->sets_of[class] >> inst->a & 1))
                    follow(b, at + 1);
            } else if (inst->op == OP_JUMP) {
                stack[n++] = at + inst->a;
            } else if (inst->op == OP_SPLIT) {
                stack[n++] = at + inst->b;
                stack[n++] = at + inst->a;
            } else if (look_holds(b, inst, class)) {
                stack[n++] = at + 1;
            }
        }
    }
    return false;
}

static sv_rc make_table(builder *b, sv_err *err)
{
    sv_pattern *p = b->out;
    uint32_t s;
    size_t cap = 0;
    if (intern(b, &s, err) != SV_OK) /* the empty list: dead, number 0 */
        return err->code;
    follow(b, 0);
    if (intern(b, &s, err) != SV_OK)
        return err->code;
    for (s = 0; s < p->n_states; s++) {
        if (s >= cap) {
            cap = cap ? 2 * cap : 32;
            uint16_t *table = sv_try_realloc(p->table, cap * p->n_classes, sizeof *table);
            if (!table)
                return sv_fail(err, SV_ENOMEM, "no memory for a pattern");
            p->table = table;
        }
        for (uint32_t class = 0; class < p->n_classes; class++) {
            uint32_t next = 0;
            bool accept = s != 0 && step(b, s, class);
            if (s != 0 && b->n_list > 0 && intern(b, &next, err) != SV_OK)
                return err->code;
            p->table[s * p->n_classes + class] = (uint16_t)(next | (accept ? ACCEPT : 0));
            if (b->work > MAX_WORK)
                return sv_fail(err, SV_EFORMAT, "pattern: too complex");
        }
    }
    return SV_OK;
}

static void builder_freep(builder **b)
{
    sv_pat_program_done(&(*b)->prog);
    sv_pattern_free((*b)->out);
    free((*b)->places);
    free(*b);
}

sv_rc sv_pattern_compile(sv_pattern **out, sv_str source, sv_err *err)
{
    SV_AUTO(builder_freep) builder *b = sv_xnew0(builder);
    b->out = sv_xnew0(sv_pattern);
    if (sv_pat_parse(&b->prog, source, err) != SV_OK || make_classes(b, err) != SV_OK || make_table(b, err) != SV_OK)
        return err->code;
    *out = SV_TAKE(b->out);
    return SV_OK;
}

/* ---- search ---- */

static uint32_t class_at(const sv_pattern *p, const char *s, size_t n, size_t *len)
{
    uint32_t c = (uint8_t)s[0];
    *len = 1;
    if (c >= 0x80) {
        *len = sv_uni_get(s, n, &c);
        c = c >= SV_UNI_BROKEN ? 0xfffd : c;
    }
    return p->row[p->page[c >> 8]][c & 255];
}

/* The run that found nothing behind (state, at) until `stop`: leaves that word to the next ones. */
static void remember(const sv_pattern *p, sv_str text, size_t at, size_t stop, size_t to, uint32_t state, sv_pattern_memo *memo)
{
    if (!memo->v && !(memo->v = sv_try_calloc(text.n + 1, sizeof *memo->v)))
        return; /* slower, not wrong */
    while (at < stop) {
        size_t len;
        state = p->table[state * p->n_classes + class_at(p, text.p + at, to - at, &len)] & (ACCEPT - 1);
        at += len;
        if (at < to && state < 64)
            memo->v[at] |= 1ull << state;
    }
}

/* The end of the match that begins at `start`, or `start`. */
static size_t match(const sv_pattern *p, sv_str text, size_t start, size_t to, sv_pattern_memo *memo)
{
    size_t at = start, end = start, len;
    uint32_t state = 1, state_at_end = 1;
    for (;;) {
        uint32_t class = p->n_classes - 1;
        len = 0;
        if (at < to)
            class = class_at(p, text.p + at, to - at, &len);
        uint32_t v = p->table[state * p->n_classes + class];
        if (v & ACCEPT) {
            end = at;
            state_at_end = state;
        }
        if (at == to || !(v & (ACCEPT - 1)))
            break;
        state = v & (ACCEPT - 1);
        at += len;
        if (memo->v && state < 64 && (memo->v[at] >> state & 1))
            break;
    }
    if (at - end > FAR)
        remember(p, text, end, at, to, state_at_end, memo);
    return end;
}

bool sv_pattern_find(const sv_pattern *p, sv_str text, size_t from, size_t to, sv_pattern_memo *memo, size_t *start, size_t *end)
{
    for (size_t at = from, len; at < to; at += len) {
        uint32_t first = p->table[p->n_classes + class_at(p, text.p + at, to - at, &len)];
        if (!(first & (ACCEPT - 1)))
            continue;
        size_t stop = match(p, text, at, to, memo);
        if (stop > at) {
            *start = at;
            *end = stop;
            return true;
        }
    }
    return false;
}
