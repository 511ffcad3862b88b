/* Parity with transformers: the rows of every stored picture and pair of frames, from a folder and from a GGUF projector. */
#include "tower_rig.h"

static void parity(void **state)
{
    (void)state;
    static const char *const files[] = {"", "mmproj.gguf"};
    for (size_t m = 0; m < PN_COUNT(models); m++) {
        static reference r;
        reference_read(&r, models[m]);
        for (size_t f = 0; f < PN_COUNT(files); f++) {
            pn_tower *t = load_tower(models[m], files[f]);
            double most = 0;
            for (uint32_t i = 0; i < r.n; i++) {
                if (!can_encode(t, &r.item[i])) continue;
                float *got = encode(t, &r.item[i]);
                double e = max_error(got, r.item[i].rows.v, r.item[i].rows.n);
                if (!(e <= r.tolerance)) fail_msg("%s/%s, %s: rows are off by %g, tolerance %g", models[m], files[f], r.item[i].name, e, r.tolerance);
                most = fmax(most, e);
                free(got);
            }
            print_message("%-15s %-12s rows %.1e of %.0e\n", models[m], files[f], most, r.tolerance);
            pn_tower_free(t);
        }
        reference_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(parity)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
