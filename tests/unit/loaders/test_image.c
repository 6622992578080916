/** Pictures written by the formats' own libraries and read back; and what must be refused, with its words. */
#include "kernels/base/memory.h"
#include "loaders/image/image.h"
#include "tests/check.h"

#include <jpeglib.h>
#include <png.h>

static char folder[4096];

static const char *path_of(const char *name) {
    static char path[4200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/** Reads a picture that must be `want` [height, width, 3], each value within `tolerance`. */
static void expect(const char *name, int width, int height, const uint8_t *want, int tolerance) {
    gp_rgb_image image;
    gp_status status = {0};
    bool read = gp_image_read(path_of(name), &image, &status);
    CHECK(read, "%s: %s", name, status.message);
    gp_status_clear(&status);
    if (!read) return;
    CHECK(image.width == width && image.height == height, "%s: %d x %d", name, image.width, image.height);
    for (int i = 0; i < width * height * 3 && image.width == width && image.height == height; i++)
        CHECK(abs(image.pixels[i] - want[i]) <= tolerance, "%s: value %d is %d, not %d", name, i,
              image.pixels[i], want[i]);
    gp_image_free(&image);
}

/** Refused, naming the file and `word`. */
static void refuse(const char *name, const char *word) {
    gp_rgb_image image;
    gp_status status = {0};
    bool read = gp_image_read(path_of(name), &image, &status);
    CHECK(!read && strstr(status.message, name) != NULL && strstr(status.message, word) != NULL, "%s: %s",
          name, read ? "read" : status.message);
    if (read) gp_image_free(&image);
    gp_status_clear(&status);
}

/** The first `bytes` of a file under another name. */
static void cut(const char *from, const char *to, double share) {
    static unsigned char block[1 << 20];
    FILE *in = fopen(path_of(from), "rb");
    REQUIRE(in != NULL, "%s", from);
    size_t size = fread(block, 1, sizeof block, in);
    fclose(in);
    FILE *out = fopen(path_of(to), "wb");
    fwrite(block, 1, (size_t)((double)size * share), out);
    fclose(out);
}

enum { WIDTH = 37, HEIGHT = 21, VALUES = WIDTH * HEIGHT };

static void write_png(const char *name, int type, int depth, const uint8_t *samples, int channels) {
    FILE *out = fopen(path_of(name), "wb");
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_color palette[256];
    png_init_io(png, out);
    png_set_IHDR(png, info, WIDTH, HEIGHT, depth, type, PNG_INTERLACE_ADAM7, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    for (int i = 0; i < 256; i++)
        palette[i] = (png_color){(png_byte)i, (png_byte)(255 - i), (png_byte)(i * 7)};
    if (type == PNG_COLOR_TYPE_PALETTE) png_set_PLTE(png, info, palette, 256);
    png_write_info(png, info);
    png_bytep rows[HEIGHT];
    for (int y = 0; y < HEIGHT; y++) rows[y] = (png_bytep)samples + y * WIDTH * channels * depth / 8;
    png_write_image(png, rows);
    png_write_end(png, NULL);
    png_destroy_write_struct(&png, &info);
    fclose(out);
}

static void test_png(uint64_t *seed) {
    static uint8_t samples[VALUES * 8], want[VALUES * 3];
    static const struct {
        const char *name;
        int type, depth, channels;
    } kinds[] = {{"rgb.png", PNG_COLOR_TYPE_RGB, 8, 3},         {"rgba.png", PNG_COLOR_TYPE_RGBA, 8, 4},
                 {"grey.png", PNG_COLOR_TYPE_GRAY, 8, 1},       {"ga.png", PNG_COLOR_TYPE_GA, 8, 2},
                 {"palette.png", PNG_COLOR_TYPE_PALETTE, 8, 1}, {"rgb16.png", PNG_COLOR_TYPE_RGB, 16, 3},
                 {"rgba16.png", PNG_COLOR_TYPE_RGBA, 16, 4}};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        int channels = kinds[k].channels, bytes = kinds[k].depth / 8;
        for (int i = 0; i < VALUES * channels * bytes; i++) samples[i] = (uint8_t)random_bits(seed);
        for (int i = 0; i < VALUES; i++)
            for (int c = 0; c < 3; c++) {
                uint8_t value = samples[(i * channels + (channels < 3 ? 0 : c)) *
                                        bytes]; /* the high byte; alpha is dropped */
                if (kinds[k].type == PNG_COLOR_TYPE_PALETTE)
                    value = (uint8_t)(c == 0 ? value : c == 1 ? 255 - value : value * 7);
                want[3 * i + c] = value;
            }
        write_png(kinds[k].name, kinds[k].type, kinds[k].depth, samples, channels);
        expect(kinds[k].name, WIDTH, HEIGHT, want, 0);
    }
    cut("rgb.png", "cut.png", 0.6);
    refuse("cut.png", "PNG");
    cut("rgb.png", "head.png", 0.005);
    refuse("head.png", "head.png");
}

static void test_jpeg(void) {
    static uint8_t want[VALUES * 3];
    for (int y = 0; y < HEIGHT; y++) /* slopes, which JPEG of the best quality keeps to a few steps */
        for (int x = 0; x < WIDTH; x++)
            for (int c = 0; c < 3; c++)
                want[(y * WIDTH + x) * 3 + c] = (uint8_t)(40 + 3 * x + 2 * y + 20 * c);
    for (int kind = 0; kind < 2; kind++) {
        const char *name = kind == 0 ? "rgb.jpg" : "progressive.jpg";
        struct jpeg_compress_struct jpeg;
        struct jpeg_error_mgr error;
        FILE *out = fopen(path_of(name), "wb");
        jpeg.err = jpeg_std_error(&error);
        jpeg_create_compress(&jpeg);
        jpeg_stdio_dest(&jpeg, out);
        jpeg.image_width = WIDTH;
        jpeg.image_height = HEIGHT;
        jpeg.input_components = 3;
        jpeg.in_color_space = JCS_RGB;
        jpeg_set_defaults(&jpeg);
        jpeg_set_quality(&jpeg, 100, TRUE);
        if (kind == 1) jpeg_simple_progression(&jpeg);
        jpeg_start_compress(&jpeg, TRUE);
        while (jpeg.next_scanline < HEIGHT) {
            JSAMPROW row = want + jpeg.next_scanline * WIDTH * 3;
            jpeg_write_scanlines(&jpeg, &row, 1);
        }
        jpeg_finish_compress(&jpeg);
        jpeg_destroy_compress(&jpeg);
        fclose(out);
        expect(name, WIDTH, HEIGHT, want, 6);
    }
    cut("rgb.jpg", "cut.jpg", 0.7);
    refuse("cut.jpg", "JPEG");
}

int main(void) {
    uint64_t seed = fresh_seed();
    snprintf(folder, sizeof folder, "%s", scratch_folder());
    test_png(&seed);
    test_jpeg();
    FILE *out = fopen(path_of("text.txt"), "wb");
    fputs("no picture", out);
    fclose(out);
    refuse("text.txt", "not a PNG");
    refuse("nothing.png", "No such file");
    return check_done();
}
