/* d1_out.c - an answer that may be large
 *
 * Results are written out whole before the first byte goes to the client, because an error in the last row must not follow a success that
 * was already sent, and a client that reads slowly must not keep the database's only connection. What does not fit into 1 MiB goes to a
 * file without a name, so that a million rows cost disk for a moment and no memory, and a crash leaves nothing behind. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "d1/d1_conn.h"

enum { IN_MEMORY = 1 << 20, PIECE = 256 << 10, LARGEST_APPEND = 64 << 20 };

void sv_d1_out_init(sv_d1_out *s, const char *dir, int64_t max)
{
    *s = (sv_d1_out){.fd = -1, .max = max, .dir = dir};
    sv_buf_init(&s->b, LARGEST_APPEND);
}

void sv_d1_out_done(sv_d1_out *s)
{
    sv_buf_done(&s->b);
    sv_fd_closep(&s->fd);
    s->fd = -1;
    s->n_file = 0;
}

sv_rc sv_d1_out_settle(sv_d1_out *s, sv_err *err)
{
    if (s->b.failed)
        return sv_fail(err, SV_ELIMIT, "a row of the result is too large");
    if (sv_d1_out_size(s) > s->max)
        return sv_fail(err, SV_ELIMIT, "the result is larger than %lld bytes; ask for fewer rows, by LIMIT", (long long)s->max);
    if (s->b.n < (s->fd < 0 ? IN_MEMORY : PIECE))
        return SV_OK;
    if (s->fd < 0 && (s->fd = open(s->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)) < 0)
        return sv_fail_errno(err, "a temporary file for the result");
    if (sv_write_all(s->fd, s->b.p, s->b.n, err) != SV_OK)
        return sv_wrap(err, "the result");
    s->n_file += (int64_t)s->b.n;
    if (s->b.cap > 4 * PIECE)
        sv_buf_done(&s->b);
    else
        sv_buf_reset(&s->b);
    return SV_OK;
}
