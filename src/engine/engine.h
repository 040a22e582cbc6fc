/* engine.h - the engine process: `selvedge engine`
 *
 * Serves generations on a listening unix socket (wire.h) until SIGTERM or SIGINT. */
#ifndef SV_ENGINE_ENGINE_H
#define SV_ENGINE_ENGINE_H

#include <stddef.h>
#include <stdint.h>

typedef struct sv_engine_opts { /* zeros are the defaults, but for listen_fd */
    int listen_fd;        /* a listening, non-blocking stream socket; stays the caller's (the supervisor's is 3) */
    int n_threads;        /* 0: all cores this process may use */
    int64_t drain_ms;     /* 10 s: how long a SIGTERM waits for generations under way */
    int64_t idle_ms;      /* 15 min: a model without requests is unloaded */
    size_t model_bytes;   /* three quarters of the memory: files of all loaded models */
    size_t kv_bytes;      /* a quarter of the memory: KV cache of each model */
    const char *pack_dir; /* weights laid out for this CPU are kept in this folder; NULL: in memory, anew at each load */
    int32_t max_active;   /* 64: requests a batch */
    int32_t max_queued;   /* 256: requests that wait, each model */
    const char *audio_helper; /* the program that decodes sound (models/audio.h); NULL: WAV only */
    int32_t step_ms;      /* 100: while a text is being written, prompts of others hold its next token up for about this long at most */
} sv_engine_opts;

/* The process's main: blocks SIGTERM and SIGINT for the calling thread, returns the exit code, 0 after a drain. */
int sv_engine_main(const sv_engine_opts *opts);

#endif
