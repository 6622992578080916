#include "bench/kernels/findings.h"

#include "kernels/base/dtype.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

void gp_compare(gp_findings *findings, double have, double want, double bound, int64_t row, int64_t column) {
    findings->compared++;
    findings->difference += (have - want) * (have - want);
    findings->norm += want * want;
    if (!(fabs(have - want) <= bound))
        gp_wrong(findings, "[%lld, %lld]: %.9g, not %.9g +- %.2g", (long long)row, (long long)column, have,
                 want, bound);
}

void gp_wrong(gp_findings *findings, const char *format, ...) {
    if (findings->wrong++ > 0) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(findings->first, sizeof findings->first, format, arguments);
    va_end(arguments);
}

void gp_compare_written_bf16(gp_findings *findings, const uint16_t *values, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if ((values[i] & 0x7FFF) > 0x7F80) {
            gp_wrong(findings, "value %lld of %lld is NaN: never written, or made of what was not",
                     (long long)i, (long long)count);
            return;
        }
}

void gp_compare_written_f32(gp_findings *findings, const float *values, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (isnan(values[i])) {
            gp_wrong(findings, "value %lld of %lld is NaN: never written, or made of what was not",
                     (long long)i, (long long)count);
            return;
        }
}

double gp_findings_l2(const gp_findings *findings) {
    if (findings->norm > 0) return sqrt(findings->difference / findings->norm);
    return findings->difference > 0 ? INFINITY : 0;
}

bool gp_findings_right(gp_findings *findings) {
    if (findings->compared == 0) gp_wrong(findings, "nothing was compared");
    double l2 = gp_findings_l2(findings);
    if (findings->wrong == 0 && !(l2 <= findings->l2_bound))
        gp_wrong(findings, "relative L2 error %.3g of %lld values, above %.3g", l2,
                 (long long)findings->compared, findings->l2_bound);
    return findings->wrong == 0;
}
