#include <signal.h>
#include <string.h>
#include <sys/select.h>

#include "program.h"

static ponder_session *volatile target;
static volatile sig_atomic_t caught;

static void on_interrupt(int number)
{
    ponder_session *session = target;
    (void)number;
    caught = 1;
    if (session)
        ponder_session_cancel(session);
}

void interrupt_install(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_interrupt;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL); /* without SA_RESTART: reading a line is interrupted too */
}

void interrupt_cancels(ponder_session *session)
{
    target = session;
}

/* Blocked until select() waits, so that a Ctrl-C that comes just before is not lost. */
int wait_for_input(int fd)
{
    sigset_t interrupt, before;
    fd_set in;
    FD_ZERO(&in);
    FD_SET(fd, &in);
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_BLOCK, &interrupt, &before);
    int ready = caught ? -1 : pselect(fd + 1, &in, NULL, NULL, NULL, &before);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return ready > 0 ? 0 : -1;
}

int interrupted(void)
{
    int was = caught;
    caught = 0;
    return was;
}
