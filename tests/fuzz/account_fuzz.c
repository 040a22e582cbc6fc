/* links: account */
/* account_fuzz.c - Authorization headers: any bytes are refused with a sentence; the real token passes however it is wrapped
 *
 * A 'T' in the input stands for the data directory's own token, so that the fuzzer can reach acceptance. */
#include <stdlib.h>

#include "account/account.h"
#include "base/file.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static char dir[] = "/tmp/sv-account-fuzz-XXXXXX";
static sv_accounts *accounts;
static sv_buf token;

static void close_all(void)
{
    sv_err err = {0};
    sv_accounts_close(accounts);
    sv_buf_done(&token);
    SV_ASSERT(sv_remove_tree(dir, &err) == SV_OK);
}

static void open_once(void)
{
    sv_err err = {0};
    if (accounts)
        return;
    SV_ASSERT(mkdtemp(dir) && sv_accounts_open(&accounts, dir, &err) == SV_OK);
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/token", dir);
    sv_buf_init(&token, 0);
    SV_ASSERT(sv_file_read(&token, path, &err) == SV_OK);
    atexit(close_all);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    open_once();
    SV_AUTO(sv_buf_donep) sv_buf header;
    sv_buf_init(&header, 0);
    for (size_t i = 0; i < n; i++)
        if (p[i] == 'T')
            sv_buf_add(&header, token.p, token.n);
        else
            sv_buf_addc(&header, (char)p[i]);

    sv_err err = {0};
    sv_principal who = {0};
    /* A copy of exactly that size: a read past its end is seen. */
    SV_AUTO(sv_freep) char *exact = sv_xcalloc(1, header.n + (header.n == 0));
    memcpy(exact, sv_buf_cstr(&header), header.n);
    sv_rc rc = sv_accounts_check(accounts, (sv_str){exact, header.n}, &who, &err);
    if (rc == SV_OK)
        SV_ASSERT(memmem(exact, header.n, token.p, token.n) && strcmp(who.account_id, sv_accounts_first_id(accounts)) == 0);
    else
        SV_ASSERT((rc == SV_ENOENT || rc == SV_EINVAL) && err.msg[0] && who.account_id[0] == '\0');
    return 0;
}
