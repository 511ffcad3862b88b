/* chat, the way back: what the model writes becomes events. One parser reads one turn after another of one sequence.
 *
 * It is fed in order, and what comes out (neighbouring pieces of one kind joined) does not depend on how the stream was cut.
 * Text is whole UTF-8; bytes that can never become a character come out as U+FFFD. Nothing is held back but what may still
 * become markup. No byte of markup is ever in an answer or a thought, no byte of a thought in an answer, and nothing is
 * lost: what looks like a call or a header and is none comes out as a raw event. */
#ifndef PN_CHAT_PARSE_H
#define PN_CHAT_PARSE_H

#include "chat/chat.h"
#include "chat/tools.h"

typedef enum pn_parser_kind {
    PN_PARSER_PLAIN = 0,   /* everything is answer */
    PN_PARSER_MUSE,        /* recipients in message headers, ATEM calls */
    PN_PARSER_THINK,       /* <think>...</think>, <tool_call>{json}</tool_call> (Qwen, DeepSeek R1, Hermes) */
    PN_PARSER_LLAMA3_1,    /* a message that is one JSON object with a name and parameters is a call */
} pn_parser_kind;
pn_parser_kind pn_parser_kind_of(pn_template t);

typedef enum pn_parse_start {
    PN_PARSE_TURN = 0,     /* the prompt ends with the generation prompt */
    PN_PARSE_THOUGHT,      /* ... and has opened the thought too ("<think>", " to=self<|message|>") */
    PN_PARSE_ANSWER,       /* ... and has opened the answer too (" to=user<|message|>"; a closed "<think></think>") */
} pn_parse_start;

typedef struct pn_parse_options {
    pn_parser_kind kind;
    pn_template template;  /* which control markers there are; PN_TEMPLATE_NONE: those of all templates of the kind */
    pn_parse_start start;  /* of the first turn; after an end of turn the next begins as PN_PARSE_TURN */
    const pn_tools *tools; /* held (by count); NULL: not known, then any name is one of a tool */
    uint64_t calls;        /* calls of earlier turns: the next one's id is "call_" and this + 1 */
    pn_str think_open, think_close; /* a thought's markers where the kind (PLAIN or THINK) has none, or others; borrowed while
                              the parser lives; "": the kind's own */
} pn_parse_options;

typedef enum pn_parse_kind {
    PN_PARSED_THOUGHT = 1, /* text */
    PN_PARSED_COMMENTARY,  /* text */
    PN_PARSED_ANSWER,      /* text */
    PN_PARSED_CALL,        /* name, id; text: the arguments, a JSON object */
    PN_PARSED_RAW,         /* text: the bytes of a call or message that could not be read, markup and all */
    PN_PARSED_MESSAGE_END, /* the model ended a message (one that had a header or text), before its turn's end too */
    PN_PARSED_TURN_END,    /* the model ended its turn */
} pn_parse_kind;

typedef struct pn_parsed {
    pn_parse_kind kind;
    pn_str text;           /* these three: valid until the next put, finish or free */
    pn_str name;           /* the function as the tools name it, or as written if it is none of them */
    pn_str id;
    int32_t tool;          /* CALL: index among the tools; -1: none of them, or they are not known */
} pn_parsed;

typedef struct pn_parser pn_parser;

ponder_status pn_parser_new(pn_parser **out, const pn_parse_options *o, const ponder_alloc *a, ponder_error *err);
/* The same state, by itself from here on; events not yet taken included. */
ponder_status pn_parser_clone(pn_parser **out, const pn_parser *p, ponder_error *err);
void pn_parser_free(pn_parser *p);

/* The control markers that it looks for, "<|eom|>" and so on; NULL behind the last. At first each counts in text too (a raw
 * stream). Where the vocabulary has one as a special token, say so: then only that token counts, and the same characters as
 * ordinary text are text. */
const char *pn_parser_marker(const pn_parser *p, size_t i);
void pn_parser_marker_is_token(pn_parser *p, size_t i);

/* From here on a marker that would open a thought (THINK, PLAIN) vanishes. */
void pn_parser_forbid_thoughts(pn_parser *p, bool forbid);
/* Markers of thoughts that came where none may be: openers that were forbidden, closers of nothing. Never goes down. */
uint64_t pn_parser_strays(const pn_parser *p);
/* Whether these bytes would complete the text marker that closes a thought. */
bool pn_parser_would_close(const pn_parser *p, const char *text, size_t n);
/* Whether what was fed last may be the beginning of a text marker. */
bool pn_parser_undecided(const pn_parser *p);

/* Feeds one token (or any piece of a raw stream): its bytes, whole characters or not; or a special token by its name, known
 * to the parser or not (one that it does not know is no text and vanishes, but inside an argument, where it is kept).
 * PONDER_E_NOMEM: the parser is of no use any more. */
ponder_status pn_parser_put(pn_parser *p, const char *text, size_t n, ponder_error *err);
ponder_status pn_parser_put_token(pn_parser *p, const char *name, size_t n, ponder_error *err);
/* The stream is cut here (a limit, a cancel, the end of a file; also a turn's end that has no marker): what is held comes
 * out, a cut call or header as raw. The channel stays as it was; whoever may want to go on with a cut call as if nothing had
 * been, clones before. */
ponder_status pn_parser_finish(pn_parser *p, ponder_error *err);
/* Another turn begins, whatever state the last one was left in. What was held and not finished is thrown away. */
void pn_parser_begin(pn_parser *p, pn_parse_start start);
/* The next event; false when there is none. */
bool pn_parser_next(pn_parser *p, pn_parsed *out);

/* Where the next token goes. */
typedef enum pn_channel {
    PN_CHANNEL_HEADER = 0, /* between messages; before a turn's first message */
    PN_CHANNEL_THOUGHT,
    PN_CHANNEL_COMMENTARY,
    PN_CHANNEL_ANSWER,
    PN_CHANNEL_CALL,       /* in a call's markup (Muse), in its JSON (the others) */
    PN_CHANNEL_ARGUMENT,   /* Muse: in a parameter's value */
    PN_CHANNEL_RAW,        /* Muse: in a message that nobody here wrote to ("<|start|>user"); it comes out raw */
    PN_CHANNEL_ENDED,      /* behind an end of turn, before anything else */
} pn_channel;

typedef struct pn_place {
    pn_channel channel;
    size_t since;          /* bytes fed since the body, the value or the call began, held ones included */
    pn_str tool;           /* CALL, ARGUMENT: the function's name or, before it is written, the recipient; else empty */
    pn_str parameter;      /* ARGUMENT: its name */
} pn_place;
pn_place pn_parser_place(const pn_parser *p);  /* strings: valid until the next put */
static inline pn_channel pn_parser_channel(const pn_parser *p) { return pn_parser_place(p).channel; }

/* Tokens (puts) so far whose text went into thoughts, at least partly; markup does not count. Never goes down. */
uint64_t pn_parser_thought_tokens(const pn_parser *p);
uint64_t pn_parser_calls(const pn_parser *p);  /* calls so far, the earlier turns' included */

#endif
