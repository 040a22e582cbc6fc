/* outbound.h - a Worker's fetch() to the world: its process has no network, the daemon fetches for it
 * Public addresses only. Threads: the loop's. */
#ifndef SV_WORKERS_OUTBOUND_H
#define SV_WORKERS_OUTBOUND_H

#include "http/client.h"
#include "http/server.h"

/* On the binding server (which accepts absolute-form targets): calls whose x-sv-binding is "net". */
void sv_outbound_routes(sv_http *bindings, sv_client *client);

#endif
