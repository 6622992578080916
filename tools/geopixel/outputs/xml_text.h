/** Text within XML. */
#pragma once

#include <stdio.h>

/** Writes `text` as character data or an attribute's value; `times` is 2 where a reader takes the escapes off
 * twice, as GDAL does in its metadata. Control characters, which XML has not, are left out. */
void gp_xml_write(FILE *to, const char *text, int times);
