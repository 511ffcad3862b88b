/* session: what the public handles hold. A config is a table of values; a model is weights shared by count, and an engine
 * over them; a session is a conversation turned into one sequence and its tokens turned into events. */
#ifndef PN_SESSION_H
#define PN_SESSION_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "base/base.h"
#include "audio/audio.h"
#include "chat/chat.h"
#include "chat/parse.h"
#include "engine/engine.h"
#include "engine/sampler.h"
#include "grammar/grammar.h"
#include "think/think.h"
#include "tokenizer/tokenizer.h"
#include "vision/vision.h"

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

enum { PN_PARAMS = 91, PN_STRINGS = 16 };
#define PN_MOST_MS (INT64_C(1) << 40)

/* What a parameter adds to, each time it is set. */
typedef struct pn_strings {
    pn_str s[PN_STRINGS];     /* owned, each with a NUL behind it that does not count */
    uint32_t n;
} pn_strings;

ponder_status pn_strings_add(pn_strings *l, const char *name, const char *text, const ponder_alloc *a, ponder_error *err); /* "" forgets all */
ponder_status pn_strings_copy(pn_strings *to, const pn_strings *from, const ponder_alloc *a, ponder_error *err);
void pn_strings_forget(pn_strings *l, const ponder_alloc *a);

typedef union pn_setting {
    int64_t i64;
    double f64;
    char *str;                /* NULL: the default */
} pn_setting;

struct ponder_config {
    ponder_alloc alloc;
    pn_setting value[PN_PARAMS];
    pn_strings stop, more, role; /* more: words that keep a thought going */
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
bool pn_config_default(const ponder_config *c, ponder_param id);
const char *pn_config_first_set(const ponder_config *c, const ponder_param *id, size_t n); /* the first not at its default: its name; NULL */
ponder_status pn_config_copy(ponder_config **out, const ponder_config *from, ponder_error *err);
void pn_config_free(ponder_config *c);

typedef struct pn_core pn_core;

/* ---- media ------------------------------------------------------------------------------------- */

/* One thing that a tower makes rows of: a picture, a pair of a video's frames, a sound. */
typedef struct pn_encoding {
    pn_image *frame[2];       /* a picture: one */
    pn_sound *sound;
    double second;            /* of a pair's first frame */
    uint64_t key;             /* of kind and content */
    uint32_t tokens;          /* rows it becomes */
    pn_rows *rows;            /* NULL: not yet */
} pn_encoding;

/* A part of a message that is not text. */
typedef struct pn_medium {
    const ponder_alloc *a;
    pn_part_kind kind;
    uint32_t n;               /* 1, or a video's pairs */
    pn_encoding *e;           /* [n] */
} pn_medium;

enum { PN_FRAMES = 768 };    /* of a video */

/* The newest rows by key, at most `cap` bytes of them. */
typedef struct pn_cached {
    uint64_t key, used;
    pn_rows *rows;
} pn_cached;

typedef struct pn_media_cache {
    pn_cached *entry;
    uint32_t n, room;
    uint64_t bytes, cap, clock;
} pn_media_cache;

/* How a picture, or a video's frame, becomes cells. */
pn_grid_rule pn_core_grid(const pn_core *c, pn_part_kind kind);

pn_rows *pn_cache_find(pn_media_cache *c, uint64_t key);              /* held for the caller, or NULL */
void pn_cache_put(pn_media_cache *c, const ponder_alloc *a, uint64_t key, pn_rows *r); /* a cache may forget: no failure */
void pn_cache_free(pn_media_cache *c, const ponder_alloc *a);

/* ---- model ------------------------------------------------------------------------------------- */

enum { PN_ENDS = 16 };

/* Weights and what came with them. */
struct pn_core {
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
    /* towers */
    pn_tower *vision;         /* NULL: sees nothing */
    pn_audio *audio;          /* NULL: hears nothing */
    int32_t placeholder[PN_PART_AUDIO + 1]; /* by pn_part_kind: the token that rows stand for; -1: none */
    uint32_t image_tokens;    /* most of a picture; 0: the tower's own limit */
    pthread_mutex_t mutex;    /* of what follows */
    pn_vocab_trie *trie;      /* built when first needed */
    pn_media_cache cache;
    _Atomic uint64_t encoded;
};

typedef struct pn_fleet pn_fleet;      /* remote.h: servers */
typedef struct pn_distant pn_distant; /* distant.h: the session of a remote model */

struct ponder_model {
    _Atomic uint32_t refs;
    pid_t pid;
    pn_core *core;
    pn_meter meter;
    pn_engine *engine;        /* NULL: a remote model */
    pn_fleet *fleet;          /* its servers; else NULL */
    pn_kernels kernels;
    void (*log)(void *user, int32_t level, const char *line);
    void *log_user;
};

typedef ponder_status (*pn_opener)(pn_checkpoint **out, const void *how, const ponder_alloc *a, ponder_error *err);
ponder_status pn_model_open(ponder_model **out, pn_opener open, const void *how, const ponder_config *c, ponder_error *err);
/* Without weights and engine. */
ponder_status pn_model_bare(ponder_model **out, const ponder_config *c, ponder_error *err);
/* `url`: the servers, separated by blanks. */
ponder_status pn_model_open_remote(ponder_model **out, const char *url, const ponder_config *c, ponder_error *err);
ponder_status pn_model_share(ponder_model **out, ponder_model *m, const ponder_config *c, ponder_error *err);
ponder_status pn_model_plan(ponder_plan *out, const char *path, const ponder_config *c, ponder_error *err);
ponder_model *pn_model_hold(ponder_model *m);
void pn_model_release(ponder_model *m);
void pn_core_release(pn_core *c);
uint64_t pn_core_media_bytes(pn_core *c);
uint64_t pn_core_weight_bytes(const pn_core *c); /* the towers' too */

struct ponder_tokenizer {
    pid_t pid;
    pn_meter meter;           /* of its own, unless the core's */
    pn_core *core;            /* holds `t`, or NULL */
    pn_tokenizer *t;
};

ponder_status pn_tokenizer_open(pn_tokenizer **out, const char *path, const ponder_alloc *a, ponder_error *err);

/* ---- session -------------------------------------------------------------------------------------- */

/* A message that waits, or (without a role) the parts of the next one. */
typedef struct pn_pending {
    pn_str role, name;        /* role: with its NUL; name: of the function, for a result */
    pn_part *parts;
    pn_medium **media;        /* of the same parts; NULL for text */
    size_t n_parts, cap_parts;
} pn_pending;

typedef struct pn_encoder pn_encoder; /* media.c: an encoding under way */
typedef struct pn_listening pn_listening; /* listen.c: a sound that is still being recorded */

enum { PN_BIASES = 1024, PN_MARKERS = 24 };

/* Ids among those of pn_thinking.ids. */
typedef struct pn_phrase {
    const int32_t *ids;
    size_t at, n;
} pn_phrase;

/* A time on both clocks. */
typedef struct pn_stamp { uint64_t wall, inside; } pn_stamp;

enum { PN_CLOCK_CALL = 0, PN_CLOCK_WALL, PN_CLOCK_INSIDE };

/* The budget of a session's thoughts, and its state. thought_settings.c, thinking.c */
typedef struct pn_thinking {
    /* settings */
    pn_think_limits limits;
    bool on;                  /* something is limited or asked for */
    bool start;
    int clock;                /* PN_CLOCK_* */
    pn_strings text;          /* of these: message, open, close; empty ones as "" are left out */
    pn_strings more;
    const char *message, *open, *close; /* in `text`, or "" */
    /* what they are in this model's tokens */
    int32_t *ids;
    size_t n_ids, cap_ids;
    pn_phrase closer, line, behind, role, to_user, opener, note; /* note: the message */
    pn_phrase words[PN_STRINGS];
    int32_t closer_id, opener_id, end_id; /* where the markers are tokens; else -1 */
    int32_t *queue;           /* tokens to be written next */
    uint32_t n_queue, queued, cap_queue;
    /* state */
    pn_thought t;
    uint32_t said_at, said_to; /* the model's own tokens of the newest turn */
    uint64_t strays;
    bool quiet;               /* no thought may open by the header that is being written */
    bool resync;              /* tokens were put in: a header's matcher has to catch up */
    _Atomic bool close_now;
    /* a probe under way */
    bool probing;
    uint32_t trial;
    double trial_sum;
    /* clocks */
    bool wall;
    uint32_t depth;
    uint64_t entered, inside_us;
    pn_stamp turn, counted;
} pn_thinking;

typedef enum pn_phase { PN_IDLE, PN_PREPARE, PN_TURN, PN_FLUSH, PN_DONE } pn_phase;

/* What a room above keeps with a session. */
typedef struct pn_attached {
    void (*release)(struct pn_attached *a);
} pn_attached;

struct ponder_session {
    pid_t pid;
    _Atomic bool busy;
    _Atomic uint32_t holders; /* the host, and a contemplation */
    const ponder_alloc *a;
    ponder_model *model;
    pn_sequence *seq;         /* NULL: of a remote model */
    pn_distant *distant;      /* NULL: of a local one */
    ponder_error err;
    /* settings */
    pn_sampling sampling;
    uint64_t max_tokens;
    int64_t logprobs;
    bool ignore_eos, strict_tools, look_closer, subagents;
    uint32_t agent_limit, agent_depth;
    uint64_t agent_tokens;
    uint32_t drafts;          /* most of a step; 0: none */
    bool ask_drafter;         /* they are the drafter's */
    char effort[24];
    pn_template template;
    pn_strings stop;
    pn_bias *bias;
    uint32_t n_bias;
    pn_grammar *grammar;      /* binds the answer; NULL: none */
    pn_attached *agents;      /* its group */
    pn_attached *crew;        /* agents that its model has */
    uint32_t prompt_at;       /* where the newest prompt to speak began (with subagents) */
    uint32_t depth;           /* of agents above it */
    /* the conversation */
    pn_pending *pending;
    size_t n_pending, cap_pending;
    pn_pending next;          /* parts of the next message */
    pn_encoder *encoder;
    pn_listening *listening;
    pn_tools *tools;
    pn_image **gallery;       /* pictures of the conversation in order, for image.zoom */
    uint32_t n_gallery, cap_gallery;
    uint64_t calls;           /* of the model, so far */
    bool asked;               /* the last message was no system's */
    bool unprompted;          /* messages were rendered and the model not asked to speak yet */
    bool open_turn;           /* the last thing is a turn of the model's, perhaps without its end token */
    bool ended;               /* ... and the model itself ended it */
    uint32_t turn_at;         /* where that turn began */
    /* the turn under way */
    pn_phase phase;
    int32_t end;
    pn_sampler sampler;
    pn_detok detok;
    pn_parser *parser;        /* NULL: to be made, from the tokens of the turn so far */
    int32_t marker[PN_MARKERS]; /* the ids of its control markers */
    uint32_t n_markers;
    pn_parsed parsed;         /* kind 0, or an event that waits for text before it */
    bool finished;            /* the parser was told of the turn's end */
    pn_buf held, shown, piece; /* answer that may be a stop string; text of the newest event; text of the newest token */
    pn_matcher *answer, *call;
    pn_matcher *header, *quiet_header; /* of a Muse message: while an answer is owed; while no thought may open */
    pn_matcher *active;       /* one of them, or NULL; the newest token's */
    uint32_t *mask;
    bool fresh;               /* the newest token was not reported yet */
    int32_t last_token;
    float logprob;
    uint32_t n_top;
    ponder_token_prob *top;
    pn_thinking think;
    uint64_t prompt_tokens, reused_tokens, output_tokens, thought_tokens, thought_before, calls_before, messages, drafted_before, accepted_before, began_us, first_us, ended_us;
};

static inline bool pn_session_is_muse(const ponder_session *s) { return pn_parser_kind_of(s->template) == PN_PARSER_MUSE; }

ponder_status pn_session_new(ponder_session **out, ponder_model *m, const ponder_config *c, ponder_error *err);
ponder_status pn_session_fork(ponder_session **out, ponder_session *s, const ponder_config *c);
/* The same with room for `tokens` whatever the config says; 0: as it says. */
ponder_status pn_session_fork_sized(ponder_session **out, ponder_session *s, const ponder_config *c, uint32_t tokens);
void pn_session_free(ponder_session *s);
ponder_session *pn_session_hold(ponder_session *s); /* one more pn_session_free is needed */
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
/* The turn under way ends here, as if the model had stopped: its last events follow. */
void pn_session_end_turn(ponder_session *s, int32_t end);
/* Whether the model is to speak: something was added that it has not answered, or its turn was cut. */
bool pn_session_waits(const ponder_session *s);

ponder_status pn_session_eval(ponder_session *s, const int32_t *ids, size_t n, const ponder_eval *eval);
ponder_status pn_session_score(ponder_session *s, const int32_t *ids, size_t n, float *logprobs);
ponder_status pn_session_embed(ponder_session *s, const char *text, size_t n, float *vector);
ponder_status pn_session_save(ponder_session *s, pn_buf *out);
ponder_status pn_session_load(ponder_session *s, const void *bytes, size_t n);

/* Renders what is pending and appends its ids, encoding what is missing first; `prompt`: the model is to speak next. */
ponder_status pn_session_render(ponder_session *s, bool prompt);
/* ... and computes everything, the logits after the last token too. */
ponder_status pn_session_settle(ponder_session *s);
/* The same without the generation prompt, until `until`. */
ponder_status pn_session_prefill(ponder_session *s, uint64_t until);

/* messages.c */
ponder_status pn_session_needs(ponder_session *s, bool template);
ponder_status pn_session_attach_text(ponder_session *s, const char *text, size_t n);
ponder_status pn_session_attach(ponder_session *s, pn_medium *m); /* takes m over, also on failure */
ponder_status pn_session_add_result(ponder_session *s, const char *name, const char *text, size_t n);
ponder_status pn_session_copy_pending(ponder_session *to, const ponder_session *from);
void pn_session_forget_parts(ponder_session *s);

/* media.c */
void pn_medium_free(pn_medium *m);
ponder_status pn_medium_copy(pn_medium **out, const pn_medium *m, ponder_error *err);
ponder_status pn_session_attach_image(ponder_session *s, pn_image *image);
ponder_status pn_session_attach_video(ponder_session *s, pn_image *const *frames, const double *seconds, size_t n);
ponder_status pn_session_attach_sound(ponder_session *s, pn_sound *sound);
/* Encodes what the pending messages need. PONDER_MORE, _CANCELLED; after other failures the messages are forgotten. */
ponder_status pn_session_encode(ponder_session *s, uint64_t until);
ponder_status pn_session_encode_parts(ponder_session *s, pn_pending *m, size_t n, uint64_t until);
void pn_session_drop_encoding(ponder_session *s);
/* Rows of everything attached and pending, normed as the model norms its input: appended to out. */
ponder_status pn_session_features(ponder_session *s, pn_buf *out);
ponder_status pn_session_copy_gallery(ponder_session *to, const ponder_session *from);
void pn_session_forget_gallery(ponder_session *s);

/* listen.c, and its ends in prompt.c */
ponder_status pn_session_listen(ponder_session *s, const float *samples, size_t frames, uint32_t rate, uint32_t channels);
ponder_status pn_session_hear(ponder_session *s, uint64_t until); /* rows of what was pushed go into the sequence */
ponder_status pn_session_end_listening(ponder_session *s, const char *text, size_t n);
ponder_status pn_session_copy_listening(ponder_session *to, const ponder_session *from);
void pn_session_forget_listening(ponder_session *s);
ponder_status pn_session_open_listening(ponder_session *s, pn_medium *live); /* takes live over, also on failure */
ponder_status pn_session_close_listening(ponder_session *s, const char *text, size_t n);

/* thinking.c, for a remote model: a piece came, of a thought or of something else; the cap of its tokens (-1: none); whether a
 * further piece of so many tokens passes a limit: PONDER_THOUGHT_*, 0: none; when to look again; a thought was closed here. */
void pn_session_distant_piece(ponder_session *s, bool thought, uint32_t tokens);
int64_t pn_session_distant_cap(const ponder_session *s);
int32_t pn_session_distant_over(ponder_session *s, uint32_t tokens);
uint64_t pn_session_distant_until(const ponder_session *s, uint64_t until);
void pn_session_distant_closed(ponder_session *s, int32_t why);

/* distant.c: the same session over a server */
ponder_status pn_distant_new(ponder_session *s, ponder_error *err);
ponder_status pn_distant_copy(ponder_session *to, const ponder_session *from);         /* the conversation */
ponder_status pn_distant_copy_binding(ponder_session *to, const ponder_session *from); /* settings without a config */
void pn_distant_free(ponder_session *s);
uint64_t pn_distant_bytes(const ponder_session *s);
void pn_distant_cancel(ponder_session *s);
void pn_distant_wake(ponder_session *s);      /* who waits for it looks up; any thread */
bool pn_distant_take_cancel(ponder_session *s);
void pn_distant_rest(ponder_session *s);      /* its stream, if there is one, is closed */
void pn_distant_failed(ponder_session *s);    /* the turn under way does not count */
void pn_distant_forget(ponder_session *s);    /* the whole conversation */
bool pn_distant_empty(const ponder_session *s);
ponder_status pn_distant_configure(ponder_session *s, const ponder_config *c);
ponder_status pn_distant_bind(ponder_session *s, const char *schema, const char *regex);
ponder_status pn_distant_set_tools(ponder_session *s, const char *json, size_t n);
ponder_status pn_distant_check_thinking(ponder_session *s, const ponder_config *c);
/* Stages of a turn, as prepare and generate_one of a local one. */
ponder_status pn_distant_prepare(ponder_session *s);
ponder_status pn_distant_generate(ponder_session *s, uint64_t until, ponder_event *event);
ponder_status pn_distant_note(ponder_session *s, ponder_event *e); /* an event that is about to be reported */

/* turn.c */
void pn_session_cancel(ponder_session *s);      /* any thread */
void pn_session_finish(ponder_session *s, int32_t end); /* the turn ends here: what is held follows */
int32_t pn_event_kind(pn_parse_kind kind); /* PONDER_EVENT_*, 0: none of the host's business */
void pn_session_forget_parser(ponder_session *s);

/* thought_settings.c */
ponder_status pn_session_set_thinking(ponder_session *s, const ponder_config *c);
ponder_status pn_session_copy_thinking(ponder_session *to, const ponder_session *from);
void pn_session_forget_thinking(ponder_session *s);
int32_t pn_session_special(const ponder_session *s, const char *name); /* the id of a special token of that text; -1: there is none */

/* thinking.c */
bool pn_session_renders_no_thought(const ponder_session *s); /* the prompt itself is to say so, where it can */
/* The clock of PONDER_P_CLOCK "inside" runs between these; they nest. Whoever drives sessions inside one call enters each of
 * them. wall: what "" means in this call. */
void pn_session_enter(ponder_session *s, bool wall);
void pn_session_leave(ponder_session *s);
void pn_session_begin_thinking(ponder_session *s);            /* with the turn */
void pn_session_recount_thought(ponder_session *s);           /* before the parser reads the turn again ... */
void pn_session_counted(ponder_session *s, int32_t token, uint32_t at, pn_place before); /* ... and each token that it read */
ponder_status pn_session_prepare_thinking(ponder_session *s, uint32_t prompt); /* prompt: tokens to be computed */
void pn_session_took(ponder_session *s, int32_t token, pn_place before, bool ours);
uint64_t pn_session_until(ponder_session *s, uint64_t until); /* the earlier of this and the turn's end; 0: neither */
bool pn_session_out_of_time(ponder_session *s);
bool pn_session_queued(ponder_session *s, int32_t *token);    /* a token that is to be written next */
ponder_status pn_session_before_step(ponder_session *s);      /* without logits: closes what has to be closed */
/* With logits: closes, opens, probes. */
ponder_status pn_session_before_sample(ponder_session *s);
ponder_status pn_session_probe(ponder_session *s, uint64_t until);
void pn_session_end_probe(ponder_session *s);
/* The tokens that may be sampled: bind.c's and ours. */
ponder_status pn_session_allowed(ponder_session *s, const uint32_t **mask);
/* What was sampled, if it is to be taken; *token -1: something was queued instead. */
ponder_status pn_session_judge(ponder_session *s, int32_t *token, const uint32_t *mask);
void pn_session_read_thought(const ponder_session *s, ponder_thought *out);

/* bind.c */
ponder_status pn_session_set_binding(ponder_session *s, const char *schema, const char *regex);
void pn_session_forget_binding(ponder_session *s);
ponder_status pn_session_prepare_binding(ponder_session *s);
ponder_status pn_session_resume_binding(ponder_session *s);
ponder_status pn_session_mask(ponder_session *s, const uint32_t **mask); /* NULL: anything goes */
ponder_status pn_session_bound(ponder_session *s, int32_t token);

/* tools.c */
ponder_status pn_session_set_tools(ponder_session *s, const char *json, size_t n);
/* Answers image.zoom; *ours false: another tool. */
ponder_status pn_session_zoom(ponder_session *s, pn_str name, pn_str arguments, bool *ours);

#endif
