#include "tokenizer/internal.h"

void pn_detok_init(pn_detok *d, const pn_tokenizer *t, bool show_control)
{
    *d = (pn_detok){.t = t, .show_control = show_control, .at_start = t->kind == PN_VOCAB_SPM && t->prefix != PREFIX_NONE};
}

/* Takes one byte in; whole characters go out, and what cannot become one goes out as U+FFFD. */
static bool put_byte(pn_detok *d, char c, pn_buf *out)
{
    d->pending[d->n_pending++] = (uint8_t)c;
    while (d->n_pending > 0) {
        pn_utf8 state;
        const uint32_t len = pn_utf8_step(d->pending, d->n_pending, &state);
        if (state == UTF8_PARTIAL) break;
        const bool ok = state == UTF8_OK ? pn_buf_put(out, d->pending, len) : pn_buf_puts(out, "\xef\xbf\xbd");
        if (!ok) return false;
        d->n_pending -= len;
        memmove(d->pending, d->pending + len, d->n_pending);
    }
    return true;
}

bool pn_detok_put(pn_detok *d, int32_t id, pn_buf *out)
{
    size_t n;
    const char *p = pn_tokenizer_bytes(d->t, id, &n);
    if (n == 0 || (pn_tokenizer_is_control(d->t, id) && !d->show_control)) return !out->failed;
    if (d->at_start && !pn_tokenizer_is_control(d->t, id)) {
        d->at_start = false;
        if (p[0] == ' ') p++, n--;
    }
    for (size_t i = 0; i < n; i++)
        if (!put_byte(d, p[i], out)) return false;
    return true;
}

bool pn_detok_finish(pn_detok *d, pn_buf *out)
{
    if (d->n_pending == 0) return !out->failed;
    d->n_pending = 0;
    return pn_buf_puts(out, "\xef\xbf\xbd");
}
