/* What may not change a bit: the CPU level, repacking, where the bytes come from, one pass or token by token, for every
 * checkpoint. Compared in bits, over all positions. */
#include "rig.h"

static variant all[MAX_MODELS];
static uint32_t n_all;

/* Configs in another form load the same weights: only folders and GGUFs here. */
static bool is_model(const variant *v) { return !v->file[0] || is_gguf(v); }

static void describe(char to[160], const variant *v, const char *what) { snprintf(to, 160, "%s %s", v->file, what); }

static void cpu_levels(void **state)
{
    (void)state;
    static const uint32_t masks[] = {1, 3, 7};
    for (uint32_t i = 0; i < n_all; i++)
        for (pn_kv_type kv = PN_KV_F32; kv < PN_KV_TYPES; kv++) {
            char what[160];
            reference r;
            if (!is_model(&all[i])) continue;
            reference_read(&r, all[i].name);
            pn_network *n = load_variant(&all[i]);
            float *want = all_logits(n, kv, 0, r.ids, r.n);
            for (size_t m = 0; m < PN_COUNT(masks); m++) {
                if (masks[m] & ~pn_cpu_flags()) continue; /* not on this machine */
                float *got = all_logits(n, kv, masks[m], r.ids, r.n);
                snprintf(what, sizeof what, "%s KV %d, CPU mask %u against 0", all[i].file, (int)kv, masks[m]);
                same_bits(got, want, (size_t)r.n * n->d.vocab, n->d.vocab, all[i].name, what);
                free(got);
            }
            free(want);
            pn_network_free(n);
            reference_free(&r);
        }
}

static void one_pass_or_token_by_token(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < n_all; i++)
        for (pn_kv_type kv = PN_KV_F32; kv < PN_KV_TYPES; kv++) {
            char what[160];
            reference r;
            if (!is_model(&all[i])) continue;
            reference_read(&r, all[i].name);
            pn_network *n = load_variant(&all[i]);
            float *want = all_logits(n, kv, 7, r.ids, r.n), *got = logits_by_token(n, kv, 7, r.ids, r.n);
            snprintf(what, sizeof what, "%s KV %d, token by token", all[i].file, (int)kv);
            same_bits(got, want, (size_t)r.n * n->d.vocab, n->d.vocab, all[i].name, what);
            free(want);
            free(got);
            pn_network_free(n);
            reference_free(&r);
        }
}

/* ---- ways to the bytes ------------------------------------------------------------------------------------------ */

static uint8_t *read_whole(const variant *v, size_t before, size_t *n)
{
    char path[PATH_ROOM];
    data_path(path, v->name, v->file);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    uint8_t *p = malloc(before + *n);
    assert_int_equal(fread(p + before, 1, *n, f), *n);
    fclose(f);
    return p;
}

typedef struct block {
    const uint8_t *p;
    size_t n;
} block;

static int32_t read_block(void *user, uint64_t offset, void *to, size_t bytes)
{
    const block *b = user;
    if (offset > b->n || bytes > b->n - offset) return -1;
    memcpy(to, b->p + offset, bytes);
    return 0;
}

static pn_network *load_source(pn_source *s, bool repack)
{
    ponder_error err = {.size = sizeof err};
    pn_checkpoint *c;
    OK(pn_checkpoint_open_source(&c, s, NULL, &err), err);
    return load(c, repack, -1);
}

/* Takes the network. */
static void expect(pn_network *n, const reference *r, const float *want, const variant *v, const char *what)
{
    char text[160];
    describe(text, v, what);
    float *got = all_logits(n, PN_KV_F32, 7, r->ids, r->n);
    same_bits(got, want, (size_t)r->n * n->d.vocab, n->d.vocab, v->name, text);
    free(got);
    pn_network_free(n);
}

enum { ODD = 4099 };          /* before the file, so that nothing in it is aligned */

static void sources(const variant *v, const reference *r, const float *want)
{
    ponder_error err = {.size = sizeof err};
    block b;
    uint8_t *p = read_whole(v, ODD, &b.n);
    b.p = p + ODD;
    memset(p, 0xa5, ODD);
    FILE *f = tmpfile();
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, ODD + b.n, f), ODD + b.n);
    assert_int_equal(fwrite("tail", 1, 4, f), 4);
    assert_int_equal(fflush(f), 0);
    for (int repack = 0; repack < 2; repack++) {
        pn_source *s;
        OK(pn_source_memory(&s, b.p, b.n, NULL, &err), err);
        expect(load_source(s, repack), r, want, v, repack ? "from memory" : "from memory, not repacked");
        OK(pn_source_fd(&s, fileno(f), ODD, b.n, NULL, &err), err);
        expect(load_source(s, repack), r, want, v, repack ? "from a descriptor" : "from a descriptor, not repacked");
        ponder_source callback = {.size = sizeof callback, .user = &b, .length = b.n, .read = read_block};
        OK(pn_source_callback(&s, &callback, NULL, &err), err);
        expect(load_source(s, repack), r, want, v, repack ? "from a callback" : "from a callback, not repacked");
    }
    fclose(f);
    free(p);
}

static void repacked_or_not_from_anywhere(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < n_all; i++) {
        reference r;
        if (!is_model(&all[i])) continue;
        reference_read(&r, all[i].name);
        pn_network *n = load_variant(&all[i]);
        float *want = all_logits(n, PN_KV_F32, 7, r.ids, r.n);
        assert_true(n->layers[0].q.first.packed != NULL);
        pn_network_free(n);
        n = load(open_variant(&all[i]), false, -1);
        assert_true(n->layers[0].q.first.packed == NULL && n->store.file != NULL);
        expect(n, &r, want, &all[i], "not repacked");
        if (is_gguf(&all[i])) sources(&all[i], &r, want);
        free(want);
        reference_free(&r);
    }
}

/* A team of loaders packs the same panels. */
static void loaded_by_a_team(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < n_all; i++) {
        ponder_error err = {.size = sizeof err};
        pn_team *t;
        if (!is_model(&all[i])) continue;
        OK(pn_team_new(&t, 3, NULL, NULL, &err), err);
        pn_network *alone = load_variant(&all[i]), *n;
        pn_load_options o = {.repack = true, .quantize = -1, .team = t};
        OK(pn_network_load(&n, open_variant(&all[i]), &o, NULL, &err), err);
        assert_int_equal(n->store.packed_bytes, alone->store.packed_bytes);
        assert_memory_equal(n->store.packed, alone->store.packed, n->store.packed_bytes);
        assert_memory_equal(n->store.vectors, alone->store.vectors, n->store.vectors_n * sizeof(float));
        pn_network_free(n);
        pn_network_free(alone);
        pn_team_free(t);
    }
}

static int find_all(void **state)
{
    (void)state;
    n_all = find_variants(all);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(cpu_levels), cmocka_unit_test(one_pass_or_token_by_token),
                                       cmocka_unit_test(repacked_or_not_from_anywhere), cmocka_unit_test(loaded_by_a_team)};
    return cmocka_run_group_tests(tests, find_all, NULL);
}
