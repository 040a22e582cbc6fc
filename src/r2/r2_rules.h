/* r2_rules.h - the settings of a bucket: lifecycle rules, lock rules, CORS rules; checked once, kept as the JSON that REST shows
 * Threads: pure functions. */
#ifndef SV_R2_R2_RULES_H
#define SV_R2_R2_RULES_H

#include "r2/r2.h"

/* {"rules": [...]} of a client. Refusals name the rule and its member. */
SV_MUST sv_rc sv_r2_rules_check(sv_r2_setting which, const json_t *body, sv_err *err);

/* What a bucket has that never had another: uploads that nobody completes go after a week. */
extern const char sv_r2_default_lifecycle[];

/* One lifecycle rule, ready to be compared: what is older than an age, or everything once a date has come. */
typedef struct sv_r2_when { bool on, dated; int64_t ms; } sv_r2_when; /* ms: the age, or the date */
typedef struct sv_r2_life { sv_str prefix; sv_r2_when expire, abort, infrequent; } sv_r2_life;
bool sv_r2_life_of(const json_t *rule, sv_r2_life *out); /* false: disabled */
bool sv_r2_is_due(const sv_r2_when *w, int64_t at_ms, int64_t now_ms);

/* The first CORS rule that lets this origin and method (and, for a preflight, these headers: a comma list) pass; NULL: none. */
typedef struct sv_r2_cors { sv_str origin, method, headers; } sv_r2_cors;
const json_t *sv_r2_cors_match(const json_t *rules, const sv_r2_cors *ask);

#endif
