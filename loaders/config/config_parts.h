/** What the readers of configurations share: a JSON file, its fields with the bounds they have to keep, and
 * messages that name the file, the field and the numbers. */
#pragma once

#include "kernels/base/file.h"
#include "kernels/base/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    GP_CONFIG_SIZE_MAX = 1 << 20, /* of a width, a picture: products of three stay within 64 bits */
    GP_CONFIG_LAYERS_MAX = 1024,
    GP_CONFIG_VOCABULARY_MAX = 1 << 24,
    GP_CONFIG_HEAD_DIM_MAX = 128, /* the widest that the attention operations take */
};

/** A file of a folder, mapped. */
typedef struct gp_config_file {
    char *path;
    const char *text;
    size_t length;
    gp_mapping mapping;
} gp_config_file;

/** Maps FOLDER/NAME; fails naming it, or the folder where that is none. Free with gp_config_close. */
bool gp_config_open(const char *folder, const char *name, gp_config_file *file, gp_status *status);
void gp_config_close(gp_config_file *file);

/** The text as a JSON object, for json_decref; NULL with `status` set where it is none. `name` stands in
 * messages. */
json_t *gp_config_load(const char *text, size_t length, const char *name, gp_status *status);

/** The object being read, and what stands in messages. */
typedef struct gp_config_reader {
    const char *name;  /* of the file */
    const char *scope; /* of the object in it, with a dot behind; "" for the whole */
    const json_t *object;
    gp_status *status;
} gp_config_reader;

/** A whole number in low … high; `fallback` where the field is absent or null, NULL making that an error. */
bool gp_config_int(const gp_config_reader *in, const char *field, int low, int high, const int *fallback,
                   int *value);

/** A finite number > 0; `fallback` as above. */
bool gp_config_positive(const gp_config_reader *in, const char *field, const float *fallback, float *value);

/** Whole numbers in low … high, at most `most`; absent leaves the list as it is. */
bool gp_config_ints(const gp_config_reader *in, const char *field, int low, int high, int most, int *values,
                    int *count);

/** True or false; `fallback` where the field is absent or null. */
bool gp_config_flag(const gp_config_reader *in, const char *field, bool fallback, bool *value);

/** A name that must be the one accepted, where it is there at all. */
bool gp_config_name(const gp_config_reader *in, const char *field, const char *accepted);

/** That `part`, which is `divisor`, divides `whole`, which is `number`. */
bool gp_config_divides(const gp_config_reader *in, const char *part, int divisor, const char *whole,
                       int number);

/** That the attention operations take heads so wide. */
bool gp_config_head_dim(const gp_config_reader *in, int head_dim);
