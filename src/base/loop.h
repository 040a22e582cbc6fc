/* loop.h - an epoll loop: descriptors, timers, and work posted from other threads
 *
 * One thread owns a loop and everything registered with it; only sv_loop_post and sv_loop_stop may be called from
 * others. Nothing called by the loop may block. */
#ifndef SV_BASE_LOOP_H
#define SV_BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

typedef struct sv_loop sv_loop;
typedef struct sv_watch sv_watch;
typedef struct sv_timer sv_timer;

sv_loop *sv_loop_new(void);
sv_loop *sv_loop_free(sv_loop *l);
void sv_loop_run(sv_loop *l);  /* until sv_loop_stop */
void sv_loop_stop(sv_loop *l); /* any thread; safe in a signal handler */
int64_t sv_loop_now_ms(const sv_loop *l); /* monotonic, refreshed once a turn */

/* events: EPOLLIN | EPOLLOUT | EPOLLRDHUP (level-triggered). The watch does not own fd. A callback may remove any watch,
 * its own included; a removed watch is never called again. */
typedef void (*sv_watch_fn)(void *arg, int fd, uint32_t events);
sv_watch *sv_loop_watch(sv_loop *l, int fd, uint32_t events, sv_watch_fn fn, void *arg);
void sv_watch_set(sv_watch *w, uint32_t events);
sv_watch *sv_watch_remove(sv_watch *w); /* NULL is fine; returns NULL. Before the fd is closed */

/* One-shot; re-arm in the callback for a period. Embedded use: a timer belongs to its owner's struct by pointer. */
sv_timer *sv_timer_new(sv_loop *l, void (*fn)(void *arg), void *arg); /* not armed */
void sv_timer_set(sv_timer *t, int64_t in_ms); /* arms or re-arms; < 0 disarms. O(log n) */
sv_timer *sv_timer_free(sv_timer *t);

void sv_loop_post(sv_loop *l, void (*fn)(void *arg), void *arg); /* any thread; runs soon, in order of posting */

#endif
