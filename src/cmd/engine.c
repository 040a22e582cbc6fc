/* engine.c - `selvedge engine`: the inference process, started by serve with its listening socket as descriptor 3 */
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "account/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "cmd/cmd.h"
#include "engine/engine.h"

enum { LISTEN_FD = 3 };

/* It lies beside this program. Without it only WAV is heard, and each request with something else says so. */
static const char *audio_helper(char path[PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
    path[n > 0 ? n : 0] = 0;
    char *slash = strrchr(path, '/');
    if (!slash || (size_t)(slash - path) + sizeof "/selvedge-audio" > PATH_MAX)
        return NULL;
    strcpy(slash, "/selvedge-audio");
    return access(path, X_OK) == 0 ? path : NULL;
}

int sv_cmd_engine(int argc, char **argv)
{
    static const struct option options[] = {
        {"threads", required_argument, NULL, 't'}, {"drain-ms", required_argument, NULL, 'D'},
        {"step-ms", required_argument, NULL, 's'}, {"pack-dir", required_argument, NULL, 'p'}, {0}};
    const char *pack_dir = NULL;
    int64_t threads = 0, drain_ms = 10000, step_ms = 0;
    bool ok = true;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (c) {
        case 't': ok = ok && sv_str_to_i64(sv_str_of(optarg), &threads); break;
        case 'D': ok = ok && sv_str_to_i64(sv_str_of(optarg), &drain_ms); break;
        case 'p': pack_dir = optarg; break;
        case 's': ok = ok && sv_str_to_i64(sv_str_of(optarg), &step_ms); break;
        default: ok = false;
        }
    if (!ok || optind != argc || threads < 0 || threads > 1024 || step_ms < 0 || step_ms > 60000)
        return sv_cmd_usage("selvedge engine: started by `selvedge serve`\n");
    char helper[PATH_MAX];
    sv_log_init("engine", SV_INFO);
    signal(SIGPIPE, SIG_IGN);
    return sv_engine_main(&(sv_engine_opts){.listen_fd = LISTEN_FD, .n_threads = (int)threads, .drain_ms = drain_ms, .step_ms = (int32_t)step_ms,
                                             .audio_helper = audio_helper(helper), .pack_dir = pack_dir,
                                             .max_queued = (int32_t)sv_limit_value(SV_LIMIT_AI_QUEUE)});
}
