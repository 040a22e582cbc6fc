/* token.c - `selvedge token`: API tokens, straight in the data directory (a running daemon notices within a second) */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "account/account.h"
#include "base/json.h"
#include "cmd/cmd.h"

static const char usage[] = "usage: selvedge token create NAME | list | revoke ID|NAME  [--data DIR]\n";

static int create(sv_accounts *a, const char *name, sv_err *err)
{
    char token[64], id[33];
    if (sv_token_create(a, sv_accounts_first_id(a), name, token, id, err) != SV_OK)
        return sv_cmd_fail(err);
    printf("%s\n", token);
    fprintf(stderr, "token %s (%s) made; it is shown only this once\nS3: access key id %s, secret access key: printf %%s TOKEN | sha256sum\n", id, name, id);
    return 0;
}

static int list(sv_accounts *a, sv_err *err)
{
    json_t *all = NULL;
    if (sv_token_list(a, &all, err) != SV_OK)
        return sv_cmd_fail(err);
    size_t i;
    json_t *t;
    printf("%-32s  %-10s  %-27s  %s\n", "ID", "STATUS", "CREATED", "NAME");
    json_array_foreach (all, i, t)
        printf("%-32s  %-10s  %-27s  %s\n", sv_json_cstr(t, "id"), sv_json_cstr(t, "status"), sv_json_cstr(t, "created_on"),
               sv_json_cstr(t, "name"));
    json_decref(all);
    return 0;
}

static int revoke(sv_accounts *a, const char *which, sv_err *err)
{
    if (sv_token_revoke(a, which, err) != SV_OK)
        return sv_cmd_fail(err);
    fprintf(stderr, "token %s revoked\n", which);
    return 0;
}

int sv_cmd_token(int argc, char **argv)
{
    static const struct option options[] = {{"data", required_argument, NULL, 'd'}, {"help", no_argument, NULL, 'h'}, {0}};
    const char *data = SV_DEFAULT_DATA;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (c) {
        case 'd': data = optarg; break;
        case 'h': fputs(usage, stdout); return 0;
        default: return sv_cmd_usage(usage);
        }
    const char *verb = optind < argc ? argv[optind] : "", *arg = optind + 1 < argc ? argv[optind + 1] : NULL;
    bool wants_arg = strcmp(verb, "create") == 0 || strcmp(verb, "revoke") == 0;
    if ((!wants_arg && strcmp(verb, "list") != 0) || argc - optind != (wants_arg ? 2 : 1))
        return sv_cmd_usage(usage);
    sv_err err = {0};
    sv_accounts *a = NULL;
    if (sv_accounts_open(&a, data, &err) != SV_OK)
        return sv_cmd_fail(&err);
    int rc = verb[0] == 'c' ? create(a, arg, &err) : verb[0] == 'l' ? list(a, &err) : revoke(a, arg, &err);
    sv_accounts_close(a);
    return rc;
}
