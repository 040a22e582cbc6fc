/* hf.h - a language model in a Hugging Face folder, seen as a GGUF
 *
 * config.json becomes keys, and the tensors of the safetensors files get the names that GGUF gives them; families then read both
 * alike. Tokenizer and chat template are other files of the folder and not in here.
 * Threads: immutable once open. */
#ifndef SV_MODELS_HF_H
#define SV_MODELS_HF_H

#include "base/err.h"
#include "base/mem.h"
#include "nn/gguf.h"

typedef struct sv_hf sv_hf;

/* n_vocab: the tokens that the tokenizer has. Matrices often have more rows, up to a round number, for tokens that are none: those are
 * left out. SV_EFORMAT names file and member; messages begin with the folder. */
SV_MUST sv_rc sv_hf_open(sv_hf **out, const char *folder, int32_t n_vocab, sv_err *err);
sv_hf *sv_hf_close(sv_hf *h);
SV_DEFINE_AUTO(sv_hf, sv_hf_close)

const sv_gguf *sv_hf_gguf(const sv_hf *h); /* borrowed until close */
size_t sv_hf_size(const sv_hf *h);         /* bytes of the weights' files */

#endif
