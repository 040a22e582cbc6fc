/* r2_errors.h - every refusal of R2: its number, its name in S3's XML, its status and its sentence
 *
 * Numbers below 200000 are the hosted service's, and stand in REST answers and in the exceptions of the binding; those above are S3's own
 * refusals, which have no number there. Threads: constants. */
#ifndef SV_R2_R2_ERRORS_H
#define SV_R2_R2_ERRORS_H

#include "base/err.h"

enum {
    SV_R2_INTERNAL = 10001, SV_R2_UNAUTHORIZED = 10002, SV_R2_ACCESS_DENIED = 10003, SV_R2_BUCKET_EXISTS = 10004, SV_R2_BAD_BUCKET_NAME = 10005,
    SV_R2_NO_BUCKET = 10006, SV_R2_NO_KEY = 10007, SV_R2_NOT_EMPTY = 10008, SV_R2_TOO_MANY_BUCKETS = 10009, SV_R2_TOO_SMALL = 10011,
    SV_R2_METADATA_TOO_LARGE = 10012, SV_R2_INCOMPLETE_BODY = 10013, SV_R2_INVALID_DIGEST = 10014, SV_R2_EXPIRED = 10018, SV_R2_BAD_KEY = 10020,
    SV_R2_BAD_MAX_KEYS = 10022, SV_R2_NO_UPLOAD = 10024, SV_R2_BAD_PART = 10025, SV_R2_BAD_ARGUMENT = 10029, SV_R2_PRECONDITION = 10031,
    SV_R2_NO_LENGTH = 10033, SV_R2_BAD_SIGNATURE = 10035, SV_R2_BAD_DIGEST = 10037, SV_R2_BAD_RANGE = 10039, SV_R2_BAD_JSON = 10040,
    SV_R2_UNAVAILABLE = 10043, SV_R2_UNEQUAL_PARTS = 10048, SV_R2_TOO_MANY = 10058, SV_R2_NO_CORS = 10059, SV_R2_LOCKED = 10069,
    SV_R2_NO_NOTIFICATION = 11015, SV_R2_TOO_LARGE = 100100,

    SV_R2_S3_FIRST = 200000,
    SV_S3_MALFORMED_XML, SV_S3_NOT_IMPLEMENTED, SV_S3_NO_ACCESS_KEY, SV_S3_MALFORMED_AUTH, SV_S3_SKEWED, SV_S3_NO_LIFECYCLE, SV_S3_SHA256_MISMATCH,
    SV_S3_METHOD, SV_S3_PART_ORDER, SV_S3_INVALID_REQUEST, SV_S3_MISSING_KEY, SV_S3_NOT_MODIFIED, SV_S3_INVALID_TOKEN, SV_S3_OWNED_BY_YOU,
    SV_S3_BAD_TRAILER, SV_S3_BAD_LOCATION, SV_S3_BAD_PART_NUMBER, SV_S3_NO_CORS_MATCH, SV_S3_NO_ENCRYPTION,
};

typedef struct sv_r2_error {
    int code;
    sv_rc rc;
    int status;       /* of REST and S3 */
    const char *s3;   /* "NoSuchKey" */
    const char *text;
} sv_r2_error;
const sv_r2_error *sv_r2_error_of(int code); /* NULL: none of these */
/* Fails with the code and its sentence, or with one of its own. */
sv_rc sv_r2_fail(sv_err *err, int code);
sv_rc sv_r2_failf(sv_err *err, int code, const char *fmt, ...) SV_PRINTF(3, 4);
/* The status for any error: ours is 500, 503, 507. */
int sv_r2_status(const sv_err *err);

#endif
