/* status.c - `selvedge status`: what runs, asked of the node itself: /metrics for people
 * Works whether or not the daemon runs: DATA/listen says where it would be. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "account/account.h"
#include "base/file.h"
#include "base/json.h"
#include "base/loop.h"
#include "cmd/cmd.h"
#include "http/client.h"

static const char usage[] = "usage: selvedge status [--data DIR]\n";

typedef struct ask { sv_loop *loop; sv_buf body; int status; sv_rc rc; sv_err err; } ask;

static void on_head(sv_fetch *f, int status, sv_str reason, void *arg)
{
    (void)f, (void)reason;
    ((ask *)arg)->status = status;
}

static void on_data(sv_fetch *f, const char *p, size_t n, void *arg)
{
    (void)f;
    sv_buf_add(&((ask *)arg)->body, p, n);
}

static void on_done(sv_fetch *f, sv_rc rc, const sv_err *err, void *arg)
{
    ask *a = arg;
    (void)f;
    a->rc = rc;
    if (rc != SV_OK)
        a->err = *err;
    sv_loop_stop(a->loop);
}

static sv_rc get(sv_buf *out, const char *url, sv_err *err)
{
    ask a = {.loop = sv_loop_new()};
    sv_buf_init(&a.body, 4 << 20);
    sv_client *c = sv_client_new(a.loop);
    sv_fetch *f = NULL;
    sv_rc rc = sv_fetch_start(&f, c, &(sv_fetch_opts){.method = "GET", .url = url, .timeout_ms = 5000, .on_head = on_head,
                                                      .on_data = on_data, .on_done = on_done, .arg = &a}, err);
    if (rc == SV_OK) {
        sv_loop_run(a.loop);
        rc = a.rc;
        if (rc != SV_OK)
            *err = a.err;
        else if (a.status != 200)
            rc = sv_fail(err, SV_EIO, "%s answered %d", url, a.status);
    }
    sv_client_free(c);
    sv_loop_free(a.loop);
    if (rc == SV_OK)
        sv_buf_add(out, a.body.p, a.body.n);
    sv_buf_done(&a.body);
    return rc;
}

/* "selvedge_x_total{model="m"} 5" without its comments: the lines of our own counters. Of histograms count and sum say enough here. */
static void print_metrics(char *text)
{
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (line[0] != '#' && !strstr(line, "_bucket{"))
            printf("  %s\n", strncmp(line, "selvedge_", 9) == 0 ? line + 9 : line);
}

int sv_cmd_status(int argc, char **argv)
{
    static const struct option options[] = {{"data", required_argument, NULL, 'd'}, {"help", no_argument, NULL, 'h'}, {0}};
    const char *data = SV_DEFAULT_DATA;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (c) {
        case 'd': data = optarg; break;
        case 'h': fputs(usage, stdout); return 0;
        default: return sv_cmd_usage(usage);
        }
    if (optind != argc)
        return sv_cmd_usage(usage);
    sv_err err = {0};
    SV_AUTO(sv_buf_donep) sv_buf listen, body;
    sv_buf_init(&listen, 256);
    sv_buf_init(&body, 4 << 20);
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/listen", data);
    if (sv_file_read(&listen, path, &err) != SV_OK) {
        sv_fail(&err, SV_ENOENT, "nothing has served '%s' yet: start it with `selvedge serve --data %s`", data, data);
        return sv_cmd_fail(&err);
    }
    sv_str at = sv_str_trim(sv_buf_str(&listen));
    SV_AUTO(sv_freep) char *url = sv_xasprintf("http://%.*s/metrics", (int)at.n, at.p);
    if (get(&body, url, &err) != SV_OK) {
        printf("not running (last at %.*s): %s\n", (int)at.n, at.p, err.msg);
        return 1;
    }
    printf("running at http://%.*s, data in %s\n", (int)at.n, at.p, data);
    print_metrics(body.p);
    return 0;
}
