/* audio_child.c - sound that is no WAV: decoded by a child (audio_helper.c), which gets the bytes and gives samples
 *
 * Decoders of foreign media are where the crashes are, so ours run in a process that has nothing: no files, no network, no memory but its own,
 * and a short list of system calls. It gets the bytes in a memfd as its input, since some forms (M4A) have their index at the end and must be
 * sought in; its output is a u32, the rate, and then float32 samples of one channel, until it ends; a refusal is a sentence on its error output
 * and status 1. What else may happen to it (a signal, a timeout) is a refusal of the bytes too.
 *
 * The parent reads with a deadline and stops a child that gives more than the caller wants. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "models/audio.h"

enum { TIMEOUT_MS = 120 * 1000, TURN_MS = 100, BLOCK = 16384, MAX_WORDS = 240, MAX_SECONDS = 7200 };

typedef struct child {
    pid_t pid; /* 0: none */
    int out, said;
} child;

static void child_end(child *c)
{
    if (c->pid > 0) {
        kill(c->pid, SIGKILL);
        while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    if (c->out >= 0)
        close(c->out);
    if (c->said >= 0)
        close(c->said);
    *c = (child){.out = -1, .said = -1};
}

static sv_rc bytes_to_fd(int *fd, sv_str bytes, sv_err *err)
{
    SV_AUTO(sv_fd_closep) int m = memfd_create("audio", MFD_CLOEXEC);
    if (m < 0)
        return sv_fail_errno(err, "memfd_create");
    if (sv_write_all(m, bytes.p, bytes.n, err) != SV_OK)
        return err->code;
    if (lseek(m, 0, SEEK_SET) < 0)
        return sv_fail_errno(err, "lseek");
    *fd = m;
    m = -1;
    return SV_OK;
}

static sv_rc child_start(child *c, const char *helper, int in, sv_err *err)
{
    int out[2] = {-1, -1}, said[2] = {-1, -1};
    if (pipe2(out, O_CLOEXEC) < 0)
        return sv_fail_errno(err, "pipe");
    c->out = out[0];
    SV_AUTO(sv_fd_closep) int out_end = out[1];
    if (pipe2(said, O_CLOEXEC) < 0)
        return sv_fail_errno(err, "pipe");
    c->said = said[0];
    SV_AUTO(sv_fd_closep) int said_end = said[1];
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none;
    sigemptyset(&none);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attr);
    posix_spawn_file_actions_adddup2(&files, in, 0);
    posix_spawn_file_actions_adddup2(&files, out_end, 1);
    posix_spawn_file_actions_adddup2(&files, said_end, 2);
    posix_spawn_file_actions_addclosefrom_np(&files, 3);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
    char *argv[] = {(char *)(uintptr_t)helper, NULL}, *env[] = {NULL};
    errno = posix_spawn(&c->pid, helper, &files, &attr, argv, env);
    if (errno)
        c->pid = 0;
    sv_rc rc = c->pid ? SV_OK : sv_fail_errno(err, "start '%s'", helper);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    return rc;
}

/* Its last words, when its output has ended. */
static sv_rc child_outcome(child *c, sv_err *err)
{
    char words[MAX_WORDS + 1];
    int status = 0;
    ssize_t n = read(c->said, words, MAX_WORDS);
    while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
        ;
    c->pid = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return SV_OK;
    words[n > 0 ? n : 0] = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 1 && n > 0)
        return sv_fail(err, SV_EFORMAT, "%s", words);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 2 && n > 0) /* its own cage */
        return sv_fail(err, SV_EIO, "audio decoder: %s", words);
    return sv_fail(err, SV_EFORMAT, "the audio cannot be decoded: the decoder ended with %s %d", WIFSIGNALED(status) ? "signal" : "status",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

typedef struct reading {
    const sv_audio_opts *o;
    int64_t until_ms;
    size_t max_samples;
    sv_resampler *r;
    sv_audio audio;
    char bytes[BLOCK]; /* n of them are there */
    size_t n;
} reading;

/* The rate first, then whole samples. */
static sv_rc take(reading *t, sv_err *err)
{
    size_t at = 0;
    float x[BLOCK / sizeof(float)];
    if (!t->r && t->n >= sizeof(uint32_t)) {
        uint32_t rate;
        memcpy(&rate, t->bytes, sizeof rate);
        at = sizeof rate;
        if (sv_resampler_new(&t->r, rate > INT32_MAX ? 0 : (int32_t)rate, err) != SV_OK)
            return err->code;
    }
    size_t n = (t->n - at) / sizeof(float);
    if (t->r && n > 0) {
        memcpy(x, t->bytes + at, n * sizeof *x);
        at += n * sizeof *x;
        if (sv_resampler_push(t->r, x, n, &t->audio, t->max_samples, err) != SV_OK)
            return err->code;
    }
    t->n -= at;
    memmove(t->bytes, t->bytes + at, t->n);
    return SV_OK;
}

static sv_rc read_all(reading *t, child *c, sv_err *err)
{
    for (;;) {
        struct pollfd p = {.fd = c->out, .events = POLLIN};
        if (t->o->cancel && atomic_load(t->o->cancel))
            return sv_fail(err, SV_ECANCELED, "canceled");
        if (sv_mono_ms() > t->until_ms)
            return sv_fail(err, SV_ETIMEDOUT, "the audio took longer to decode than it may: send it in parts, or as WAV");
        if (poll(&p, 1, TURN_MS) <= 0)
            continue;
        ssize_t n = read(c->out, t->bytes + t->n, sizeof t->bytes - t->n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return sv_fail_errno(err, "read from the audio decoder");
        if (n == 0)
            return child_outcome(c, err);
        t->n += (size_t)n;
        if (take(t, err) != SV_OK)
            return err->code;
    }
}

sv_rc sv_audio_decode(sv_audio *out, sv_str bytes, const sv_audio_opts *o, sv_err *err)
{
    SV_AUTO(sv_fd_closep) int in = -1;
    child c = {.out = -1, .said = -1};
    reading t = {.o = o, .until_ms = sv_mono_ms() + (o->timeout_ms > 0 ? o->timeout_ms : TIMEOUT_MS),
                 .max_samples = (size_t)(o->max_seconds > 0 ? o->max_seconds : MAX_SECONDS) * SV_AUDIO_RATE};
    if (!o->helper)
        return sv_fail(err, SV_EFORMAT, "the audio is no WAV file of plain samples, and nothing else is read here");
    sv_rc rc = bytes_to_fd(&in, bytes, err);
    rc = rc == SV_OK ? child_start(&c, o->helper, in, err) : rc;
    rc = rc == SV_OK ? read_all(&t, &c, err) : rc;
    rc = rc == SV_OK && t.r ? sv_resampler_push(t.r, NULL, 0, &t.audio, t.max_samples, err) : rc;
    child_end(&c);
    sv_resampler_free(t.r);
    if (rc == SV_OK)
        *out = t.audio;
    else
        sv_audio_done(&t.audio);
    return rc;
}
