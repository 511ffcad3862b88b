/* A whole program: opens a model, asks it something, prints the answer as it comes.  ./embed MODEL.gguf "Why?" */
#include <ponder.h>
#include <stdio.h>
#include <string.h>
static int32_t on_event(void *user, const ponder_event *event)
{
    if (event->kind == PONDER_EVENT_ANSWER) /* thoughts come as PONDER_EVENT_THOUGHT */
        fwrite(event->text, 1, event->text_bytes, stdout), fflush(stdout);
    return user != NULL; /* non-zero ends the answer; `user` is what generate was given, here NULL */
}

int main(int argc, char **argv)
{
    const char *question = argc > 2 ? argv[2] : "What is the capital of France?";
    ponder_config *config = NULL;
    ponder_model *model = NULL;
    ponder_session *session = NULL;
    ponder_status status = ponder_config_new(&config, NULL);
    if (status == PONDER_OK)
        status = ponder_config_set_i64(config, PONDER_P_MAX_TOKENS, 200);
    if (status == PONDER_OK)
        status = ponder_model_open(&model, argc > 1 ? argv[1] : "", config);
    if (status == PONDER_OK)
        status = ponder_session_new(&session, model, config);
    if (status != PONDER_OK) {
        fprintf(stderr, "%s: %s\n", ponder_status_name(status), config ? ponder_config_error(config) : "");
    } else {
        status = ponder_session_add(session, "user", question, strlen(question));
        if (status == PONDER_OK)
            status = ponder_session_generate(session, on_event, NULL);
        puts("");
        if (status != PONDER_OK)
            fprintf(stderr, "%s: %s\n", ponder_status_name(status), ponder_session_error(session));
    }
    ponder_session_free(session); /* handles may be freed in any order */
    ponder_model_free(model);
    ponder_config_free(config);
    return status != PONDER_OK;
}
