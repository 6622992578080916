#include "kernels/base/number.h"

#include <locale.h>
#include <stdlib.h>

bool gp_parse_number(const char **text, double *out) {
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    char *end = NULL;
    if (c == (locale_t)0) return false;
    *out = strtod_l(*text, &end, c);
    freelocale(c);
    bool found = end != *text;
    *text = end;
    return found;
}
