/**
 * A client of geopixel.h: example MODEL PICTURE.ppm "question". Prints the answer as it comes, then each
 * mask's size.
 *
 *     cc example.c $(pkg-config --cflags --libs geopixel) -o example
 */
#include <geopixel.h>
#include <stdio.h>
#include <stdlib.h>

/** Called for every event of the request, on the engine's thread. */
static void on_event(void *user, const gp_event *event) {
    (void)user;
    switch (event->type) {
    case GP_EVENT_TEXT:
        fwrite(event->text.text, 1, event->text.length, stdout);
        fflush(stdout);
        break;
    case GP_EVENT_MASK:
        printf("\nmask %d: %s, %llu pixels", event->mask.index,
               event->mask.phrase != NULL ? event->mask.phrase->text : "-",
               (unsigned long long)event->mask.area);
        break;
    case GP_EVENT_ERROR:
        fprintf(stderr, "%s\n", event->error);
        break;
    default:
        break;
    }
}

/** A binary PPM of 8 bits without comments. */
static uint8_t *read_ppm(const char *path, int *width, int *height) {
    FILE *file = fopen(path, "rb");
    if (file == NULL || fscanf(file, "P6 %d %d 255", width, height) != 2 || fgetc(file) == EOF) return NULL;
    if (*width <= 0 || *height <= 0 || *width > 16384 || *height > 16384) return NULL;
    size_t bytes = 3 * (size_t)*width * (size_t)*height;
    uint8_t *pixels = malloc(bytes);
    if (pixels != NULL && fread(pixels, 1, bytes, file) != bytes) return NULL;
    fclose(file);
    return pixels;
}

int main(int count, char **arguments) {
    int width, height;
    if (count != 4) return 2;
    uint8_t *pixels = read_ppm(arguments[2], &width, &height);
    if (pixels == NULL) return fprintf(stderr, "%s is no PPM\n", arguments[2]), 1;
    gp_status *status = gp_status_create();
    gp_engine *engine = gp_engine_open(&(gp_engine_options){.model = arguments[1]}, status);
    if (engine == NULL) return fprintf(stderr, "%s\n", gp_status_message(status)), 1;
    gp_request_options options = {
        .image = {width, height, 0, pixels}, .prompt = arguments[3], .on_event = on_event};
    gp_request *request = gp_submit(engine, &options, status);
    if (request == NULL) return fprintf(stderr, "%s\n", gp_status_message(status)), 1;
    gp_event_type end = gp_request_wait(request);
    gp_request_release(request);
    gp_engine_close(engine);
    gp_status_destroy(status);
    free(pixels);
    printf("\n");
    return end == GP_EVENT_DONE ? 0 : 1;
}
