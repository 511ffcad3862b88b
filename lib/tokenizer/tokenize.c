#include "tokenizer/internal.h"

/* Ordinary text between special tokens, `first` when it begins the whole text. */
static ponder_status run_prefixed(pn_work *w, const char *p, size_t n, bool first)
{
    const pn_tokenizer *t = w->t;
    const bool wanted = t->prefix == PREFIX_ALWAYS || (t->prefix == PREFIX_FIRST && first);
    if (!wanted || (t->prefix_unless_space && p[0] == ' ')) return pn_split_run(w, 0, p, n);
    pn_buf b;
    pn_buf_init(&b, w->a);
    pn_buf_reserve(&b, n + 1);
    pn_buf_put(&b, " ", 1);
    pn_buf_put(&b, p, n);
    ponder_status s = b.failed ? pn_nomem(w->err, n) : pn_split_run(w, 0, b.p, b.n);
    pn_buf_free(&b);
    return s;
}

static ponder_status run_text(pn_work *w, const char *p, size_t n, bool first)
{
    w->after_unknown = false;
    if (!w->t->nfc || pn_nfc_is(p, n)) return run_prefixed(w, p, n, first);
    pn_buf b;
    pn_buf_init(&b, w->a);
    ponder_status s = pn_nfc(p, n, &b) ? run_prefixed(w, b.p, b.n, first) : pn_nomem(w->err, n);
    pn_buf_free(&b);
    return s;
}

static ponder_status put_special(pn_work *w, uint32_t id)
{
    ponder_status s = pn_work_room(w, 1);
    if (s) return s;
    (*w->ids)[(*w->n_ids)++] = (int32_t)id;
    return PONDER_OK;
}

static ponder_status run_all(pn_work *w, const char *p, size_t n, bool control)
{
    const pn_tokenizer *t = w->t;
    size_t done = 0;
    for (size_t i = 0; i < n;) {
        uint32_t id = NO_ID;
        if (t->special_start[(uint8_t)p[i]]) id = pn_tok_special_at(t, p + i, n - i, control);
        if (id == NO_ID) {
            i++;
            continue;
        }
        ponder_status s = i > done ? run_text(w, p + done, i - done, done == 0) : PONDER_OK;
        if (!s) s = put_special(w, id);
        if (s) return s;
        i += t->token[id].len;
        done = i;
    }
    return n > done ? run_text(w, p + done, n - done, done == 0) : PONDER_OK;
}

static ponder_status tokenize_valid(pn_work *w, const char *p, size_t n, uint32_t flags)
{
    ponder_status s = PONDER_OK;
    if ((flags & PN_TOKENIZE_BOS) && w->t->add_bos && w->t->bos >= 0) s = put_special(w, (uint32_t)w->t->bos);
    if (!s && n) s = pn_split_begin(w);
    if (!s && n) s = run_all(w, p, n, flags & PN_TOKENIZE_SPECIAL);
    pn_work_free(w);
    return s;
}

ponder_status pn_tokenize(const pn_tokenizer *t, const char *text, size_t n, uint32_t flags, const ponder_alloc *a,
                          int32_t **ids, size_t *n_ids, size_t *cap, ponder_error *err)
{
    if (!t || (!text && n)) return pn_fail(err, PONDER_E_ARGUMENT, "tokenize: no tokenizer or no text");
    if (n > MAX_TEXT) return pn_fail(err, PONDER_E_RANGE, "tokenize: %zu bytes of text; at most %d", n, MAX_TEXT);
    pn_work w = {.t = t, .a = a, .err = err, .ids = ids, .n_ids = n_ids, .cap = cap};
    const size_t before = *n_ids;
    pn_str whole = {text, n};
    pn_buf repaired, spaced;
    pn_buf_init(&repaired, a);
    pn_buf_init(&spaced, a);
    if (!pn_utf8_valid(text, n)) {
        pn_utf8_repair(text, n, &repaired);
        whole = (pn_str){repaired.p, repaired.n};
    }
    if (t->metaspace && !repaired.failed && whole.n && memmem(whole.p, whole.n, "\xe2\x96\x81", 3)) {
        pn_spaces_from_meta(whole, &spaced);
        whole = (pn_str){spaced.p, spaced.n};
    }
    const bool failed = repaired.failed || spaced.failed;
    ponder_status s = failed ? pn_nomem(err, n) : tokenize_valid(&w, whole.p, whole.n, flags);
    pn_buf_free(&spaced);
    pn_buf_free(&repaired);
    if (s) *n_ids = before;
    return s;
}
