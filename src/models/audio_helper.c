/* audio_helper.c - a program of its own: one file of sound in, samples out, by ffmpeg's decoders, in a cage
 *
 * Input is descriptor 0, read whole. Output is a u32, the rate, then float32 samples of one channel, the mean of all. A refusal is one sentence on
 * descriptor 2 and status 1; status 2: the cage could not be built, and nothing was decoded.
 *
 * The cage is put on before the first byte is looked at: limits on memory, processor time and files, then a list of the few system calls that
 * decoding needs (memory, reading and writing what is open, ending). With no open, no socket and no exec, a decoder that a hostile file has taken
 * over can compute, and write samples. Formats that name other files are not on the list of formats, and their opener refuses. */
#include <errno.h>
#include <math.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/opt.h>

enum { MEMORY_BYTES = 512 << 20, CPU_SECONDS = 120, IO_BYTES = 32 << 10, MAX_CHANNELS = 64, OUT_FLOATS = 8192, MAX_BROKEN = 1000 };

static const char formats[] = "mp3,flac,ogg,mov,mp4,m4a,matroska,webm,aac,wav,aiff,amr,au,caf,w64";

_Noreturn static void refuse(const char *words)
{
    (void)!write(2, words, strlen(words));
    _exit(1);
}

_Noreturn static void no_cage(const char *words)
{
    (void)!write(2, words, strlen(words));
    _exit(2);
}

static void enter_cage(void)
{
    static const int allowed[] = {
        SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(close), SCMP_SYS(brk), SCMP_SYS(mmap), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(mprotect),
        SCMP_SYS(madvise), SCMP_SYS(futex), SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(rt_sigreturn), SCMP_SYS(clock_gettime),
        SCMP_SYS(gettimeofday), SCMP_SYS(getrandom), SCMP_SYS(sched_getaffinity), SCMP_SYS(sched_yield), SCMP_SYS(getpid), SCMP_SYS(gettid),
    };
    setrlimit(RLIMIT_AS, &(struct rlimit){MEMORY_BYTES, MEMORY_BYTES});
    setrlimit(RLIMIT_CPU, &(struct rlimit){CPU_SECONDS, CPU_SECONDS});
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){0, 0}); /* the output is a pipe */
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){3, 3});
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        no_cage("no_new_privs");
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int rc = f ? 0 : -ENOMEM;
    for (size_t i = 0; rc == 0 && i < sizeof allowed / sizeof *allowed; i++)
        rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, allowed[i], 0);
    if (rc == 0)
        rc = seccomp_load(f);
    seccomp_release(f);
    if (rc != 0)
        no_cage("seccomp");
}

/* --- the bytes ---------------------------------------------------------------------------------------------------- */

typedef struct source { const uint8_t *p; int64_t n, at; } source;

static int source_read(void *arg, uint8_t *to, int n)
{
    source *s = arg;
    int64_t left = s->n - s->at;
    if (left <= 0)
        return AVERROR_EOF;
    n = n < left ? n : (int)left;
    memcpy(to, s->p + s->at, (size_t)n);
    s->at += n;
    return n;
}

static int64_t source_seek(void *arg, int64_t at, int whence)
{
    source *s = arg;
    whence &= ~AVSEEK_FORCE;
    if (whence == AVSEEK_SIZE)
        return s->n;
    at += whence == SEEK_CUR ? s->at : whence == SEEK_END ? s->n : 0;
    return at < 0 || at > s->n ? AVERROR(EINVAL) : (s->at = at);
}

static int open_nothing(AVFormatContext *f, AVIOContext **out, const char *url, int flags, AVDictionary **opts)
{
    (void)f, (void)out, (void)url, (void)flags, (void)opts;
    return AVERROR(EPERM);
}

/* --- samples ------------------------------------------------------------------------------------------------------ */

static float out[OUT_FLOATS];
static int n_out;
static int rate;

static void put_all(const void *bytes, size_t n)
{
    for (const char *p = bytes; n > 0;) {
        ssize_t k = write(1, p, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            _exit(0); /* nobody reads any more */
        p += k;
        n -= (size_t)k;
    }
}

static void flush(void)
{
    put_all(out, (size_t)n_out * sizeof *out);
    n_out = 0;
}

static double sample_at(const uint8_t *p, enum AVSampleFormat format, int64_t i)
{
    switch (format) {
    case AV_SAMPLE_FMT_U8: return (p[i] - 128) / 128.0;
    case AV_SAMPLE_FMT_S16: return ((const int16_t *)(const void *)p)[i] / 32768.0;
    case AV_SAMPLE_FMT_S32: return ((const int32_t *)(const void *)p)[i] / 2147483648.0;
    case AV_SAMPLE_FMT_S64: return (double)((const int64_t *)(const void *)p)[i] / 9223372036854775808.0;
    case AV_SAMPLE_FMT_FLT: return (double)((const float *)(const void *)p)[i];
    case AV_SAMPLE_FMT_DBL: return ((const double *)(const void *)p)[i];
    default: refuse("the audio has samples of an unknown form");
    }
}

static void put_frame(const AVFrame *f)
{
    int n_channels = f->ch_layout.nb_channels;
    bool planar = av_sample_fmt_is_planar((enum AVSampleFormat)f->format);
    enum AVSampleFormat packed = av_get_packed_sample_fmt((enum AVSampleFormat)f->format);
    if (n_channels < 1 || n_channels > MAX_CHANNELS)
        refuse("the audio has an unusual number of channels");
    if (!rate) {
        uint32_t head = (uint32_t)f->sample_rate;
        rate = f->sample_rate;
        put_all(&head, sizeof head);
    }
    if (f->sample_rate != rate)
        refuse("the audio changes its sample rate on the way, which is not read");
    for (int64_t i = 0; i < f->nb_samples; i++) {
        double sum = 0;
        for (int c = 0; c < n_channels; c++)
            sum += planar ? sample_at(f->extended_data[c], packed, i) : sample_at(f->extended_data[0], packed, i * n_channels + c);
        sum /= n_channels;
        out[n_out++] = !isfinite(sum) ? 0 : (float)fmax(-16, fmin(16, sum));
        if (n_out == OUT_FLOATS)
            flush();
    }
}

/* --- decoding ----------------------------------------------------------------------------------------------------- */

static AVFormatContext *open_format(source *s)
{
    AVFormatContext *f = avformat_alloc_context();
    uint8_t *buffer = av_malloc(IO_BYTES);
    if (!f || !buffer || !(f->pb = avio_alloc_context(buffer, IO_BYTES, 0, s, source_read, NULL, source_seek)))
        refuse("no memory to decode the audio");
    f->io_open = open_nothing;
    f->flags |= AVFMT_FLAG_CUSTOM_IO;
    f->max_streams = 64;
    f->format_whitelist = av_strdup(formats);
    if (avformat_open_input(&f, NULL, NULL, NULL) < 0)
        refuse("the audio is in no known form: WAV, MP3, FLAC, Ogg, Opus, M4A, MP4 and WebM are read");
    if (avformat_find_stream_info(f, NULL) < 0)
        refuse("the audio cannot be decoded: its streams are broken");
    return f;
}

static AVCodecContext *open_codec(AVFormatContext *f, int *stream)
{
    const AVCodec *codec = NULL;
    *stream = av_find_best_stream(f, AVMEDIA_TYPE_AUDIO, -1, -1, &codec, 0);
    if (*stream < 0 || !codec)
        refuse(*stream == AVERROR_DECODER_NOT_FOUND ? "the audio is coded in a form that is not read" : "the file has no sound in it");
    AVCodecContext *c = avcodec_alloc_context3(codec);
    if (!c || avcodec_parameters_to_context(c, f->streams[*stream]->codecpar) < 0)
        refuse("no memory to decode the audio");
    c->thread_count = 1;
    c->pkt_timebase = f->streams[*stream]->time_base;
    if (avcodec_open2(c, codec, NULL) < 0)
        refuse("the audio cannot be decoded: its decoder refuses its settings");
    return c;
}

static void drain(AVCodecContext *c, AVFrame *frame)
{
    while (avcodec_receive_frame(c, frame) == 0) {
        put_frame(frame);
        av_frame_unref(frame);
    }
}

static void decode(source *s)
{
    int stream, n_broken = 0;
    AVFormatContext *f = open_format(s);
    AVCodecContext *c = open_codec(f, &stream);
    AVPacket *packet = av_packet_alloc();
    AVFrame *frame = av_frame_alloc();
    if (!packet || !frame)
        refuse("no memory to decode the audio");
    while (av_read_frame(f, packet) >= 0) {
        if (packet->stream_index == stream) {
            n_broken += avcodec_send_packet(c, packet) < 0;
            drain(c, frame);
        }
        av_packet_unref(packet);
        if (n_broken > MAX_BROKEN)
            break;
    }
    if (avcodec_send_packet(c, NULL) >= 0)
        drain(c, frame);
    flush();
    if (!rate)
        refuse("the file has no sound that can be decoded");
    _exit(0); /* nothing to tidy: the process was for this */
}

int main(void)
{
    struct stat st;
    source s = {0};
    av_log_set_level(AV_LOG_QUIET);
    if (fstat(0, &st) < 0 || st.st_size <= 0)
        refuse("the audio is empty");
    s.n = st.st_size;
    s.p = mmap(NULL, (size_t)s.n, PROT_READ, MAP_PRIVATE, 0, 0);
    if (s.p == MAP_FAILED)
        no_cage("map the input");
    enter_cage();
    decode(&s);
}
