/* serve.c - `selvedge serve`: finds the parts, becomes the supervisor */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "cmd/cmd.h"
#include "workers/super.h"

static const char usage[] =
    "usage: selvedge serve [--data DIR] [--listen HOST:PORT] [--models DIR] [--threads N] [--step-ms N]\n"
    "                      [--drain-ms N] [--workerd PATH] [--haproxy PATH]\n"
    "  --data DIR          everything that is kept (default " SV_DEFAULT_DATA ")\n"
    "  --listen HOST:PORT  the one port (default " SV_DEFAULT_LISTEN "; loopback unless you say otherwise; port 0: a free one)\n"
    "  --models DIR        default models, one GGUF each (default: models/ beside the build)\n"
    "  --threads N         compute threads of the engine (default 0: all cores; at most 1024)\n"
    "  --step-ms N         while a text is being written, other prompts hold its next token up for about N ms at most; more reads prompts\n"
    "                      a little faster (default 100; 1 to 60000)\n"
    "  --drain-ms N        how long SIGTERM waits for requests in progress (default 10000; 100 to 3600000)\n"
    "  --workerd PATH      runs the Workers (default: of node_modules/ beside the build, else of PATH)\n"
    "  --haproxy PATH      the front door (default: of PATH)\n";

enum { MAX_THREADS = 1024, MAX_DRAIN_MS = 60 * 60 * 1000, MAX_STEP_MS = 60 * 1000 };

#if defined(__aarch64__)
#define WORKERD_PACKAGE "@cloudflare/workerd-linux-arm64"
#else
#define WORKERD_PACKAGE "@cloudflare/workerd-linux-64"
#endif

/* A program: beside the source tree first, then in PATH and the sbin folders. Empty when it is nowhere. */
static void find_program(char out[4096], const char *beside, const char *name)
{
    char root[4096];
    sv_cmd_root(root);
    snprintf(out, 4096, "%.2000s/%.1000s", root, beside);
    if (beside[0] && access(out, X_OK) == 0)
        return;
    const char *path = getenv("PATH");
    char *all = sv_xasprintf("%s:/usr/local/sbin:/usr/sbin:/sbin", path ? path : "/usr/bin"), *save = NULL;
    for (char *dir = strtok_r(all, ":", &save); dir; dir = strtok_r(NULL, ":", &save)) {
        snprintf(out, 4096, "%.2000s/%.1000s", dir, name);
        if (access(out, X_OK) == 0) {
            free(all);
            return;
        }
    }
    free(all);
    out[0] = 0;
}

int sv_cmd_serve(int argc, char **argv)
{
    static const struct option options[] = {
        {"data", required_argument, NULL, 'd'},    {"listen", required_argument, NULL, 'l'},
        {"models", required_argument, NULL, 'm'},  {"threads", required_argument, NULL, 't'},
        {"step-ms", required_argument, NULL, 's'}, {"drain-ms", required_argument, NULL, 'D'},
        {"workerd", required_argument, NULL, 'w'},
        {"haproxy", required_argument, NULL, 'x'}, {"help", no_argument, NULL, 'h'},
        {0}};
    const char *data = SV_DEFAULT_DATA, *listen = SV_DEFAULT_LISTEN, *threads = "0", *drain = "10000", *step = "100";
    char models[4200], workerd[4096], haproxy[4096], root[4096];
    sv_cmd_root(root);
    snprintf(models, sizeof models, "%s/models", root);
    find_program(workerd, "node_modules/" WORKERD_PACKAGE "/bin/workerd", "workerd");
    find_program(haproxy, "", "haproxy");
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (c) {
        case 'd': data = optarg; break;
        case 'l': listen = optarg; break;
        case 'm': snprintf(models, sizeof models, "%s", optarg); break;
        case 't': threads = optarg; break;
        case 's': step = optarg; break;
        case 'D': drain = optarg; break;
        case 'w': snprintf(workerd, sizeof workerd, "%s", optarg); break;
        case 'x': snprintf(haproxy, sizeof haproxy, "%s", optarg); break;
        case 'h': fputs(usage, stdout); return 0;
        default: return sv_cmd_usage(usage);
        }
    int64_t drain_ms = 0, n_threads = 0, step_ms = 0;
    if (optind != argc || !sv_str_to_i64(sv_str_of(drain), &drain_ms) || drain_ms < 100 || drain_ms > MAX_DRAIN_MS ||
        !sv_str_to_i64(sv_str_of(threads), &n_threads) || n_threads < 0 || n_threads > MAX_THREADS || /* else the engine would refuse it, for ever */
        !sv_str_to_i64(sv_str_of(step), &step_ms) || step_ms < 1 || step_ms > MAX_STEP_MS)
        return sv_cmd_usage(usage);

    sv_log_init("serve", SV_INFO);
    sv_err err = {0};
    if (!workerd[0])
        sv_log(SV_ERROR, "serve.workerd", "workerd='not found: run `npm ci` in the source tree, or give --workerd PATH'");
    if (!haproxy[0]) {
        sv_fail(&err, SV_ENOENT, "haproxy is not installed: apt-get install haproxy, or give --haproxy PATH");
        return sv_cmd_fail(&err);
    }
    const char *daemon_args[] = {"--data", data, "--models", models, "--workerd", workerd, "--haproxy", haproxy, "--drain-ms", drain, NULL};
    SV_AUTO(sv_freep) char *pack_dir = sv_xasprintf("%s/" SV_PACK_DIR, data);
    const char *engine_args[] = {"--threads", threads, "--step-ms", step, "--drain-ms", drain, "--pack-dir", pack_dir, NULL};
    sv_super_opts opts = {.data_dir = data, .listen = listen, .drain_ms = drain_ms, .self = "/proc/self/exe",
                          .daemon_args = daemon_args, .engine_args = engine_args};
    if (sv_super_run(&opts, &err) != SV_OK)
        return sv_cmd_fail(&err);
    return 0;
}
