/* log.h - one line an event on standard error: time, level, event, key=value
 * Ids and sizes only; never prompts, keys or stored values. Any thread. */
#ifndef SV_BASE_LOG_H
#define SV_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

typedef enum sv_level { SV_DEBUG, SV_INFO, SV_WARN, SV_ERROR } sv_level;
void sv_log_init(const char *process, sv_level min); /* process name printed in each line; borrowed for ever */
void sv_log(sv_level level, const char *event, const char *fmt, ...) SV_PRINTF(3, 4);

/* For errors that a stranger can cause: at most `per_minute` lines per call site, then one line with the count.
 *     static sv_log_gate gate; if (sv_log_may(&gate, 10)) sv_log(...) */
typedef struct sv_log_gate { int64_t window_ms; int32_t n, dropped; } sv_log_gate;
bool sv_log_may(sv_log_gate *g, int32_t per_minute);

#endif
