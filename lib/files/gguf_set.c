#include "files/checkpoint.h"

/* A GGUF that is one file, or one of a split set "NAME-00001-of-0000N.gguf": the first part holds the metadata, each part
 * the table of its own tensors. */

enum { MOST_PARTS = 4096, SUFFIX = 20 /* -00001-of-00002.gguf */ };

static ponder_status open_first(pn_checkpoint *c, pn_source *source, ponder_error *err)
{
    c->gguf = true;
    ponder_status s = pn_checkpoint_parts(c, 1, err);
    if (s) {
        pn_source_free(source);
        return s;
    }
    c->parts[0].source = source;
    s = pn_gguf_scan(&c->parts[0], c->a, err);
    return s ? s : pn_gguf_fill_kv(c, err);
}

static uint32_t split_count(const pn_checkpoint *c)
{
    int64_t n;
    if (!pn_checkpoint_i64(c, "split.count", &n) || n <= 1) return 1;
    return n > MOST_PARTS ? MOST_PARTS + 1 : (uint32_t)n;
}

ponder_status pn_gguf_open_source(pn_checkpoint *c, pn_source *source, ponder_error *err)
{
    ponder_status s = open_first(c, source, err);
    if (s) return s;
    if (split_count(c) > 1)
        return pn_fail(err, PONDER_E_UNSUPPORTED, "split.count: a split GGUF can only be opened by its path");
    return pn_checkpoint_assemble(c, pn_gguf_fill_tensors, err);
}

/* ---- split sets --------------------------------------------------------------------------------------------------- */

static void put_number(char *to, uint32_t v)
{
    for (int i = 4; i >= 0; i--, v /= 10) to[i] = (char)('0' + v % 10);
}

/* Is `path` the name of a part of n? Its number is written over by part_path. */
static bool is_part_name(const char *path, uint32_t n)
{
    char want[SUFFIX + 1] = "-#####-of-00000.gguf";
    size_t len = strlen(path);
    if (len < SUFFIX) return false;
    put_number(want + 10, n);
    const char *end = path + len - SUFFIX;
    for (int i = 0; i < SUFFIX; i++)
        if (want[i] == '#' ? end[i] < '0' || end[i] > '9' : end[i] != want[i]) return false;
    return true;
}

static ponder_status open_part(pn_checkpoint *c, uint32_t i, const char *path, ponder_error *err)
{
    ponder_status s = pn_source_path(&c->parts[i].source, path, c->a, err);
    return s ? s : pn_gguf_scan(&c->parts[i], c->a, err);
}

/* The metadata of part i become c's for a moment: each part says which one it is. */
static ponder_status check_part(pn_checkpoint *c, uint32_t i, ponder_error *err)
{
    int64_t no = -1, count = -1;
    pn_checkpoint one = {.a = c->a, .parts = &c->parts[i], .n_parts = 1};
    ponder_status s = pn_gguf_fill_kv(&one, err);
    if (s == PONDER_OK && (!pn_checkpoint_i64(&one, "split.no", &no) || no != i))
        s = pn_fail(err, PONDER_E_FORMAT, "split.no: part %u says %lld", i + 1, (long long)no);
    if (s == PONDER_OK && (!pn_checkpoint_i64(&one, "split.count", &count) || count != c->n_parts))
        s = pn_fail(err, PONDER_E_FORMAT, "split.count: part %u says %lld of %u", i + 1, (long long)count, c->n_parts);
    if (s == PONDER_OK && i == 0) {
        c->kv = one.kv;
        c->n_kv = one.n_kv;
        return s;
    }
    pn_free(c->a, one.kv, one.n_kv * sizeof *one.kv);
    return s;
}

static ponder_status open_parts(pn_checkpoint *c, char *path, ponder_error *err)
{
    ponder_status s = PONDER_OK;
    const size_t len = strlen(path);
    for (uint32_t i = 0; i < c->n_parts && s == PONDER_OK; i++) {
        put_number(path + len - SUFFIX + 1, i + 1);
        s = open_part(c, i, path, err);
        if (s == PONDER_OK) s = check_part(c, i, err);
    }
    return s;
}

static ponder_status open_set(pn_checkpoint *c, const char *path, uint32_t n, ponder_error *err)
{
    const size_t bytes = strlen(path) + 1;
    char *own = pn_alloc(c->a, bytes);
    int64_t total;
    if (!own) return pn_nomem(err, bytes);
    memcpy(own, path, bytes);
    ponder_status s = pn_checkpoint_parts(c, n, err);
    if (s == PONDER_OK) s = open_parts(c, own, err);
    pn_free(c->a, own, bytes);
    if (s == PONDER_OK) s = pn_checkpoint_assemble(c, pn_gguf_fill_tensors, err);
    if (s == PONDER_OK && pn_checkpoint_i64(c, "split.tensors.count", &total) && total != c->n_tensors)
        s = pn_fail(err, PONDER_E_FORMAT, "split.tensors.count: %lld, but the parts hold %u", (long long)total, c->n_tensors);
    return s;
}

/* Forget the part that was given: the set is opened from its first. */
static void forget_first(pn_checkpoint *c)
{
    pn_free(c->a, c->parts[0].owned, (size_t)c->parts[0].owned_bytes);
    pn_source_free(c->parts[0].source);
    pn_free(c->a, c->parts, sizeof *c->parts);
    pn_free(c->a, c->kv, c->n_kv * sizeof *c->kv);
    c->parts = NULL;
    c->kv = NULL;
    c->n_parts = c->n_kv = 0;
}

ponder_status pn_gguf_open_path(pn_checkpoint *c, const char *path, ponder_error *err)
{
    pn_source *source;
    ponder_status s = pn_source_path(&source, path, c->a, err);
    if (s) return s;
    if ((s = open_first(c, source, err))) return s;
    const uint32_t n = split_count(c);
    if (n == 1) return pn_checkpoint_assemble(c, pn_gguf_fill_tensors, err);
    if (n > MOST_PARTS) return pn_fail(err, PONDER_E_FORMAT, "split.count: more than %d parts", MOST_PARTS);
    if (!is_part_name(path, n))
        return pn_fail(err, PONDER_E_FORMAT, "split.count is %u, but the name does not end in -00001-of-%05u.gguf", n, n);
    forget_first(c);
    return open_set(c, path, n, err);
}
