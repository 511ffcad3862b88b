/* How sure an agent was of what it wrote (DeepConf, arXiv 2508.15260: the weakest stretch says more than the mean). */
#include "agents/agents.h"

#include <math.h>

/* Tokens that were put in rather than sampled count for nothing. */
static double known(float p) { return isnan(p) ? 0 : (double)p; }

static double as_probability(double sum, size_t n) { return n ? exp(sum / (double)n) : -1; }

pn_confidence pn_confidence_of(const float *p, size_t n, uint32_t window)
{
    double all = 0, sum = 0, lowest = 2;
    size_t n_all = 0, n_sum = 0;
    for (size_t i = 0; i < n; i++) {
        all += known(p[i]);
        n_all += !isnan(p[i]);
        sum += known(p[i]);
        n_sum += !isnan(p[i]);
        if (i >= window) {
            sum -= known(p[i - window]);
            n_sum -= !isnan(p[i - window]);
        }
        if (i + 1 >= window && n_sum) lowest = PN_MIN(lowest, as_probability(sum, n_sum));
    }
    const double mean = as_probability(all, n_all);
    return (pn_confidence){mean, lowest > 1.5 ? mean : PN_MIN(lowest, 1.0)};
}

double pn_confidence_at(const float *p, size_t end, uint32_t window)
{
    double sum = 0;
    size_t n = 0;
    for (size_t i = end > window ? end - window : 0; i < end; i++) {
        sum += known(p[i]);
        n += !isnan(p[i]);
    }
    return as_probability(sum, n);
}
