#include "tools/geopixel/command_eval.h"

#include "tools/geopixel/arguments.h"
#include "tools/geopixel/asking.h"
#include "tools/geopixel/evaluation/tables.h"
#include "tools/geopixel/exit_codes.h"
#include "tools/geopixel/interrupt.h"
#include "tools/geopixel/outputs/output_file.h"
#include "tools/geopixel/questions.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { TASK_GCG, TASK_REFSEG, TASK_MISSING };

/** An evaluation under way. */
typedef struct evaluation {
    gp_asking_options options;
    const char *data, *images, *split, *predictions_path, *bert, *json;
    int task;
    gp_status status;
    gp_asking asking;
    gp_dataset dataset;
    gp_predictions predictions;
    gp_similarity similarity;
    gp_output_file report;
} evaluation;

static bool parse(evaluation *e, int count, char **arguments, bool *help);
static bool read_inputs(evaluation *e);
static bool ask_all(evaluation *e);
static bool tell(evaluation *e);
static void clean_up(evaluation *e);

static const char *const examples[] = {
    "Referring segmentation on RRSIS-D, answers kept so that it can be stopped and go on",
    "geopixel eval --task refseg --data rrsisd --split val --model GeoPixel-7B --predictions val.jsonl",
    "Grounded descriptions of GeoPixelD, phrases compared by BERT, figures as JSON too",
    "geopixel eval --task gcg --data GeoPixelD.json --model GeoPixel-7B --predictions test.jsonl --bert "
    "bert-base-uncased --json test.json",
    "The figures of answers that are there",
    "geopixel eval --task gcg --data GeoPixelD.json --predictions test.jsonl",
    NULL,
};

int gp_command_eval(int count, char **arguments) {
    evaluation e = {.options = GP_ASKING_DEFAULTS, .task = TASK_MISSING};
    e.asking.options = &e.options;
    bool help = false;
    int code = GP_EXIT_ERROR;
    if (!parse(&e, count, arguments, &help)) {
        fprintf(stderr, "geopixel eval: %s\nTry geopixel eval --help.\n", e.status.message);
        code = GP_EXIT_USAGE;
    } else if (help) {
        code = GP_EXIT_DONE;
    } else if (!gp_asking_served(&e.options, &code)) {
        gp_interrupt_watch();
        gp_terminal_open(&e.asking.terminal, e.options.quiet);
        if (read_inputs(&e) && ask_all(&e) && tell(&e)) code = GP_EXIT_DONE;
        gp_terminal_clear(&e.asking.terminal);
        if (code != GP_EXIT_DONE && gp_interrupted()) {
            fprintf(stderr, "geopixel: interrupted%s\n",
                    e.predictions.stream != NULL ? "; the same command goes on from here" : "");
            code = GP_EXIT_INTERRUPTED;
        } else if (code != GP_EXIT_DONE) {
            fprintf(stderr, "geopixel: %s\n", gp_failed(&e.status) ? e.status.message : "failed");
        }
    }
    clean_up(&e);
    return code;
}

/* ---- command line ---- */

static bool parse(evaluation *e, int count, char **arguments, bool *help) {
    const char *operand = NULL;
    const gp_option options[] = {
        {"task", 't', GP_OPTION_CHOICE, "gcg|refseg", "grounded conversation, or referring segmentation",
         &e->task, 0, 0},
        {"data", 0, GP_OPTION_TEXT, "PATH",
         "GeoPixelD's JSON, or the folder of RRSIS-D (instances.json, refs(unc).p)", &e->data, 0, 0},
        {"images", 0, GP_OPTION_TEXT, "DIR", "where the pictures are, if not where the data say", &e->images,
         0, 0},
        {"split", 0, GP_OPTION_TEXT, "NAME", "of RRSIS-D: train, val or test (test)", &e->split, 0, 0},
        GP_ASKING_MODEL(&e->options),
        {"predictions", 0, GP_OPTION_TEXT, "FILE",
         "answers, one JSON object a line: read; with --model, missing ones are added", &e->predictions_path,
         0, 0},
        {"bert", 0, GP_OPTION_TEXT, "DIR",
         "compare phrases by this BERT checkpoint; else by the words they share", &e->bert, 0, 0},
        {"json", 0, GP_OPTION_TEXT, "FILE.json", "write the figures", &e->json, 0, 0},
        {"batch", 'b', GP_OPTION_WHOLE, "N", "questions that are worked on at the same time, at most (1)",
         &e->options.together, 1, GP_REQUESTS_MOST},
        {"dp", 0, GP_OPTION_WHOLE, "N", "copies of the model, on devices of their own (1)",
         &e->options.replicas, 1, GP_RANKS_MOST},
        GP_ASKING_OPTIONS(&e->options),
    };
    const gp_command command = {"eval",  "how right a model's text and masks are on a data set",
                                NULL,    examples,
                                options, sizeof options / sizeof *options};
    if (!gp_arguments_parse(&command, count, arguments, &operand, help, &e->status)) return false;
    if (*help) {
        gp_arguments_help(&command);
        return true;
    }
    if (e->task == TASK_MISSING) return gp_fail(&e->status, "--task is missing: gcg or refseg");
    if (e->data == NULL) return gp_fail(&e->status, "--data is missing");
    if (e->options.model == NULL && e->predictions_path == NULL)
        return gp_fail(&e->status, "neither --model nor --predictions: where do answers come from?");
    if (e->options.quiet && e->options.verbose)
        return gp_fail(&e->status, "--quiet and --verbose exclude each other");
    if (e->json != NULL && e->predictions_path != NULL && gp_output_same(e->json, e->predictions_path))
        return gp_fail(&e->status, "--json and --predictions name the same file");
    if (e->json != NULL && gp_output_same(e->json, e->data))
        return gp_fail(&e->status, "--json would overwrite the data, %s", e->data);
    return true;
}

/* ---- inputs ---- */

/** What can be found wrong before the model is opened, is. */
static bool read_inputs(evaluation *e) {
    struct stat about;
    if (stat(e->data, &about) != 0) return gp_fail(&e->status, "%s: %s", e->data, strerror(errno));
    bool folder = S_ISDIR(about.st_mode);
    if (!folder && e->split != NULL)
        return gp_fail(&e->status, "--split is for RRSIS-D, a folder; %s is a file", e->data);
    if (folder && e->task == TASK_GCG)
        return gp_fail(&e->status, "%s: RRSIS-D has expressions, no descriptions: --task refseg", e->data);
    bool read = folder ? gp_rrsisd_read(e->data, e->split != NULL ? e->split : "test", e->images, &e->dataset,
                                        &e->status)
                       : gp_geopixeld_read(e->data, e->images, &e->dataset, &e->status);
    if (!read || !gp_output_open(&e->report, e->json, &e->status)) return false;
    if (!gp_similarity_open(e->bert, (int)e->options.threads, &e->similarity, &e->status)) return false;
    if (e->predictions_path == NULL) {
        e->predictions.by_id = json_object();
        return e->predictions.by_id != NULL || gp_fail(&e->status, "no memory for answers");
    }
    return gp_predictions_open(e->predictions_path, e->options.model != NULL, &e->predictions, &e->status) &&
           (e->options.model == NULL ||
            gp_predictions_agree(&e->predictions, e->options.model, (int)e->options.crops, &e->status));
}

/* ---- the questions ---- */

/** Those that have no answer yet. */
static bool ask_all(evaluation *e) {
    return e->options.model == NULL || gp_questions_ask(&e->asking, &e->dataset, &e->predictions, &e->status);
}

/* ---- figures ---- */

static bool tell(evaluation *e) {
    gp_gcg_figures gcg;
    gp_refseg_figures refseg;
    json_t *figures = NULL;
    bool done = e->task == TASK_GCG
                    ? gp_evaluate_gcg(&e->dataset, &e->predictions, &e->similarity, &gcg, &e->status)
                    : gp_evaluate_refseg(&e->dataset, &e->predictions, &refseg, &e->status);
    if (!done) return false;
    if (e->json != NULL) {
        figures = e->task == TASK_GCG ? gp_gcg_json(&gcg, e->similarity.name) : gp_refseg_json(&refseg);
        if (figures == NULL || json_dumpf(figures, e->report.stream, JSON_INDENT(1)) != 0 ||
            fputc('\n', e->report.stream) == EOF)
            done = gp_fail(&e->status, "%s: the figures cannot be written", e->json);
        json_decref(figures);
    }
    if (!done || !gp_output_commit(&e->report, &e->status)) return false;
    if (e->task == TASK_GCG)
        gp_print_gcg(stdout, &gcg, e->similarity.name);
    else
        gp_print_refseg(stdout, &refseg);
    return (ferror(stdout) == 0 && fflush(stdout) == 0) ||
           gp_fail(&e->status, "standard output cannot be written");
}

static void clean_up(evaluation *e) {
    gp_asking_close(&e->asking);
    gp_output_discard(&e->report);
    gp_predictions_close(&e->predictions);
    gp_similarity_close(&e->similarity);
    gp_dataset_free(&e->dataset);
    gp_status_clear(&e->status);
}
