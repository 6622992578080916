#include "tools/geopixel/outputs/xml_text.h"

void gp_xml_write(FILE *to, const char *text, int times) {
    for (; *text != '\0'; text++) {
        const char *entity = *text == '&'   ? "amp;"
                             : *text == '<' ? "lt;"
                             : *text == '>' ? "gt;"
                             : *text == '"' ? "quot;"
                                            : NULL;
        if (entity != NULL)
            fprintf(to, times == 2 ? "&amp;%s" : "&%s", entity);
        else if ((unsigned char)*text >= 0x20 || *text == '\n' || *text == '\t')
            fputc(*text, to);
    }
}
