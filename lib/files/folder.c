#include "files/checkpoint.h"

#include <unistd.h>

/* A Hugging Face folder: config.json, one or several safetensors files, tokenizer.json and its companions. */

enum { MOST_SHARDS = 4096 };

static ponder_status join(pn_buf *b, const char *folder, const char *name, ponder_error *err)
{
    b->n = 0;
    pn_buf_puts(b, folder);
    pn_buf_puts(b, "/");
    pn_buf_puts(b, name);
    if (!pn_buf_put(b, "", 1)) return pn_nomem(err, strlen(folder) + strlen(name) + 2);
    return PONDER_OK;
}

/* *out stays NULL when the file is not there. */
static ponder_status open_optional(pn_source **out, pn_buf *b, const char *folder, const char *name, ponder_error *err)
{
    *out = NULL;
    ponder_status s = join(b, folder, name, err);
    if (s || access(b->p, F_OK) != 0) return s;
    return pn_source_path(out, b->p, b->a, err);
}

static ponder_status read_json(json_t **out, uint64_t *hash, pn_buf *b, const char *folder, const char *name, ponder_error *err)
{
    pn_source *source;
    *out = NULL;
    ponder_status s = open_optional(&source, b, folder, name, err);
    if (s || !source) return s;
    s = pn_json_source(out, source, strcmp(name, "tokenizer_config.json") == 0, name, err);
    const size_t n = (size_t)pn_source_size(source);
    if (s == PONDER_OK && hash) *hash = pn_hash64(pn_source_view(source, 0, n), n, 0);
    pn_source_free(source);
    return s;
}

/* A shard's name comes from a file: it must not lead out of the folder. */
static bool plain_name(const char *name)
{
    return name[0] && name[0] != '.' && !strchr(name, '/') && !strchr(name, '\\');
}

/* The distinct files of the weight map, in order of appearance: file name -> number. */
static ponder_status list_shards(const json_t *map, json_t *files, ponder_error *err)
{
    const char *tensor;
    json_t *v;
    json_object_foreach((json_t *)map, tensor, v) {
        const char *name = json_string_value(v);
        if (!name || !plain_name(name)) return pn_fail(err, PONDER_E_FORMAT, "weight_map: %.96s: no plain file name", tensor);
        if (json_object_get(files, name)) continue;
        if (json_object_size(files) >= MOST_SHARDS) return pn_fail(err, PONDER_E_FORMAT, "weight_map: more than %d files", MOST_SHARDS);
        if (json_object_set_new(files, name, json_integer((json_int_t)json_object_size(files))) != 0)
            return pn_fail(err, PONDER_E_NOMEM, "weight_map: no memory");
    }
    if (json_object_size(files) == 0) return pn_fail(err, PONDER_E_FORMAT, "weight_map: empty");
    return PONDER_OK;
}

static ponder_status open_shard(pn_checkpoint *c, uint32_t i, pn_buf *b, const char *folder, const char *name, ponder_error *err)
{
    ponder_status s = join(b, folder, name, err);
    if (s == PONDER_OK) s = pn_source_path(&c->parts[i].source, b->p, c->a, err);
    return s ? s : pn_safetensors_scan(&c->parts[i], err);
}

/* Every tensor of the map must be in the file that the map names. */
static ponder_status check_map(const pn_checkpoint *c, const json_t *map, const json_t *files, ponder_error *err)
{
    const char *tensor;
    json_t *v;
    json_object_foreach((json_t *)map, tensor, v) {
        const pn_tensor *t = pn_checkpoint_find(c, tensor);
        if (!t || t->part != (uint32_t)json_integer_value(json_object_get(files, json_string_value(v))))
            return pn_fail(err, PONDER_E_FORMAT, "tensor %.96s is not in %.96s", tensor, json_string_value(v));
    }
    return PONDER_OK;
}

static ponder_status assemble(pn_checkpoint *c, ponder_error *err)
{
    uint64_t tensors = 0, names = 0;
    for (uint32_t i = 0; i < c->n_parts; i++) {
        tensors += c->parts[i].n_tensors;
        names += c->parts[i].names;
    }
    ponder_status s = pn_checkpoint_reserve(c, tensors, names, err);
    for (uint32_t i = 0; i < c->n_parts && s == PONDER_OK; i++) s = pn_safetensors_fill(c, i, err);
    return s ? s : pn_checkpoint_seal(c, err);
}

static ponder_status open_sharded(pn_checkpoint *c, const json_t *index, pn_buf *b, const char *folder, ponder_error *err)
{
    const json_t *map = json_object_get(index, "weight_map");
    json_t *files = json_object(), *v;
    const char *name;
    if (!files) return pn_fail(err, PONDER_E_NOMEM, "weight_map: no memory");
    ponder_status s = list_shards(map, files, err);
    if (s == PONDER_OK) s = pn_checkpoint_parts(c, (uint32_t)json_object_size(files), err);
    if (s == PONDER_OK) {
        json_object_foreach(files, name, v) {
            s = open_shard(c, (uint32_t)json_integer_value(v), b, folder, name, err);
            if (s) break;
        }
    }
    if (s == PONDER_OK) s = assemble(c, err);
    if (s == PONDER_OK) s = check_map(c, map, files, err);
    json_decref(files);
    return s;
}

static ponder_status open_weights(pn_checkpoint *c, pn_buf *b, const char *folder, ponder_error *err)
{
    json_t *index;
    ponder_status s = read_json(&index, NULL, b, folder, "model.safetensors.index.json", err);
    if (s) return s;
    if (index) {
        s = open_sharded(c, index, b, folder, err);
        json_decref(index);
        return s;
    }
    s = pn_checkpoint_parts(c, 1, err);
    if (s == PONDER_OK) s = open_shard(c, 0, b, folder, "model.safetensors", err);
    return s ? s : assemble(c, err);
}

/* One file for both processors (transformers 5), or one for each. */
static ponder_status read_processors(pn_checkpoint *c, pn_buf *b, const char *folder, ponder_error *err)
{
    json_t *both;
    ponder_status s = read_json(&both, NULL, b, folder, "processor_config.json", err);
    if (s) return s;
    c->image_processor = json_incref(json_object_get(both, "image_processor"));
    c->video_processor = json_incref(json_object_get(both, "video_processor"));
    json_decref(both);
    if (!c->image_processor) s = read_json(&c->image_processor, NULL, b, folder, "preprocessor_config.json", err);
    if (s == PONDER_OK && !c->video_processor) s = read_json(&c->video_processor, NULL, b, folder, "video_preprocessor_config.json", err);
    return s;
}

static ponder_status open_all(pn_checkpoint *c, pn_buf *b, const char *folder, ponder_error *err)
{
    ponder_status s = read_json(&c->config, &c->config_hash, b, folder, "config.json", err);
    if (s == PONDER_OK && !c->config) return pn_fail(err, PONDER_E_IO, "the folder has no config.json");
    if (s == PONDER_OK) s = read_json(&c->generation, NULL, b, folder, "generation_config.json", err);
    if (s == PONDER_OK) s = read_json(&c->tokenizer_config, NULL, b, folder, "tokenizer_config.json", err);
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
    if (s == PONDER_OK) s = pn_json_source(&c->config, config, false, "config.json", err);
    if (s == PONDER_OK) s = pn_checkpoint_parts(c, 1, err);
    pn_source_free(config);
    if (s) pn_source_free(weights);
    else c->parts[0].source = weights;
    if (s == PONDER_OK) s = pn_safetensors_scan(&c->parts[0], err);
    if (s == PONDER_OK) s = assemble(c, err);
    if (s == PONDER_OK) return s;
    pn_checkpoint_free(c);
    *out = NULL;
    return s;
}

const json_t *pn_folder_text(const pn_checkpoint *c)
{
    const json_t *text = json_object_get(c->config, "text_config");
    return json_is_object(text) ? text : c->config;
}
