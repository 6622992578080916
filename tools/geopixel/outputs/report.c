#include "tools/geopixel/outputs/report.h"

#include "kernels/base/memory.h"

#include <jansson.h>
#include <string.h>

static double total_seconds(const gp_result *result) {
    double total = 0;
    for (int i = 0; i < GP_STAGE_COUNT; i++) total += result->seconds[i];
    return total;
}

static json_t *masks_json(const gp_answer *answer) {
    json_t *masks = json_array();
    for (size_t i = 0; i < answer->mask_count && masks != NULL; i++) {
        const gp_answer_mask *mask = &answer->masks[i];
        const gp_phrase *phrase = gp_answer_phrase(answer, i);
        json_t *entry = json_pack("{s:o,s:s?,s:I,s:f}", "rle", gp_rle_json(&mask->rle), "phrase",
                                  phrase != NULL ? phrase->text : NULL, "area_px", (json_int_t)mask->area,
                                  "score", (double)mask->score);
        bool added = json_array_append_new(masks, entry) == 0;
        if (added) continue;
        json_decref(masks);
        return NULL;
    }
    return masks;
}

static json_t *phrases_json(const gp_answer *answer) {
    json_t *phrases = json_array();
    for (size_t i = 0; i < answer->phrase_count; i++) {
        const gp_phrase *phrase = &answer->phrases[i];
        json_array_append_new(phrases, json_pack("{s:s,s:[I,I],s:i}", "phrase", phrase->text, "span",
                                                 (json_int_t)phrase->begin, (json_int_t)phrase->end, "mask",
                                                 phrase->mask));
    }
    return phrases;
}

bool gp_report_json(FILE *stream, const gp_answer *answer, const gp_report_context *context, const char *path,
                    gp_status *status) {
    const gp_result *numbers = &answer->numbers;
    json_t *ids = json_array(), *timings = json_object();
    for (size_t i = 0; i < answer->token_count; i++)
        json_array_append_new(ids, json_integer(answer->token_ids[i]));
    for (int i = 0; i < GP_STAGE_COUNT; i++)
        json_object_set_new(timings, gp_stage_name((gp_stage)i), json_real(numbers->seconds[i]));
    json_object_set_new(timings, "total", json_real(total_seconds(numbers)));
    json_t *root = json_pack("{s:{s:s,s:i,s:i},s:s,s:s?,s:s,s:s,s:o,s:o,s:o,s:i,s:i,s:{s:i,s:i,s:i},s:o}",
                             "image", "file", context->image, "width", context->width, "height",
                             context->height, "model", context->model, "device", context->device, "prompt",
                             context->prompt, "text", answer->text != NULL ? answer->text : "", "token_ids",
                             ids, "phrases", phrases_json(answer), "masks", masks_json(answer),
                             "prompt_tokens", numbers->prompt_tokens, "image_tokens", numbers->image_tokens,
                             "crops", "columns", numbers->crop_columns, "rows", numbers->crop_rows, "count",
                             numbers->crop_columns * numbers->crop_rows, "timings", timings);
    bool written =
        root != NULL && json_dumpf(root, stream, JSON_INDENT(1)) == 0 && fputc('\n', stream) != EOF;
    json_decref(root);
    return written || gp_fail(status, "%s: the JSON cannot be written", path);
}

/** VmHWM of this process in bytes; 0 where the system does not tell. */
static uint64_t peak_resident(void) {
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    unsigned long long kilobytes = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "VmHWM: %llu kB", &kilobytes) == 1) break;
    if (file != NULL) fclose(file);
    return kilobytes * 1024;
}

void gp_report_numbers(const gp_answer *answer, const gp_report_context *context) {
    const gp_memory_plan *memory = &answer->numbers.memory;
    const struct {
        const char *name;
        uint64_t bytes;
    } parts[] = {{"weights", memory->weights},
                 {"converted weights", memory->converted},
                 {"KV cache", memory->kv_cache},
                 {"activations", memory->activations},
                 {"compute threads", memory->workspace}};
    uint64_t sum = 0;
    fprintf(stderr, "%s\nmemory by plan:\n", context->device);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        fprintf(stderr, "  %-18s %9.1f MiB\n", parts[i].name, (double)parts[i].bytes / 0x1p20);
        sum += parts[i].bytes;
    }
    fprintf(stderr, "  %-18s %9.1f MiB; the system saw %.1f MiB at most\n", "sum", (double)sum / 0x1p20,
            (double)peak_resident() / 0x1p20);
    fprintf(stderr, "time:\n");
    for (int i = 0; i < GP_STAGE_COUNT; i++)
        fprintf(stderr, "  %-18s %9.3f s\n", gp_stage_name((gp_stage)i), answer->numbers.seconds[i]);
    fprintf(stderr, "  %-18s %9.3f s, %zu tokens\n", "sum", total_seconds(&answer->numbers),
            answer->token_count);
}
