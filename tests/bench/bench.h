/* What the programs of this folder share: clocks, an order for percentiles, and the end when something fails. */
#ifndef BENCH_H
#define BENCH_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "ponder.h"

__attribute__((noreturn, unused)) static void fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

__attribute__((unused)) static void must(ponder_status st, const char *what)
{
    if (st >= PONDER_OK) return;
    fprintf(stderr, "%s: %s\n", what, ponder_status_name(st));
    exit(1);
}

static inline double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline double wall_seconds(void) { return seconds_of(CLOCK_MONOTONIC); }
static inline double thread_seconds(void) { return seconds_of(CLOCK_THREAD_CPUTIME_ID); } /* this thread's processor time */

__attribute__((unused)) static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

#endif
