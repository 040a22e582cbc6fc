/* public_addr.c - the ranges that user code must not reach through us
 *
 * From IANA's special-purpose registries (RFC 6890 and its successors). IPv6 is open only in 2000::/3, where the internet
 * lives; the transition forms that carry an IPv4 address (mapped, NAT64, 6to4) are judged by that, and Teredo, whose
 * hides it, is refused. */
#include "http/public_addr.h"

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static uint32_t u32_at(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }

static bool v4_is_public(uint32_t ip)
{
    static const struct { uint32_t net; int bits; } closed[] = {
        {0x00000000, 8},  {0x0a000000, 8},  {0x64400000, 10}, {0x7f000000, 8},  {0xa9fe0000, 16}, {0xac100000, 12}, {0xc0000000, 24},
        {0xc0000200, 24}, {0xc0586300, 24}, {0xc0a80000, 16}, {0xc6120000, 15}, {0xc6336400, 24}, {0xcb007100, 24}, {0xe0000000, 3},
    };
    for (size_t i = 0; i < sizeof closed / sizeof *closed; i++)
        if ((ip ^ closed[i].net) >> (32 - closed[i].bits) == 0)
            return false;
    return true;
}

static bool v6_is_public(const uint8_t *a)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff}, nat64[12] = {0x00, 0x64, 0xff, 0x9b};
    if (memcmp(a, mapped, 12) == 0 || memcmp(a, nat64, 12) == 0)
        return v4_is_public(u32_at(a + 12));
    if ((a[0] & 0xe0) != 0x20)
        return false;
    uint32_t top = u32_at(a);
    if (top >> 16 == 0x2002)
        return v4_is_public(u32_at(a + 2));
    /* 2001::/23 protocol assignments (Teredo among them), 2001:db8::/32 and 3fff::/20 documentation */
    return top >> 9 != 0x20010000 >> 9 && top != 0x20010db8 && top >> 12 != 0x3fff0000 >> 12;
}

bool sv_addr_is_public(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, a, sizeof v4);
        return v4_is_public(ntohl(v4.sin_addr.s_addr));
    }
    if (a->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, a, sizeof v6);
        return v6_is_public(v6.sin6_addr.s6_addr);
    }
    return false;
}
