/** What gdal_raster.c says in a build without GDAL. */
#include "loaders/raster/raster_parts.h"

bool gp_gdal_raster_open(const char *path, const char *reason, gp_raster *raster, gp_status *note,
                         gp_status *status) {
    (void)raster;
    (void)note;
    if (reason == NULL) return gp_fail(status, "%s: there is no such file, and this build has no GDAL", path);
    return gp_fail(status,
                   "%s: %s; this build, which has no GDAL, reads TIFF, PNG and JPEG. GDAL's tools may help: "
                   "gdal_translate -co COMPRESS=DEFLATE -co TILED=YES \"%s\" out.tif",
                   path, reason, path);
}
