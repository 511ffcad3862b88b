/* Runs a fuzz target without a fuzzer: every file of the folders (or files) given, and with --mutate N SEED also N
 * changed copies of each. The same arguments make the same inputs.
 *     fuzz_gguf [--mutate N SEED] FOLDER... */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t random_state;

static uint64_t next_random(void)
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static size_t below(size_t n)
{
    return n ? (size_t)(next_random() % n) : 0;
}

/* Most of a weight file is weights; the metadata before them are where mutations tell. */
static size_t position(size_t n)
{
    return next_random() % 4 ? below(n < 4096 ? n : 4096) : below(n);
}

static void put_extreme(uint8_t *p, size_t n)
{
    static const uint64_t extremes[] = {0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
                                        0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff, 0x4000000000000001};
    uint64_t v = extremes[below(sizeof extremes / sizeof extremes[0])];
    const size_t bytes = (size_t)1 << below(4), at = position(n);
    memcpy(p + at, &v, bytes < n - at ? bytes : n - at);
}

static size_t mutate(uint8_t *p, size_t n)
{
    for (size_t many = 1 + below(4); many > 0 && n > 0; many--) {
        const size_t at = position(n), from = position(n), most = n - (at > from ? at : from);
        switch (below(6)) {
        case 0: p[at] ^= (uint8_t)(1u << below(8)); break;
        case 1: p[at] = (uint8_t)next_random(); break;
        case 2: put_extreme(p, n); break;
        case 3: memmove(p + at, p + from, below(most < 64 ? most : 64)); break;
        case 4: p[at] = (uint8_t)"0123456789[]{}\",:-.e"[below(20)]; break;
        default:
            if (below(8) == 0) n = below(n);
            else p[at]++;
        }
    }
    return n;
}

/* A copy of exactly that size, so that a sanitizer sees a byte read too many. */
static void run_copy(const uint8_t *p, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);
    if (!copy) exit(2);
    memcpy(copy, p, n);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

static uint8_t *read_whole(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st) != 0) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(2);
    }
    uint8_t *p = malloc((size_t)st.st_size + 1);
    *n = p ? fread(p, 1, (size_t)st.st_size, f) : 0;
    fclose(f);
    if (!p) exit(2);
    return p;
}

static size_t run_file(const char *path, size_t mutations)
{
    size_t n;
    uint8_t *p = read_whole(path, &n), *work = malloc(n + 1);
    if (!work) exit(2);
    run_copy(p, n);
    for (size_t i = 0; i < mutations; i++) {
        memcpy(work, p, n);
        run_copy(work, mutate(work, n));
    }
    free(work);
    free(p);
    return 1 + mutations;
}

static size_t run_path(const char *path, size_t mutations)
{
    struct dirent **names;
    char file[4096];
    size_t ran = 0;
    int many = scandir(path, &names, NULL, alphasort);
    if (many < 0) return run_file(path, mutations);
    for (int i = 0; i < many; i++) {
        if (names[i]->d_name[0] != '.' && snprintf(file, sizeof file, "%s/%s", path, names[i]->d_name) < (int)sizeof file)
            ran += run_file(file, mutations);
        free(names[i]);
    }
    free(names);
    return ran;
}

int main(int argc, char **argv)
{
    size_t mutations = 0, ran = 0;
    int i = 1;
    if (argc > 3 && !strcmp(argv[1], "--mutate")) {
        mutations = (size_t)strtoull(argv[2], NULL, 10);
        random_state = strtoull(argv[3], NULL, 10);
        i = 4;
    }
    for (; i < argc; i++) ran += run_path(argv[i], mutations);
    printf("%zu inputs\n", ran);
    return ran ? 0 : 2;
}
