/* tables.h - the shape of the generated tables.c; only unicode.c includes this */
#ifndef SV_MODELS_UNICODE_TABLES_H
#define SV_MODELS_UNICODE_TABLES_H

#include <stddef.h>
#include <stdint.h>

typedef struct sv_uni_map { uint32_t from; uint16_t start, n; } sv_uni_map;   /* sorted by from; n code points at start of _to */
typedef struct sv_uni_pair { uint32_t first, second, composed; } sv_uni_pair; /* sorted by first, then second */

/* Two stages: row[256 * page[c >> 8] + (c & 255)] */
extern const uint8_t sv_uni_category_page[], sv_uni_category_row[];
extern const uint32_t sv_uni_category_runs[]; /* the same as runs: first code point << 8 | category, in order */
extern const size_t sv_uni_category_n_runs;
extern const uint8_t sv_uni_class_page[], sv_uni_class_row[];

extern const sv_uni_map sv_uni_map_nfd[], sv_uni_map_nfkd[], sv_uni_map_lower[], sv_uni_map_upper[];
extern const uint32_t sv_uni_map_nfd_to[], sv_uni_map_nfkd_to[], sv_uni_map_lower_to[], sv_uni_map_upper_to[];
extern const size_t sv_uni_map_nfd_n, sv_uni_map_nfkd_n, sv_uni_map_lower_n, sv_uni_map_upper_n;
extern const sv_uni_pair sv_uni_compose[];
extern const size_t sv_uni_compose_n;

#endif
