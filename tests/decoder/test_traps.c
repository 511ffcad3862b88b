/* Each silent trap, stepped in on purpose: the network is loaded as it should be, then one thing is made wrong, and the
 * logits must move by more than ten tolerances. It proves that the parity test would fail. Most traps change numbers or
 * vectors of the loaded network; a few put another function into the table of kernels. */
#include "rig.h"

typedef struct trap {
    const char *name;
    const char *models;       /* folders, or folder/model.gguf, separated by spaces */
    void (*change)(pn_network *n);
    void (*hook)(pn_kernels *k);
} trap;

static pn_kv_type store_as;   /* what the program takes its F32 pages for; F32 again after each trap */
static arena memory;          /* what a trap puts into its network; emptied after each */
static pn_checkpoint *file;   /* the same checkpoint once more, for raw weights */

/* ---- computing without an engine, with any kernels -------------------------------------------------------- */

static float *compute(const pn_network *n, const pn_kernels *k, const int32_t *ids, uint32_t count)
{
    ponder_error err = {.size = sizeof err};
    enum { MOST_PAGES = MAX_IDS / PN_KEYS };
    const uint32_t n_pages = (count + PN_KEYS - 1) / PN_KEYS;
    pn_kv_layout kv;
    pn_kv_layout_init(&kv, &n->d, PN_KV_F32);
    kv.type = store_as;
    uint8_t *pages[PN_GROUPS][MOST_PAGES] = {{0}};
    pn_run run = {.ids = ids, .n = count, .n_out = count, .logits = calloc((size_t)count * n->d.vocab, sizeof(float))};
    for (int g = 0; g < PN_GROUPS; g++) {
        run.pages[g] = pages[g];
        for (uint32_t p = 0; p < n_pages; p++) pages[g][p] = aligned_alloc(64, kv.page_bytes[g] + 64);
    }
    pn_program *p;
    pn_limits limits = {.columns = count, .outputs = count, .runs = 1, .threads = 1};
    OK(pn_program_new(&p, n, k, &kv, &limits, NULL, &err), err);
    pn_program_begin(p, &run, 1);
    pn_work w = pn_program_work(p);
    for (uint32_t op = 0; op < w.n_ops; op = w.next(w.self, op)) {
        uint32_t tiles = w.enter(w.self, op);
        for (uint32_t t = 0; t < tiles; t++) w.tile(w.self, op, t, 0);
    }
    pn_program_free(p);
    for (int g = 0; g < PN_GROUPS; g++)
        for (uint32_t i = 0; i < n_pages; i++) free(pages[g][i]);
    return run.logits;
}

/* ---- helpers of the changes -------------------------------------------------------------------------------- */

#define EACH_LAYER(n, l) for (pn_layer *l = (n)->layers; l < (n)->layers + (n)->d.layers; l++)
#define EACH_INFO(n, i) for (pn_layer_info *i = (n)->d.layer; i < (n)->d.layer + (n)->d.layers; i++)

static void add(float *x, size_t n, float v)
{
    for (size_t i = 0; x && i < n; i++) x[i] += v;
}

static float *constant(size_t n, float v)
{
    float *x = take(&memory, n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = v;
    return x;
}

static float to_bf16(float x) { return pn_bf16_to_f32(pn_f32_to_bf16(x)); }

/* After the mask of a layer changed: which pages it has. */
static void renumber(pn_network *n)
{
    memset(n->group_layers, 0, sizeof n->group_layers);
    for (uint32_t i = 0; i < n->d.layers; i++) {
        pn_layer *l = &n->layers[i];
        l->group = n->d.layer[i].sliding ? PN_SLIDING : PN_FULL;
        l->index = n->group_layers[l->group]++;
    }
}

static void set_theta(pn_network *n, int which, double theta)
{
    for (uint32_t i = 0; i < n->d.rot_dim / 2; i++) n->freq[which][i] = (float)pow(theta, -2.0 * i / n->d.rot_dim);
}

static void read_vector(pn_network *n, pn_role role, uint32_t layer, float *to, size_t count)
{
    ponder_error err = {.size = sizeof err};
    pn_slice s;
    bool found;
    OK(pn_find_weight(file, &n->d, role, layer, &s, &found, &err), err);
    assert_true(found && s.rows == 1 && s.cols == count);
    pn_dequantize_row(s.tensor->type, pn_checkpoint_view(file, s.tensor) + s.from, to, count);
}

/* ---- traps of numbers ---------------------------------------------------------------------------------------- */

static void in_norm_not_centred(pn_network *n) { EACH_LAYER(n, l) add(l->attn_norm, n->d.width, -1); }
static void post_attn_norm_not_centred(pn_network *n) { EACH_LAYER(n, l) add(l->post_attn, n->d.width, -1); }
static void ffn_norm_not_centred(pn_network *n) { EACH_LAYER(n, l) add(l->ffn_norm, n->d.width, -1); }
static void post_ffn_norm_not_centred(pn_network *n) { EACH_LAYER(n, l) add(l->post_ffn, n->d.width, -1); }
static void pre_expert_norm_not_centred(pn_network *n) { EACH_LAYER(n, l) add(l->pre_expert_norm, n->d.expert_width, -1); }
static void post_expert_norm_not_centred(pn_network *n) { EACH_LAYER(n, l) add(l->post_expert_norm, n->d.expert_width, -1); }
static void qk_norm_not_centred(pn_network *n)
{
    EACH_LAYER(n, l) {
        add(l->q_norm, n->d.head_dim, -1);
        add(l->k_norm, n->d.head_dim, -1);
    }
}
/* The converter has added the one already. */
static void norms_centred_twice(pn_network *n)
{
    EACH_LAYER(n, l) {
        add(l->attn_norm, n->d.width, 1);
        add(l->post_attn, n->d.width, 1);
        add(l->ffn_norm, n->d.width, 1);
        add(l->post_ffn, n->d.width, 1);
    }
}
static void final_norm_centred(pn_network *n) { add(n->norm, n->d.width, 1); }
static void final_norm_not_centred(pn_network *n) { add(n->norm, n->d.width, -1); }
static void eps_1e4(pn_network *n) { n->d.eps = n->d.post_eps = 1e-4f; } /* one number in the configs concerned */
static void eps_1e6(pn_network *n) { n->d.eps = 1e-6f; }
static void post_eps_1e5(pn_network *n) { n->d.post_eps = 1e-5f; }
static void post_eps_1e6(pn_network *n) { n->d.post_eps = 1e-6f; }
static void no_post_norms(pn_network *n) { n->d.post_attn = n->d.post_ffn = PN_USE_NONE; }
static void no_embedding_norm(pn_network *n) { n->d.embed_norm = false; }
static void no_embedding_scale(pn_network *n) { n->d.embed_scale = 1; }
static void embedding_scale_in_bf16(pn_network *n) { n->d.embed_scale = to_bf16(n->d.embed_scale); }

static void no_q_scale(pn_network *n) { n->d.q_scale = 1; }
static void scale_on_k_too(pn_network *n) { EACH_LAYER(n, l) l->k_norm = constant(n->d.head_dim, n->d.q_scale); }
static void q_norm_vector_ignored(pn_network *n) { EACH_LAYER(n, l) l->q_norm = NULL; }
static void k_norm_vector_ignored(pn_network *n) { EACH_LAYER(n, l) l->k_norm = NULL; }
static void no_qk_norm(pn_network *n) { n->d.qk_norm = PN_USE_NONE; }
static void no_q_bias(pn_network *n) { EACH_LAYER(n, l) l->q_bias = NULL; }
static void no_k_bias(pn_network *n) { EACH_LAYER(n, l) l->k_bias = NULL; }
static void no_v_bias(pn_network *n) { EACH_LAYER(n, l) l->v_bias = NULL; }
static void no_attention_scale(pn_network *n) { n->d.attn_scale = 1; }
static void scale_from_head_dim(pn_network *n) { n->d.attn_scale = 1 / sqrtf((float)n->d.head_dim); }
static void no_output_gate(pn_network *n) { EACH_LAYER(n, l) l->g.batch = 0; }

static void rope_everywhere(pn_network *n) { EACH_INFO(n, i) i->rope = true; }
static void rope_nowhere(pn_network *n) { EACH_INFO(n, i) i->rope = false; }
static void rope_by_the_mask(pn_network *n) { EACH_INFO(n, i) i->rope = i->sliding; }
static void rope_from_the_first(pn_network *n) { EACH_INFO(n, i) i->rope = (i - n->d.layer + 1) % 4 != 0; }
static void rope_other_pairs(pn_network *n) { n->d.rope_pairs = !n->d.rope_pairs; }
static void theta_10000(pn_network *n) { set_theta(n, 0, 10000); }
/* layer_rope_theta's numbers, used as bases: 12345 in the first layer of muse-spark-bf16. */
static void layer_theta_used(pn_network *n)
{
    set_theta(n, 1, 12345);
    n->d.layer[0].local_rope = true;
}
static void thetas_swapped(pn_network *n)
{
    float *t = n->freq[0];
    n->freq[0] = n->freq[1];
    n->freq[1] = t;
}
static void no_llama3_scaling(pn_network *n) { set_theta(n, 0, 10000); }
static void linear_scaling(pn_network *n)
{
    set_theta(n, 0, 10000);
    for (uint32_t i = 0; i < n->d.rot_dim / 2; i++) n->freq[0][i] /= 8;
}
/* Only the two ends: what lies between keeps its frequency. */
static void no_smooth_band(pn_network *n)
{
    set_theta(n, 0, 10000);
    for (uint32_t i = 0; i < n->d.rot_dim / 2; i++)
        if (6.28318530717958647692 / n->freq[0][i] > 64) n->freq[0][i] /= 8;
}

static void window_off(pn_network *n) { n->d.window = 9999; }
static void window_more(pn_network *n) { n->d.window++; }
static void window_less(pn_network *n) { n->d.window--; }
static void mask_from_the_first(pn_network *n)
{
    EACH_INFO(n, i) i->sliding = (i - n->d.layer + 1) % 4 != 0;
    renumber(n);
}
static void gemma_pattern_from_the_last(pn_network *n)
{
    EACH_INFO(n, i) i->sliding = i->local_rope = (n->d.layers - 1 - (i - n->d.layer)) % 6 != 0;
    renumber(n);
}

static void no_soft_cap(pn_network *n) { n->d.softcap = 0; }
static void no_multiplier(pn_network *n) { n->d.logit_scale = 1; }
static void exact_gelu(pn_network *n) { n->d.act = PN_ACT_GELU; }
static void silu(pn_network *n) { n->d.act = PN_ACT_SILU; }

/* Query head h reads key-value head h % kv instead of h / group: the heads change places before and after attention. */
static void heads_grouped_by_remainder(pn_network *n)
{
    const uint32_t heads = n->d.heads, kv = n->d.kv_heads, hd = n->d.head_dim, group = heads / kv;
    EACH_LAYER(n, l) {
        pn_weight *rows[] = {&l->q, &l->g}, *o = &l->o;
        uint32_t width = n->d.width;
        float *bias = l->q_bias ? take(&memory, heads * hd * sizeof *bias) : NULL;
        float *from = weight_floats(&memory, o), *to = take(&memory, (size_t)width * heads * hd * sizeof *to);
        for (uint32_t h = 0; h < heads; h++) {
            uint32_t slot = h % kv * group + h / kv;
            if (bias) memcpy(bias + slot * hd, l->q_bias + h * hd, hd * sizeof *bias);
            for (uint32_t r = 0; r < width; r++) memcpy(to + ((size_t)r * heads + slot) * hd, from + ((size_t)r * heads + h) * hd, hd * sizeof *to);
        }
        if (bias) l->q_bias = bias;
        set_weight(&memory, o, to);
        for (size_t i = 0; i < 2 && rows[i]->batch; i++) {
            from = weight_floats(&memory, rows[i]);
            to = take(&memory, (size_t)heads * hd * width * sizeof *to);
            for (uint32_t h = 0; h < heads; h++)
                memcpy(to + (size_t)(h % kv * group + h / kv) * hd * width, from + (size_t)h * hd * width, (size_t)hd * width * sizeof *to);
            set_weight(&memory, rows[i], to);
        }
    }
}

/* ---- muse-spark: residual gates from the stored vectors ---------------------------------------------------------- */

typedef void (*gate_form)(double a, double temperature, double *alpha, double *beta);

static void gates(pn_network *n, gate_form form)
{
    float *a = take(&memory, n->d.width * sizeof *a);
    for (uint32_t i = 0; i < n->d.layers; i++)
        for (int half = 0; half < 2; half++) {
            pn_layer *l = &n->layers[i];
            float *alpha = half ? l->ffn_alpha : l->attn_alpha, *beta = half ? l->ffn_beta : l->attn_beta;
            read_vector(n, half ? PN_W_FFN_RGATE : PN_W_ATTN_RGATE, i, a, n->d.width);
            for (uint32_t j = 0; j < n->d.width; j++) {
                double x, y;
                form(a[j], n->d.residual_temperature, &x, &y);
                alpha[j] = (float)x;
                beta[j] = (float)y;
            }
        }
}

static void right_form(double a, double t, double *alpha, double *beta)
{
    *beta = 1 / (1 + exp(-a / t));
    *alpha = sqrt(fmax((1 - *beta) * (1 + *beta), 1e-3));
}
static void form_warm(double a, double t, double *alpha, double *beta) { right_form(a, t / t, alpha, beta); }
static void form_bf16(double a, double t, double *alpha, double *beta) { right_form(to_bf16((float)a), t, alpha, beta); }
static void form_no_floor(double a, double t, double *alpha, double *beta)
{
    right_form(a, t, alpha, beta);
    *alpha = sqrt((1 - *beta) * (1 + *beta));
}
static void form_linear(double a, double t, double *alpha, double *beta)
{
    right_form(a, t, alpha, beta);
    *alpha = 1 - *beta;
}
static void temperature_1(pn_network *n) { gates(n, form_warm); }
static void gates_in_bf16(pn_network *n) { gates(n, form_bf16); }
static void no_floor(pn_network *n) { gates(n, form_no_floor); }
static void alpha_is_1_minus_beta(pn_network *n) { gates(n, form_linear); }
static void stored_alpha_is_1_minus_beta(pn_network *n)
{
    EACH_LAYER(n, l)
        for (uint32_t j = 0; j < n->d.width; j++) {
            l->attn_alpha[j] = 1 - l->attn_beta[j];
            l->ffn_alpha[j] = 1 - l->ffn_beta[j];
        }
}
static void plain_residual(pn_network *n) { n->d.residual_gate = false; }

/* ---- muse-spark: norms and experts ---------------------------------------------------------------------------------- */

static void post_ffn_scaled_after(pn_network *n) { n->d.post_ffn = PN_USE_WEIGHT; }
static void no_head_norm(pn_network *n) { n->d.head_norm = false; }
static void router_multiplier_missing(pn_network *n) { n->d.router_scale = 1; }
static void router_multiplied_twice(pn_network *n) { n->d.router_scale = n->d.logit_scale; }
static void correction_bias_ignored(pn_network *n) { EACH_LAYER(n, l) l->router_bias = NULL; }
static void gate_and_up_swapped(pn_network *n)
{
    EACH_LAYER(n, l) {
        pn_weight w = l->experts_gate;
        l->experts_gate = l->experts_up;
        l->experts_up = w;
    }
}
static void router_in_bf16(pn_network *n)
{
    EACH_LAYER(n, l) {
        if (!l->router.batch) continue;
        float *x = weight_floats(&memory, &l->router);
        for (size_t i = 0; i < l->router.first.rows * l->router.first.k; i++) x[i] = to_bf16(x[i]);
        set_weight(&memory, &l->router, x);
    }
}

/* ---- traps of order, through the kernels ------------------------------------------------------------------------------ */

static struct {
    pn_kernels k;             /* the right ones */
    const pn_network *n;
    const pn_layer *layer;    /* whose router was multiplied last */
    const float *bias[PN_MAX_LAYERS];
} now;

static void scale_after_cap(float *y, float mult, float cap, size_t n)
{
    now.k.softcap(y, 1, cap, n);
    now.k.scale(y, mult, n);
}
/* A Q4 store that loses nothing: heads are turned, but kept as floats. */
static void put_exactly(pn_kv_type t, void *key, void *value, uint32_t j, uint32_t hd, const float *k, const float *v)
{
    (void)t;
    now.k.kv_put(PN_KV_F32, key, value, j, hd, k, v);
}
static void attend_exactly(pn_kv_type t, const void *key, const void *value, uint32_t hd, float scale, const pn_attn_query *q, uint32_t n,
                           const void *next, void *scratch)
{
    (void)t;
    now.k.attn_block(PN_KV_F32, key, value, hd, scale, q, n, next, scratch);
}
static void turned_exactly(pn_kernels *k)
{
    store_as = PN_KV_Q4;
    k->kv_put = put_exactly;
    k->attn_block = attend_exactly;
}
static void turn_forwards(float *x, uint32_t hd, bool back)
{
    if (!back) now.k.turn(x, hd, false);
}
static void heads_not_turned_back(pn_kernels *k)
{
    turned_exactly(k);
    k->turn = turn_forwards;
}

static void cap_before_multiplier(pn_kernels *k) { k->softcap = scale_after_cap; }

static void one_norm_then_gate(float *y, const float *x, const float *g, size_t n)
{
    now.k.norm(PN_NORM_PLAIN, y, x, NULL, n, now.n->d.eps);
    now.k.sigmoid_mul(y, y, g, n);
}
static void one_norm_over_all_heads(pn_kernels *k) { k->sigmoid_mul = one_norm_then_gate; }

static void expert_norm_after(pn_norm_kind kind, float *y, const float *x, const float *w, size_t n, float eps)
{
    now.k.norm(n == now.n->d.expert_width ? PN_NORM_PLAIN : kind, y, x, w, n, eps);
}
static void post_expert_scaled_after(pn_kernels *k) { k->norm = expert_norm_after; }

static void softmax(float *y, const float *x, size_t n)
{
    double z = log_sum_exp(x, (uint32_t)n);
    for (size_t i = 0; i < n; i++) y[i] = (float)exp(x[i] - z);
}
static void softmax_router(pn_kernels *k) { k->sigmoid = softmax; }

static void follow_layers(const pn_matrix *m, uint32_t panel0, uint32_t panel1, const pn_acts *x, uint32_t col0, uint32_t col1,
                          float *y, size_t y_stride, void *scratch)
{
    EACH_LAYER(now.n, l)
        if (l->router.batch && l->router.first.packed == m->packed) now.layer = l;
    now.k.matmul(m, panel0, panel1, x, col0, col1, y, y_stride, scratch);
}
static void biased_sigmoid(float *y, const float *x, size_t n)
{
    now.k.sigmoid(y, x, n);
    now.k.add(y, now.bias[now.layer - now.n->layers], n);
}
/* Scores carry the bias into the choice as they should, and into the weights as they should not. */
static void move_bias(pn_network *n)
{
    EACH_LAYER(n, l) {
        now.bias[l - n->layers] = l->router_bias;
        l->router_bias = NULL;
    }
}
static void bias_in_scores(pn_kernels *k)
{
    k->matmul = follow_layers;
    k->sigmoid = biased_sigmoid;
}

static void leave_expert(pn_norm_kind kind, float *y, const float *x, const float *w, size_t n, float eps)
{
    if (kind != PN_NORM_INPUT || n != now.n->d.expert_width) now.k.norm(kind, y, x, w, n, eps);
}
/* What enters the projection after the experts is their sum: normed here, before its first panel. */
static void norm_the_sum(const pn_matrix *m, uint32_t panel0, uint32_t panel1, const pn_acts *x, uint32_t col0, uint32_t col1,
                         float *y, size_t y_stride, void *scratch)
{
    const size_t w = now.n->d.expert_width;
    EACH_LAYER(now.n, l)
        if (l->latent_up.batch && l->latent_up.first.packed == m->packed && panel0 == 0)
            for (uint32_t c = col0; c < col1; c++)
                now.k.norm(PN_NORM_INPUT, x->x + c * x->k_stride, x->x + c * x->k_stride, l->post_expert_norm, w, now.n->d.post_eps);
    now.k.matmul(m, panel0, panel1, x, col0, col1, y, y_stride, scratch);
}
static void expert_norm_after_the_sum(pn_kernels *k)
{
    k->norm = leave_expert;
    k->matmul = norm_the_sum;
}

/* ---- the table ---------------------------------------------------------------------------------------------------------- */

#define GLIMMER "muse-glimmer muse-glimmer-bf16"
#define SPARK "muse-spark muse-spark-bf16 muse-spark-sparse"
#define GLIMMER_GGUF "muse-glimmer/model.gguf muse-glimmer-bf16/model.gguf"
#define SPARK_GGUF "muse-spark-sparse/model.gguf"
#define MUSE GLIMMER " " SPARK
#define MUSE_GGUF GLIMMER_GGUF " " SPARK_GGUF
#define QWEN3 "qwen3 qwen3-sharded qwen3/model.gguf"
#define GEMMA "gemma3 gemma3/model.gguf"
#define LLAMA "llama llama-k256 llama/model.gguf"
#define ROPE3 "llama-rope3 llama-rope3/model.gguf"
#define ALL LLAMA " " ROPE3 " qwen2 qwen2/model.gguf " QWEN3 " " GEMMA " " MUSE " " MUSE_GGUF

static const trap traps[] = {
    {"input norm not centred", MUSE " " GEMMA, in_norm_not_centred, NULL},
    {"post-attention norm not centred", GLIMMER " " GEMMA, post_attn_norm_not_centred, NULL},
    {"feed-forward norm not centred", MUSE " " GEMMA, ffn_norm_not_centred, NULL},
    {"post-feed-forward norm not centred", MUSE " " GEMMA, post_ffn_norm_not_centred, NULL},
    {"q and k norms not centred", GEMMA, qk_norm_not_centred, NULL},
    {"norms centred once more", MUSE_GGUF " gemma3/model.gguf", norms_centred_twice, NULL},
    {"final norm centred", MUSE " " MUSE_GGUF, final_norm_centred, NULL},
    {"final norm not centred", GEMMA, final_norm_not_centred, NULL},
    {"eps 1e-4", LLAMA " " ROPE3 " qwen2 qwen3 " GEMMA, eps_1e4, NULL},
    {"eps 1e-6", MUSE " " MUSE_GGUF, eps_1e6, NULL},
    {"post-norm eps 1e-5", MUSE " " MUSE_GGUF, post_eps_1e5, NULL},
    {"post-norm eps 1e-6", MUSE " " MUSE_GGUF, post_eps_1e6, NULL},
    {"no post-norms", MUSE " " MUSE_GGUF " " GEMMA, no_post_norms, NULL},
    {"no embedding norm", MUSE " " MUSE_GGUF, no_embedding_norm, NULL},
    {"no embedding scale", GEMMA, no_embedding_scale, NULL},
    {"embedding scale in BF16", GEMMA, embedding_scale_in_bf16, NULL},
    {"no q scale", MUSE, no_q_scale, NULL},
    {"scale on k too", MUSE, scale_on_k_too, NULL},
    {"q norm's vector ignored", MUSE_GGUF " " QWEN3 " " GEMMA, q_norm_vector_ignored, NULL},
    {"k norm's vector ignored", QWEN3 " " GEMMA, k_norm_vector_ignored, NULL},
    {"no q and k norms", MUSE " " MUSE_GGUF " " QWEN3 " " GEMMA, no_qk_norm, NULL},
    {"no q bias", "qwen2 qwen2/model.gguf", no_q_bias, NULL},
    {"no k bias", "qwen2 qwen2/model.gguf", no_k_bias, NULL},
    {"no v bias", "qwen2 qwen2/model.gguf", no_v_bias, NULL},
    {"no attention scale", ALL, no_attention_scale, NULL},
    {"attention scale from the head", "gemma3", scale_from_head_dim, NULL},
    {"no output gate", MUSE " " MUSE_GGUF, no_output_gate, NULL},
    {"rotation on every layer", MUSE " " MUSE_GGUF, rope_everywhere, NULL},
    {"rotation nowhere", ALL, rope_nowhere, NULL},
    {"rotation chosen by the mask", "muse-spark-bf16", rope_by_the_mask, NULL},
    {"rotation pattern from the first", MUSE " " MUSE_GGUF, rope_from_the_first, NULL},
    {"other pairs rotated", ALL, rope_other_pairs, NULL},
    {"theta 10000", MUSE " " MUSE_GGUF " qwen2 " QWEN3, theta_10000, NULL},
    {"layer_rope_theta as the base", "muse-spark-bf16", layer_theta_used, NULL},
    {"thetas swapped", GEMMA, thetas_swapped, NULL},
    {"no llama3 scaling", ROPE3, no_llama3_scaling, NULL},
    {"linear scaling", ROPE3, linear_scaling, NULL},
    {"no smooth band", ROPE3, no_smooth_band, NULL},
    {"window off", MUSE " " MUSE_GGUF " " GEMMA, window_off, NULL},
    {"window + 1", MUSE " " MUSE_GGUF " " GEMMA, window_more, NULL},
    {"window - 1", MUSE " " MUSE_GGUF " " GEMMA, window_less, NULL},
    {"mask pattern from the first", MUSE " " MUSE_GGUF, mask_from_the_first, NULL},
    {"pattern from the last", GEMMA, gemma_pattern_from_the_last, NULL},
    {"no soft cap", MUSE " " MUSE_GGUF, no_soft_cap, NULL},
    {"no multiplier", MUSE " " MUSE_GGUF, no_multiplier, NULL},
    {"cap before the multiplier", MUSE " " MUSE_GGUF, NULL, cap_before_multiplier},
    {"exact gelu", GEMMA, exact_gelu, NULL},
    {"silu", GEMMA, silu, NULL},
    /* llama-rope3 and gemma3 have one key-value head */
    {"heads grouped by remainder", LLAMA " qwen2 qwen2/model.gguf " QWEN3 " " MUSE " " MUSE_GGUF, heads_grouped_by_remainder, NULL},
    {"x += y", SPARK " " SPARK_GGUF, plain_residual, NULL},
    {"temperature 1", SPARK, temperature_1, NULL},
    {"no floor", SPARK, no_floor, NULL},
    {"alpha = 1 - beta", SPARK, alpha_is_1_minus_beta, NULL},
    {"stored alpha = 1 - beta", SPARK_GGUF, stored_alpha_is_1_minus_beta, NULL},
    {"residual gates in BF16", SPARK, gates_in_bf16, NULL},
    {"post-feed-forward norm scaled after", SPARK " " SPARK_GGUF, post_ffn_scaled_after, NULL},
    {"post-expert norm scaled after", SPARK " " SPARK_GGUF, NULL, post_expert_scaled_after},
    {"pre-expert norm not centred", SPARK, pre_expert_norm_not_centred, NULL},
    {"post-expert norm not centred", SPARK " " SPARK_GGUF, post_expert_norm_not_centred, NULL},
    {"expert norm after the sum", SPARK " " SPARK_GGUF, NULL, expert_norm_after_the_sum},
    {"no norm of each head", SPARK " " SPARK_GGUF, no_head_norm, NULL},
    {"one norm over all heads", SPARK " " SPARK_GGUF, no_head_norm, one_norm_over_all_heads},
    {"router multiplier missing", SPARK, router_multiplier_missing, NULL},
    {"router multiplied twice", SPARK_GGUF, router_multiplied_twice, NULL},
    {"router in BF16", SPARK " " SPARK_GGUF, router_in_bf16, NULL},
    {"softmax router", SPARK " " SPARK_GGUF, NULL, softmax_router},
    {"correction bias ignored", SPARK " " SPARK_GGUF, correction_bias_ignored, NULL},
    {"correction bias in the weights", SPARK " " SPARK_GGUF, move_bias, bias_in_scores},
    {"gate and up swapped", SPARK " " SPARK_GGUF, gate_and_up_swapped, NULL},
    {"heads not turned back", ALL, NULL, heads_not_turned_back},
};

/* ---- running them ------------------------------------------------------------------------------------------------------- */

static double error_with(const variant *v, const reference *r, const trap *t)
{
    pn_network *n = load_variant(v);
    pn_kernels k;
    pn_kernels_init(&k, pn_cpu_flags());
    now.k = k;
    now.n = n;
    file = open_variant(v);
    if (t->change) t->change(n);
    store_as = PN_KV_F32;
    if (t->hook) t->hook(&k);
    float *got = compute(n, &k, r->ids, r->n);
    double e = max_error(got, r->logits.v, r->logits.n);
    free(got);
    pn_network_free(n);
    pn_checkpoint_free(file);
    memory.at = 0;
    return e;
}

/* The next word of the list, as a variant. */
static const char *next_model(const char *list, variant *v)
{
    size_t n = strcspn(list, " "), name = PN_MIN(strcspn(list, "/"), n);
    if (n == 0) return NULL;
    snprintf(v->name, sizeof v->name, "%.*s", (int)name, list);
    snprintf(v->file, sizeof v->file, "%.*s", (int)(n > name ? n - name - 1 : 0), list + name + (n > name));
    return list + n + strspn(list + n, " ");
}

static void check(const trap *t, bool harmless)
{
    variant v;
    double least = INFINITY;
    bool failed = false;
    for (const char *p = t->models; (p = next_model(p, &v));) {
        reference r;
        reference_read(&r, v.name);
        double e = error_with(&v, &r, t);
        bool good = harmless ? e <= r.tolerance : e > 10 * r.tolerance;
        if (!good) print_error("%s, %s/%s: off by %g, tolerance %g\n", t->name, v.name, v.file, e, r.tolerance);
        failed |= !good;
        least = fmin(least, e / r.tolerance);
        reference_free(&r);
    }
    if (!harmless) print_message("%-36s at least %.0f tolerances\n", t->name, least);
    if (failed) fail();
}

static void no_trap_no_error(void **state)
{
    (void)state;
    check(&(trap){"none", ALL, NULL, NULL}, true);
}

static void same_gates(pn_network *n) { gates(n, right_form); }
static void same_router(pn_network *n) { EACH_LAYER(n, l) if (l->router.batch) set_weight(&memory, &l->router, weight_floats(&memory, &l->router)); }
static void same_theta(pn_network *n) { set_theta(n, 0, n->d.theta); }

/* The tools of the traps themselves do no harm. */
static void tools_are_right(void **state)
{
    (void)state;
    check(&(trap){"right gates", SPARK, same_gates, NULL}, true);
    check(&(trap){"same router", SPARK " " SPARK_GGUF, same_router, NULL}, true);
    check(&(trap){"same theta", MUSE " " LLAMA, same_theta, NULL}, true);
    check(&(trap){"turned exactly", ALL, NULL, turned_exactly}, true);
}

static void each_trap_shows(void **state) { check(*state, false); }

int main(void)
{
    static struct CMUnitTest tests[PN_COUNT(traps) + 2];
    tests[0] = (struct CMUnitTest)cmocka_unit_test(no_trap_no_error);
    tests[1] = (struct CMUnitTest)cmocka_unit_test(tools_are_right);
    for (size_t i = 0; i < PN_COUNT(traps); i++)
        tests[i + 2] = (struct CMUnitTest){traps[i].name, each_trap_shows, NULL, NULL, (void *)(uintptr_t)&traps[i]};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_free(&memory);
    return failed;
}
