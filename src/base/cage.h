/* cage.h - bytes of strangers are parsed in a child process that can do nothing else
 *
 * Decoders of pictures and sound are large and old, and what they read anybody may have made. So each run gets a process of its own: it has the bytes
 * and a socket back, may ask for memory up to a limit, and no system call beyond that opens anything. If it crashes, hangs or grows too large, it alone
 * ends, and the run fails with a sentence.
 * Threads: sv_cage_run from any; new and free from one. */
#ifndef SV_BASE_CAGE_H
#define SV_BASE_CAGE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"

typedef struct sv_cage sv_cage;

/* What is done inside: no files, no threads, no clock; memory is malloc's. What it appends to *out, or err, is what sv_cage_run gives. */
typedef sv_rc (*sv_cage_fn)(sv_str in, sv_buf *out, sv_err *err);

typedef struct sv_cage_opts { /* zeros are the defaults */
    size_t max_memory; /* 1 GiB: of a run, its input and output among it */
    int max_cpu_s;     /* 20 */
    int max_wall_s;    /* 60 */
    size_t max_in;     /* 64 MiB */
    size_t max_out;    /* 256 MiB */
    int max_at_once;   /* 4: runs; others wait for their turn */
} sv_cage_opts;

/* Makes the process that makes the runs' processes; best called while this one is small and has no threads. If it is ever gone, the next run starts
 * another. SV_EIO. */
SV_MUST sv_rc sv_cage_new(sv_cage **out, const sv_cage_fn *fns, int n_fns, const sv_cage_opts *opts, sv_err *err);
sv_cage *sv_cage_free(sv_cage *c); /* nobody runs anything. NULL is fine; returns NULL */
SV_DEFINE_AUTO(sv_cage, sv_cage_free)

/* Runs fns[i_fn] on head and body, one behind the other, and waits. What it appended is appended to *out; its error is err. SV_EFORMAT where it crashed or went over
 * its memory or time: the input is to blame. SV_ECANCELED once *cancel (or NULL) is true, SV_ELIMIT for input over max_in, SV_EIO. */
SV_MUST sv_rc sv_cage_run(sv_cage *c, int i_fn, sv_str head, sv_str body, sv_buf *out, const _Atomic bool *cancel, sv_err *err);

#endif
