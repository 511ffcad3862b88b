/* Two files of float32 [rows][vocab] after a header of 128 bytes: prints how many rows, the sum over rows of
 * KL(first || second) in nats, the largest of them, and in how many rows both have the same largest logit.
 *   divergence BASE OTHER VOCAB SKIP           SKIP: rows at the beginning that do not count */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static size_t arg_max(const float *v, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (v[i] > v[best])
            best = i;
    return best;
}

/* log of the sum of exponentials, in double: the divergences are small differences of these. */
static double log_sum(const float *v, size_t n)
{
    double top = v[arg_max(v, n)], sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += exp(v[i] - top);
    return top + log(sum);
}

static double divergence(const float *base, const float *other, size_t n)
{
    double norm_base = log_sum(base, n), norm_other = log_sum(other, n), sum = 0;
    for (size_t i = 0; i < n; i++) {
        double log_p = base[i] - norm_base;
        sum += exp(log_p) * (log_p - (other[i] - norm_other));
    }
    return sum;
}

int main(int argc, char **argv)
{
    FILE *a = argc == 5 ? fopen(argv[1], "rb") : NULL, *b = argc == 5 ? fopen(argv[2], "rb") : NULL;
    size_t vocab = argc == 5 ? (size_t)atoll(argv[3]) : 0, skip = argc == 5 ? (size_t)atoll(argv[4]) : 0;
    float *x = malloc((vocab + 1) * sizeof *x), *y = malloc((vocab + 1) * sizeof *y);
    size_t rows = 0, same = 0;
    double sum = 0, most = 0;
    if (!a || !b || !x || !y || fseek(a, 128, SEEK_SET) || fseek(b, 128, SEEK_SET))
        return fputs("divergence: see its first lines\n", stderr), 1;
    while (fread(x, sizeof *x, vocab, a) == vocab && fread(y, sizeof *y, vocab, b) == vocab) {
        double d;
        if (skip && skip--)
            continue;
        d = divergence(x, y, vocab);
        sum += d;
        most = d > most ? d : most;
        same += arg_max(x, vocab) == arg_max(y, vocab);
        rows++;
    }
    printf("%zu %.12g %.12g %zu\n", rows, sum, most, same);
    return 0;
}
