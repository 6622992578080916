#include "tools/geopixel/inspect_raster.h"

#include "loaders/raster/raster.h"
#include "runtime/geopixel.h"
#include "tools/geopixel/inspect_place.h"
#include "tools/geopixel/inspect_text.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

/** How the model would see the raster. */
typedef struct outlook {
    bool known;
    gp_plan plan;
    gp_status reason; /* where it is not known */
} outlook;

static const struct {
    const char *name, *key;
    size_t offset;
} memory_parts[] = {{"weights", "weights", offsetof(gp_memory_plan, weights)},
                    {"converted weights", "converted", offsetof(gp_memory_plan, converted)},
                    {"KV cache", "kv_cache", offsetof(gp_memory_plan, kv_cache)},
                    {"activations", "activations", offsetof(gp_memory_plan, activations)},
                    {"compute threads", "workspace", offsetof(gp_memory_plan, workspace)}};
enum { MEMORY_PARTS = sizeof memory_parts / sizeof *memory_parts };

static void print_report(const gp_raster_info *about, const char *note, const char *model,
                         const outlook *seen);
static json_t *report_json(const gp_raster_info *about, const char *note, const char *model,
                           const outlook *seen);

bool gp_inspect_raster(const char *path, const gp_inspect_raster_options *options, bool json,
                       gp_status *status) {
    gp_raster *raster = NULL;
    gp_status note = {0};
    outlook seen = {0};
    if (!gp_raster_open(path, &raster, &note, status)) {
        gp_status_clear(&note);
        return false;
    }
    const gp_raster_info *about = gp_raster_about(raster);
    gp_plan_options plan = {.model = options->model,
                            .width = about->width,
                            .height = about->height,
                            .crops = options->crops,
                            .max_crops = options->max_crops};
    seen.known = gp_plan_request(&plan, &seen.plan, &seen.reason);
    bool done = true;
    if (json)
        done = gp_json_print(report_json(about, note.message, options->model, &seen)) ||
               gp_fail(status, "%s: the report cannot be written", path);
    else
        print_report(about, note.message, options->model, &seen);
    if (done && !seen.known)
        done = gp_fail(status, "%s: the model cannot be asked about it: %s", path,
                       gp_failed(&seen.reason) ? seen.reason.message : "out of memory");
    gp_status_clear(&seen.reason);
    gp_status_clear(&note);
    gp_raster_close(raster);
    return done;
}

static uint64_t memory_part(const gp_memory_plan *memory, int part) {
    uint64_t bytes;
    memcpy(&bytes, (const char *)memory + memory_parts[part].offset, sizeof bytes);
    return bytes;
}

static uint64_t memory_sum(const gp_memory_plan *memory) {
    uint64_t sum = 0;
    for (int i = 0; i < MEMORY_PARTS; i++) sum += memory_part(memory, i);
    return sum;
}

static const char *layout_of(const gp_raster_info *about) {
    if (about->levels[0].block_width == about->width && about->levels[0].block_height == about->height)
        return "whole";
    return about->tiled ? "tiles" : "strips";
}

/* ---- terminal ---- */

static void print_bands(const gp_raster_info *about) {
    printf("  %-18s %d x %s", "bands", about->band_count, gp_sample_type_name(about->type));
    if (about->bits != 8 * gp_sample_type_bytes(about->type)) printf(" of %d bits", about->bits);
    puts(about->planar && about->band_count > 1 ? ", each apart" : "");
    for (int i = 0; i < about->band_count; i++) {
        const gp_band *band = &about->bands[i];
        char number[24];
        snprintf(number, sizeof number, "  band %d", i + 1);
        printf("  %-18s %s", number, gp_band_role_name(band->role));
        if (band->has_nodata) printf(", nodata %.17g", band->nodata);
        putchar('\n');
    }
    if (about->palette != NULL) printf("  %-18s %d colours\n", "palette", about->palette_size);
    if (about->inks) printf("  %-18s cyan, magenta, yellow, black ink\n", "colours");
    if (about->zero_is_white) printf("  %-18s 0 is white\n", "grey");
    printf("  %-18s %s\n", "mask",
           about->has_mask    ? "beside the bands"
           : about->alpha > 0 ? "alpha band"
                              : "none");
}

static void print_levels(const gp_raster_info *about) {
    const gp_raster_level *whole = &about->levels[0];
    printf("  %-18s %s of %d x %d\n", "blocks", layout_of(about), whole->block_width, whole->block_height);
    if (about->level_count == 1) printf("  %-18s none\n", "overviews");
    for (int i = 1; i < about->level_count; i++) {
        const gp_raster_level *level = &about->levels[i];
        printf("  %-18s %d x %d in blocks of %d x %d\n", i == 1 ? "overviews" : "", level->width,
               level->height, level->block_width, level->block_height);
    }
    if (about->further_pictures > 0)
        printf("  %-18s %d, not read\n", "further pictures", about->further_pictures);
}

static void print_outlook(const char *model, const outlook *seen) {
    const gp_plan *plan = &seen->plan;
    printf("\nto ");
    gp_print_text(model != NULL ? model : "GeoPixel-7B");
    if (!seen->known) {
        puts(": nothing it can be asked about");
        return;
    }
    printf(", on %s\n", plan->device);
    printf("  %-18s %d x %d crops of %d x %d pixels, and the whole once more%s\n", "crops",
           plan->crop_columns, plan->crop_rows, plan->crop_side, plan->crop_side,
           plan->reduced ? " (fewer than the official rule gives)" : "");
    printf("  %-18s to %d x %d\n", "resized", plan->resized_width, plan->resized_height);
    printf("  %-18s %s\n", "image tokens", gp_short_whole((uint64_t)plan->image_tokens).text);
    printf("  %-18s %s with %d of text; %s with an answer of %d, of a context of %s\n", "prompt tokens",
           gp_short_whole((uint64_t)plan->prompt_tokens).text, plan->prompt_tokens - plan->image_tokens,
           gp_short_whole((uint64_t)(plan->prompt_tokens + plan->max_new_tokens)).text, plan->max_new_tokens,
           gp_short_whole((uint64_t)plan->context).text);
    for (int i = 0; i < MEMORY_PARTS; i++)
        printf("  %-18s %11s\n", memory_parts[i].name, gp_short_bytes(memory_part(&plan->memory, i)).text);
    printf("  %-18s %11s\n", "memory in all", gp_short_bytes(memory_sum(&plan->memory)).text);
}

static void print_report(const gp_raster_info *about, const char *note, const char *model,
                         const outlook *seen) {
    gp_print_text(about->path);
    printf(": %s, %s\n", about->format, about->codec);
    printf("  %-18s %d x %d pixels\n", "size", about->width, about->height);
    print_bands(about);
    print_levels(about);
    for (const char *line = note; line != NULL && *line != '\0';) {
        size_t length = strcspn(line, "\n");
        printf("  %-18s %.*s\n", "note", (int)length, line);
        line += length + (line[length] == '\n');
    }
    gp_print_place(about);
    print_outlook(model, seen);
}

/* ---- JSON ---- */

static json_t *bands_json(const gp_raster_info *about) {
    json_t *bands = json_array();
    for (int i = 0; i < about->band_count; i++) {
        const gp_band *band = &about->bands[i];
        json_array_append_new(bands,
                              json_pack("{s:s,s:o}", "role", gp_band_role_name(band->role), "nodata",
                                        band->has_nodata ? gp_json_number(band->nodata) : json_null()));
    }
    return bands;
}

static json_t *levels_json(const gp_raster_info *about) {
    json_t *overviews = json_array();
    for (int i = 1; i < about->level_count; i++) {
        const gp_raster_level *level = &about->levels[i];
        json_array_append_new(overviews,
                              json_pack("{s:i,s:i,s:[i,i]}", "width", level->width, "height", level->height,
                                        "block", level->block_width, level->block_height));
    }
    return overviews;
}

static json_t *outlook_json(const char *model, const outlook *seen) {
    const gp_plan *plan = &seen->plan;
    if (!seen->known)
        return json_pack("{s:o,s:o}", "model", gp_json_text(model != NULL ? model : "GeoPixel-7B"), "error",
                         gp_json_text(seen->reason.message));
    json_t *memory = json_object();
    for (int i = 0; i < MEMORY_PARTS; i++)
        json_object_set_new(memory, memory_parts[i].key,
                            json_integer((json_int_t)memory_part(&plan->memory, i)));
    json_object_set_new(memory, "total", json_integer((json_int_t)memory_sum(&plan->memory)));
    return json_pack("{s:o,s:n,s:s,s:{s:i,s:i,s:i,s:i,s:i},s:b,s:[i,i],s:i,s:i,s:i,s:i,s:o}", "model",
                     gp_json_text(model != NULL ? model : "GeoPixel-7B"), "error", "device", plan->device,
                     "crops", "columns", plan->crop_columns, "rows", plan->crop_rows, "count",
                     plan->crop_columns * plan->crop_rows, "side", plan->crop_side, "patch", plan->patch_side,
                     "reduced", plan->reduced, "resized", plan->resized_width, plan->resized_height,
                     "image_tokens", plan->image_tokens, "prompt_tokens", plan->prompt_tokens,
                     "max_new_tokens", plan->max_new_tokens, "context", plan->context, "memory", memory);
}

static json_t *notes_json(const char *note) {
    json_t *notes = json_array();
    for (const char *line = note; line != NULL && *line != '\0';) {
        size_t length = strcspn(line, "\n");
        json_t *text = json_stringn(line, length);
        json_array_append_new(notes, text != NULL ? text : json_string("a note that is not UTF-8"));
        line += length + (line[length] == '\n');
    }
    return notes;
}

static json_t *report_json(const gp_raster_info *about, const char *note, const char *model,
                           const outlook *seen) {
    const gp_raster_level *whole = &about->levels[0];
    return json_pack(
        "{s:s,s:o,s:s,s:s,s:i,s:i,s:s,s:i,s:o,s:s,s:b,s:[i,i],s:o,s:b,s:i,s:i,s:b,s:b,s:i,s:o,s:o,s:o}",
        "kind", "raster", "file", gp_json_text(about->path), "format", about->format, "codec", about->codec,
        "width", about->width, "height", about->height, "type", gp_sample_type_name(about->type), "bits",
        about->bits, "bands", bands_json(about), "layout", layout_of(about), "planar", about->planar, "block",
        whole->block_width, whole->block_height, "overviews", levels_json(about), "mask", about->has_mask,
        "alpha_band", about->alpha, "palette_colours", about->palette_size, "zero_is_white",
        about->zero_is_white, "inks", about->inks, "further_pictures", about->further_pictures, "notes",
        notes_json(note), "georeference", gp_place_json(about), "plan", outlook_json(model, seen));
}
