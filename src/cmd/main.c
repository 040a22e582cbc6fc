/* main.c - `selvedge COMMAND`: the table of commands */
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "cmd/cmd.h"

static const struct {
    const char *name;
    int (*fn)(int argc, char **argv);
    const char *help; /* NULL: not for people */
} commands[] = {
    {"serve", sv_cmd_serve, "serve [--data DIR] [--listen HOST:PORT] [--models DIR]   run the platform"},
    {"models", sv_cmd_models, "models list | import PATH --as ID | pull ID|URL | remove ID | verify [--data DIR]"},
    {"token", sv_cmd_token, "token create NAME | list | revoke ID|NAME [--data DIR]"},
    {"status", sv_cmd_status, "status [--data DIR]                                      what runs, and how much it did"},
    {"limits", sv_cmd_limits, "limits                                                   the limits page, as Markdown"},
    {"daemon", sv_cmd_daemon, NULL},
    {"engine", sv_cmd_engine, NULL},
};

int sv_cmd_fail(const sv_err *err)
{
    fprintf(stderr, "selvedge: %s\n", err->msg);
    return 1;
}

int sv_cmd_usage(const char *text)
{
    fputs(text, stderr);
    return 2;
}

void sv_cmd_root(char out[4096])
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    out[0] = 0;
    if (n <= 0)
        return;
    self[n] = 0;
    char *build = dirname(self);
    char *slash = strrchr(build, '/');
    if (slash && slash != build)
        snprintf(out, 4096, "%.*s", (int)(slash - build), build);
}

static int help(FILE *to, int rc)
{
    fputs("selvedge " SV_VERSION " - edge AI on your own machines\n\n", to);
    for (size_t i = 0; i < SV_LEN(commands); i++)
        if (commands[i].help)
            fprintf(to, "  selvedge %s\n", commands[i].help);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return help(stderr, 2);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)
        return help(stdout, 0);
    if (strcmp(argv[1], "--version") == 0) {
        puts("selvedge " SV_VERSION);
        return 0;
    }
    for (size_t i = 0; i < SV_LEN(commands); i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].fn(argc - 1, argv + 1);
    fprintf(stderr, "selvedge: no command '%s'\n\n", argv[1]);
    return help(stderr, 2);
}
