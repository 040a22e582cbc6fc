/* functions.h - the functions that translated queries call and SQLite does not have: ae_like, ae_datetime, ae_shift, ae_bucket, and the
 * aggregates ae_quantile, ae_top, ae_arg_min, ae_arg_max, ae_first, ae_last.
 * Threads: those of the connection. */
#ifndef SV_ANALYTICS_FUNCTIONS_H
#define SV_ANALYTICS_FUNCTIONS_H

#include <sqlite3.h>

#include "base/err.h"

enum { SV_AE_MAX_GROUP = 1 << 20 }; /* values that one quantile or topK keeps; over it the query fails */

SV_MUST sv_rc sv_ae_functions_add(sqlite3 *db, sv_err *err);

#endif
