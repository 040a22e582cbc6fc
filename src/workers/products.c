/* products.c - the table of products that a Worker can bind */
#include "workers/products.h"

#include <stddef.h>
#include <string.h>

#include "base/mem.h"

static const sv_product products[] = {
    {.kind = "kv_namespace", .id = "namespace_id", .route = "kv", .before = "kvNamespace = ", .after = ""},
    {.kind = "vectorize", .id = "index_name", .route = "vectorize",
     .before = "wrapped = (moduleName = \"cloudflare-internal:vectorize-api\", innerBindings = [(name = \"fetcher\", service = ",
     .after = "), (name = \"indexId\", text = \"index\"), (name = \"indexVersion\", text = \"v2\"), (name = \"useNdJson\", json = \"true\")])"},
};

const sv_product *sv_product_of(const char *kind)
{
    for (size_t i = 0; i < SV_LEN(products); i++)
        if (strcmp(products[i].kind, kind) == 0)
            return &products[i];
    return NULL;
}
