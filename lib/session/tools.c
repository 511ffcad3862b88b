/* Tools of a conversation, and those the library has itself: looking closer at a part of a picture, and (lib/agents) agents. */
#include "session/session.h"

#include "base/json.h"

static const char zoom_name[] = "image.zoom";
static const char zoom_tool[] =
    "{\"type\": \"function\", \"function\": {\"name\": \"image.zoom\", \"description\": \"Shows a part of a picture of this "
    "conversation at full resolution.\", \"parameters\": {\"type\": \"object\", \"properties\": {"
    "\"image\": {\"type\": \"integer\", \"description\": \"which picture, counted from 1\"}, "
    "\"x_min\": {\"type\": \"number\", \"description\": \"left edge, 0 to 1000 across the picture\"}, "
    "\"y_min\": {\"type\": \"number\", \"description\": \"upper edge, 0 to 1000 down the picture\"}, "
    "\"x_max\": {\"type\": \"number\", \"description\": \"right edge\"}, "
    "\"y_max\": {\"type\": \"number\", \"description\": \"lower edge\"}}, "
    "\"required\": [\"image\", \"x_min\", \"y_min\", \"x_max\", \"y_max\"]}}}";

#define TOOL(name, what, parameters, required) \
    "{\"type\": \"function\", \"function\": {\"name\": \"subagents." name "\", \"description\": \"" what "\", \"parameters\": {\"type\": " \
    "\"object\", \"properties\": {" parameters "}, \"required\": [" required "]}}}"
#define AGENT "\"agent\": {\"type\": \"integer\", \"description\": \"its number, as spawn gave it\"}"
static const char subagent_tools[] =
    TOOL("spawn", "Starts an agent on a task of its own. It knows this conversation and works beside you.",
         "\"task\": {\"type\": \"string\", \"description\": \"what it is to do, in full\"}", "\"task\"") ", "
    TOOL("status", "Which agents there are and whether they are done.", "", "") ", "
    TOOL("send_message", "Gives an agent that is done a further message.",
         AGENT ", \"message\": {\"type\": \"string\"}", "\"agent\", \"message\"") ", "
    TOOL("wait", "Waits until agents are done.",
         "\"agents\": {\"type\": \"array\", \"items\": {\"type\": \"integer\"}, \"description\": \"which; all if unsaid\"}, "
         "\"timeout_seconds\": {\"type\": \"number\"}", "") ", "
    TOOL("read_result", "What an agent that is done answered.", AGENT, "\"agent\"") ", "
    TOOL("cancel", "Ends an agent.", AGENT, "\"agent\"");

static bool put_own(const ponder_session *s, pn_buf *b)
{
    if (s->look_closer) pn_buf_puts(b, zoom_tool);
    if (s->look_closer && s->subagents) pn_buf_puts(b, ", ");
    if (s->subagents) pn_buf_puts(b, subagent_tools);
    return !b->failed;
}

/* The host's list with ours at its end. */
static bool join(const ponder_session *s, pn_buf *b, const char *json, size_t n)
{
    while (n && (json[n - 1] == ' ' || json[n - 1] == '\n' || json[n - 1] == '\t' || json[n - 1] == '\r')) n--;
    if (n == 0) return pn_buf_puts(b, "[") && put_own(s, b) && pn_buf_puts(b, "]");
    if (json[n - 1] != ']') return pn_buf_put(b, json, n); /* no list: the reader says so */
    size_t end = n - 1;
    while (end && (json[end - 1] == ' ' || json[end - 1] == '\n' || json[end - 1] == '\t' || json[end - 1] == '\r')) end--;
    bool empty = end && json[end - 1] == '[';
    return pn_buf_put(b, json, end) && (empty || pn_buf_puts(b, ", ")) && put_own(s, b) && pn_buf_puts(b, "]");
}

ponder_status pn_session_set_tools(ponder_session *s, const char *json, size_t n)
{
    pn_tools *t = NULL;
    pn_buf b;
    ponder_status st = pn_session_needs(s, true);
    if (st != PONDER_OK) return st;
    if (s->distant ? !pn_distant_empty(s) : pn_sequence_count(s->seq) > 0) return pn_fail(&s->err, PONDER_E_STATE, "tools are told before the first message is computed");
    pn_buf_init(&b, s->a);
    const bool own = s->look_closer || s->subagents;
    if (own && !join(s, &b, json, n)) st = pn_nomem(&s->err, n);
    if (st == PONDER_OK && own) st = pn_tools_read(&t, b.p, b.n, s->a, &s->err);
    else if (st == PONDER_OK && n > 0) st = pn_tools_read(&t, json, n, s->a, &s->err);
    pn_buf_free(&b);
    if (st == PONDER_OK && s->distant) st = pn_distant_set_tools(s, json, n);
    if (st != PONDER_OK) {
        pn_tools_free(t);
        return st;
    }
    pn_tools_free(s->tools);
    s->tools = t;
    pn_matcher_free(s->call);
    pn_matcher_free(s->header);
    pn_matcher_free(s->quiet_header);
    s->call = s->header = s->quiet_header = s->active = NULL;
    pn_session_forget_parser(s);
    return PONDER_OK;
}

/* ---- image.zoom ----------------------------------------------------------------------------------------- */

/* The part in pixels; false: the arguments name no part of a picture. */
static bool part_of(const ponder_session *s, const pn_value *args, pn_image **im, pn_region *r)
{
    int64_t which = 0;
    pn_box box;
    if (!pn_value_i64(pn_get(args, "image"), 1, (int64_t)s->n_gallery, &which)) return false;
    if (!pn_value_f64(pn_get(args, "x_min"), &box.x_min) || !pn_value_f64(pn_get(args, "y_min"), &box.y_min) ||
        !pn_value_f64(pn_get(args, "x_max"), &box.x_max) || !pn_value_f64(pn_get(args, "y_max"), &box.y_max)) return false;
    *im = s->gallery[which - 1];
    return pn_box_to_region(pn_image_width(*im), pn_image_height(*im), &box, r);
}

ponder_status pn_session_zoom(ponder_session *s, pn_str name, pn_str arguments, bool *ours)
{
    static const char refusal[] = "image must be the number of a picture of this conversation, counted from 1, and the edges numbers from 0 to 1000";
    *ours = s->look_closer && pn_str_eq(name, zoom_name);
    if (!*ours) return PONDER_OK;
    pn_json doc;
    pn_image *im, *part;
    pn_region r;
    ponder_status st = pn_json_read(&doc, arguments.p, arguments.n, s->a, &s->err);
    if (st == PONDER_E_NOMEM) return st;
    bool good = st == PONDER_OK && part_of(s, pn_json_root(&doc), &im, &r);
    if (st == PONDER_OK) pn_json_free(&doc);
    if (!good) return pn_session_add_result(s, zoom_name, refusal, sizeof refusal - 1);
    st = pn_image_crop(&part, im, r.x, r.y, r.width, r.height, &s->err);
    if (st != PONDER_OK) return st;
    st = pn_session_attach_image(s, part);
    pn_image_free(part);
    return st == PONDER_OK ? pn_session_add_result(s, zoom_name, "", 0) : st;
}
