/** The colours of masks and their phrases: told apart on imagery and by colour-blind eyes as far as twelve
 * can be. */
#pragma once

#include <stdint.h>

typedef struct gp_colour {
    uint8_t red, green, blue;
} gp_colour;

/** The colour of mask `index`; they come round again after twelve. */
static inline gp_colour gp_palette(int index) {
    static const gp_colour colours[] = {{255, 138, 0},  {0, 168, 255},   {255, 225, 25}, {235, 60, 140},
                                        {60, 220, 130}, {150, 90, 255},  {255, 95, 85},  {70, 240, 240},
                                        {190, 235, 60}, {240, 120, 245}, {200, 140, 80}, {120, 160, 255}};
    return colours[index % (int)(sizeof colours / sizeof *colours)];
}
