/* sandbox.h - the cage around a child that runs code of strangers
 *
 * Applied in the child between fork and exec, from the outside in: resource limits, namespaces (mount, pid, net, ipc, uts, cgroup) with a
 * root that holds only what the list names, Landlock, no_new_privs, seccomp, an unprivileged uid. What the host does not allow is
 * left out, but for seccomp, without which nothing starts; the supervisor logs once what holds. Facts: each piece was tried with workerd
 * alone and together. */
#ifndef SV_WORKERS_SANDBOX_H
#define SV_WORKERS_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

typedef struct sv_sandbox {
    bool on;                        /* false: plain child (own programs) */
    const char *const *read_paths;  /* existing files and folders it may read and, where they are programs, run */
    const char *const *write_paths; /* existing folders that are its own: it may do all in them. The first decides its uid, to which they are given */
    int64_t data_bytes;             /* RLIMIT_DATA; 0: none */
} sv_sandbox;

enum { /* what holds, for sv_sandbox_probe */
    SV_CAGE_NAMESPACES = 1, SV_CAGE_LANDLOCK = 2, SV_CAGE_UID = 4,
};
/* What this host allows, found out by trying in a child. */
int sv_sandbox_probe(void);

/* clone(2) flags for the child, 0 where namespaces are not allowed (probed once). */
int sv_sandbox_clone_flags(void);
/* In the child, last thing before exec. SV_EIO with what failed: the caller must not exec then. */
SV_MUST sv_rc sv_sandbox_enter(const sv_sandbox *s, sv_err *err);

#endif
