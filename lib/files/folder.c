#include "files/checkpoint.h"

#include <unistd.h>

/* A Hugging Face folder: config.json, one or several safetensors files, tokenizer.json and its companions. */

enum { MOST_SHARDS = 4096 };

static ponder_status join(pn_buf *b, const char *folder, pn_str name, ponder_error *err)
{
    b->n = 0;
    pn_buf_puts(b, folder);
    pn_buf_puts(b, "/");
    pn_buf_put(b, name.p, name.n);
    if (!pn_buf_put(b, "", 1)) return pn_nomem(err, strlen(folder) + name.n + 2);
    return PONDER_OK;
}

/* *out stays NULL when the file is not there. */
static ponder_status open_optional(pn_source **out, pn_buf *b, const char *folder, const char *name, ponder_error *err)
{
    *out = NULL;
    ponder_status s = join(b, folder, pn_str_of(name), err);
    if (s || access(b->p, F_OK) != 0) return s;
    return pn_source_path(out, b->p, b->a, err);
}

/* *found says whether the file is there. */
static ponder_status read_json(pn_json *out, bool *found, uint64_t *hash, pn_buf *b, const char *folder, const char *name,
                               ponder_error *err)
{
    pn_source *source;
    ponder_status s = open_optional(&source, b, folder, name, err);
    *found = source != NULL;
    if (s || !source) return s;
    s = pn_json_source(out, source, name, b->a, err);
    const size_t n = (size_t)pn_source_size(source);
    if (s == PONDER_OK && hash) *hash = pn_hash64(pn_source_view(source, 0, n), n, 0);
    pn_source_free(source);
    return s;
}

/* ---- shards ------------------------------------------------------------------------------------------------------------ */

/* The distinct files of a weight map, in order of appearance, and a table that finds them by name. */
typedef struct shards {
    pn_str name[MOST_SHARDS];
    uint16_t slot[2 * MOST_SHARDS]; /* number plus 1 */
    uint32_t n;
} shards;

static uint16_t *slot_of(shards *f, pn_str name)
{
    uint32_t i = (uint32_t)pn_hash64(name.p, name.n, 0) % PN_COUNT(f->slot);
    for (; f->slot[i]; i = (i + 1) % PN_COUNT(f->slot)) {
        const pn_str other = f->name[f->slot[i] - 1];
        if (other.n == name.n && memcmp(other.p, name.p, name.n) == 0) break;
    }
    return &f->slot[i];
}

/* A shard's name comes from a file: it must not lead out of the folder. */
static bool plain_name(pn_str s)
{
    return s.n && s.p[0] != '.' && !memchr(s.p, '/', s.n) && !memchr(s.p, '\\', s.n) && !memchr(s.p, 0, s.n);
}

static ponder_status list_shards(const pn_value *map, shards *f, ponder_error *err)
{
    for (const pn_value *v = map->type == PN_V_DICT ? map->first : NULL; v; v = v->next) {
        pn_str name;
        if (!pn_value_str(v, &name) || !plain_name(name))
            return pn_fail(err, PONDER_E_FORMAT, "weight_map: %.*s: no plain file name", SHOWN(v->key));
        uint16_t *slot = slot_of(f, name);
        if (*slot) continue;
        if (f->n == MOST_SHARDS) return pn_fail(err, PONDER_E_FORMAT, "weight_map: more than %d files", MOST_SHARDS);
        f->name[f->n++] = name;
        *slot = (uint16_t)f->n;
    }
    if (f->n == 0) return pn_fail(err, PONDER_E_FORMAT, "weight_map: empty");
    return PONDER_OK;
}

static ponder_status open_shard(pn_checkpoint *c, uint32_t i, pn_buf *b, const char *folder, pn_str name, ponder_error *err)
{
    ponder_status s = join(b, folder, name, err);
    if (s == PONDER_OK) s = pn_source_path(&c->parts[i].source, b->p, c->a, err);
    return s ? s : pn_safetensors_scan(&c->parts[i], c->a, err);
}

/* Every tensor of the map must be in the file that the map names. */
static ponder_status check_map(const pn_checkpoint *c, const pn_value *map, shards *f, ponder_error *err)
{
    for (const pn_value *v = map->first; v; v = v->next) {
        const pn_tensor *t = pn_checkpoint_named(c, v->key);
        if (!t || t->part + 1 != *slot_of(f, v->text))
            return pn_fail(err, PONDER_E_FORMAT, "tensor %.*s is not in %.*s", SHOWN(v->key), SHOWN(v->text));
    }
    return PONDER_OK;
}

static ponder_status open_sharded(pn_checkpoint *c, const pn_value *map, pn_buf *b, const char *folder, ponder_error *err)
{
    shards *f = pn_zalloc(c->a, sizeof *f);
    if (!f) return pn_nomem(err, sizeof *f);
    ponder_status s = list_shards(map, f, err);
    if (s == PONDER_OK) s = pn_checkpoint_parts(c, f->n, err);
    for (uint32_t i = 0; i < f->n && s == PONDER_OK; i++) s = open_shard(c, i, b, folder, f->name[i], err);
    if (s == PONDER_OK) s = pn_checkpoint_assemble(c, pn_safetensors_fill, err);
    if (s == PONDER_OK) s = check_map(c, map, f, err);
    pn_free(c->a, f, sizeof *f);
    return s;
}

static ponder_status open_weights(pn_checkpoint *c, pn_buf *b, const char *folder, ponder_error *err)
{
    pn_json index = {0};
    bool sharded;
    ponder_status s = read_json(&index, &sharded, NULL, b, folder, "model.safetensors.index.json", err);
    if (s) return s;
    if (sharded) {
        s = open_sharded(c, pn_get(pn_json_root(&index), "weight_map"), b, folder, err);
        pn_json_free(&index);
        return s;
    }
    s = pn_checkpoint_parts(c, 1, err);
    if (s == PONDER_OK) s = open_shard(c, 0, b, folder, pn_str_of("model.safetensors"), err);
    return s ? s : pn_checkpoint_assemble(c, pn_safetensors_fill, err);
}

/* One file for both processors (transformers 5), or one for each. */
static ponder_status read_processors(pn_checkpoint *c, pn_buf *b, const char *folder, ponder_error *err)
{
    static const char *const keys[] = {"image_processor", "video_processor"};
    static const char *const names[] = {"preprocessor_config.json", "video_preprocessor_config.json"};
    const pn_value *found[2];
    bool there;
    ponder_status s = read_json(&c->processors[0], &there, NULL, b, folder, "processor_config.json", err);
    for (int i = 0; i < 2 && s == PONDER_OK; i++) {
        found[i] = pn_get(pn_json_root(&c->processors[0]), keys[i]);
        if (found[i]->type != PN_V_UNDEFINED) continue;
        s = read_json(&c->processors[1 + i], &there, NULL, b, folder, names[i], err);
        found[i] = pn_json_root(&c->processors[1 + i]);
    }
    if (s) return s;
    c->image_processor = found[0];
    c->video_processor = found[1];
    c->feature_extractor = pn_get(pn_json_root(&c->processors[0]), "feature_extractor");
    return s;
}

static ponder_status open_all(pn_checkpoint *c, pn_buf *b, const char *folder, ponder_error *err)
{
    bool found;
    ponder_status s = read_json(&c->config, &found, &c->config_hash, b, folder, "config.json", err);
    if (s == PONDER_OK && !found) return pn_fail(err, PONDER_E_IO, "the folder has no config.json");
    if (s == PONDER_OK) s = read_json(&c->generation, &found, NULL, b, folder, "generation_config.json", err);
    if (s == PONDER_OK) s = read_json(&c->tokenizer_config, &found, NULL, b, folder, "tokenizer_config.json", err);
    if (s == PONDER_OK) s = read_processors(c, b, folder, err);
    if (s == PONDER_OK) s = open_optional(&c->tokenizer, b, folder, "tokenizer.json", err);
    if (s == PONDER_OK) s = open_optional(&c->jinja, b, folder, "chat_template.jinja", err);
    return s ? s : open_weights(c, b, folder, err);
}

ponder_status pn_folder_open(pn_checkpoint *c, const char *path, ponder_error *err)
{
    pn_buf b;
    pn_buf_init(&b, c->a);
    ponder_status s = open_all(c, &b, path, err);
    pn_buf_free(&b);
    return s;
}

ponder_status pn_folder_open_sources(pn_checkpoint **out, pn_source *config, pn_source *weights, const ponder_alloc *a, ponder_error *err)
{
    pn_checkpoint *c = *out = pn_zalloc(a, sizeof *c);
    ponder_status s = c ? PONDER_OK : pn_nomem(err, sizeof *c);
    if (s == PONDER_OK) c->a = a;
    if (s == PONDER_OK) s = pn_json_source(&c->config, config, "config.json", a, err);
    if (s == PONDER_OK) s = pn_checkpoint_parts(c, 1, err);
    pn_source_free(config);
    if (s) pn_source_free(weights);
    else c->parts[0].source = weights;
    if (s == PONDER_OK) s = pn_safetensors_scan(&c->parts[0], a, err);
    if (s == PONDER_OK) s = pn_checkpoint_assemble(c, pn_safetensors_fill, err);
    if (s == PONDER_OK) return s;
    pn_checkpoint_free(c);
    *out = NULL;
    return s;
}

const pn_value *pn_folder_text(const pn_checkpoint *c)
{
    const pn_value *config = pn_json_root(&c->config), *text = pn_get(config, "text_config");
    return text->type == PN_V_DICT ? text : config;
}
