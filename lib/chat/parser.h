/* Inside the chat room: a parser at work.
 *
 * What was fed stands in `work` until it is decided: shown as text, found to be markup, or moved to `body` (a call under way).
 * A kind's step looks at the undecided text from its beginning and says what it can; what may still become markup stays. */
#ifndef PN_CHAT_PARSER_H
#define PN_CHAT_PARSER_H

#include "chat/parse.h"

/* What follows the undecided text. */
typedef enum pn_follow {
    PN_FOLLOW_TEXT,    /* perhaps more of it: keep what may become markup */
    PN_FOLLOW_MARKER,  /* a control marker (p->marker): decide everything */
    PN_FOLLOW_NOTHING, /* the stream is cut: decide everything */
} pn_follow;

/* Control markers. */
typedef enum pn_mark {
    PN_MARK_NONE = 0,      /* a token that this parser does not know: vanishes */
    PN_MARK_TURN_END,      /* ends message and turn */
    PN_MARK_MESSAGE_END,   /* ends the message */
    PN_MARK_BEGIN, PN_MARK_START, PN_MARK_BODY,  /* a text, a turn's or message's header, its body begins */
    PN_MARK_THINK, PN_MARK_THINK_END, PN_MARK_CALL, PN_MARK_CALL_END,
    PN_MARK_PYTHON,                              /* Llama 3.1 */
} pn_mark;
typedef struct pn_marker { const char *text; pn_mark mark; } pn_marker;

/* ---- an ATEM block read as it grows: where the next byte goes, the earliest closing tag closing */
typedef enum pn_atem_state {
    PN_ATEM_BLOCK,     /* before an invoke, or behind one */
    PN_ATEM_NAME,      /* in an invoke's name */
    PN_ATEM_INVOKE,    /* in an invoke, between parameters */
    PN_ATEM_PARAMETER, /* in a parameter's name */
    PN_ATEM_VALUE,
    PN_ATEM_AFTER,     /* behind the block */
    PN_ATEM_WRONG,     /* no such block */
} pn_atem_state;
typedef struct pn_atem {
    pn_atem_state state;
    size_t at;         /* read so far */
    size_t from;       /* where the name or value under way begins */
    size_t name, n_name, parameter, n_parameter;
    size_t invokes;    /* that are closed */
} pn_atem;
/* From behind the "<atem:function_calls>". */
void pn_atem_read(pn_atem *r, const char *p, size_t n);

/* ---- tokens that are not decided yet, to count those of thoughts */
enum { PN_TOKENS_OPEN = 64 };
typedef struct pn_tally {
    uint64_t end[PN_TOKENS_OPEN], start; /* where in the stream each ends; where the first begins */
    bool counted[PN_TOKENS_OPEN];
    size_t n;
    uint64_t thought;
} pn_tally;

typedef struct pn_queued {
    pn_parse_kind kind;
    int32_t tool;
    size_t text, n_text, name, n_name, id, n_id;
} pn_queued;

typedef struct pn_kind pn_kind;
enum { MARKERS_MOST = 12 };

struct pn_parser {
    const ponder_alloc *a;
    const pn_kind *kind;
    pn_parser_kind kind_id;
    pn_tools *tools;           /* NULL: not known */
    const pn_marker *markers;
    size_t n_markers;
    pn_marker own[MARKERS_MOST]; /* with other markers of thoughts: what `markers` points to */
    bool starts[256];          /* first bytes of markers */
    bool no_thoughts;
    uint64_t strays;
    uint64_t tokens_only;      /* a bit for each marker */
    /* in */
    char partial[4];
    size_t n_partial;
    pn_buf work;
    size_t at;                 /* decided of work */
    size_t scanned;            /* of what is not: no marker begins before here */
    bool from_token;           /* the marker at hand was a token, not text */
    uint64_t decided;          /* of the stream */
    pn_mark marker;            /* with PN_FOLLOW_MARKER */
    pn_tally tally;
    /* out */
    pn_buf bytes;
    pn_queued *queue;
    size_t n_queue, cap_queue, taken;
    uint64_t calls;
    bool failed;
    /* the kind's */
    int state;
    pn_parse_kind channel;     /* of a body */
    bool framed;               /* Muse: the message had a header */
    bool started;              /* Muse: ... behind a <|start|>; the others: the message has something in it */
    bool fresh;                /* nothing of this body was shown yet */
    int role;                  /* see parse_role.c; 0: nothing */
    bool held, behind_header;  /* Llama: behind a <|python_tag|>, an <|end_header_id|> */
    bool line_begin, in_string, escaped, call_token; /* think */
    size_t since;
    pn_buf head, body;
    size_t to, n_to;           /* Muse: the recipient in `head`; think: what the answer stands behind */
    pn_atem atem;
};

struct pn_kind {
    void (*begin)(pn_parser *p, pn_parse_start start);
    /* Decides something of the n > 0 undecided bytes, or changes its state; false when it needs more, which only
     * PN_FOLLOW_TEXT allows. */
    bool (*step)(pn_parser *p, const char *w, size_t n, pn_follow follow);
    void (*mark)(pn_parser *p, pn_mark mark, pn_str name); /* all text before it is decided */
    void (*cut)(pn_parser *p, size_t n);                   /* the stream is cut; n bytes are left, of a cut marker */
    pn_place (*place)(const pn_parser *p);
};
extern const pn_kind pn_kind_muse, pn_kind_think, pn_kind_llama;

/* What a step does with the first n undecided bytes. */
void pn_take(pn_parser *p, size_t n);                         /* markup, or moved elsewhere */
void pn_show(pn_parser *p, pn_parse_kind kind, size_t n);     /* text */
void pn_keep(pn_parser *p, pn_buf *to, size_t n);             /* into a buffer */

void pn_event_text(pn_parser *p, pn_parse_kind kind, pn_str text);
void pn_event(pn_parser *p, pn_parse_kind kind, pn_str text);
void pn_event_call(pn_parser *p, pn_str name, int32_t tool, pn_str arguments);

/* ---- calls */
/* The tool that a name stands for: itself, or its longest beginning that is one ("read.filePath", "read.read": models glue a
 * parameter or the name itself to it), or the recipient if that is a tool whose last part is the name. *name becomes the
 * tool's; -1 leaves it as written. */
int32_t pn_call_tool(const pn_parser *p, pn_str recipient, pn_str *name);
/* A parameter's value as JSON, by what its schema says it is. */
void pn_call_value(const ponder_alloc *a, pn_buf *out, pn_str raw, uint32_t types);
/* Every call of a message's body becomes an event, in order, and whatever else is in it but space a raw one. False (and no
 * event) when it holds no call at all. */
bool pn_atem_calls(pn_parser *p, pn_str body, pn_str recipient);
/* {"name": ..., "arguments" or "parameters": {...}} becomes an event. `known`: only if it names a tool, as far as tools are
 * known. */
bool pn_json_call(pn_parser *p, pn_str text, bool known);

/* ---- turns of others: while p->role is set, text and markers go there */
void pn_role_open(pn_parser *p);
void pn_role_step(pn_parser *p, const char *w, size_t n);
bool pn_role_mark(pn_parser *p, pn_mark mark, pn_str name);
void pn_role_cut(pn_parser *p, size_t n);
pn_place pn_role_place(const pn_parser *p);

static inline bool pn_blank(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }
size_t pn_skip_blank(const char *p, size_t n, size_t at);
bool pn_there(const char *p, size_t n, size_t at, const char *what);        /* what stands there */
/* Whether p[at..n) is a beginning of `what`, and not all of it. */
bool pn_begins(const char *p, size_t n, size_t at, const char *what);

#endif
