/* objects.c - classes of Durable Objects and their migrations
 *
 * A class gets its namespace's id when a migration makes it and keeps it through renames. Storage goes with the class: after the deployment that
 * deletes it is recorded, since before that it might still fail.
 *
 * Alarms are workerd's own, in ID/metadata.sqlite. It sets them off while it runs; whoever stops a process asks here when it must run again. */
#include "workers/objects.h"

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"

enum { MAX_CLASSES = 500, MAX_CLASS_NAME = 255 };

/* ---- shape ---- */

static bool is_class_name(const json_t *v)
{
    size_t n = json_string_length(v);
    const char *s = json_string_value(v);
    if (!s || n == 0 || n > MAX_CLASS_NAME)
        return false;
    for (size_t i = 0; i < n; i++) /* an identifier of JavaScript; it goes into the configuration */
        if ((unsigned char)s[i] < '$' || s[i] == '"' || s[i] == '\\' || (unsigned char)s[i] == 0x7f)
            return false;
    return true;
}

static sv_rc check_names(const json_t *step, const char *member, sv_err *err)
{
    size_t i;
    json_t *v;
    const json_t *list = json_object_get(step, member);
    if (list && !json_is_null(list) && !json_is_array(list))
        return sv_fail_api(err, SV_EINVAL, 10021, "migrations: '%s' is not an array", member);
    json_array_foreach ((json_t *)(uintptr_t)list, i, v)
        if (!is_class_name(v))
            return sv_fail_api(err, SV_EINVAL, 10021, "migrations: %s[%zu] is not the name of a class", member, i);
    return SV_OK;
}

static sv_rc check_step(const json_t *step, sv_err *err)
{
    size_t i;
    json_t *v;
    if (!json_is_object(step))
        return sv_fail_api(err, SV_EINVAL, 10021, "migrations: a step is not an object");
    if (check_names(step, "new_classes", err) != SV_OK || check_names(step, "new_sqlite_classes", err) != SV_OK || check_names(step, "deleted_classes", err) != SV_OK)
        return err->code;
    const json_t *renamed = json_object_get(step, "renamed_classes");
    if (renamed && !json_is_null(renamed) && !json_is_array(renamed))
        return sv_fail_api(err, SV_EINVAL, 10021, "migrations: 'renamed_classes' is not an array");
    json_array_foreach ((json_t *)(uintptr_t)renamed, i, v)
        if (!is_class_name(json_object_get(v, "from")) || !is_class_name(json_object_get(v, "to")))
            return sv_fail_api(err, SV_EINVAL, 10021, "migrations: renamed_classes[%zu] has no 'from' and 'to' that name classes", i);
    if (json_array_size(json_object_get(step, "transferred_classes")))
        return sv_fail_api(err, SV_EINVAL, 10021, "migrations: classes that move from another Worker (transferred_classes) are not in this release");
    return SV_OK;
}

sv_rc sv_objects_check(const json_t *m, sv_err *err)
{
    size_t i;
    json_t *step;
    if (!m || json_is_null(m))
        return SV_OK;
    if (!json_is_object(m))
        return sv_fail_api(err, SV_EINVAL, 10021, "'migrations' is not an object");
    for (int k = 0; k < 2; k++) {
        const json_t *tag = json_object_get(m, k ? "old_tag" : "new_tag");
        if (tag && !json_is_null(tag) && (!json_is_string(tag) || json_string_length(tag) > MAX_CLASS_NAME))
            return sv_fail_api(err, SV_EINVAL, 10021, "migrations: '%s' is not text of at most %d bytes", k ? "old_tag" : "new_tag", MAX_CLASS_NAME);
    }
    const json_t *steps = json_object_get(m, "steps");
    if (!steps || json_is_null(steps))
        return check_step(m, err); /* one step, written flat */
    if (!json_is_array(steps))
        return sv_fail_api(err, SV_EINVAL, 10021, "migrations: 'steps' is not an array");
    json_array_foreach ((json_t *)(uintptr_t)steps, i, step)
        if (check_step(step, err) != SV_OK)
            return err->code;
    return SV_OK;
}

/* ---- migrations ---- */

static json_t *find(const json_t *classes, const char *name, size_t *at)
{
    size_t i;
    json_t *c;
    json_array_foreach ((json_t *)(uintptr_t)classes, i, c) {
        const char *have = sv_json_cstr(c, "class");
        if (have && strcmp(have, name) == 0) {
            *at = i;
            return c;
        }
    }
    return NULL;
}

const json_t *sv_objects_find(const json_t *objects, const char *class_name)
{
    size_t at;
    return find(json_object_get(objects, "classes"), class_name, &at);
}

static sv_rc add_classes(json_t *classes, const json_t *names, bool sqlite, sv_err *err)
{
    size_t i, at;
    json_t *v;
    json_array_foreach ((json_t *)(uintptr_t)names, i, v) {
        char id[33];
        if (find(classes, json_string_value(v), &at))
            return sv_fail_api(err, SV_EINVAL, 10074, "Cannot apply new-class migration to class '%s': it is a class of Durable Objects already",
                               json_string_value(v));
        if (json_array_size(classes) >= MAX_CLASSES)
            return sv_fail_api(err, SV_EINVAL, 10021, "more than %d classes of Durable Objects", MAX_CLASSES);
        sv_random_hex(id, 16);
        json_array_append_new(classes, json_pack("{s:O, s:s, s:b}", "class", v, "id", id, "sqlite", sqlite));
    }
    return SV_OK;
}

static sv_rc absent(const char *what, const char *name, sv_err *err)
{
    return sv_fail_api(err, SV_EINVAL, 10061, "Cannot apply %s migration to class '%s': it is no class of Durable Objects of this Worker", what, name);
}

static sv_rc apply_step(json_t *classes, const json_t *step, sv_err *err)
{
    size_t i, at;
    json_t *v;
    if (add_classes(classes, json_object_get(step, "new_classes"), false, err) != SV_OK ||
        add_classes(classes, json_object_get(step, "new_sqlite_classes"), true, err) != SV_OK)
        return err->code;
    json_array_foreach (json_object_get(step, "renamed_classes"), i, v) {
        const char *from = sv_json_cstr(v, "from"), *to = sv_json_cstr(v, "to");
        json_t *c = find(classes, from, &at);
        size_t other;
        if (!c)
            return absent("renamed-class", from, err);
        if (find(classes, to, &other))
            return sv_fail_api(err, SV_EINVAL, 10074, "Cannot rename class '%s': '%s' is a class of Durable Objects already", from, to);
        json_object_set_new(c, "class", json_string(to));
    }
    json_array_foreach (json_object_get(step, "deleted_classes"), i, v) {
        if (!find(classes, json_string_value(v), &at))
            return absent("deleted-class", json_string_value(v), err);
        json_array_remove(classes, at);
    }
    return SV_OK;
}

sv_rc sv_objects_migrate(json_t **objects, const json_t *m, sv_err *err)
{
    if (!m || json_is_null(m))
        return SV_OK;
    size_t i;
    json_t *step;
    const char *have = sv_json_cstr(*objects, "tag"), *old_tag = sv_json_cstr(m, "old_tag"), *new_tag = sv_json_cstr(m, "new_tag");
    if (strcmp(have ? have : "", old_tag ? old_tag : "") != 0 && (have || old_tag))
        return sv_fail_api(err, SV_EINVAL, 10079, "Migration tag precondition failed; expected '%s' but found '%s'", old_tag ? old_tag : "", have ? have : "");
    SV_AUTO(sv_json_decrefp) json_t *next = *objects ? json_deep_copy(*objects) : json_object();
    if (!json_object_get(next, "classes"))
        json_object_set_new(next, "classes", json_array());
    json_t *classes = json_object_get(next, "classes");
    const json_t *steps = json_object_get(m, "steps");
    if (!json_is_array(steps)) {
        if (apply_step(classes, m, err) != SV_OK)
            return err->code;
    } else {
        json_array_foreach ((json_t *)(uintptr_t)steps, i, step)
            if (apply_step(classes, step, err) != SV_OK)
                return err->code;
    }
    if (new_tag)
        json_object_set_new(next, "tag", json_string(new_tag));
    json_decref(*objects);
    *objects = SV_TAKE(next);
    return SV_OK;
}

/* ---- storage ---- */

void sv_objects_folder(const sv_workers *w, const char *key, char out[4096])
{
    size_t n = strlen(w->root) - strlen("/workers"); /* beside it */
    snprintf(out, 4096, "%.*s/objects/%s", (int)n, w->root, key);
}

void sv_objects_drop(const sv_workers *w, const char *key, const json_t *before, const json_t *after)
{
    size_t i, k;
    json_t *c;
    sv_err err = {0};
    char folder[4096], path[4200];
    sv_objects_folder(w, key, folder);
    json_array_foreach (json_object_get(before, "classes"), i, c) {
        const char *id = sv_json_cstr(c, "id");
        bool kept = false;
        json_t *d;
        json_array_foreach (json_object_get(after, "classes"), k, d)
            kept |= strcmp(id, sv_json_cstr(d, "id")) == 0;
        snprintf(path, sizeof path, "%s/%s", folder, id);
        if (!kept && sv_remove_tree(path, &err) != SV_OK)
            sv_log(SV_WARN, "objects.drop", "key=%s namespace=%s error='%s'", key, id, err.msg);
    }
    if (!after && sv_remove_tree(folder, &err) != SV_OK)
        sv_log(SV_WARN, "objects.drop", "key=%s error='%s'", key, err.msg);
}

/* Opened for writing, since its log must be read with it; as root SQLite gives the files it makes to the database's owner. */
static int64_t alarm_of(const char *path)
{
    sqlite3 *h = NULL;
    sqlite3_stmt *q = NULL;
    int64_t ns = -1;
    if (sqlite3_open_v2(path, &h, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK && sqlite3_busy_timeout(h, 100) == SQLITE_OK &&
        sqlite3_db_config(h, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL) == SQLITE_OK && /* nothing of it is changed by looking */
        sqlite3_prepare_v2(h, "SELECT min(scheduled_time) FROM _cf_ALARM", -1, &q, NULL) == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW &&
        sqlite3_column_type(q, 0) == SQLITE_INTEGER)
        ns = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    sqlite3_close(h);
    return ns;
}

sv_rc sv_objects_alarm(const sv_workers *w, const char *key, const json_t *objects, int64_t *due_ms, sv_err *err)
{
    size_t i;
    json_t *c;
    char folder[4096], path[4300];
    (void)err;
    *due_ms = -1;
    sv_objects_folder(w, key, folder);
    json_array_foreach (json_object_get(objects, "classes"), i, c) {
        snprintf(path, sizeof path, "%s/%s/metadata.sqlite", folder, sv_json_cstr(c, "id"));
        int64_t ns = access(path, R_OK) == 0 ? alarm_of(path) : -1;
        if (ns >= 0 && (*due_ms < 0 || ns / 1000000 < *due_ms))
            *due_ms = ns / 1000000;
    }
    return SV_OK;
}
