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

/* Does some stop string stand at text[0..n) whole; or, where `partly`, is all of text a beginning of one? */
static bool match(const sv_stops *s, const char *text, size_t n, bool partly)
{
    for (int32_t i = 0; i < s->n_stops; i++) {
        size_t len = strlen(s->stop[i]);
        if (partly ? len > n && memcmp(text, s->stop[i], n) == 0 : len <= n && memcmp(text, s->stop[i], len) == 0)
            return true;
    }
    return false;
}

static size_t find(const sv_stops *s, bool partly)
{
    size_t at = 0;
    while (at < s->held.n && !match(s, s->held.p + at, s->held.n - at, partly))
        at++;
    return at;
}

bool sv_stops_feed(sv_stops *s, sv_str piece, sv_buf *out)
{
    if (s->n_stops == 0 || piece.n == 0) {
        sv_buf_add(out, piece.p, piece.n);
        return false;
    }
    sv_buf_add(&s->held, piece.p, piece.n);
    size_t at = find(s, false); /* first: a whole one ends the text even inside the beginning of a longer one */
    bool found = at < s->held.n;
    if (!found)
        at = find(s, true);
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
