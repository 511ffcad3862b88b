/* ponder: a thinking model inside your program.
 *
 * One header, one library. Every handle is opaque; every call that can fail returns a ponder_status, 0 for success and
 * a negative number for failure. No call aborts, exits, prints, raises a signal, or reads the environment.
 *
 * Rules that hold everywhere, unless a function says otherwise:
 *  - Text is UTF-8, given as pointer and length in bytes; it need not end in NUL. `const char *` without a length ends in NUL.
 *  - Output handles come first and are set to NULL on failure. `_free(NULL)` does nothing.
 *  - Variable-length results are written to the caller's buffer: `cap` is its room in elements, `*n` receives the number
 *    that there are. Too little room is PONDER_E_SPACE with *n set and nothing written; a NULL buffer with cap 0 asks for *n.
 *  - A model and a tokenizer are immutable after opening and may be used by any number of threads. A config, a session
 *    and what it returns belong to one thread at a time. ponder_session_cancel may be called from any thread.
 *  - Children keep their parents alive: a session holds its model, so handles may be freed in any order.
 *  - Floating-point settings of the calling thread are restored on return; 64 KB of stack are enough.
 *  - In a child after fork(), calls on handles made before it return PONDER_E_FORK.
 *  - Structs begin with `size_t size`, set by the caller to sizeof the struct; later versions only append members.
 *
 * Since: 0.1 for everything here. Versions 0.x may still change; every change is in CHANGELOG.md.
 */
#ifndef PONDER_H
#define PONDER_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && defined(PONDER_SHARED)
#ifdef PONDER_BUILD
#define PONDER_API __declspec(dllexport)
#else
#define PONDER_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define PONDER_API __attribute__((visibility("default")))
#else
#define PONDER_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ==== version ============================================================================================= */

#define PONDER_VERSION_MAJOR 0
#define PONDER_VERSION_MINOR 1
#define PONDER_VERSION_PATCH 0
/* The number in the soname: raised when a compiled program would no longer run. */
#define PONDER_ABI 0

/* major * 1000000 + minor * 1000 + patch of the library that runs (not of this header). Any thread. */
PONDER_API uint32_t ponder_version(void);
/* PONDER_ABI of the library that runs. A binding compares it with the header it was made from. Any thread. */
PONDER_API uint32_t ponder_abi(void);

/* ==== status ============================================================================================== */

typedef int32_t ponder_status;

enum {
    PONDER_OK = 0,
    PONDER_MORE = 1,            /* not an error: nothing to report yet, call again */
    PONDER_E_ARGUMENT = -1,     /* NULL or nonsense where a value is needed */
    PONDER_E_RANGE = -2,        /* a number outside its bounds */
    PONDER_E_UNKNOWN = -3,      /* an id this library does not know */
    PONDER_E_NOMEM = -4,        /* an allocation failed, or the memory cap would be passed */
    PONDER_E_IO = -5,           /* a file could not be opened or read */
    PONDER_E_FORMAT = -6,       /* a file or text breaks its format; the text names the key or tensor */
    PONDER_E_UNSUPPORTED = -7,  /* valid, but this build or model cannot do it; the text names what is missing */
    PONDER_E_STATE = -8,        /* a call in the wrong order */
    PONDER_E_SPACE = -9,        /* the caller's buffer is too small */
    PONDER_E_CANCELLED = -10,   /* ponder_session_cancel, or a callback said stop */
    PONDER_E_CONTEXT = -11,     /* the context is full */
    PONDER_E_MISMATCH = -12,    /* a saved state of another model, version or settings, or a wrong checksum */
    PONDER_E_THREAD = -13,      /* a thread could not be started */
    PONDER_E_FORK = -14,        /* the handle was made before fork() */
    PONDER_E_BUSY = -15,        /* the handle is in use by another thread */
    PONDER_E_INTERNAL = -16     /* a bug in this library */
};

/* A constant name such as "PONDER_E_NOMEM"; "PONDER_E_?" for a number that is none. Any thread; static storage. */
PONDER_API const char *ponder_status_name(ponder_status status);

/* Where calls on shared objects put their error text; optional (NULL) everywhere. Owned by the caller. */
typedef struct ponder_error {
    size_t size;        /* sizeof(ponder_error) */
    ponder_status status;
    int32_t reserved;   /* 0 */
    char text[240];     /* one line, ends in NUL */
} ponder_error;

/* ==== allocator and runner ================================================================================ */

/* The host's memory functions; NULL wherever one is taken means the C library. Called from any thread that calls
 * ponder; must not call ponder. `align` is a power of two. alloc returns NULL when there is no memory. */
typedef struct ponder_alloc {
    size_t size; /* sizeof(ponder_alloc) */
    void *user;
    void *(*alloc)(void *user, size_t bytes, size_t align);
    void (*free)(void *user, void *p, size_t bytes);
} ponder_alloc;

/* The host's job system. run() calls fn(ctx, i) for each i in 0..parts-1, each exactly once, on any threads, and
 * returns when all have returned. At most `threads` of them at a time. */
typedef struct ponder_runner {
    size_t size; /* sizeof(ponder_runner) */
    void *user;
    uint32_t threads;
    uint32_t reserved; /* 0 */
    void (*run)(void *user, void (*fn)(void *ctx, uint32_t part), void *ctx, uint32_t parts);
} ponder_runner;

/* ==== config ============================================================================================== */

typedef struct ponder_config ponder_config;
typedef int32_t ponder_param;

/* Ids come in families with gaps; they are never reused or renumbered. Bounds and defaults: ponder_param_at. */
enum {
    /* model: read when a model is opened */
    PONDER_P_THREADS = 100,       /* i64: threads of the engine, the caller's included; 0: one a core; 1: the caller's alone */
    PONDER_P_CPU_MASK = 101,      /* i64: kernel levels allowed: 1 AVX2, 2 AVX-512, 4 AVX-512 VNNI; the results are the same */
    PONDER_P_REPACK = 102,        /* i64: weights are repacked for speed: 2 by the second step that uses them, so that a first token comes
                                     soon; 1 when the model is opened, and the file is closed then; 0 never: the file's pages are read where
                                     they are (shared, slower). Those of experts, drafters and towers, and converted ones, never wait with 2 */
    PONDER_P_MEMORY_CAP = 103,    /* i64: bytes that a model and its sessions may take together; 0: no cap. Of a mixture's
                                     experts those that do not fit are read from the file when they are needed */
    PONDER_P_QUANTIZE = 104,      /* str: "", "q8_0", "q4_0" or "q4_k": quantise a float checkpoint while loading */
    PONDER_P_BATCH = 105,         /* i64: most tokens one step computes */
    PONDER_P_CHUNK = 106,         /* i64: most prompt tokens a step takes while another sequence is generating */
    PONDER_P_KV_TYPE = 107,       /* str: "f32", "f16", "q8_0" or "q4": the key-value store: 32, 16, 9 or 4.5 bits a value */
    PONDER_P_TOKENIZER = 108,     /* str: path of a tokenizer.json, a tiktoken rank file or a GGUF to use instead of the model's */
    PONDER_P_SEQUENCES = 109,     /* i64: most sequences in one step */
    PONDER_P_PROJECTOR = 110,     /* str: path of a GGUF with the model's image and audio towers (an "mmproj" file) */
    PONDER_P_TOWERS = 111,        /* i64: 0 leaves the towers of a folder unread: no images and no sound, less memory */
    PONDER_P_MEDIA_CACHE = 112,   /* i64: bytes of encoded images and sounds kept, so that the same one is encoded once */
    PONDER_P_IMAGE_TOKENS = 113,  /* i64: most tokens a picture takes; 0: the model's own limit */
    PONDER_P_DRAFTER = 114,       /* str: path of a drafter made for the model: a GGUF of architecture "dflash", or a folder. It is loaded with
                                     the model; PONDER_P_DRAFT "drafter" uses it */
    /* session: read when a session is made; those marked * may also be set later with ponder_session_configure */
    PONDER_P_CONTEXT = 200,       /* i64: tokens the session may hold; pages for them are reserved; 0: the model's limit, as memory allows */
    PONDER_P_MAX_TOKENS = 201,    /* i64*: most tokens one generate produces; 0: until the context is full */
    PONDER_P_SEED = 202,          /* i64*: of the counter-based random numbers */
    PONDER_P_TEMPERATURE = 203,   /* f64*: 0 is greedy */
    PONDER_P_TOP_K = 204,         /* i64*: 0: off */
    PONDER_P_TOP_P = 205,         /* f64*: 1: off */
    PONDER_P_MIN_P = 206,         /* f64*: 0: off */
    PONDER_P_REPEAT_PENALTY = 207,   /* f64*: 1: off; logits of seen tokens are divided (if positive) or multiplied by it */
    PONDER_P_PRESENCE_PENALTY = 208, /* f64*: 0: off; subtracted from logits of seen tokens */
    PONDER_P_FREQUENCY_PENALTY = 209, /* f64*: 0: off; subtracted once for each time a token was seen */
    PONDER_P_PENALTY_WINDOW = 210,   /* i64*: how many last tokens count as seen */
    PONDER_P_LOGPROBS = 211,      /* i64*: report this many most likely tokens beside each one; -1: none */
    PONDER_P_STOP = 212,          /* str*: adds a stop string; "" forgets all. No byte of it or after it is reported */
    PONDER_P_TEMPLATE = 213,      /* str: "muse", "chatml", "gemma" or "llama3"; "" recognises the file's own template */
    PONDER_P_EFFORT = 214,        /* str*: reasoning strength as the template knows it: low, medium, high, xhigh, or a number; "" unsaid */
    PONDER_P_IGNORE_EOS = 215,    /* i64*: 1 goes on after an end token (benchmarks) */
    PONDER_P_SCHEMA = 216,        /* str*: JSON Schema that binds the answer (never the thought); "": none. doc/structured-output.md */
    PONDER_P_REGEX = 217,         /* str*: regular expression that binds the answer; "": none */
    PONDER_P_STRICT_TOOLS = 218,  /* i64*: 1 binds the arguments of tool calls to the tools' schemas */
    PONDER_P_LOOK_CLOSER = 219,   /* i64*: 1 offers the model the tool image.zoom, which ponder_session_run answers itself */
    PONDER_P_DRAFT = 220,         /* str*: "lookup": tokens that the session's own text makes likely are computed along with the next one, which is
                                     faster where text repeats; "drafter": those that the model's drafter guesses (PONDER_P_DRAFTER;
                                     PONDER_E_UNSUPPORTED without one), while they pay. The same tokens come out. "": off. doc/performance.md */
    PONDER_P_DRAFT_TOKENS = 221,  /* i64*: most such tokens a step */
    /* media: read when an image or a sound is opened */
    PONDER_P_ALPHA = 300,         /* str: "white" is laid under a transparent picture, or "drop" forgets alpha; "": drop for a path, else white */
    PONDER_P_MAX_PIXELS = 301,    /* i64: largest picture that is decoded, in pixels */
    PONDER_P_MAX_SECONDS = 302,   /* i64: longest sound that is decoded */
    /* thought: how much private reasoning there may be. doc/thinking.md. PONDER_E_UNSUPPORTED when a model has no markers of
     * thoughts and none are given, but for turn_ms, answer_tokens and clock */
    PONDER_P_THINK_TOKENS = 400,  /* i64*: most tokens of thought, the closing marker and whatever is put in included; 0: none; -1: no limit */
    PONDER_P_THINK_LEAST = 401,   /* i64*: tokens of thought before which a close is held back */
    PONDER_P_THINK_MS = 402,      /* i64*: most milliseconds of thought; 0: none; -1: no limit */
    PONDER_P_TURN_MS = 403,       /* i64*: milliseconds of a whole turn, prompt included: then PONDER_END_TIME; 0: no limit */
    PONDER_P_ANSWER_TOKENS = 404, /* i64*: the thought closes early enough to leave so many tokens to the answer, in context, max_tokens and turn_ms */
    PONDER_P_THINK_SCOPE = 405,   /* str*: "turn" or "block": what think_tokens, think_least and think_ms are of */
    PONDER_P_CLOCK = 406,         /* str*: "wall", "inside" (time spent in calls that drive the session), "": wall in generate, inside in step */
    PONDER_P_THINK_SOFT = 407,    /* i64*: tokens before the end of the budget from which a thought closes as soon as the closing marker ranks high; -1: automatic; 0: off */
    PONDER_P_THINK_RANK = 408,    /* i64*: high: among so many most likely tokens */
    PONDER_P_THINK_GRACE = 409,   /* i64*: tokens before the end of the budget from which it closes at the end of a sentence or line; -1: automatic; 0: off */
    PONDER_P_THINK_MESSAGE = 410, /* str*: written at the end of a thought that was cut, if the budget has room for it */
    PONDER_P_THINK_CONTINUE = 411, /* str*: adds words that take the place of a close that is held back; "" forgets all */
    PONDER_P_THINK_EXIT = 412,    /* str*: "", "entropy" or "answer": leaves a thought early when the answer is certain */
    PONDER_P_THINK_EXIT_AT = 413, /* f64*: entropy in nats below, or confidence 0..1 above which it is; negative: 0.2, 0.95 */
    PONDER_P_THINK_PATIENCE = 414, /* i64*: probes in a row that must say so */
    PONDER_P_THINK_INTERVAL = 415, /* i64*: tokens of thought between probes */
    PONDER_P_THINK_PROBE_SHARE = 416, /* f64*: most tokens that probes compute, as a share of the thought's */
    PONDER_P_THINK_OPEN = 417,    /* str*: marker that opens a thought, where the model has none of its own */
    PONDER_P_THINK_CLOSE = 418,   /* str*: marker that closes it */
    PONDER_P_THINK_START = 419,   /* i64*: 1 opens a thought at the turn's beginning */
    /* contemplation: read when one is made */
    PONDER_P_AGENTS = 500,        /* i64: how many agents work on the problem */
    PONDER_P_AT_ONCE = 501,       /* i64: how many of them run at the same time, then the next ones unless it is decided; 0: all */
    PONDER_P_SYNTHESIS = 502,     /* str: "vote", "confidence" (a vote that weighs its square) or "written" (the model writes the answer from the results) */
    PONDER_P_QUORUM = 503,        /* f64: stop when this share of the agents is done; 1: all */
    PONDER_P_DECIDE = 504,        /* f64: stop when the vote is decided. 1: no outcome can change it; below: its leader is ahead for good with this probability; 0: off */
    PONDER_P_DROP = 505,          /* f64: drop agents whose confidence falls under this quantile of the first finishers'; 0: off */
    PONDER_P_WARM_UP = 506,       /* i64: how many first finishers make that quantile; 0: a quarter of the agents, at least 2 */
    PONDER_P_DEADLINE_MS = 507,   /* i64: milliseconds after which the finished agents' answers are all there is; 0: none */
    PONDER_P_ROUNDS = 508,        /* i64: rounds; from the second on each agent is shown some results of the round before */
    PONDER_P_PEERS = 509,         /* i64: how many of them */
    PONDER_P_ANSWER_FORM = 510,   /* str: what answers are compared as: "number", "choice", "json", "text"; "": as what they look like */
    PONDER_P_ROLE = 511,          /* str: adds a role's text; agents take them in turn; "" forgets all. Of an agent: the first is its role */
    PONDER_P_PEERS_TEXT = 512,    /* str: what stands before the results that a later round is shown; "": English */
    PONDER_P_WRITER_TEXT = 513,   /* str: what stands behind the results that the written synthesis is shown; "": English */
    PONDER_P_CONFIDENCE_WINDOW = 514, /* i64: tokens over which confidence is averaged */
    /* agents of a session: read when the session is made; * as above */
    PONDER_P_AGENT_TOKENS = 520,  /* i64*: tokens that all agents of a session (or of a contemplation) generate together; 0: no limit */
    PONDER_P_SUBAGENTS = 521,     /* i64*: 1 offers the model the tools subagents.*, which ponder_session_run answers itself */
    PONDER_P_AGENT_LIMIT = 522,   /* i64*: most agents that the model may have at a time */
    PONDER_P_AGENT_DEPTH = 523,   /* i64*: 1: its agents have none themselves; 2: they may, and so on */
    /* remote: read by ponder_model_open_remote; those marked * by sessions of such a model, later too. doc/remote.md */
    PONDER_P_REMOTE_KEY = 600,    /* str: sent as "Authorization: Bearer ..."; in no log line and no error text */
    PONDER_P_REMOTE_MODEL = 601,  /* str: the model's name at the servers; "": the first that they list */
    PONDER_P_REMOTE_RETRIES = 602, /* i64: how often a request is sent again after a failure, beside once for each further server */
    PONDER_P_REMOTE_TIMEOUT_MS = 603, /* i64: milliseconds without a byte after which a request is given up and sent elsewhere */
    PONDER_P_REMOTE_CA = 604,     /* str: path of certificates (PEM) to trust; "": the system's. They are always verified */
    PONDER_P_REMOTE_URL = 605,    /* str: further servers of the same model, separated by blanks */
    PONDER_P_REMOTE_FLIGHTS = 606, /* i64: most requests at a time to one server, the others wait; 0: any number */
    PONDER_P_REMOTE_SERVER = 607, /* str: "openai", "vllm", "sglang" or "llama.cpp": which extensions they know; "": as their list of models says */
    PONDER_P_REMOTE_PROXY = 608,  /* str: proxy to go through; "": none, whatever the environment says */
    PONDER_P_REMOTE_KEY_FILE = 609, /* str: path of a file whose first line is the key */
    PONDER_P_REMOTE_BODY = 610,   /* str*: JSON object whose members go into each request as they are */
    PONDER_P_REMOTE_RESTART = 611 /* i64*: 1: a turn whose stream breaks after something was reported begins again, after PONDER_EVENT_RESTART; 0: it fails */
};

enum { PONDER_TYPE_I64 = 1, PONDER_TYPE_F64 = 2, PONDER_TYPE_STR = 3 };

typedef struct ponder_param_info {
    size_t size;             /* sizeof(ponder_param_info) */
    ponder_param id;
    int32_t type;            /* PONDER_TYPE_* */
    const char *name;        /* "threads"; static storage */
    const char *help;        /* one line; static storage */
    int64_t i64_default, i64_min, i64_max;
    double f64_default, f64_min, f64_max;
    const char *str_default; /* static storage; NULL unless a string */
    uint32_t since;          /* version, as ponder_version() gives it */
    int32_t live;            /* 1: ponder_session_configure takes it */
} ponder_param_info;

/* The table of parameters: i = 0, 1, ... until PONDER_E_RANGE. Any thread. */
PONDER_API ponder_status ponder_param_at(uint32_t i, ponder_param_info *out);

/* A config with every default. `alloc` (may be NULL; copied) serves the config and everything opened with it, and its
 * functions must live as long as those. PONDER_E_NOMEM, PONDER_E_ARGUMENT. */
PONDER_API ponder_status ponder_config_new(ponder_config **out, const ponder_alloc *alloc);
PONDER_API void ponder_config_free(ponder_config *config);
/* Set by id. PONDER_E_UNKNOWN: no such id; PONDER_E_ARGUMENT: another type; PONDER_E_RANGE: outside the bounds, with
 * name and bounds in the text; the config is unchanged then. Strings are copied. */
PONDER_API ponder_status ponder_config_set_i64(ponder_config *config, ponder_param id, int64_t value);
PONDER_API ponder_status ponder_config_set_f64(ponder_config *config, ponder_param id, double value);
PONDER_API ponder_status ponder_config_set_str(ponder_config *config, ponder_param id, const char *utf8);
/* A host's job runner instead of ponder's threads (PONDER_P_THREADS is then ignored). Copied; NULL takes it back. */
PONDER_API ponder_status ponder_config_set_runner(ponder_config *config, const ponder_runner *runner);
/* Called while a model loads, on the opening thread: done of total bytes. Non-zero cancels: PONDER_E_CANCELLED. Must not
 * call back on this config. NULL takes it back. */
PONDER_API ponder_status ponder_config_set_progress(ponder_config *config,
                                                    int32_t (*progress)(void *user, uint64_t done, uint64_t total), void *user);
/* Log lines (one whole line each, no newline) of what is opened with this config; silent without one. Called on whichever
 * thread is inside a call. Level: 1 error, 2 warning, 3 information. Copied; NULL takes it back. */
PONDER_API ponder_status ponder_config_set_log(ponder_config *config,
                                               void (*log)(void *user, int32_t level, const char *line), void *user);
/* Text of the last failure of a call on this config or of a creation that was given it; "" when it succeeded. Valid until
 * the next call on the config. */
PONDER_API const char *ponder_config_error(const ponder_config *config);

/* ==== model =============================================================================================== */

typedef struct ponder_model ponder_model;

/* Random access to a file's bytes that the host holds. read() copies `bytes` from `offset` to `to` and returns 0, or
 * non-zero when it cannot. Called on the opening thread; and when experts are read on demand, by any thread that computes, several
 * at a time. */
typedef struct ponder_source {
    size_t size; /* sizeof(ponder_source) */
    void *user;
    uint64_t length;
    int32_t (*read)(void *user, uint64_t offset, void *to, size_t bytes);
} ponder_source;

/* Opens a GGUF file (of a split set: any part), or a folder with config.json, safetensors and tokenizer.json. The file
 * is mapped, and has to stay as it is until its weights are repacked (PONDER_P_REPACK); their pages are dropped then. `config` may be
 * NULL; it is only read, and receives the error text. All ways of opening the same bytes compute the same results.
 * When a cap leaves experts in the file, it stays open, a session may end with PONDER_E_IO (its tokens wait to be tried again),
 * and the model cannot be shared with a second engine.
 * PONDER_E_IO, _FORMAT, _UNSUPPORTED (architecture or element type), _NOMEM (memory cap too), _CANCELLED, _THREAD. */
PONDER_API ponder_status ponder_model_open(ponder_model **out, const char *path, ponder_config *config);
/* A GGUF in memory. Borrowed: it must stay unchanged as long as the model lives. */
PONDER_API ponder_status ponder_model_open_memory(ponder_model **out, const void *bytes, size_t n, ponder_config *config);
/* A GGUF inside an open file: `length` bytes from `offset`; length 0: to the end. The descriptor is duplicated. */
PONDER_API ponder_status ponder_model_open_fd(ponder_model **out, int fd, uint64_t offset, uint64_t length, ponder_config *config);
/* A GGUF behind a callback. The struct is copied; what it points to must live as long as the model. */
PONDER_API ponder_status ponder_model_open_source(ponder_model **out, const ponder_source *source, ponder_config *config);
/* A model on servers that speak OpenAI's protocol (vLLM, SGLang, llama-server and others): "http://host:port" or a whole base
 * "https://host/v1", several separated by blanks (they must serve the same model). Sessions work as those of a model here, but
 * for what needs its numbers or tokens (PONDER_E_UNSUPPORTED with a text that says so; doc/remote.md has the list). Blocks until one
 * server has told its models. Network code is loaded here and nowhere else; no thread is started (libcurl's look-up of a host's
 * name starts one for that moment). PONDER_E_UNSUPPORTED: no libcurl, or a parameter that would change a
 * model here and cannot change theirs (PONDER_P_QUANTIZE, _KV_TYPE, _TOKENIZER, _PROJECTOR, _IMAGE_TOKENS); PONDER_E_IO: no server
 * answered; PONDER_E_ARGUMENT. */
PONDER_API ponder_status ponder_model_open_remote(ponder_model **out, const char *url, ponder_config *config);
PONDER_API void ponder_model_free(ponder_model *model);

/* A second engine (its own threads, key-value store, caps, from `config`) over the same weights. Any thread. PONDER_E_UNSUPPORTED:
 * experts are read on demand. */
PONDER_API ponder_status ponder_model_share(ponder_model **out, ponder_model *model, ponder_config *config);

/* What opening `path` with this config will take, without loading it. A PONDER_P_MEMORY_CAP must allow weight_bytes +
 * scratch_bytes + session_bytes; parts of it that one session never writes are not resident, so peak_bytes may be less. With a cap
 * that is too small for all of a mixture's experts, weight_bytes has what it leaves for them. */
typedef struct ponder_plan {
    size_t size;              /* sizeof(ponder_plan) */
    uint64_t file_bytes;      /* of all weight files */
    uint64_t weight_bytes;    /* private memory the weights take after loading */
    uint64_t mapped_bytes;    /* file pages that stay in use (shared with other processes) */
    uint64_t scratch_bytes;   /* working memory of the engine, the tokenizer, and a session's own tables */
    uint64_t kv_bytes_token;  /* key-value bytes a token of context, full layers */
    uint64_t kv_bytes_fixed;  /* key-value bytes of the sliding layers and a drafter's, a sequence of any length beyond the window */
    uint64_t session_bytes;   /* key-value bytes a session of PONDER_P_CONTEXT tokens reserves */
    uint64_t peak_bytes;      /* resident memory at its highest: loading, or running one such session */
    uint64_t tower_bytes;     /* of weight_bytes, the image and audio towers */
    uint64_t encode_bytes;    /* working memory while the largest picture is encoded; not in peak_bytes */
    uint64_t drafter_bytes;   /* of weight_bytes, a drafter's */
} ponder_plan;
PONDER_API ponder_status ponder_model_plan(ponder_plan *out, const char *path, ponder_config *config);

enum {
    PONDER_INFO_VOCAB = 1,          /* i64: number of tokens = width of the logits */
    PONDER_INFO_CONTEXT = 2,        /* i64: tokens the model was made for */
    PONDER_INFO_LAYERS = 3,         /* i64 */
    PONDER_INFO_WIDTH = 4,          /* i64: length of a hidden state */
    PONDER_INFO_PARAMETERS = 5,     /* i64: number of weights */
    PONDER_INFO_WEIGHT_BYTES = 6,   /* i64: private memory of the weights */
    PONDER_INFO_MEMORY_BYTES = 7,   /* i64: all memory the model and its sessions hold now */
    PONDER_INFO_PEAK_BYTES = 8,     /* i64: the most they held */
    PONDER_INFO_THREADS = 9,        /* i64 */
    PONDER_INFO_KV_BYTES = 10,      /* i64: key-value bytes in use now; shared pages count once */
    PONDER_INFO_STEPS = 11,         /* i64: steps computed */
    PONDER_INFO_PREFILLED = 12,     /* i64: prompt tokens computed (a fork or a rewind adds none) */
    PONDER_INFO_WINDOW = 13,        /* i64: sliding window in tokens, 0: none */
    PONDER_INFO_CPU = 14,           /* i64: kernel levels in use, as PONDER_P_CPU_MASK */
    PONDER_INFO_IMAGES = 15,        /* i64: 1: it sees images and videos */
    PONDER_INFO_SOUNDS = 16,        /* i64: 1: it hears */
    PONDER_INFO_ENCODED = 17,       /* i64: images, frame pairs and sounds encoded so far (not found in the cache) */
    PONDER_INFO_MEDIA_BYTES = 18,   /* i64: bytes in the cache of encoded media */
    PONDER_INFO_SAMPLE_RATE = 19,   /* i64: samples a second of the audio tower; 0: none */
    PONDER_INFO_DRAFTED = 20,       /* i64: draft tokens computed (PONDER_P_DRAFT) */
    PONDER_INFO_ACCEPTED = 21,      /* i64: of them, those that the model then generated */
    PONDER_INFO_SERVERS = 60,       /* i64: servers of a remote model that answered when they were last asked; 0: a local one */
    PONDER_INFO_ARCHITECTURE = 100, /* str: "llama", "muse-glimmer", ... */
    PONDER_INFO_NAME = 101,         /* str: as the file says; may be empty */
    PONDER_INFO_TYPE = 102,         /* str: the most common weight type, "Q4_1" */
    PONDER_INFO_TEMPLATE = 103,     /* str: "muse", "chatml", "gemma", "llama3", or "" when the file's is unknown */
    PONDER_INFO_HASH = 104,         /* str: hexadecimal, of the metadata and of samples of the weights */
    PONDER_INFO_SERVER = 160        /* str: what the servers of a remote model are, as PONDER_P_REMOTE_SERVER; "" for a local one */
};
/* By id. PONDER_E_UNKNOWN: no such id, or of the other type. Any thread. */
PONDER_API ponder_status ponder_model_info_i64(ponder_model *model, int32_t id, int64_t *out);
/* Text without a final NUL; cap and *n in bytes. */
PONDER_API ponder_status ponder_model_info_str(ponder_model *model, int32_t id, char *out, size_t cap, size_t *n);

/* ==== tokenizer =========================================================================================== */

typedef struct ponder_tokenizer ponder_tokenizer;

/* A tokenizer.json, a tiktoken rank file (Muse pre-tokeniser and special tokens), or a GGUF's tokenizer. */
PONDER_API ponder_status ponder_tokenizer_open(ponder_tokenizer **out, const char *path, ponder_config *config);
PONDER_API void ponder_tokenizer_free(ponder_tokenizer *tokenizer);
/* A new handle on a model's tokenizer. PONDER_E_UNSUPPORTED: the model came without one. Any thread. */
PONDER_API ponder_status ponder_model_tokenizer(ponder_tokenizer **out, ponder_model *model, ponder_error *error);

enum {
    PONDER_TOKENIZE_SPECIAL = 1, /* special tokens in the text become their ids; without it they are plain text */
    PONDER_TOKENIZE_BOS = 2      /* the begin token first, where the model wants one */
};
/* Text to ids. Any bytes are allowed. Any thread. */
PONDER_API ponder_status ponder_tokenize(ponder_tokenizer *tokenizer, const char *text, size_t bytes, uint32_t flags,
                                         int32_t *ids, size_t cap, size_t *n, ponder_error *error);
/* Ids to bytes, special tokens as their text when `special` is non-zero and left out otherwise. Incomplete UTF-8 becomes
 * U+FFFD. PONDER_E_RANGE: an id outside the vocabulary. Any thread. */
PONDER_API ponder_status ponder_detokenize(ponder_tokenizer *tokenizer, const int32_t *ids, size_t n_ids, int32_t special,
                                           char *text, size_t cap, size_t *n, ponder_error *error);

/* ==== chat rendering ====================================================================================== */

/* What a template makes of a conversation, byte for byte. `json` is {"messages": [...], "tools": [...], "kwargs": {...}}
 * with the template's own keyword arguments. PONDER_E_UNKNOWN: no such template; PONDER_E_FORMAT: not such JSON, or the
 * template itself refuses the conversation. Any thread. */
PONDER_API ponder_status ponder_render(const char *template_name, const char *json, size_t bytes, char *text, size_t cap,
                                       size_t *n, ponder_error *error);

/* ==== parsing what a model writes ========================================================================== */

typedef struct ponder_event ponder_event;
typedef struct ponder_parser ponder_parser;

/* A parser of raw text in a template's form: "muse", "chatml", "qwen3", ...; sessions use the same one. `tools_json` (may be
 * NULL): the tool definitions, as ponder_session_tools takes them, which give arguments their types. PONDER_E_UNKNOWN: no
 * such template. */
PONDER_API ponder_status ponder_parser_new(ponder_parser **out, const char *template_name, const char *tools_json, size_t bytes,
                                           ponder_config *config);
PONDER_API void ponder_parser_free(ponder_parser *parser);
/* Text of the last failure on this parser, "" if none; valid until its next call. */
PONDER_API const char *ponder_parser_error(const ponder_parser *parser);
/* The next bytes of the stream, in any split. NULL with 0 bytes: the stream ends here. PONDER_E_STATE: it has ended already. */
PONDER_API ponder_status ponder_parser_feed(ponder_parser *parser, const char *text, size_t bytes);
/* The next event: kind, text, name, message as in ponder_event (the rest is 0). PONDER_MORE: none until more is fed. */
PONDER_API ponder_status ponder_parser_next(ponder_parser *parser, ponder_event *event);

/* ==== images and sounds ==================================================================================== */

/* A picture, decoded: 8-bit RGB, upright (EXIF orientation applied). Immutable; sessions keep it alive; any thread. */
typedef struct ponder_image ponder_image;
/* A sound, decoded: channels averaged, brought to 24,000 samples a second, which is what models hear. Immutable; any thread. */
typedef struct ponder_sound ponder_sound;

enum { PONDER_RGB = 1, PONDER_RGBA = 2 };

/* Pixels that the host holds; read during the call only. */
typedef struct ponder_view {
    size_t size;            /* sizeof(ponder_view) */
    const uint8_t *pixels;  /* [height][stride] bytes; a pixel is R, G, B (and A) */
    uint32_t width, height;
    size_t stride;          /* bytes from row to row */
    int32_t format;         /* PONDER_RGB or PONDER_RGBA */
    int32_t reserved;       /* 0 */
} ponder_view;

/* PNG or JPEG, by its content. PONDER_E_FORMAT: not a whole, valid picture; PONDER_E_RANGE: more than PONDER_P_MAX_PIXELS;
 * PONDER_E_UNSUPPORTED: another format, or this build lacks libpng or libjpeg; the text says which. */
PONDER_API ponder_status ponder_image_open(ponder_image **out, const char *path, ponder_config *config);
PONDER_API ponder_status ponder_image_open_memory(ponder_image **out, const void *bytes, size_t n, ponder_config *config);
PONDER_API ponder_status ponder_image_open_view(ponder_image **out, const ponder_view *view, ponder_config *config);
/* A part of it at full resolution, to look closer: w x h pixels from (x, y). PONDER_E_RANGE: not inside the picture. */
PONDER_API ponder_status ponder_image_crop(ponder_image **out, ponder_image *image, uint32_t x, uint32_t y, uint32_t w, uint32_t h,
                                           ponder_config *config);
PONDER_API void ponder_image_free(ponder_image *image);
PONDER_API ponder_status ponder_image_size(const ponder_image *image, uint32_t *width, uint32_t *height);
/* [height][width][3] bytes. */
PONDER_API ponder_status ponder_image_pixels(const ponder_image *image, uint8_t *rgb, size_t cap, size_t *n);
PONDER_API ponder_status ponder_image_save_png(const ponder_image *image, const char *path, ponder_config *config);
/* Models name places in a picture by numbers from 0 to 1000 across and down. Pixels to those, and back; x and y are edges
 * between pixels, 0..width and 0..height. */
PONDER_API ponder_status ponder_image_to_model(const ponder_image *image, double x, double y, double *model_x, double *model_y);
PONDER_API ponder_status ponder_image_from_model(const ponder_image *image, double model_x, double model_y, double *x, double *y);
/* A copy with an outline round each box: boxes[n][4] are x_min, y_min, x_max, y_max in 0..1000, as models write them. */
PONDER_API ponder_status ponder_image_outline(ponder_image **out, ponder_image *image, const double *boxes, size_t n, ponder_config *config);
/* Tokens that a picture of this size takes in a prompt, start and end marks included; nothing is encoded. Any thread.
 * PONDER_E_UNSUPPORTED: the model sees no images. */
PONDER_API ponder_status ponder_model_image_tokens(ponder_model *model, uint32_t width, uint32_t height, size_t *n, ponder_error *error);

/* Samples that the host holds, interleaved; read during the call only. */
typedef struct ponder_samples {
    size_t size;            /* sizeof(ponder_samples) */
    const float *samples;   /* [frames][channels], -1..1 */
    size_t frames;
    uint32_t rate;          /* frames a second */
    uint32_t channels;
} ponder_samples;

/* A WAV file: PCM of 8, 16, 24 or 32 bits or floats, any rate, any number of channels (they are averaged). */
PONDER_API ponder_status ponder_sound_open(ponder_sound **out, const char *path, ponder_config *config);
PONDER_API ponder_status ponder_sound_open_memory(ponder_sound **out, const void *bytes, size_t n, ponder_config *config);
PONDER_API ponder_status ponder_sound_open_samples(ponder_sound **out, const ponder_samples *samples, ponder_config *config);
PONDER_API void ponder_sound_free(ponder_sound *sound);
/* Tokens that a sound of this many frames at this rate takes, marks included. PONDER_E_UNSUPPORTED: the model does not hear. */
PONDER_API ponder_status ponder_model_sound_tokens(ponder_model *model, uint64_t frames, uint32_t rate, size_t *n, ponder_error *error);

/* ==== session ============================================================================================= */

typedef struct ponder_session ponder_session;

/* An empty conversation. `config` may be NULL. Its pages for PONDER_P_CONTEXT tokens are reserved now, or
 * PONDER_E_NOMEM; a session never fails later for another's memory. The error text is in the config. */
PONDER_API ponder_status ponder_session_new(ponder_session **out, ponder_model *model, ponder_config *config);
PONDER_API void ponder_session_free(ponder_session *session);
/* Text of the last failure on this session, "" if none; valid until its next call. */
PONDER_API const char *ponder_session_error(const ponder_session *session);
/* Takes the live parameters (see ponder_param_info.live) of config. */
PONDER_API ponder_status ponder_session_configure(ponder_session *session, ponder_config *config);
/* A bias added to one token's logit before sampling; 0 takes it back, -INFINITY forbids the token. At most 1024. */
PONDER_API ponder_status ponder_session_bias(ponder_session *session, int32_t token, float bias);

/* Adds a message; roles as the template knows them: "system", "user", "assistant", "tool". The text never becomes a
 * control token. Rendered at the next generate. PONDER_E_UNSUPPORTED: the model's template is unknown (use
 * ponder_session_prompt) or the model has no tokenizer. */
PONDER_API ponder_status ponder_session_add(ponder_session *session, const char *role, const char *text, size_t bytes);
/* Parts of the next message, before the text that ponder_session_add then gives: text, pictures, videos and sounds in any
 * order. They are encoded when they are needed (generate, step, prefill), each once for the model: the same content again
 * costs nothing while the cache holds it. PONDER_E_UNSUPPORTED: the model or its template takes no such part. */
PONDER_API ponder_status ponder_session_attach_text(ponder_session *session, const char *text, size_t bytes);
PONDER_API ponder_status ponder_session_attach_image(ponder_session *session, ponder_image *image);
/* Frames of one video in order, all of one size, with the second at which each is shown. The reference takes two frames a second;
 * two neighbours make one group. */
PONDER_API ponder_status ponder_session_attach_video(ponder_session *session, ponder_image *const *frames, const double *seconds, size_t n);
PONDER_API ponder_status ponder_session_attach_sound(ponder_session *session, ponder_sound *sound);
/* A sound that is still being recorded: the first call opens a user message, each appends samples (rate and channels may
 * not change), ponder_session_add(session, "user", ...) ends it. Whole tokens may be computed while more arrives:
 * ponder_session_prefill. The rows are the same as those of the sound in one piece. */
PONDER_API ponder_status ponder_session_listen(ponder_session *session, const ponder_samples *samples);
/* Rows that the attached parts (all that were added and not yet generated from) put in the place of their tokens, in order:
 * [n / width][width] floats after the model's norm of its input; cap and *n in floats. Encodes what is missing. */
PONDER_API ponder_status ponder_session_features(ponder_session *session, float *rows, size_t cap, size_t *n);
/* Computes what was added without generating, for about max_us microseconds as ponder_session_step does (UINT64_MAX: all of
 * it). PONDER_MORE: something is left. The messages are still open: more may be added to the turn. */
PONDER_API ponder_status ponder_session_prefill(ponder_session *session, uint64_t max_us);

/* Tools that the model may call: a JSON list of {"type": "function", "function": {"name", "description", "parameters"}} or
 * of the inner objects; "" takes them back. Before the first message of a conversation. PONDER_E_FORMAT names the tool. */
PONDER_API ponder_status ponder_session_tools(ponder_session *session, const char *json, size_t bytes);
/* The result of a call, for the next turn; parts attached before belong to it. `name` and the order as in the calls. */
PONDER_API ponder_status ponder_session_add_result(ponder_session *session, const char *name, const char *text, size_t bytes);

/* Adds raw prompt text, tokenised with the PONDER_TOKENIZE_* flags. */
PONDER_API ponder_status ponder_session_prompt(ponder_session *session, const char *text, size_t bytes, uint32_t flags);
/* Adds raw token ids. PONDER_E_RANGE: an id outside the vocabulary. */
PONDER_API ponder_status ponder_session_prompt_ids(ponder_session *session, const int32_t *ids, size_t n);

enum {
    PONDER_EVENT_THOUGHT = 1,    /* private reasoning */
    PONDER_EVENT_COMMENTARY = 2, /* text for the user in the middle of a turn */
    PONDER_EVENT_ANSWER = 3,     /* text of the answer */
    PONDER_EVENT_TOOL_CALL = 4,  /* a whole call: `name`, and its arguments as a JSON object in `text` */
    PONDER_EVENT_DONE = 5,       /* the last event of a turn */
    PONDER_EVENT_RAW = 6,        /* what the model wrote where a call or a header should be: not lost, not understood */
    PONDER_EVENT_RESTART = 7     /* with PONDER_P_REMOTE_RESTART: what was reported of this turn is void, it begins again */
};
enum {
    PONDER_END_NONE = 0,
    PONDER_END_EOS = 1,       /* the model ended its turn */
    PONDER_END_LENGTH = 2,    /* PONDER_P_MAX_TOKENS */
    PONDER_END_STOP = 3,      /* a stop string */
    PONDER_END_CONTEXT = 4,   /* the context is full */
    PONDER_END_CANCELLED = 5, /* ponder_session_cancel, or the callback returned non-zero */
    PONDER_END_FAILED = 6,    /* an error; the text says which */
    PONDER_END_TIME = 7,      /* PONDER_P_TURN_MS, PONDER_P_DEADLINE_MS */
    PONDER_END_BUDGET = 8     /* the tokens that agents share are used up */
};
typedef struct ponder_token_prob {
    int32_t token;
    float logprob; /* natural logarithm, of the distribution before temperature and penalties */
} ponder_token_prob;
struct ponder_event {
    size_t size;              /* sizeof(ponder_event) */
    int32_t kind;             /* PONDER_EVENT_* */
    int32_t end;              /* DONE: PONDER_END_* */
    const char *text;         /* whole UTF-8 characters, not NUL-terminated; valid until the next call on the session */
    size_t text_bytes;
    int32_t token;            /* the newest token when this was sent; -1: none */
    float logprob;            /* of that token, with PONDER_P_LOGPROBS >= 0 */
    const ponder_token_prob *top; /* most likely first; PONDER_P_LOGPROBS of them; life as text */
    size_t n_top;
    uint64_t prompt_tokens;   /* DONE: tokens of this turn's prompt that were computed */
    uint64_t reused_tokens;   /* DONE: tokens that were there already */
    uint64_t output_tokens;   /* DONE: tokens generated, the ending one included */
    uint64_t prefill_us, decode_us; /* DONE: microseconds to the first token, and after it */
    const char *name;         /* TOOL_CALL: the function as the model addressed it, not NUL-terminated; life as text */
    size_t name_bytes;
    uint64_t thought_tokens;  /* DONE: of output_tokens, those of private reasoning */
    uint64_t calls;           /* DONE: tool calls of this turn */
    uint64_t message;         /* of the turn's messages the one this belongs to, from 0: two comments in a row differ here. DONE: how
                                 many messages the model ended. A server tells none apart: 0 */
    int32_t agent;            /* whose event it is: an agent's number; -1: the session's own, or the contemplation's */
    int32_t announced;        /* DONE, in ponder_session_run with PONDER_P_SUBAGENTS: 1: the text says that agents are started, but none was called */
    uint64_t drafted;         /* DONE: draft tokens computed in this turn (PONDER_P_DRAFT) */
    uint64_t accepted;        /* DONE: of them, those that were then generated, and cost no step of their own */
};

/* Called on the generating thread for each event. Non-zero ends the turn: PONDER_END_CANCELLED. It may call functions on
 * other handles, but on this session only ponder_session_cancel. */
typedef int32_t (*ponder_on_event)(void *user, const ponder_event *event);

/* Computes what was added and generates a turn. Blocks; runs the engine on this thread (and its team), for all sessions
 * of the model that are waiting. Returns PONDER_OK after the DONE event whatever the end, but for PONDER_END_FAILED: then
 * the failure. The generated ids stay in the session; a later turn appends to them. `on_event` may be NULL. */
PONDER_API ponder_status ponder_session_generate(ponder_session *session, ponder_on_event on_event, void *user);
/* The same in slices: works for about max_us microseconds (0: the least possible; it goes over by at most one piece of
 * work, a quarter of a millisecond), then PONDER_MORE, or PONDER_OK with the next event. After DONE the next call begins
 * another turn. Any mix of steps and slices gives the same bytes as one generate. */
PONDER_API ponder_status ponder_session_step(ponder_session *session, uint64_t max_us, ponder_event *event);
/* Answers one tool call of the turn that just ended, by ponder_session_add_result on the session (parts may be attached
 * first). Called between turns, on the calling thread; it may use the session, but not generate. Non-zero: the loop ends. */
typedef int32_t (*ponder_on_call)(void *user, ponder_session *session, const ponder_event *call);
/* Generates, has the calls answered, and generates again, until a turn without calls: at most `rounds` turns. A call that
 * on_call leaves without a result gets an empty one. PONDER_MORE: the rounds are used up, the last calls are not answered;
 * PONDER_E_CANCELLED: on_call said stop. */
PONDER_API ponder_status ponder_session_run(ponder_session *session, ponder_on_event on_event, ponder_on_call on_call, void *user,
                                            uint32_t rounds);
/* Ends the running generate or step soon (within one piece of work). Any thread, any time while the session lives; without
 * a turn under way it does nothing. The session stays usable. */
PONDER_API void ponder_session_cancel(ponder_session *session);

/* Ends the thought that is open, soon and with what closes it, and goes on with the answer; no other opens in this turn. Any
 * thread, any time while the session lives; without a turn under way it does nothing. */
PONDER_API void ponder_session_close_thought(ponder_session *session);

enum {
    PONDER_THOUGHT_NONE = 0,      /* there was none */
    PONDER_THOUGHT_NATURAL = 1,   /* the model ended it */
    PONDER_THOUGHT_SOFT = 2,      /* closed before its limit, where the model would have liked to or a sentence ended */
    PONDER_THOUGHT_CAP = 3,       /* cut at a limit of tokens (think_tokens, max_tokens, the context, the answer's reserve) */
    PONDER_THOUGHT_TIME = 4,      /* cut at a limit of time */
    PONDER_THOUGHT_CONFIDENT = 5, /* left early: the answer was certain */
    PONDER_THOUGHT_CALLER = 6,    /* ponder_session_close_thought */
    PONDER_THOUGHT_OPEN = 7       /* not closed: the turn was cancelled, failed, or its context or time ended */
};
typedef struct ponder_thought {
    size_t size;           /* sizeof(ponder_thought) */
    int32_t why;           /* PONDER_THOUGHT_*: how the newest thought ended */
    int32_t escaped;       /* 1: after a close that was not the model's, it tried to go on thinking in its answer */
    uint64_t tokens;       /* of the turn's thoughts, closing markers and what was put in included */
    uint64_t us;           /* microseconds of them, by PONDER_P_CLOCK */
    uint64_t blocks;       /* thoughts */
    uint64_t injected;     /* tokens of the turn that the library wrote and the model did not */
    uint64_t probes;       /* made for PONDER_P_THINK_EXIT */
    uint64_t probe_tokens; /* that they computed */
} ponder_thought;
/* What the running turn, or the last one, thought. */
PONDER_API ponder_status ponder_session_thought(ponder_session *session, ponder_thought *out);

/* Another session with the same tokens: pages are shared until one writes, nothing is computed again. Takes the
 * parameters of `config`, or of the parent when NULL. PONDER_E_NOMEM: no pages for its PONDER_P_CONTEXT. */
PONDER_API ponder_status ponder_session_fork(ponder_session **out, ponder_session *session, ponder_config *config);
/* Forgets the tokens from position `tokens` on. *recompute (may be NULL) receives how many of the kept tokens will be
 * computed again because a sliding layer no longer has them; usually 0. */
PONDER_API ponder_status ponder_session_rewind(ponder_session *session, size_t tokens, size_t *recompute);
/* The ids in the session, generated ones included. */
PONDER_API ponder_status ponder_session_tokens(ponder_session *session, int32_t *ids, size_t cap, size_t *n);
/* Bytes the session holds or has reserved. */
PONDER_API uint64_t ponder_session_bytes(const ponder_session *session);

typedef struct ponder_eval {
    size_t size;      /* sizeof(ponder_eval) */
    float *logits;    /* NULL, or [n][vocab]: after each of the given tokens */
    float *hidden;    /* NULL, or [n][width]: the residual stream after layer `layer` */
    int32_t layer;    /* 0..layers-1; layers: after the final norm */
    int32_t reserved; /* 0 */
} ponder_eval;
/* Appends ids and computes them, filling what `eval` asks for. Blocks. */
PONDER_API ponder_status ponder_session_eval(ponder_session *session, const int32_t *ids, size_t n, ponder_eval *eval);
/* Logits after the last token of the session, [vocab] floats, after the model's own scaling and cap. cap in floats. */
PONDER_API ponder_status ponder_session_logits(ponder_session *session, float *logits, size_t cap, size_t *n);
/* Log-probability of each of the ids, each given what stands before it: logprobs[n]. The session is left as it was. */
PONDER_API ponder_status ponder_session_score(ponder_session *session, const int32_t *ids, size_t n, float *logprobs);
/* Mean over the text's tokens of the final hidden state, scaled to length 1: [width] floats. The session's own tokens
 * are neither used nor changed. */
PONDER_API ponder_status ponder_session_embed(ponder_session *session, const char *text, size_t bytes, float *vector,
                                              size_t cap, size_t *n);

/* The session's tokens and key-value pages as bytes; loading computes nothing again. The bytes name the model's hash and
 * the store's type and end in a checksum. They are in the machine's byte order. */
PONDER_API ponder_status ponder_session_save(ponder_session *session, void *bytes, size_t cap, size_t *n);
PONDER_API ponder_status ponder_session_save_file(ponder_session *session, const char *path);
/* Replaces the session's content. PONDER_E_MISMATCH or PONDER_E_FORMAT leave it as it was. */
PONDER_API ponder_status ponder_session_load(ponder_session *session, const void *bytes, size_t n);
PONDER_API ponder_status ponder_session_load_file(ponder_session *session, const char *path);

/* ==== agents ============================================================================================== */

/* An agent is a session of its own that grew out of another: it shares that one's tokens and pages, and runs beside its
 * siblings as rows of the same steps. All agents that come from one session (and from its agents) are a group; a group
 * belongs to one thread at a time, which drives all of its running agents inside ponder_agent_wait, and nobody else does. What
 * one agent does, its end or failure included, leaves the others' tokens as they would be alone: its pages are set aside when
 * it is spawned. A guide: doc/agents.md. */
typedef struct ponder_agent ponder_agent;

enum {
    PONDER_AGENT_IDLE = 0,      /* nothing to do: ponder_agent_send */
    PONDER_AGENT_RUNNING = 1,   /* advances inside ponder_agent_wait of any of its group */
    PONDER_AGENT_CALLS = 2,     /* its turn ended in tool calls: add results to ponder_agent_session, then ponder_agent_send(a, NULL, 0) */
    PONDER_AGENT_DONE = 3,      /* its turn is over; ponder_agent_send begins another */
    PONDER_AGENT_FAILED = 4,    /* ponder_agent_error says why */
    PONDER_AGENT_CANCELLED = 5
};

typedef struct ponder_agent_info {
    size_t size;                /* sizeof(ponder_agent_info) */
    int32_t state;              /* PONDER_AGENT_* */
    int32_t end;                /* PONDER_END_* of its last turn; NONE while it runs */
    int32_t number;             /* in its group, from 0, in order of spawning; ponder_event.agent */
    int32_t failure;            /* FAILED: the status */
    int32_t round;              /* of a contemplation, from 0 */
    int32_t dropped;            /* 1: of a contemplation, dropped for low confidence */
    uint64_t tokens;            /* generated so far, in all turns */
    uint64_t thought_tokens;    /* of them, private reasoning */
    uint64_t calls;             /* tool calls so far */
    uint64_t prompt_tokens;     /* computed for it alone before it spoke */
    uint64_t shared_tokens;     /* that it had from the session it was spawned from */
    uint64_t us;                /* from the beginning of its first turn to the end of its last, or to now */
    double confidence;          /* 0..1: the geometric mean of its tokens' probabilities as they were sampled; -1: unknown */
    double lowest;              /* the same over the weakest PONDER_P_CONFIDENCE_WINDOW tokens in a row */
} ponder_agent_info;

/* Spawns an agent. What was added to the session is computed first (once for all agents), then nothing is computed again for
 * any of them. `config` as in ponder_session_fork; its first PONDER_P_ROLE becomes a message: the system's in an empty
 * conversation, else one more of the user's. An agent whose conversation waits for the model runs at the next
 * ponder_agent_wait; otherwise it is idle. The error text is the session's. PONDER_E_NOMEM: no pages for its context;
 * PONDER_E_STATE: an effort other than the session's, when that is written at the beginning of what they share. */
PONDER_API ponder_status ponder_agent_spawn(ponder_agent **out, ponder_session *session, ponder_config *config);
PONDER_API void ponder_agent_free(ponder_agent *agent);
/* Text of the agent's failure, or of the last call on it that failed; "" if none. */
PONDER_API const char *ponder_agent_error(const ponder_agent *agent);
/* A message of the user's; the agent runs at the next wait. NULL with 0 bytes: goes on with what was added to its session.
 * PONDER_E_STATE: it is running. */
PONDER_API ponder_status ponder_agent_send(ponder_agent *agent, const char *text, size_t bytes);
/* Its session, for tools, results, pictures, tokens, while it is not running. Borrowed; NULL for an agent of a contemplation
 * that is over. */
PONDER_API ponder_session *ponder_agent_session(ponder_agent *agent);
PONDER_API ponder_status ponder_agent_status(ponder_agent *agent, ponder_agent_info *out);
/* Drives the group until at least `least` of these agents (0: all of them) are not running, for about max_us microseconds
 * (as ponder_session_step; UINT64_MAX: without limit): then PONDER_MORE. All agents must be of one group. Events of all running
 * agents go to on_event (may be NULL), with `agent` set; non-zero from it cancels that agent. PONDER_E_BUSY: another thread
 * is in a call on the group. */
PONDER_API ponder_status ponder_agent_wait(ponder_agent *const *agents, size_t n, size_t least, uint64_t max_us, ponder_on_event on_event,
                                           void *user);
/* What it wrote in its last turn: `kind` is PONDER_EVENT_THOUGHT, _COMMENTARY, _ANSWER, or _TOOL_CALL for a JSON list of
 * {"name", "arguments"}. cap and *n in bytes. */
PONDER_API ponder_status ponder_agent_read(ponder_agent *agent, int32_t kind, char *text, size_t cap, size_t *n);
/* Ends its turn soon; the others of a step that is given up for it compute the same again. Any thread, while the agent lives. */
PONDER_API void ponder_agent_cancel(ponder_agent *agent);

/* ==== contemplation ======================================================================================= */

/* Several agents work on what a session was asked; their answers become one, which is added to the session as the
 * assistant's message. What decides (votes, quorum, drops, shared tokens) depends on what the agents wrote and on nothing
 * else: the order in which agents finish is that of their tokens, not of the clock. Only a deadline and a cancel know time. */
typedef struct ponder_contemplation ponder_contemplation;

enum {
    PONDER_DECIDED_NONE = 0,    /* still running, or it failed */
    PONDER_DECIDED_ALL = 1,     /* every agent finished */
    PONDER_DECIDED_QUORUM = 2,
    PONDER_DECIDED_VOTE = 3,    /* PONDER_P_DECIDE */
    PONDER_DECIDED_DROP = 4,    /* those that were left had been dropped */
    PONDER_DECIDED_DEADLINE = 5,
    PONDER_DECIDED_TOKENS = 6,  /* PONDER_P_AGENT_TOKENS were used up */
    PONDER_DECIDED_CANCELLED = 7
};

typedef struct ponder_contemplation_info {
    size_t size;                /* sizeof(ponder_contemplation_info) */
    int32_t decided_by;         /* PONDER_DECIDED_* */
    int32_t end;                /* PONDER_END_*: EOS: there is an answer; TIME, BUDGET: none was finished in time; NONE: running */
    uint32_t agents;            /* spawned so far, of all rounds, the writer too */
    uint32_t finished;          /* of them, with a whole answer */
    uint32_t dropped;
    int32_t round;              /* the round it is or was in, from 0 */
    uint32_t votes, voters;     /* for the answer chosen, of all in the last round */
    int32_t writer;             /* number of the agent that wrote the answer; -1: none */
    int32_t fallback;           /* the vote stepped in for a written synthesis that failed: its status, or PONDER_MORE: it was late or empty */
    uint64_t us;                /* so far; in steps, time inside the library alone */
    uint64_t tokens, thought_tokens; /* generated by all agents */
    uint64_t critical_tokens;   /* the longest chain: the longest agent of each round, and the writer */
    uint64_t critical_us;
    uint64_t shared_tokens;     /* of the session, that every agent had without computing them */
    uint64_t prompt_tokens;     /* computed before an agent spoke: the session's own once, and each agent's */
    uint64_t shared_bytes;      /* key-value bytes in use that were there before the first agent; each agent refers to them */
    uint64_t own_bytes;         /* the most that all agents had beside those */
    double share;               /* of the weight of all votes, for the answer chosen */
} ponder_contemplation_info;

/* Checks what is asked and begins it; nothing is computed yet. `config` (may be NULL) gives the agents' settings as in
 * ponder_session_fork, and those of the contemplation; agent i has the seed PONDER_P_SEED + i. Until it is freed the session answers
 * PONDER_E_BUSY, and ponder_session_cancel on it cancels the contemplation. The error text is the session's.
 * PONDER_E_ARGUMENT: two agents in a plain vote (they gain nothing over one), or agents that would all write the same
 * (temperature 0 and fewer roles than agents); PONDER_E_STATE: nothing was asked. */
PONDER_API ponder_status ponder_contemplation_new(ponder_contemplation **out, ponder_session *session, ponder_config *config);
/* Also in the middle: the session is as it was before, but for what was computed of it. */
PONDER_API void ponder_contemplation_free(ponder_contemplation *contemplation);
PONDER_API const char *ponder_contemplation_error(const ponder_contemplation *contemplation);
/* Works for about max_us microseconds (as ponder_session_step), then PONDER_MORE, or PONDER_OK with the next event: of an
 * agent (`agent` >= 0; its DONE too), or of the whole (`agent` -1): one ANSWER with the whole answer, then DONE. After DONE:
 * PONDER_E_STATE. A tool call may be answered on ponder_agent_session of its agent before the next step; one that is not gets an
 * empty result. Failures are of the whole: an agent that fails is out of the vote. */
PONDER_API ponder_status ponder_contemplation_step(ponder_contemplation *contemplation, uint64_t max_us, ponder_event *event);
/* Any thread, while it lives. The session gets no answer. */
PONDER_API void ponder_contemplation_cancel(ponder_contemplation *contemplation);
PONDER_API ponder_status ponder_contemplation_status(ponder_contemplation *contemplation, ponder_contemplation_info *out);
/* The answer: text as the agent (or the writer) wrote it. Empty until the end, or without one. */
PONDER_API ponder_status ponder_contemplation_answer(ponder_contemplation *contemplation, char *text, size_t cap, size_t *n);
/* Agent `number`, 0..info.agents-1: for ponder_agent_status, _read, _cancel. Borrowed. */
PONDER_API ponder_status ponder_contemplation_agent(ponder_agent **out, ponder_contemplation *contemplation, uint32_t number);
/* All of it at once. Non-zero from on_event (may be NULL) cancels. `out` may be NULL; else it receives the finished contemplation,
 * to be freed, also after a failure if it got that far. */
PONDER_API ponder_status ponder_contemplate(ponder_contemplation **out, ponder_session *session, ponder_config *config, ponder_on_event on_event,
                                            void *user);

#ifdef __cplusplus
}
#endif

#endif
