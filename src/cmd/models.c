/* models.c - `selvedge models`: what this node can run, and how weights come and go
 *
 * Straight in the data directory, whether or not a daemon runs: a running one sees the change within a fraction of a second. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ai/catalogue.h"
#include "base/time.h"
#include "cmd/cmd.h"
#include "models/packed.h"

static const char usage[] =
    "usage: selvedge models list [--all]              models with weights here; with --all, the whole catalogue. PACKED: bytes\n"
    "                                                 on disk of the weights laid out for this CPU at first use, and in\n"
    "                                                 memory, instead of SIZE, while the model is loaded\n"
    "       selvedge models import PATH --as ID [--link]\n"
    "                                                 a GGUF file (of several parts the first) or a Hugging Face folder,\n"
    "                                                 copied (or hard-linked) into the data directory\n"
    "       selvedge models pull ID|URL [--as ID]     from file://, http:// or https://\n"
    "       selvedge models remove ID\n"
    "       selvedge models verify                    reads all weights again and compares their hashes\n"
    "  --data DIR    everything that is kept (default " SV_DEFAULT_DATA ")\n"
    "  --models DIR  default models, one GGUF each (default: models/ beside the build)\n";

static void print_size(char out[16], size_t bytes)
{
    if (bytes >= (size_t)1 << 30)
        snprintf(out, 16, "%.1f GiB", (double)bytes / (1 << 30));
    else
        snprintf(out, 16, "%.1f MiB", (double)bytes / (1 << 20));
}

/* The weights laid out for this CPU: a file beside the model's own, which is what a loaded model has in memory, too. "-": none yet, or nothing
 * of the model is packed. */
static void print_packed(char out[16], const char *data, const char *path)
{
    SV_AUTO(sv_freep) char *folder = sv_xasprintf("%s/" SV_PACK_DIR, data);
    SV_AUTO(sv_freep) char *real = realpath(path, NULL);
    size_t bytes = real ? sv_packed_size(folder, real) : 0;
    if (bytes > 0)
        print_size(out, bytes);
}

static int list(sv_catalogue *c, const char *data, bool all)
{
    static const char *const origins[] = {[SV_MODEL_KNOWN] = "-", [SV_MODEL_DEFAULT] = "default", [SV_MODEL_IMPORTED] = "imported"};
    sv_model_list l = sv_catalogue_list(c);
    printf("%-52s  %-8s  %9s  %9s  %9s  %-8s  %7s  %s\n", "ID", "FROM", "SIZE", "PACKED", "PARAMS", "WEIGHTS", "CONTEXT", "TASK");
    for (size_t i = 0; i < l.n; i++) {
        const sv_model *m = l.models[i];
        char size[16] = "-", packed[16] = "-", params[16] = "-", n_ctx[16] = "-";
        if (m->origin == SV_MODEL_KNOWN && !all)
            continue;
        if (m->path) {
            print_size(size, m->facts.size_bytes);
            print_packed(packed, data, m->path);
            snprintf(params, sizeof params, "%.4g M", (double)m->facts.n_params / 1e6);
        }
        if (m->n_ctx > 0)
            snprintf(n_ctx, sizeof n_ctx, "%d", m->n_ctx);
        const char *weights = m->path ? m->facts.weights : m->origin == SV_MODEL_KNOWN ? "-" : "MISSING";
        printf("%-52s  %-8s  %9s  %9s  %9s  %-8s  %7s  %s\n", m->id, origins[m->origin], size, packed, params, weights, n_ctx, m->task);
    }
    sv_model_list_done(&l);
    return 0;
}

/* One line on a terminal, at most ten times a second; nothing where nobody watches. */
typedef struct meter { int64_t last_ms; bool shown; } meter;

static void progress(const char *what, int64_t done, int64_t total, void *arg)
{
    meter *m = arg;
    int64_t now = sv_mono_ms();
    if (now - m->last_ms < 100 || !isatty(STDERR_FILENO))
        return;
    m->last_ms = now;
    m->shown = true;
    if (total > 0)
        fprintf(stderr, "\r%s: %" PRId64 " of %" PRId64 " MiB (%d%%)\033[K", what, done >> 20, total >> 20, (int)(100.0 * (double)done / (double)total));
    else
        fprintf(stderr, "\r%s: %" PRId64 " MiB\033[K", what, done >> 20);
    fflush(stderr);
}

/* What it was found to be, in a sentence. */
static void print_found(sv_catalogue *c, const char *id)
{
    SV_AUTO(sv_model_unrefp) const sv_model *m = NULL;
    sv_err none = {0};
    if (sv_catalogue_resolve(c, sv_str_of(id), &m, &none) == SV_OK)
        printf("%s: a %s (%s, %.4g M parameters, %s), for %s\n", m->id, sv_model_kind_name(m->facts.kind), m->facts.arch, (double)m->facts.n_params / 1e6,
               m->facts.weights, m->task);
}

static int bring(sv_catalogue *c, bool pull, const char *path, const char *id, bool link, sv_err *err)
{
    meter m = {.last_ms = sv_mono_ms()};
    sv_import_opts o = {.path = path, .id = id, .link = link, .progress = progress, .arg = &m};
    sv_rc rc = pull ? sv_catalogue_pull(c, &o, err) : sv_catalogue_import(c, &o, err);
    if (m.shown)
        fputs("\r\033[K", stderr);
    if (rc != SV_OK)
        return sv_cmd_fail(err);
    if (pull && !strstr(path, "://"))
        printf("%s is here already\n", path);
    else
        print_found(c, id);
    return 0;
}

static void verified(const sv_model *m, const sv_err *wrong, void *arg)
{
    (void)arg;
    printf("%-8s  %s%s%s\n", wrong ? "DAMAGED" : "ok", m->id, wrong ? ": " : "", wrong ? wrong->msg : "");
}

static int run(sv_catalogue *c, const char *data, const char *verb, const char *arg, const char *id, bool all, bool link, sv_err *err)
{
    switch (verb[0]) {
    case 'l': return list(c, data, all);
    case 'i': return bring(c, false, arg, id, link, err);
    case 'p': return bring(c, true, arg, id, false, err);
    case 'v': return sv_catalogue_verify(c, verified, NULL, err) == SV_OK ? 0 : sv_cmd_fail(err);
    default: break;
    }
    if (sv_catalogue_remove(c, arg, err) != SV_OK)
        return sv_cmd_fail(err);
    printf("%s removed\n", arg);
    return 0;
}

/* Every word in its place: verb, one argument or none, and only the options that the verb has. */
static bool well_formed(const char *verb, int n_args, const char *id, bool all, bool link)
{
    static const struct { const char *verb; int n_args; bool needs_id, may_id, may_all, may_link; } verbs[] = {
        {"list", 0, false, false, true, false},   {"import", 1, true, true, false, true}, {"pull", 1, false, true, false, false},
        {"remove", 1, false, false, false, false}, {"verify", 0, false, false, false, false}};
    for (size_t i = 0; i < SV_LEN(verbs); i++)
        if (strcmp(verb, verbs[i].verb) == 0)
            return n_args == verbs[i].n_args && (id ? verbs[i].may_id : !verbs[i].needs_id) && (!all || verbs[i].may_all) && (!link || verbs[i].may_link);
    return false;
}

int sv_cmd_models(int argc, char **argv)
{
    static const struct option options[] = {{"data", required_argument, NULL, 'd'}, {"models", required_argument, NULL, 'm'}, {"as", required_argument, NULL, 'a'},
                                            {"all", no_argument, NULL, 'A'},        {"link", no_argument, NULL, 'L'},         {"help", no_argument, NULL, 'h'},
                                            {0}};
    const char *data = SV_DEFAULT_DATA, *id = NULL;
    bool all = false, link = false;
    char root[4096], models[4200];
    sv_cmd_root(root);
    snprintf(models, sizeof models, "%s%s", root, root[0] ? "/models" : "");
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (c) {
        case 'd': data = optarg; break;
        case 'm': snprintf(models, sizeof models, "%s", optarg); break;
        case 'a': id = optarg; break;
        case 'A': all = true; break;
        case 'L': link = true; break;
        case 'h': fputs(usage, stdout); return 0;
        default: return sv_cmd_usage(usage);
        }
    const char *verb = optind < argc ? argv[optind] : "", *arg = optind + 1 < argc ? argv[optind + 1] : NULL;
    if (!well_formed(verb, argc - optind - 1, id, all, link))
        return sv_cmd_usage(usage);
    sv_err err = {0};
    sv_catalogue *c = NULL;
    if (sv_catalogue_open(&c, data, models, &err) != SV_OK)
        return sv_cmd_fail(&err);
    int rc = run(c, data, verb, arg, id, all, link, &err);
    sv_catalogue_close(c);
    return rc;
}
