/* tokenizer_pre.c - the splitters that GGUF files know by name only (tokenizer.ggml.pre)
 *
 * A byte-level vocabulary was trained on text cut in a certain way, and cut otherwise it gives other tokens, which the model has
 * never seen. A tokenizer.json carries the patterns; a GGUF has a name, one for each way that its converter has met. This is the
 * list of names. A name that is not here is refused: a wrong guess would not fail, it would make the model a little stupid.
 *
 * The patterns are those of the models' own tokenizer.json, step by step, each applied to the pieces of the one before. */
#include "models/tokenizer_impl.h"

#include <stdio.h>
#include <string.h>

#define ENGLISH "'s|'t|'re|'ve|'m|'ll|'d"
#define END_SPACES "\\s+(?!\\S)|\\s+"
#define GPT2 ENGLISH "| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|" END_SPACES
/* GPT-4 and after: case-insensitive, a word takes whatever one character is before it, newlines stay together */
#define WORDS "(?i:" ENGLISH ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define AFTER_DIGITS "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|" END_SPACES
#define LLAMA3 WORDS "|\\p{N}{1,3}" AFTER_DIGITS
#define QWEN2 WORDS "|\\p{N}" AFTER_DIGITS
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define NO_WORD "[^\\r\\n\\p{L}\\p{N}]?"
#define AFTER_DIGITS_SLASH "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|" END_SPACES
#define CAMEL NO_WORD UPPER "*" LOWER "+|" NO_WORD UPPER "+" LOWER "*"
#define CAMEL_ENGLISH NO_WORD UPPER "*" LOWER "+(?i:" ENGLISH ")?|" NO_WORD UPPER "+" LOWER "*(?i:" ENGLISH ")?"
#define CJK_BLOCKS "[\\x{4e00}-\\x{9fa5}\\x{0800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+"
#define ASCII_PUNCTUATION "[!-/:-@\\[-`{-~]"
#define BLOOM " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{0964}\\x{06d4}\\x{060c})]+"
/* Letters of deepseek-llm as its tokenizer.json lists them: Latin, Greek, Cyrillic, Armenian, Georgian, and styled ones */
#define DEEPSEEK_LETTERS \
    "\\s?[A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}\\x{1c4}-\\x{293}\\x{295}-\\x{2af}" \
    "\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}\\x{3a3}-\\x{3f5}" \
    "\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}" \
    "\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}" \
    "\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}" \
    "\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}" \
    "\\x{2102}\\x{2107}\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}" \
    "\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}\\x{214e}\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}" \
    "\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}" \
    "\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}" \
    "\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}]+"

enum { BOS = 1, WHOLE = 2 }; /* the name implies that a BOS is added; that a piece which is a token is not merged */

static const struct {
    const char *names; /* with a space before and behind each */
    int flags;
    const char *steps[6];
} known[] = {
    {" gpt-2 phi-2 jina-es jina-de jina-v1-en jina-v2-es jina-v2-de jina-v2-en gigachat roberta-bpe a.x-4.0 mellum modern-bert mpt olmo jais "
     "trillion granite-docling exaone4-gpt2 ", 0, {GPT2}},
    {" default ", 0, {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}},
    {" llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral-llama3 midm-2.0 lfm2 jina-v5-nano ", BOS | WHOLE, {LLAMA3}},
    {" dbrx smaug-bpe chatglm-bpe glm4 granite-3 chatglm4 ", 0, {LLAMA3}},
    {" qwen2 deepseek-r1-qwen stablelm2 megrez kormo hunyuan ", 0, {QWEN2}},
    {" qwen35 ", 0, {"(?i:" ENGLISH ")|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|" END_SPACES}},
    {" falcon ", 0, {"[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]"}},
    {" starcoder refact command-r smollm codeshell exaone minerva-7b ", 0, {"\\p{N}", GPT2}},
    {" deepseek-coder ", 0, {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CJK_BLOCKS, "\\p{N}"}},
    {" deepseek-llm ", 0, {"[\\r\\n]", DEEPSEEK_LETTERS, "\\s?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+",
                           "\\s+$", CJK_BLOCKS, "\\p{N}+"}},
    {" deepseek-v3 deepseek3 hunyuan-dense joyai-llm ", 0,
     {"\\p{N}{1,3}", "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+",
      ASCII_PUNCTUATION "[A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|" END_SPACES}},
    {" gpt-4o llama4 o200k granite-4 ", 0, {CAMEL_ENGLISH "|\\p{N}{1,3}" AFTER_DIGITS_SLASH}},
    {" tekken pixtral ", BOS | WHOLE, {CAMEL "|\\p{N}" AFTER_DIGITS_SLASH}},
    {" bloom gpt3-finnish poro-chat ", 0, {BLOOM}},
    {" viking ", 0, {BLOOM, "\\p{N}"}},
    {" chameleon ", 0, {"<sentinel:[0-9]+>", "IMGIMG[A-I]{1,4}Z", "[\\t\\n]|    |  ", "\\p{N}", "[\\p{P}!-/:-@\\[-`{-~]", GPT2}},
    {" superbpe ", 0, {"\\p{N}+", "(?=\\d)\\d{1,3}|[^\\d]+"}},
    {" seed-coder ", 0, {"(?i:" ENGLISH ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|\\s*[\\r\\n]+|" END_SPACES}},
    {" bailingmoe bailing llada-moe ", 0, {"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
                                           "\\s*[\\r\\n]|" END_SPACES}},
};

sv_rc sv_tok_pre(sv_tokenizer *t, sv_str name, bool *add_bos, sv_err *err)
{
    char padded[64];
    if (name.n < 1 || name.n > sizeof padded - 3 || memchr(name.p, ' ', name.n))
        return sv_fail(err, SV_EFORMAT, "tokenizer.ggml.pre: a name of %zu bytes is not known", name.n);
    snprintf(padded, sizeof padded, " %.*s ", (int)name.n, name.p);
    for (size_t i = 0; i < SV_LEN(known); i++) {
        if (!strstr(known[i].names, padded))
            continue;
        t->ignore_merges = known[i].flags & WHOLE;
        *add_bos = *add_bos || (known[i].flags & BOS);
        for (size_t k = 0; k < SV_LEN(known[i].steps) && known[i].steps[k]; k++)
            if (sv_tok_step_split(&t->splitter, known[i].steps[k], KEEP_APART, false, err) != SV_OK)
                return sv_wrap(err, "tokenizer.ggml.pre '%.*s'", (int)name.n, name.p);
        return SV_OK;
    }
    return sv_fail(err, SV_EFORMAT, "tokenizer.ggml.pre: '%.*s' is not known", (int)name.n, name.p);
}
