/* Drafts looked up in a sequence's own tokens: what followed the last time that it went like this. */
#include "engine/internal.h"

/* A place is looked for anew while fewer tokens than SURE agreed, by up to LONGEST last tokens. What is appended in larger
 * pieces than WRITTEN was not generated, and says nothing of how well the look-up does. */
enum { SURE = 3, LONGEST = 16, WRITTEN = 32, FEW = 4, MANY = 16 };
/* A guess counts as FEW observations; more than MANY fade. */
static const float at_first[PN_LOOKUP_CLASSES] = {0.02f, 0.08f, 0.2f, 0.35f, 0.6f, 0.8f};

/* 1, 2, 3..4, 5..8, 9..16, more. */
static uint32_t class_of(uint32_t agreed)
{
    uint32_t c = 0;
    for (uint32_t top = 1; top < agreed && c < PN_LOOKUP_CLASSES - 1; top *= 2) c++;
    return c;
}

static void see(pn_lookup *l, const int32_t *ids, uint32_t i)
{
    if (l->agreed == 0) return;
    const bool came = ids[l->at] == ids[i];
    const uint32_t c = class_of(l->agreed);
    pn_note_mean(&l->hit[c], &l->times[c], came ? 1 : 0, FEW, MANY);
    l->agreed = came ? l->agreed + 1 : 0;
    l->at += came;
}

/* The newest among the places before which most of the last tokens stand. */
static void find(pn_lookup *l, const int32_t *ids, uint32_t n)
{
    const int32_t newest = ids[n - 1];
    for (uint32_t i = n - 1; i-- > 0 && l->agreed < LONGEST;) {
        if (ids[i] != newest) continue;
        uint32_t same = 1;
        while (same < LONGEST && same <= i && ids[i - same] == ids[n - 1 - same]) same++;
        if (same <= l->agreed) continue;
        l->agreed = same;
        l->at = i + 1;
    }
}

void pn_lookup_init(pn_lookup *l)
{
    *l = (pn_lookup){0};
    memcpy(l->hit, at_first, sizeof at_first);
}

uint32_t pn_lookup_propose(pn_lookup *l, const int32_t *ids, uint32_t n, int32_t *out, float *chance, uint32_t most)
{
    if (l->seen == 0 || n - l->seen > WRITTEN) l->agreed = 0;
    for (uint32_t i = l->seen; i < n && l->agreed; i++) see(l, ids, i);
    l->seen = n;
    if (l->agreed < SURE) find(l, ids, n);
    if (l->agreed == 0) return 0;
    float all = 1;
    for (uint32_t i = 0; i < most; i++) {
        out[i] = l->at + i < n ? ids[l->at + i] : out[l->at + i - n]; /* what repeats itself goes on so */
        chance[i] = all *= l->hit[class_of(l->agreed + i)];
    }
    return most;
}
