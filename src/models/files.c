/* files.c - which files a model is made of
 *
 * A model is one file until it is large, or comes from Hugging Face. Who copies, weighs or opens one asks here, so that the three agree
 * on what belongs to it: the parts of a GGUF beside the first, or of a folder the config, the weights that an index names, and those
 * text files that we read. Anything else in a folder (other formats of the same weights, readmes, code) is not the model. */
#include "models/files.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "nn/gguf.h"
#include "nn/safetensors.h"

static void add(sv_model_files *f, const char *name)
{
    f->names = sv_xrealloc(f->names, f->n + 1, sizeof *f->names);
    f->names[f->n++] = sv_xstrdup(name);
}

char *sv_model_files_path(const sv_model_files *f, size_t i)
{
    return sv_xasprintf("%s/%s", f->folder, f->names[i]);
}

void sv_model_files_done(sv_model_files *f)
{
    for (size_t i = 0; i < f->n; i++)
        free(f->names[i]);
    free(f->names);
    free(f->folder);
    *f = (sv_model_files){0};
}

size_t sv_model_files_stem(const char *name)
{
    size_t len = strlen(name), n_stem = 0;
    int no, n;
    if (sv_gguf_is_part(name, &n_stem, &no, &n))
        return no == 1 ? n_stem : 0;
    return len > 5 && strcmp(name + len - 5, ".gguf") == 0 ? len - 5 : len;
}

/* A GGUF by its name in f->folder, with the parts that it begins. */
static void add_gguf(sv_model_files *f, const char *name)
{
    size_t n_stem = 0;
    int no = 0, n = 0;
    f->is_gguf = true;
    add(f, name);
    if (!sv_gguf_is_part(name, &n_stem, &no, &n) || no != 1)
        return;
    for (int i = 2; i <= n; i++) {
        SV_AUTO(sv_freep) char *part = sv_xasprintf("%.*s-%05d-of-%05d.gguf", (int)n_stem, name, i, n);
        add(f, part);
    }
}

static sv_rc add_hf(sv_model_files *f, sv_err *err)
{
    static const char *const texts[] = {"model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                                        "generation_config.json", "chat_template.jinja", "preprocessor_config.json", "sentence_bert_config.json", "modules.json"};
    sv_safetensors_names weights = {0};
    if (sv_safetensors_list(&weights, f->folder, err) != SV_OK)
        return err->code;
    add(f, "config.json");
    for (size_t i = 0; i < weights.n; i++)
        add(f, weights.names[i]);
    sv_safetensors_names_free(&weights);
    for (size_t i = 0; i < SV_LEN(texts); i++) {
        SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/%s", f->folder, texts[i]);
        if (sv_file_exists(path))
            add(f, texts[i]);
    }
    return SV_OK;
}

/* The only GGUF of a folder, parts counting as one; *name is owned. */
static sv_rc find_gguf(const char *folder, char **name, sv_err *err)
{
    DIR *d = opendir(folder);
    SV_AUTO(sv_freep) char *found = NULL;
    int n = 0;
    if (!d)
        return sv_fail_errno(err, "open '%s'", folder);
    for (struct dirent *e; (e = readdir(d));) {
        size_t len = strlen(e->d_name);
        if (len < 6 || strcmp(e->d_name + len - 5, ".gguf") != 0 || sv_model_files_stem(e->d_name) == 0)
            continue;
        free(found);
        found = sv_xstrdup(e->d_name);
        n++;
    }
    closedir(d);
    if (n == 0)
        return sv_fail(err, SV_ENOENT, "'%s' has neither config.json nor a GGUF file", folder);
    if (n > 1)
        return sv_fail(err, SV_EFORMAT, "'%s' has %d GGUF files: name one of them", folder, n);
    *name = SV_TAKE(found);
    return SV_OK;
}

static sv_rc find_in_folder(sv_model_files *f, sv_err *err)
{
    SV_AUTO(sv_freep) char *config = sv_xasprintf("%s/config.json", f->folder);
    SV_AUTO(sv_freep) char *name = NULL;
    if (sv_file_exists(config))
        return add_hf(f, err);
    if (find_gguf(f->folder, &name, err) != SV_OK)
        return err->code;
    add_gguf(f, name);
    return SV_OK;
}

static sv_rc weigh(sv_model_files *f, sv_err *err)
{
    for (size_t i = 0; i < f->n; i++) {
        SV_AUTO(sv_freep) char *path = sv_model_files_path(f, i);
        struct stat st;
        if (stat(path, &st) != 0)
            return sv_fail_errno(err, "open '%s'", path);
        if (!S_ISREG(st.st_mode))
            return sv_fail(err, SV_EFORMAT, "'%s' is no file", path);
        f->n_bytes += (size_t)st.st_size;
    }
    return SV_OK;
}

sv_rc sv_model_files_find(sv_model_files *out, const char *path, sv_err *err)
{
    struct stat st;
    sv_model_files f = {0};
    sv_rc rc = SV_OK;
    if (stat(path, &st) != 0)
        return sv_fail_errno(err, "open '%s'", path);
    const char *slash = strrchr(path, '/');
    if (S_ISDIR(st.st_mode)) {
        f.folder = sv_xstrdup(path);
        rc = find_in_folder(&f, err);
    } else {
        f.folder = slash ? sv_xstrndup(path, slash > path ? (size_t)(slash - path) : 1) : sv_xstrdup(".");
        add_gguf(&f, slash ? slash + 1 : path);
    }
    if (rc == SV_OK)
        rc = weigh(&f, err);
    if (rc != SV_OK) {
        sv_model_files_done(&f);
        return rc;
    }
    *out = f;
    return SV_OK;
}
