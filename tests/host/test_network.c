/* A whole chat under a system-call filter: a network call ends this process. Nothing opens a socket unless a remote model is
 * opened, which is what ends it here. Run under strace by network.sh too. */
#include "host.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DENY(name) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)

static bool forbid_network(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        DENY(socket), DENY(socketpair), DENY(connect), DENY(bind), DENY(sendto), DENY(sendmsg), DENY(recvfrom), DENY(recvmsg),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {COUNT(filter), filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static int32_t print(void *user, const ponder_event *event)
{
    (void)user;
    return fwrite(event->text, 1, event->text_bytes, stdout) == event->text_bytes ? 0 : 1;
}

/* Two turns of a conversation, from messages. */
static int chat(void)
{
    char path[512];
    ponder_config *config = NULL;
    ponder_model *model = NULL;
    ponder_session *session = NULL;
    data_path(path, sizeof path, "seed0");
    ponder_status s = ponder_config_new(&config, NULL);
    if (s == PONDER_OK) s = ponder_config_set_i64(config, PONDER_P_THREADS, 2);
    if (s == PONDER_OK) s = ponder_config_set_str(config, PONDER_P_TEMPLATE, "muse");
    if (s == PONDER_OK) s = ponder_config_set_i64(config, PONDER_P_MAX_TOKENS, 48);
    if (s == PONDER_OK) s = ponder_model_open(&model, path, config);
    if (s == PONDER_OK) s = ponder_session_new(&session, model, config);
    for (int turn = 0; turn < 2 && s == PONDER_OK; turn++) {
        s = ponder_session_add(session, "user", "Add 904+471", 11);
        if (s == PONDER_OK) s = ponder_session_generate(session, print, NULL);
        putchar('\n');
    }
    if (s != PONDER_OK) printf("status %d: %s\n", (int)s, session ? ponder_session_error(session) : ponder_config_error(config));
    ponder_session_free(session);
    ponder_model_free(model);
    ponder_config_free(config);
    return s == PONDER_OK ? 0 : 1;
}

int main(int argc, char **argv)
{
    bool traced = argc > 1 && strcmp(argv[1], "--traced") == 0;
    if (argc > 1 && strcmp(argv[1], "--call") == 0) { /* shows that the filter bites */
        if (forbid_network()) socket(AF_INET, SOCK_STREAM, 0);
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "--remote") == 0) { /* ends at its first socket; a build without libcurl's headers has none */
        ponder_model *model;
        if (!forbid_network()) return 0;
        return ponder_model_open_remote(&model, "http://127.0.0.1:9", NULL) == PONDER_E_UNSUPPORTED ? 3 : 0;
    }
    if (!traced && !forbid_network()) {
        printf("no system-call filter here: %s\n", strerror(errno));
        return 77;
    }
    return chat();
}
