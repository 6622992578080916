#include "tools/geopixel/inspect_checkpoint.h"

#include "kernels/base/memory.h"
#include "loaders/config/config.h"
#include "loaders/tokenizer/tokenizer.h"
#include "runtime/geopixel.h"
#include "tools/geopixel/inspect_text.h"
#include "tools/geopixel/inspect_weights.h"

#include <stdio.h>

/** The sums of a checkpoint's parameters. */
typedef struct sums {
    gp_tally blocks[GP_BLOCK_COUNT]; /* of what the model uses */
    gp_tally used, never_loaded, unknown, total;
    gp_tallies dtypes;
} sums;

static const struct {
    gp_tensor_state state;
    const char *title, *key;
} troubles[] = {{GP_TENSOR_MISSING, "missing tensors", "missing"},
                {GP_TENSOR_UNFIT, "tensors that do not serve", "unfit"},
                {GP_TENSOR_UNKNOWN, "tensors that nothing uses", "unknown"}};

/* Ids that the conversation and the masks are made of. */
static const char *const pieces[] = {
    "[SEG]", "<p>", "</p>", "<s>", "</s>", "[UNUSED_TOKEN_145]", "[UNUSED_TOKEN_146]"};
enum { PIECE_COUNT = sizeof pieces / sizeof *pieces };

static const char *const rope_names[] = {"none", "linear", "dynamic"};

static bool tell_reason(const char *folder, const gp_inspection *seen, gp_status *status);
static sums add_up(const gp_inspection *seen);
static void print_report(const char *folder, const gp_inspection *seen, const gp_config *config,
                         const gp_tokenizer *tokenizer);
static json_t *report_json(const char *folder, const gp_inspection *seen, const gp_config *config,
                           const gp_tokenizer *tokenizer);

bool gp_inspect_checkpoint(const char *folder, bool json, gp_status *status) {
    gp_inspection *seen = gp_inspect(folder, status);
    if (seen == NULL) return false;
    gp_config config;
    gp_tokenizer *tokenizer = NULL;
    gp_status told = {0}; /* the inspection has the reasons */
    bool has_config = gp_config_read(folder, &config, &told);
    gp_tokenizer_open(folder, &tokenizer, &told);
    gp_status_clear(&told);
    bool done = true;
    if (json)
        done = gp_json_print(report_json(folder, seen, has_config ? &config : NULL, tokenizer)) ||
               gp_fail(status, "%s: the report cannot be written", folder);
    else
        print_report(folder, seen, has_config ? &config : NULL, tokenizer);
    if (done && !seen->runs) done = tell_reason(folder, seen, status);
    gp_tokenizer_close(tokenizer);
    gp_inspection_free(seen);
    return done;
}

/** Why the checkpoint does not run, without the list of tensors that the report has. */
static bool tell_reason(const char *folder, const gp_inspection *seen, gp_status *status) {
    const char *const errors[] = {seen->config_error, seen->tokenizer_error, seen->weights_error};
    size_t missing = seen->states[GP_TENSOR_MISSING], unfit = seen->states[GP_TENSOR_UNFIT];
    if (missing + unfit == 0) return gp_fail(status, "%s", seen->reason);
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i] != NULL) gp_fail_more(status, "%s\n", errors[i]);
    return gp_fail_more(status, "%s: by config.json, tensors that are missing: %zu, that do not serve: %zu",
                        folder, missing, unfit);
}

static sums add_up(const gp_inspection *seen) {
    sums s = {.used.name = "used",
              .never_loaded.name = "never loaded",
              .unknown.name = "unknown",
              .total.name = "total"};
    for (int i = 0; i < GP_BLOCK_COUNT; i++) s.blocks[i].name = gp_block_name((gp_block)i);
    for (size_t i = 0; i < seen->tensor_count; i++) {
        const gp_inspected_tensor *tensor = &seen->tensors[i];
        if (tensor->state == GP_TENSOR_MISSING) continue;
        gp_tally_add(&s.total, tensor->count, tensor->bytes);
        gp_tallies_add(&s.dtypes, tensor->dtype, tensor->count, tensor->bytes);
        if (tensor->state == GP_TENSOR_USED) {
            gp_tally_add(&s.used, tensor->count, tensor->bytes);
            gp_tally_add(&s.blocks[tensor->block], tensor->count, tensor->bytes);
        }
        if (tensor->state == GP_TENSOR_NEVER_LOADED)
            gp_tally_add(&s.never_loaded, tensor->count, tensor->bytes);
        if (tensor->state == GP_TENSOR_UNKNOWN) gp_tally_add(&s.unknown, tensor->count, tensor->bytes);
    }
    return s;
}

/* ---- terminal ---- */

static void print_line(const char *name, const char *text) {
    printf("  %-18s ", name);
    gp_print_text(text);
    putchar('\n');
}

static void print_list(const char *name, const int *values, int count) {
    printf("%s", name);
    for (int i = 0; i < count; i++) printf(i > 0 ? ", %d" : " %d", values[i]);
    if (count == 0) printf(" none");
}

static void print_config(const gp_inspection *seen, const gp_config *config) {
    puts("\nconfiguration");
    if (config != NULL) {
        const gp_language_config *l = &config->language;
        const gp_vision_config *v = &config->vision;
        const gp_grounding_config *g = &config->grounding;
        printf("  %-18s %d layers, %d wide, MLP %d, heads: %d of queries, %d of keys and values\n",
               "language model", l->num_hidden_layers, l->hidden_size, l->intermediate_size,
               l->num_attention_heads, l->num_key_value_heads);
        printf("  %-18s vocabulary %s, context %s of %s positions, rope theta %g, scaling %s %g\n", "",
               gp_short_whole((uint64_t)l->vocab_size).text, gp_short_whole((uint64_t)l->max_length).text,
               gp_short_whole((uint64_t)l->max_position_embeddings).text, (double)l->rope_theta,
               rope_names[l->rope_scaling_type], (double)l->rope_scaling_factor);
        printf("  %-18s %d layers, %d heads, crops of %d x %d pixels in patches of %d", "vision tower",
               v->num_hidden_layers, v->num_attention_heads, v->image_size, v->image_size, v->patch_size);
        if (v->hidden_size > 0) printf(", %d wide", v->hidden_size);
        if (v->intermediate_size > 0) printf(", MLP %d", v->intermediate_size);
        printf("\n  %-18s %d x %d pixels, %d wide at first, %d head%s;", "grounding encoder", g->image_size,
               g->image_size, g->embed_dim, g->num_heads, g->num_heads == 1 ? "" : "s");
        print_list(" blocks", g->stages, g->stage_count);
        print_list("; windows", g->window_spec, g->stage_count);
        print_list("; global", g->global_att_blocks, g->global_block_count);
        printf("\n  %-18s prompts %d wide\n", "mask decoder", l->out_dim);
    }
    if (seen->config_error != NULL) print_line("not in order:", seen->config_error);
}

static void print_tokenizer(const gp_inspection *seen, const gp_tokenizer *tokenizer) {
    puts("\ntokenizer");
    if (tokenizer != NULL) {
        printf("  %-18s %s ids\n", "vocabulary",
               gp_short_whole((uint64_t)gp_tokenizer_vocabulary(tokenizer)).text);
        for (int i = 0; i < PIECE_COUNT; i++) {
            int id = gp_tokenizer_id(tokenizer, pieces[i]);
            if (id >= 0)
                printf("  %-18s %d\n", pieces[i], id);
            else
                print_line(pieces[i], "not there");
        }
    }
    if (seen->tokenizer_error != NULL) print_line("not in order:", seen->tokenizer_error);
}

static void print_parameters(const gp_inspection *seen) {
    sums s = add_up(seen);
    gp_tally_print_header("parameters");
    for (int i = 0; i < GP_BLOCK_COUNT && seen->config_error == NULL; i++) gp_tally_print(&s.blocks[i]);
    if (seen->config_error == NULL) gp_tally_print(&s.used);
    if (s.never_loaded.tensors > 0) gp_tally_print(&s.never_loaded);
    if (s.unknown.tensors > 0) gp_tally_print(&s.unknown);
    gp_tally_print(&s.total);
    gp_tally_print_header("by number format");
    for (int i = 0; i < s.dtypes.count; i++) gp_tally_print(&s.dtypes.entries[i]);
    puts("\nfiles");
    for (size_t i = 0; i < seen->file_count; i++) {
        const gp_inspected_file *file = &seen->files[i];
        printf("  %-12s %11s %8s tensors  ", file->format, gp_short_bytes(file->bytes).text,
               gp_short_whole(file->tensors).text);
        gp_print_text(file->path);
        putchar('\n');
    }
}

static void print_troubles(const gp_inspection *seen) {
    for (size_t k = 0; k < sizeof troubles / sizeof *troubles; k++) {
        if (seen->states[troubles[k].state] == 0) continue;
        printf("\n%s: %s\n", troubles[k].title, gp_short_whole(seen->states[troubles[k].state]).text);
        for (size_t i = 0; i < seen->tensor_count; i++) {
            const gp_inspected_tensor *tensor = &seen->tensors[i];
            if (tensor->state != troubles[k].state) continue;
            printf("  ");
            gp_print_text(tensor->name);
            printf(": ");
            gp_print_text(tensor->problem != NULL ? tensor->problem
                                                  : gp_short_shape(tensor->shape, tensor->rank).text);
            putchar('\n');
        }
    }
}

static void print_report(const char *folder, const gp_inspection *seen, const gp_config *config,
                         const gp_tokenizer *tokenizer) {
    gp_print_text(folder);
    puts(seen->runs ? ": a GeoPixel checkpoint that runs" : ": would not run");
    print_config(seen, config);
    print_tokenizer(seen, tokenizer);
    if (seen->weights_error == NULL) {
        print_parameters(seen);
    } else {
        puts("\nweights");
        print_line("not in order:", seen->weights_error);
        uint64_t needed = 0;
        for (int i = 0; i < GP_BLOCK_COUNT; i++) needed += seen->needed[i];
        if (needed > 0)
            printf("  %-18s %s parameters in %s tensors, by config.json\n", "needed",
                   gp_short_count(needed).text, gp_short_whole(seen->needed_tensors).text);
    }
    if (seen->config_error == NULL) print_troubles(seen);
}

/* ---- JSON ---- */

static json_t *list_json(const int *values, int count) {
    json_t *list = json_array();
    for (int i = 0; i < count; i++) json_array_append_new(list, json_integer(values[i]));
    return list;
}

/** A size that config.json may leave to the tensors. */
static json_t *size_json(int size) {
    return size > 0 ? json_integer(size) : json_null();
}

/** The fields under the names that they have in config.json. */
static json_t *config_json(const gp_inspection *seen, const gp_config *config) {
    json_t *parts = json_pack("{s:o}", "error", gp_json_text(seen->config_error));
    if (config == NULL) return parts;
    const gp_language_config *l = &config->language;
    const gp_vision_config *v = &config->vision;
    const gp_grounding_config *g = &config->grounding;
    json_object_set_new(
        parts, "language",
        json_pack("{s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:f,s:f,s:{s:s,s:f},s:i,s:i,s:i}", "vocab_size",
                  l->vocab_size, "hidden_size", l->hidden_size, "intermediate_size", l->intermediate_size,
                  "num_hidden_layers", l->num_hidden_layers, "num_attention_heads", l->num_attention_heads,
                  "num_key_value_heads", l->num_key_value_heads, "max_length", l->max_length,
                  "max_position_embeddings", l->max_position_embeddings, "rms_norm_eps",
                  (double)l->rms_norm_eps, "rope_theta", (double)l->rope_theta, "rope_scaling", "type",
                  rope_names[l->rope_scaling_type], "factor", (double)l->rope_scaling_factor, "bos_token_id",
                  l->bos_token_id, "eos_token_id", l->eos_token_id, "out_dim", l->out_dim));
    json_object_set_new(parts, "vision",
                        json_pack("{s:i,s:i,s:o,s:o,s:i,s:i,s:f}", "image_size", v->image_size, "patch_size",
                                  v->patch_size, "hidden_size", size_json(v->hidden_size),
                                  "intermediate_size", size_json(v->intermediate_size), "num_hidden_layers",
                                  v->num_hidden_layers, "num_attention_heads", v->num_attention_heads,
                                  "layer_norm_eps", (double)v->layer_norm_eps));
    json_object_set_new(
        parts, "grounding",
        json_pack("{s:i,s:i,s:i,s:o,s:o,s:o,s:o}", "image_size", g->image_size, "embed_dim", g->embed_dim,
                  "num_heads", g->num_heads, "stages", list_json(g->stages, g->stage_count),
                  "global_att_blocks", list_json(g->global_att_blocks, g->global_block_count), "window_spec",
                  list_json(g->window_spec, g->stage_count), "window_pos_embed_bkg_spatial_size",
                  list_json(g->window_pos_embed_bkg_spatial_size, 2)));
    return parts;
}

static json_t *tokenizer_json(const gp_inspection *seen, const gp_tokenizer *tokenizer) {
    json_t *out = json_pack("{s:o}", "error", gp_json_text(seen->tokenizer_error));
    if (tokenizer == NULL) return out;
    json_t *ids = json_object();
    for (int i = 0; i < PIECE_COUNT; i++) {
        int id = gp_tokenizer_id(tokenizer, pieces[i]);
        json_object_set_new(ids, pieces[i], id >= 0 ? json_integer(id) : json_null());
    }
    json_object_set_new(out, "vocabulary", json_integer(gp_tokenizer_vocabulary(tokenizer)));
    json_object_set_new(out, "ids", ids);
    return out;
}

static json_t *tensor_json(const gp_inspected_tensor *tensor) {
    static const char *const states[GP_TENSOR_STATE_COUNT] = {"used", "missing", "unfit", "never loaded",
                                                              "unknown"};
    bool needed = tensor->expected_rank > 0, there = tensor->state != GP_TENSOR_MISSING;
    return json_pack("{s:o,s:s,s:o,s:o,s:o,s:o,s:o,s:I,s:I,s:o}", "name", gp_json_text(tensor->name), "state",
                     states[tensor->state], "block",
                     gp_json_text(needed ? gp_block_name(tensor->block) : NULL), "file",
                     gp_json_text(tensor->file), "dtype", gp_json_text(tensor->dtype), "shape",
                     there ? gp_json_shape(tensor->shape, tensor->rank) : json_null(), "expected",
                     needed ? gp_json_shape(tensor->expected, tensor->expected_rank) : json_null(),
                     "parameters", (json_int_t)tensor->count, "bytes", (json_int_t)tensor->bytes, "problem",
                     gp_json_text(tensor->problem));
}

static json_t *weights_json(const gp_inspection *seen) {
    sums s = add_up(seen);
    json_t *blocks = json_array(), *files = json_array(), *tensors = json_array();
    for (int i = 0; i < GP_BLOCK_COUNT; i++) {
        json_t *block = gp_tally_json(&s.blocks[i], "block");
        json_object_set_new(block, "needed_parameters", json_integer((json_int_t)seen->needed[i]));
        json_array_append_new(blocks, block);
    }
    for (size_t i = 0; i < seen->file_count; i++)
        json_array_append_new(files, json_pack("{s:o,s:s,s:I,s:I}", "file", gp_json_text(seen->files[i].path),
                                               "format", seen->files[i].format, "file_bytes",
                                               (json_int_t)seen->files[i].bytes, "tensors",
                                               (json_int_t)seen->files[i].tensors));
    for (size_t i = 0; i < seen->tensor_count; i++)
        json_array_append_new(tensors, tensor_json(&seen->tensors[i]));
    json_t *out = json_pack(
        "{s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:I,s:o}", "error", gp_json_text(seen->weights_error), "blocks", blocks,
        "used", gp_tally_json(&s.used, NULL), "never_loaded", gp_tally_json(&s.never_loaded, NULL), "total",
        gp_tally_json(&s.total, NULL), "dtypes", gp_tallies_json(&s.dtypes, "dtype"), "files", files,
        "needed_tensors", (json_int_t)seen->needed_tensors, "tensors", tensors);
    for (size_t k = 0; k < sizeof troubles / sizeof *troubles; k++) {
        json_t *names = json_array();
        for (size_t i = 0; i < seen->tensor_count; i++)
            if (seen->tensors[i].state == troubles[k].state)
                json_array_append_new(names, gp_json_text(seen->tensors[i].name));
        json_object_set_new(out, troubles[k].key, names);
    }
    return out;
}

static json_t *report_json(const char *folder, const gp_inspection *seen, const gp_config *config,
                           const gp_tokenizer *tokenizer) {
    return json_pack("{s:s,s:o,s:b,s:o,s:o,s:o,s:o}", "kind", "checkpoint", "folder", gp_json_text(folder),
                     "runs", seen->runs, "reason", gp_json_text(seen->reason), "config",
                     config_json(seen, config), "tokenizer", tokenizer_json(seen, tokenizer), "weights",
                     weights_json(seen));
}
