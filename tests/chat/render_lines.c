/* Renders what a program sends: "TEMPLATE BYTES\n" and so many bytes of JSON; answers "STATUS BYTES\n" and the text, or the
 * refusal. For tests/reference/make_chat.py --compare. */
#include <stdio.h>
#include <stdlib.h>

#include "chat/chat.h"

int main(void)
{
    char name[32];
    size_t n;
    while (scanf("%31s %zu", name, &n) == 2 && getchar() == '\n') {
        char *json = malloc(n + 1);
        if (!json || fread(json, 1, n, stdin) != n) return 1;
        ponder_error err = {.size = sizeof err};
        pn_rendered out;
        pn_rendered_init(&out, NULL);
        const ponder_status status = pn_render_json(pn_template_by_name(name), json, n, &out, &err);
        const char *text = status ? err.text : out.text.p;
        const size_t len = status ? strlen(err.text) : out.text.n;
        printf("%d %zu\n", (int)status, len);
        if (len) fwrite(text, 1, len, stdout);
        fflush(stdout);
        pn_rendered_free(&out);
        free(json);
    }
    return 0;
}
