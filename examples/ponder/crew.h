/* What the files of `ponder contemplate` share: the agents as they were seen while they ran. */
#ifndef CREW_H
#define CREW_H

#include "program.h"

typedef struct seen {
    double begun, answering, ended; /* milliseconds since the start; < 0: not yet */
    uint64_t thoughts;              /* tokens of thought, as counted by events */
    uint64_t pieces;                /* events with text */
    buffer answer;                  /* so far */
    int32_t end;                    /* PONDER_END_*; 0: running */
} seen;

typedef struct crew {
    seen *agents;
    uint32_t n, room;
    uint32_t asked;     /* how many agents were asked for */
    double began;       /* clock at the start */
    double decided;     /* ms; < 0: not yet */
    int lanes;          /* drawn in place on standard error */
    uint32_t drawn;     /* lines of them */
    double drawn_at;
    int quiet;
    const char *synthesis;
} crew;

double crew_ms(const crew *c);
const char *end_name(int32_t end);
const char *decided_name(int32_t decided_by);

/* -- lanes.c -- */
void lanes_draw(crew *c, int last);
/* A line for an agent that is done, where there are no lanes. */
void lanes_say(const crew *c, uint32_t number, ponder_agent *agent);

/* -- report.c -- */
int report_write(const char *path, const crew *c, ponder_contemplation *k);
int svg_write(const char *path, const crew *c, ponder_contemplation *k);

#endif
