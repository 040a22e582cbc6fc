/* err.c - formats the sentence of an sv_err, in place and without the heap
 *
 * A message may quote bytes from outside and is cut at a fixed size, so the cut is moved back to a character border: what we
 * send on must stay valid UTF-8. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

static void set_msg(sv_err *err, const char *text, size_t n)
{
    if (n >= sizeof err->msg) {
        n = sizeof err->msg - 1;
        n = sv_utf8_whole((sv_str){text, n});
    }
    memmove(err->msg, text, n);
    err->msg[n] = 0;
}

static void set_fmt(sv_err *err, const char *fmt, va_list ap)
{
    char text[sizeof err->msg + 8];
    int n = vsnprintf(text, sizeof text, fmt, ap);
    set_msg(err, text, n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

sv_rc sv_fail(sv_err *err, sv_rc code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    set_fmt(err, fmt, ap);
    va_end(ap);
    err->code = code;
    err->api_code = 0;
    err->ours = false;
    return code;
}

sv_rc sv_fail_api(sv_err *err, sv_rc code, int api_code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    set_fmt(err, fmt, ap);
    va_end(ap);
    err->code = code;
    err->api_code = api_code;
    err->ours = false;
    return code;
}

static sv_rc rc_of_errno(int e)
{
    switch (e) {
    case ENOENT:
    case ENOTDIR: return SV_ENOENT;
    case EEXIST: return SV_ECONFLICT;
    case ENOMEM: return SV_ENOMEM;
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE: return SV_ELIMIT;
    default: return SV_EIO;
    }
}

sv_rc sv_fail_errno(sv_err *err, const char *fmt, ...)
{
    int e = errno;
    char text[sizeof err->msg];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    char why[128];
    sv_fail(err, rc_of_errno(e), "%s: %s", text, strerror_r(e, why, sizeof why));
    err->ours = true;
    return err->code;
}

sv_rc sv_wrap(sv_err *err, const char *fmt, ...)
{
    char text[2 * sizeof err->msg];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof err->msg, fmt, ap);
    va_end(ap);
    if (n < 0)
        n = 0;
    if ((size_t)n >= sizeof err->msg)
        n = (int)sizeof err->msg - 1;
    n += snprintf(text + n, sizeof text - (size_t)n, ": %s", err->msg);
    set_msg(err, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
    return err->code;
}

const char *sv_rc_name(sv_rc rc)
{
    static const char *const names[] = {"OK",  "EINVAL", "ENOENT", "ECONFLICT", "EFORMAT",
                                        "ELIMIT", "EIO", "ENOMEM", "ETIMEDOUT", "ECANCELED"};
    return rc <= 0 && -(int)rc < (int)SV_LEN(names) ? names[-(int)rc] : "unknown";
}

void sv_assert_fail(const char *file, int line, const char *expr)
{
    fprintf(stderr, "%s:%d: broken invariant: %s\n", file, line, expr);
    abort();
}
