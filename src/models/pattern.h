/* pattern.h - the regular expressions by which tokenizers cut text, in time linear in the text
 *
 * The subset that vocabularies use: alternatives, groups, (?i:...), classes with \p{..} \s \d \w and nesting, * + ? {n,m} greedy
 * or lazy, lookahead for one character, $ for the end of the text. Leftmost match, first alternative that fits, as Perl has it.
 * A possessive quantifier is read as the greedy one: no known pattern can tell them apart.
 * Threads: immutable once compiled; any thread, each with a memo of its own. */
#ifndef SV_MODELS_PATTERN_H
#define SV_MODELS_PATTERN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

typedef struct sv_pattern sv_pattern;

/* SV_EFORMAT says what is not understood and where. */
SV_MUST sv_rc sv_pattern_compile(sv_pattern **out, sv_str source, sv_err *err);
sv_pattern *sv_pattern_free(sv_pattern *p);
SV_DEFINE_AUTO(sv_pattern, sv_pattern_free)

/* What earlier searches in one text learned. Start with {0}; one pattern and one text each; free(v). */
typedef struct sv_pattern_memo { uint64_t *v; } sv_pattern_memo;

/* The first match of at least one byte in text[from..to): true sets *start and *end. A broken byte counts as U+FFFD. */
bool sv_pattern_find(const sv_pattern *p, sv_str text, size_t from, size_t to, sv_pattern_memo *memo, size_t *start, size_t *end);

#endif
