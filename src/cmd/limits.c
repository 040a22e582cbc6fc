/* limits.c - `selvedge limits`: prints docs/limits.md from the table that the code enforces */
#include <stdio.h>

#include "account/limits.h"
#include "cmd/cmd.h"

int sv_cmd_limits(int argc, char **argv)
{
    (void)argv;
    if (argc != 1)
        return sv_cmd_usage("usage: selvedge limits\n");
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 1 << 20);
    sv_limits_markdown(&b);
    fwrite(b.p, 1, b.n, stdout);
    return 0;
}
