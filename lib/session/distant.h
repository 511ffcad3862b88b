/* Inside the session room: the other side of a session, a conversation with a server instead of a sequence.
 *
 * The conversation is the text of its messages as the protocol has them; a fork copies it. A turn is one request, or several:
 * a thought that was cut here goes on as a request whose last message is the model's own, so far. */
#ifndef PN_DISTANT_H
#define PN_DISTANT_H

#include "remote/remote.h"
#include "session/session.h"

/* What the next request begins with: nothing of the model's, or its message so far, to go on inside its answer or its thought. */
typedef enum pn_go_on { PN_GO_NEW = 0, PN_GO_ANSWER, PN_GO_THOUGHT } pn_go_on;

struct pn_distant {
    pn_fleet *fleet;            /* the model's */
    pn_request *request;      /* of the turn under way */
    pn_reply reply;
    _Atomic bool cancel;
    /* settings beside the session's */
    pn_buf schema, regex, tools; /* tools: the functions, each with a NUL behind it */
    bool restart;             /* a stream that breaks after something was reported begins again */
    pn_buf more;              /* members that the host adds to every request */
    /* the conversation */
    pn_buf history;           /* finished messages, each behind a comma but for the first */
    pn_buf due;               /* calls without a result: name, NUL, id, NUL */
    /* the model's turn: what was reported of it */
    pn_buf thought, answer, calls, call_id;
    size_t kept_thought, kept_answer, kept_calls; /* of them, what was there before this turn: the part before a cut */
    /* the turn under way */
    pn_go_on first, going_on; /* what its first request, and the newest, began with */
    uint32_t restarts;
    bool told;                /* something was reported of this request's stream */
    bool over;                /* its stream */
    bool whole;               /* this request's answer comes in one piece */
    bool no_budget;           /* the servers said that they keep no thinking budget: it is kept here alone */
    bool closing;             /* a thought was cut: the message that ends it is to be reported, then the answer asked for */
    uint32_t closes;          /* of this turn */
    bool ended;               /* it said why */
    int32_t end;              /* PONDER_END_* */
    uint64_t thought_tokens, output_tokens; /* counted here; of earlier requests of the turn too */
    uint64_t before_output, before_thought; /* of earlier requests */
    uint64_t prompt_tokens, cached_tokens;
};

/* body.c */
ponder_status pn_distant_add_pending(ponder_session *s); /* waiting messages become history */
bool pn_distant_close_turn(ponder_session *s);           /* the model's turn too; false: no memory */
ponder_status pn_distant_body(ponder_session *s, pn_go_on go_on, pn_buf *out); /* d->whole: not as a stream */
ponder_status pn_distant_check(ponder_session *s);       /* settings that these servers do not know: PONDER_E_UNSUPPORTED */

#endif
