/* public_addr.h - is an address on the open internet? Any thread. */
#ifndef SV_HTTP_PUBLIC_ADDR_H
#define SV_HTTP_PUBLIC_ADDR_H

#include <stdbool.h>
#include <sys/socket.h>

/* False for loopback, private, link-local, shared, multicast, reserved and documentation ranges, for IPv6 addresses that carry
 * such an IPv4 address inside, and for every other address family. */
bool sv_addr_is_public(const struct sockaddr *a);

#endif
