/* unicode.h - what tokenizers ask about code points: categories, case, normalization forms
 *
 * The tables are Unicode 16.0 (unicode/generate.py). Threads: any; there is no state. */
#ifndef SV_MODELS_UNICODE_H
#define SV_MODELS_UNICODE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

/* General categories, in the order of their names */
enum {
    SV_UNI_CC, SV_UNI_CF, SV_UNI_CN, SV_UNI_CO, SV_UNI_CS, SV_UNI_LL, SV_UNI_LM, SV_UNI_LO, SV_UNI_LT, SV_UNI_LU,
    SV_UNI_MC, SV_UNI_ME, SV_UNI_MN, SV_UNI_ND, SV_UNI_NL, SV_UNI_NO, SV_UNI_PC, SV_UNI_PD, SV_UNI_PE, SV_UNI_PF,
    SV_UNI_PI, SV_UNI_PO, SV_UNI_PS, SV_UNI_SC, SV_UNI_SK, SV_UNI_SM, SV_UNI_SO, SV_UNI_ZL, SV_UNI_ZP, SV_UNI_ZS,
    SV_UNI_N_CATEGORIES
};
#define SV_UNI_MAX 0x10ffffu

int sv_uni_category(uint32_t c);   /* above SV_UNI_MAX: SV_UNI_CN */
int sv_uni_category_run(uint32_t c, uint32_t *last); /* the same, and the last code point of an unbroken run of it from c */
bool sv_uni_is_space(uint32_t c);  /* the property White_Space */
/* Writes the one to three code points of c's lower (upper) case; returns how many. Context never matters here. */
size_t sv_uni_lower(uint32_t c, uint32_t out[3]);
size_t sv_uni_upper(uint32_t c, uint32_t out[3]);

/* The character at p[0..n), n > 0: its bytes, 1 to 4. A byte that begins no valid character is one of its own: *cp is then
 * SV_UNI_BROKEN + that byte, which every function here takes and gives back as that byte. */
#define SV_UNI_BROKEN 0x110000u
size_t sv_uni_get(const char *p, size_t n, uint32_t *cp);
size_t sv_uni_put(char out[4], uint32_t cp); /* the bytes written */

typedef enum sv_uni_form { SV_UNI_NFC, SV_UNI_NFD, SV_UNI_NFKC, SV_UNI_NFKD } sv_uni_form;
/* Appends text in the form (UAX #15). Linear but for the sort of long runs of marks, which is linear as well. SV_ENOMEM; SV_ELIMIT
 * over out->max. */
SV_MUST sv_rc sv_uni_normalize(sv_buf *out, sv_str text, sv_uni_form form, sv_err *err);

#endif
