/* Inside the vision room: the tower's weights. */
#ifndef PN_VISION_TOWER_H
#define PN_VISION_TOWER_H

#include "vision/vision.h"

typedef struct pn_block {
    pn_weight q, k, v, o, fc1, fc2;
    float *norm1_w, *norm1_b, *norm2_w, *norm2_b;
    float *q_b, *k_b, *v_b, *o_b, *fc1_b, *fc2_b;
} pn_block;

struct pn_tower {
    pn_tower_info d;
    const ponder_alloc *a;
    pn_block *blocks;
    pn_weight embed, fc1, fc2, projection;
    float *table;             /* [side * side][width] */
    float *pre_w, *pre_b, *post_w, *post_b;
    float *freq;              /* [head_dim / 4]: inverse frequencies of one axis */
    pn_store store;
};

/* Tensor names of the container: a whole one, or one inside block `layer`. */
typedef enum pn_tower_role {
    PN_T_EMBED, PN_T_TABLE, PN_T_PRE_W, PN_T_PRE_B, PN_T_POST_W, PN_T_POST_B, PN_T_FC1, PN_T_FC2, PN_T_PROJECTION,
    PN_T_NORM1_W, PN_T_NORM1_B, PN_T_Q, PN_T_Q_B, PN_T_K, PN_T_K_B, PN_T_V, PN_T_V_B, PN_T_O, PN_T_O_B,
    PN_T_NORM2_W, PN_T_NORM2_B, PN_T_UP, PN_T_UP_B, PN_T_DOWN, PN_T_DOWN_B,
    PN_T_COUNT
} pn_tower_role;

enum { PN_TOWER_NAME = 96 };
/* NULL: this container has no such tensor (of any tower); else `name` filled in. */
const char *pn_tower_name(const pn_checkpoint *c, pn_tower_role role, uint32_t layer, char name[PN_TOWER_NAME]);

#endif
