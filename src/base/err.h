/* err.h - the one error idiom: a code for the program, a sentence for the person
 *
 * A function that can fail returns sv_rc and takes an sv_err last. On failure outputs are untouched and err is
 * filled; on success all outputs are set and err is not touched. `err` is never NULL.
 * Threads: values; no shared state. */
#ifndef SV_BASE_ERR_H
#define SV_BASE_ERR_H

#include <stdbool.h>
#include <stddef.h>

#define SV_MUST __attribute__((warn_unused_result))
#define SV_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

typedef enum sv_rc {
    SV_OK = 0,
    SV_EINVAL = -1,    /* the caller's argument makes no sense */
    SV_ENOENT = -2,    /* the named thing is not there */
    SV_ECONFLICT = -3, /* it exists already, or changed under you */
    SV_EFORMAT = -4,   /* bytes from outside break their own spec */
    SV_ELIMIT = -5,    /* a quota, a queue or the context is full */
    SV_EIO = -6,       /* disk, peer or child process failed us */
    SV_ENOMEM = -7,
    SV_ETIMEDOUT = -8,
    SV_ECANCELED = -9,
} sv_rc;

typedef struct sv_err {
    sv_rc code;
    int api_code;  /* Cloudflare's number where the failing code knows it (10021, 5006, ...), else 0 */
    char msg[480]; /* no heap: it can report ENOMEM. Cut, never split inside a UTF-8 character */
    bool ours;     /* the kernel or the disk did it, whatever the code: see sv_err_is_ours */
} sv_err;

/* Fills err and returns code: `return sv_fail(err, SV_EFORMAT, "tensor '%s': %d dims", name, n);` */
sv_rc sv_fail(sv_err *err, sv_rc code, const char *fmt, ...) SV_PRINTF(3, 4);

/* The same with Cloudflare's number, for errors that a client will see with that number. */
sv_rc sv_fail_api(sv_err *err, sv_rc code, int api_code, const char *fmt, ...) SV_PRINTF(4, 5);

/* From errno: ENOENT, EEXIST and ENOMEM keep their meaning, ENOSPC and EMFILE are SV_ELIMIT, all else SV_EIO.
 * Message: "<formatted>: <strerror>". Sets `ours`. */
sv_rc sv_fail_errno(sv_err *err, const char *fmt, ...) SV_PRINTF(2, 3);

/* Puts "<formatted>: " in front of the message, keeps the code and returns it. */
sv_rc sv_wrap(sv_err *err, const char *fmt, ...) SV_PRINTF(2, 3);

/* Not the client's doing: it is logged, and a client gets no word of it, since the message may name files. A full disk is such a one although
 * its code is SV_ELIMIT, and so is a file of ours that is missing. */
static inline bool sv_err_is_ours(const sv_err *err) { return err->ours || err->code == SV_EIO || err->code == SV_ENOMEM; }

const char *sv_rc_name(sv_rc rc); /* "EFORMAT"; static */

/* For our own bugs only, on in release too: prints file, line and expression, aborts. */
#define SV_ASSERT(x) ((x) ? (void)0 : sv_assert_fail(__FILE__, __LINE__, #x))
_Noreturn void sv_assert_fail(const char *file, int line, const char *expr);

#endif
