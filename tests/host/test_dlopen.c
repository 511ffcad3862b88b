/* test_dlopen LIBRARY: a hundred times dlopen, open, generate, free, dlclose; no thread and no byte may stay. */
#define HOST_DLOPEN
#include "host.h"

#include <dirent.h>
#include <dlfcn.h>
#include <malloc.h>

static api find(void *library)
{
    api a;
    /* POSIX's way to turn what dlsym gives into a function pointer. */
#define FIND(member) *(void **)&a.member = dlsym(library, "ponder_" #member)
    FIND(config_new);
    FIND(config_free);
    FIND(config_set_i64);
    FIND(config_set_f64);
    FIND(model_open);
    FIND(model_free);
    FIND(session_new);
    FIND(session_free);
    FIND(session_prompt_ids);
    FIND(session_generate);
    FIND(session_tokens);
#undef FIND
    return a;
}

static int count_threads(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/task");
    for (struct dirent *e; d && (e = readdir(d));) n += e->d_name[0] != '.';
    if (d) closedir(d);
    return n;
}

static int count_mappings(void)
{
    int n = 0, c;
    FILE *f = fopen("/proc/self/maps", "r");
    while (f && (c = fgetc(f)) != EOF) n += c == '\n';
    if (f) fclose(f);
    return n;
}

static bool still_loaded(const char *path) { return dlopen(path, RTLD_NOW | RTLD_NOLOAD) != NULL; }

int main(int argc, char **argv)
{
    enum { CYCLES = 100, WARM = 10 };
    if (argc < 2) return 2;
    size_t bytes = 0;
    int mappings = 0, threads = count_threads();
    for (int i = 0; i < CYCLES; i++) {
        void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
        if (!library) { printf("%s\n", dlerror()); return 1; }
        api a = find(library);
        bool same;
        ponder_status s = whole_life(&a, NULL, 2, &llama_case, &same);
        dlclose(library);
        if (s != PONDER_OK || !same) { printf("cycle %d: status %d, same tokens: %d\n", i, (int)s, same); return 1; }
        if (still_loaded(argv[1])) { printf("the library stays loaded\n"); return 1; }
        if (count_threads() != threads) { printf("cycle %d: %d threads\n", i, count_threads()); return 1; }
        if (i == WARM) {
            bytes = mallinfo2().uordblks;
            mappings = count_mappings();
        }
    }
    size_t now = mallinfo2().uordblks;
    printf("%zu bytes allocated after %d cycles, %zu after %d; mappings %d and %d\n", bytes, WARM, now, CYCLES, mappings,
           count_mappings());
    return SANITIZED || (now == bytes && count_mappings() <= mappings) ? 0 : 1;
}
