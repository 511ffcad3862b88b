#include "base/base.h"

#include <stdio.h>

ponder_status pn_fail(ponder_error *err, ponder_status status, const char *fmt, ...)
{
    if (!err) return status;
    err->status = status;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    if (n < 0) err->text[0] = 0;
    /* Names come from files: keep the line one line, and cut whole characters only. */
    size_t len = strlen(err->text);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)err->text[i];
        if (c < 0x20 || c == 0x7f) err->text[i] = '?';
    }
    if (n >= (int)sizeof err->text) {
        while (len > 0 && ((unsigned char)err->text[len - 1] & 0xc0) == 0x80) len--;
        if (len > 0 && (unsigned char)err->text[len - 1] >= 0xc0) len--;
        err->text[len] = 0;
    }
    return status;
}

ponder_status pn_nomem(ponder_error *err, size_t bytes)
{
    return pn_fail(err, PONDER_E_NOMEM, "no memory for %zu bytes", bytes);
}

void pn_error_clear(ponder_error *err)
{
    if (!err) return;
    err->status = PONDER_OK;
    err->text[0] = 0;
}

const char *ponder_status_name(ponder_status status)
{
    static const char *const names[] = {
        "PONDER_OK", "PONDER_E_ARGUMENT", "PONDER_E_RANGE", "PONDER_E_UNKNOWN", "PONDER_E_NOMEM", "PONDER_E_IO",
        "PONDER_E_FORMAT", "PONDER_E_UNSUPPORTED", "PONDER_E_STATE", "PONDER_E_SPACE", "PONDER_E_CANCELLED",
        "PONDER_E_CONTEXT", "PONDER_E_MISMATCH", "PONDER_E_THREAD", "PONDER_E_FORK", "PONDER_E_BUSY", "PONDER_E_INTERNAL",
    };
    if (status == PONDER_MORE) return "PONDER_MORE";
    if (status > 0 || status <= -(int)PN_COUNT(names)) return "PONDER_E_?";
    return names[-status];
}
