/* session: what the public handles hold. A config is a table of values; a model is weights shared by count, and an engine
 * over them; a session is a conversation turned into one sequence and its tokens turned into events. */
#ifndef PN_SESSION_H
#define PN_SESSION_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "base/base.h"
#include "chat/chat.h"
#include "engine/engine.h"
#include "engine/sampler.h"
#include "tokenizer/tokenizer.h"

/* ---- memory that is counted ---------------------------------------------------------------- */

/* An allocator that counts, keeps to a cap, and hands on to the host's. `below`: bytes that count too. */
typedef struct pn_meter {
    ponder_alloc alloc;       /* what the rooms are given */
    ponder_alloc inner;       /* the host's; alloc NULL: the C library */
    _Atomic uint64_t used, peak;
    uint64_t cap;             /* 0: none */
    struct pn_meter *below;
} pn_meter;

void pn_meter_init(pn_meter *m, const ponder_alloc *inner, uint64_t cap, pn_meter *below);
/* Under a cap, the text of PONDER_E_NOMEM names it. Returns st. */
ponder_status pn_name_cap(ponder_status st, uint64_t cap, ponder_error *err);
uint64_t pn_meter_used(const pn_meter *m);
uint64_t pn_meter_peak(const pn_meter *m);

/* ---- config ---------------------------------------------------------------------------------- */

enum { PN_PARAMS = 26, PN_STOPS = 16 };

typedef union pn_value {
    int64_t i64;
    double f64;
    char *str;                /* NULL: the default */
} pn_value;

struct ponder_config {
    ponder_alloc alloc;
    pn_value value[PN_PARAMS];
    pn_str stop[PN_STOPS];
    uint32_t n_stop;
    ponder_runner runner;
    int32_t (*progress)(void *user, uint64_t done, uint64_t total);
    void *progress_user;
    void (*log)(void *user, int32_t level, const char *line);
    void *log_user;
    ponder_error err;
};

extern const ponder_param_info pn_params[PN_PARAMS];
int pn_param_index(ponder_param id);                            /* -1: none */
int64_t pn_config_i64(const ponder_config *c, ponder_param id); /* c NULL: the default */
double pn_config_f64(const ponder_config *c, ponder_param id);
const char *pn_config_str(const ponder_config *c, ponder_param id);

/* ---- model ------------------------------------------------------------------------------------- */

enum { PN_ENDS = 16 };

/* Weights and what came with them. */
typedef struct pn_core {
    _Atomic uint32_t refs;
    pn_meter meter;
    pn_network *network;
    pn_tokenizer *tokenizer;  /* NULL: none */
    pn_template template;
    bool own_template;        /* the file brought one, known or not */
    uint64_t hash;
    int32_t ends[PN_ENDS];
    uint32_t n_ends;
    char name[64];
} pn_core;

struct ponder_model {
    _Atomic uint32_t refs;
    pid_t pid;
    pn_core *core;
    pn_meter meter;
    pn_engine *engine;
    pn_kernels kernels;
    void (*log)(void *user, int32_t level, const char *line);
    void *log_user;
};

typedef ponder_status (*pn_opener)(pn_checkpoint **out, const void *how, const ponder_alloc *a, ponder_error *err);
ponder_status pn_model_open(ponder_model **out, pn_opener open, const void *how, const ponder_config *c, ponder_error *err);
ponder_status pn_model_share(ponder_model **out, ponder_model *m, const ponder_config *c, ponder_error *err);
ponder_status pn_model_plan(ponder_plan *out, const char *path, const ponder_config *c, ponder_error *err);
ponder_model *pn_model_hold(ponder_model *m);
void pn_model_release(ponder_model *m);
void pn_core_release(pn_core *c);

struct ponder_tokenizer {
    pid_t pid;
    pn_meter meter;           /* of its own, unless the core's */
    pn_core *core;            /* holds `t`, or NULL */
    pn_tokenizer *t;
};

ponder_status pn_tokenizer_open(pn_tokenizer **out, const char *path, const ponder_alloc *a, ponder_error *err);

/* ---- session -------------------------------------------------------------------------------------- */

typedef struct pn_pending {
    char *role, *text;
    size_t role_n, text_n;
} pn_pending;

enum { PN_BIASES = 1024 };

typedef enum pn_phase { PN_IDLE, PN_TURN, PN_FLUSH, PN_DONE } pn_phase;

struct ponder_session {
    pid_t pid;
    _Atomic bool busy;
    const ponder_alloc *a;
    ponder_model *model;
    pn_sequence *seq;
    ponder_error err;
    /* settings */
    pn_sampling sampling;
    uint64_t max_tokens;
    int64_t logprobs;
    bool ignore_eos;
    char effort[24];
    pn_template template;
    pn_str stop[PN_STOPS];
    uint32_t n_stop;
    pn_bias *bias;
    uint32_t n_bias;
    /* the conversation */
    pn_pending *pending;
    size_t n_pending, cap_pending;
    bool open_turn;           /* the last thing is a turn of the model's, perhaps without its end token */
    bool ended;               /* ... and the model itself ended it */
    uint32_t turn_at;         /* where that turn began */
    /* the turn under way */
    pn_phase phase;
    int32_t end;
    pn_sampler sampler;
    pn_detok detok;
    pn_buf held, shown;       /* text not reported yet; text of the newest event */
    ponder_token_prob *top;
    uint64_t prompt_tokens, reused_tokens, output_tokens, began_us, first_us, ended_us;
};

ponder_status pn_session_new(ponder_session **out, ponder_model *m, const ponder_config *c, ponder_error *err);
ponder_status pn_session_fork(ponder_session **out, ponder_session *s, const ponder_config *c);
void pn_session_free(ponder_session *s);
ponder_status pn_session_configure(ponder_session *s, const ponder_config *c);
ponder_status pn_session_bias(ponder_session *s, int32_t token, float bias);
ponder_status pn_session_add(ponder_session *s, const char *role, const char *text, size_t n);
ponder_status pn_session_prompt(ponder_session *s, const char *text, size_t n, uint32_t flags);
ponder_status pn_session_prompt_ids(ponder_session *s, const int32_t *ids, size_t n);
ponder_status pn_session_rewind(ponder_session *s, size_t tokens, uint32_t *recompute);
void pn_session_forget_pending(ponder_session *s);

/* The next event of the turn; begins one when none is under way. until: as pn_sequence_advance. */
ponder_status pn_session_next(ponder_session *s, uint64_t until, ponder_event *event);
/* A turn under way is given up; its tokens stay. */
void pn_session_drop_turn(ponder_session *s);

ponder_status pn_session_eval(ponder_session *s, const int32_t *ids, size_t n, const ponder_eval *eval);
ponder_status pn_session_score(ponder_session *s, const int32_t *ids, size_t n, float *logprobs);
ponder_status pn_session_embed(ponder_session *s, const char *text, size_t n, float *vector);
ponder_status pn_session_save(ponder_session *s, pn_buf *out);
ponder_status pn_session_load(ponder_session *s, const void *bytes, size_t n);

/* Renders what is pending and appends its ids. */
ponder_status pn_session_render(ponder_session *s);
/* ... and computes everything, the logits after the last token too. */
ponder_status pn_session_settle(ponder_session *s);

#endif
