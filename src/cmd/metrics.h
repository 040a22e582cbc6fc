/* metrics.h - what /metrics shows of the engine process, whose numbers come over its socket
 * Threads: the loop's. */
#ifndef SV_CMD_METRICS_H
#define SV_CMD_METRICS_H

#include "base/loop.h"
#include "base/str.h"
#include "engine/client.h"
#include "http/server.h"

typedef struct sv_scrapes sv_scrapes;
sv_scrapes *sv_scrapes_new(sv_loop *loop, sv_engine_client *engine); /* both borrowed */
sv_scrapes *sv_scrapes_free(sv_scrapes *s); /* once the HTTP server and the engine's client are gone. NULL is fine; returns NULL */

/* Answers r with `others` (the text of all other counters; copied) and the engine's. An engine that does not answer within a second is left
 * out: selvedge_engine_up is 0 then. */
void sv_scrapes_answer(sv_scrapes *s, sv_req *r, sv_str others);

void sv_metrics_of_engine(sv_buf *out, const json_t *stats); /* stats: the engine's, or NULL */

#endif
