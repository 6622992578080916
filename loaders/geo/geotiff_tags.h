/** The numbers of the TIFF tags that place a picture (OGC 19-008r4, annex; RPCs: GDAL's). */
#pragma once

enum {
    GP_TAG_PIXEL_SCALE = 33550,
    GP_TAG_TIEPOINTS = 33922,
    GP_TAG_TRANSFORMATION = 34264,
    GP_TAG_KEYS = 34735,
    GP_TAG_PARAMETERS = 34736,
    GP_TAG_TEXT = 34737,
    GP_TAG_RATIONAL = 50844,
};
