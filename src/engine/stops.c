/* stops.c - stop strings over a text that arrives in pieces
 *
 * Held back is the longest end of the text that is a beginning of some stop string, and no more: a client sees each character as soon as it
 * is certain. Stop strings are whole characters and so is each piece, hence every cut is on a character's border. Comparing at every offset
 * costs (held + piece) * stops * length in the worst case, all three small: held is shorter than the longest stop string (256 bytes). */
#include "engine/stops.h"

#include "base/mem.h"

void sv_stops_init(sv_stops *s, const sv_str *stop, int32_t n_stops)
{
    *s = (sv_stops){.n_stops = n_stops};
    sv_buf_init(&s->held, 0);
    if (n_stops > 0)
        s->stop = sv_xcalloc((size_t)n_stops, sizeof *s->stop);
    for (int32_t i = 0; i < n_stops; i++)
        s->stop[i] = sv_xstrndup(stop[i].p, stop[i].n);
}

void sv_stops_done(sv_stops *s)
{
    for (int32_t i = 0; i < s->n_stops; i++)
        free(s->stop[i]);
    free(s->stop);
    sv_buf_done(&s->held);
    *s = (sv_stops){0};
}

/* Where the stop string that ends first begins; of those that end there, the one that begins first: the text is then the same wherever its
 * pieces end. held.n: none is whole. */
static size_t find_whole(const sv_stops *s)
{
    size_t best = s->held.n, best_end = s->held.n + 1;
    for (size_t at = 0; at < s->held.n; at++)
        for (int32_t i = 0; i < s->n_stops; i++) {
            size_t len = strlen(s->stop[i]);
            if (at + len < best_end && len <= s->held.n - at && memcmp(s->held.p + at, s->stop[i], len) == 0) {
                best = at;
                best_end = at + len;
            }
        }
    return best;
}

/* Where the longest end of the text that some stop string begins with begins. */
static size_t find_beginning(const sv_stops *s)
{
    for (size_t at = 0; at < s->held.n; at++)
        for (int32_t i = 0; i < s->n_stops; i++)
            if (strlen(s->stop[i]) > s->held.n - at && memcmp(s->held.p + at, s->stop[i], s->held.n - at) == 0)
                return at;
    return s->held.n;
}

bool sv_stops_feed(sv_stops *s, sv_str piece, sv_buf *out)
{
    if (s->n_stops == 0 || piece.n == 0) {
        sv_buf_add(out, piece.p, piece.n);
        return false;
    }
    sv_buf_add(&s->held, piece.p, piece.n);
    size_t at = find_whole(s); /* first: a whole one ends the text even inside the beginning of a longer one */
    bool found = at < s->held.n;
    if (!found)
        at = find_beginning(s);
    sv_buf_add(out, s->held.p, at);
    if (found)
        at = s->held.n;
    memmove(s->held.p, s->held.p + at, s->held.n - at + 1); /* the NUL too */
    s->held.n -= at;
    return found;
}

void sv_stops_finish(sv_stops *s, sv_buf *out)
{
    sv_buf_add(out, sv_buf_cstr(&s->held), s->held.n);
    sv_buf_reset(&s->held);
}
