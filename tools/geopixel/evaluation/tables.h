/** The figures as the paper's tables, and as JSON. */
#pragma once

#include "tools/geopixel/evaluation/figures.h"

#include <stdio.h>

/** Shares in percent. `similarity` says how phrases were compared. */
void gp_print_gcg(FILE *to, const gp_gcg_figures *figures, const char *similarity);
void gp_print_refseg(FILE *to, const gp_refseg_figures *figures);

/** Plain shares, 0 … 1; null where there was nothing to count. NULL when memory is out. */
json_t *gp_gcg_json(const gp_gcg_figures *figures, const char *similarity);
json_t *gp_refseg_json(const gp_refseg_figures *figures);
