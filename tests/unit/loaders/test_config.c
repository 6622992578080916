/** config.json: what is read, what stands in for what is absent, and every refusal with its words. */
#include "kernels/base/memory.h"
#include "loaders/config/config.h"
#include "tests/check.h"

/** A whole file; %s is where a case adds or overrides fields. jansson refuses duplicates, so BASE leaves them
 * out. */
#define BASE                                                                                                 \
    "\"vocab_size\": 703, \"hidden_size\": 512, \"intermediate_size\": 768, \"num_hidden_layers\": 2, "      \
    "\"num_attention_heads\": 4, \"rms_norm_eps\": 1e-5"

static void expect(const char *text, gp_config *config) {
    gp_status status = {0};
    CHECK(gp_config_parse(text, strlen(text), "config.json", config, &status), "%s: %s", text,
          status.message);
    gp_status_clear(&status);
}

/** Refused, with all the words named in the message. */
static void refuse(const char *text, const char *word, const char *other) {
    gp_config config;
    gp_status status = {0};
    bool read = gp_config_parse(text, strlen(text), "config.json", &config, &status);
    CHECK(!read, "%s was taken", text);
    if (!read)
        CHECK(strstr(status.message, word) != NULL && strstr(status.message, other) != NULL &&
                  strstr(status.message, "config.json"),
              "\"%s\" names not \"%s\" and \"%s\"", status.message, word, other);
    gp_status_clear(&status);
}

int main(void) {
    gp_config c;
    expect("{" BASE "}", &c);
    CHECK(c.vision.image_size == 560 && c.vision.hidden_size == 0 && c.vision.num_hidden_layers == 24 &&
              c.vision.num_attention_heads == 16,
          "7B's vision");
    CHECK(c.grounding.stage_count == 4 && c.grounding.stages[2] == 36 &&
              c.grounding.global_att_blocks[2] == 43,
          "7B's grounding");
    CHECK(c.language.num_key_value_heads == 4 && c.language.max_length == 16384 &&
              c.language.eos_token_id == 2,
          "defaults");
    expect("{" BASE ", \"num_key_value_heads\": 2, \"rope_theta\": 1000000, \"rope_scaling\": {\"type\": "
           "\"linear\", \"factor\": 4.0}, "
           "\"vision_config\": {\"image_size\": 112, \"hidden_size\": 128, \"num_attention_heads\": 2}, "
           "\"grounding_config\": {\"image_size\": 256, \"stages\": [1, 2, 1], \"window_spec\": [8, 4, 8], "
           "\"global_att_blocks\": []}, "
           "\"something_else\": {\"deep\": [1, 2]}}",
           &c);
    CHECK(c.language.rope_scaling_type == GP_ROPE_LINEAR && c.language.rope_scaling_factor == 4,
          "linear rope");
    CHECK(c.vision.image_size == 112 && c.vision.patch_size == 14, "a field given, a field not");
    CHECK(c.grounding.stage_count == 3 && c.grounding.global_block_count == 0 &&
              c.grounding.window_spec[1] == 4,
          "lists");
    expect("{" BASE ", \"rope_scaling\": null}", &c);
    expect("{" BASE ", \"rope_scaling\": {\"rope_type\": \"dynamic\", \"factor\": 2}}", &c);
    CHECK(c.language.rope_scaling_type == GP_ROPE_DYNAMIC, "dynamic rope");

    refuse("", "line", "");
    refuse("[1]", "object", "");
    refuse("{\"vocab_size\": 5", "line", "");
    refuse("{\"vocab_size\": 703}", "hidden_size", "missing");
    refuse("{" BASE ", \"vocab_size\": 704}", "line", "uplicate");
    refuse("{" BASE ", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2}}", "yarn", "linear");
    refuse("{" BASE ", \"rope_scaling\": {\"type\": \"linear\"}}", "rope_scaling.factor", "missing");
    refuse("{" BASE ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": -1}}", "factor", "-1");
    refuse("{" BASE ", \"hidden_act\": \"gelu\"}", "hidden_act", "gelu");
    refuse("{" BASE ", \"vision_config\": {\"hidden_act\": \"gelu\"}}", "vision_config.hidden_act",
           "quick_gelu");
    refuse("{" BASE ", \"vision_config\": 3}", "vision_config", "object");
    refuse("{" BASE ", \"vision_config\": {\"image_size\": 561}}", "561", "patch_size");
    refuse("{" BASE ", \"vision_config\": {\"image_size\": 42}}", "42", "even");
    refuse("{" BASE ", \"vision_config\": {\"hidden_size\": 1023}}", "1023", "num_attention_heads");
    refuse("{" BASE ", \"num_key_value_heads\": 3}", "num_key_value_heads", "3");
    refuse("{" BASE ", \"num_key_value_heads\": 0}", "num_key_value_heads", "0");
    refuse("{" BASE ", \"num_key_value_heads\": 2.5}", "num_key_value_heads", "whole");
    refuse("{" BASE ", \"max_length\": -3}", "max_length", "-3");
    refuse("{" BASE ", \"rope_theta\": 1e999}", "", "");
    refuse("{" BASE ", \"out_dim\": 250}", "out_dim", "250");
    refuse("{" BASE ", \"grounding_config\": {\"image_size\": 1000}}", "image_size", "1000");
    refuse("{" BASE ", \"grounding_config\": {\"stages\": [1, 2, 3]}}", "window_spec", "3");
    refuse("{" BASE ", \"grounding_config\": {\"stages\": [1, 2, 3, 0]}}", "stages[3]", "0");
    refuse("{" BASE ", \"grounding_config\": {\"global_att_blocks\": [48]}}", "global_att_blocks[0]", "48");
    refuse("{" BASE ", \"grounding_config\": {\"stages\": [1,1,1,1,1,1,1,1,1]}}", "stages", "9");

    gp_status status = {0};
    CHECK(!gp_config_read("/nonexistent/folder", &c, &status) &&
              strstr(status.message, "/nonexistent/folder") != NULL,
          "%s", status.message);
    CHECK(!gp_config_read(scratch_folder(), &c, &status) && strstr(status.message, "config.json") != NULL,
          "%s", status.message);
    gp_status_clear(&status);
    return check_done();
}
