#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/map.h"
#include "base/mem.h"

/* Against a plain array: random puts and deletes must agree with it at every step. */
static void a_map_agrees_with_an_array(void **state)
{
    (void)state;
    enum { KEYS = 300 };
    void *truth[KEYS] = {0};
    size_t n = 0;
    sv_smap *m = sv_smap_new();
    uint32_t seed = 1;
    for (int step = 0; step < 20000; step++) {
        seed = seed * 1664525u + 1013904223u;
        size_t k = (seed >> 8) % KEYS;
        char key[16];
        sv_str s = {key, (size_t)snprintf(key, sizeof key, "key%zu", k)};
        assert_ptr_equal(sv_smap_get(m, s), truth[k]);
        if (seed >> 31) {
            assert_ptr_equal(sv_smap_del(m, s), truth[k]);
            n -= truth[k] != NULL;
            truth[k] = NULL;
        } else {
            void *v = &truth[seed % KEYS];
            assert_ptr_equal(sv_smap_put(m, s, v), truth[k]);
            n += truth[k] == NULL;
            truth[k] = v;
        }
        assert_int_equal(sv_smap_count(m), n);
    }
    size_t seen = 0, i = 0;
    sv_str key;
    void *value;
    while (sv_smap_next(m, &i, &key, &value))
        seen++;
    assert_int_equal(seen, n);
    sv_smap_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_map_agrees_with_an_array)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
