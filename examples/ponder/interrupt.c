#include <signal.h>
#include <string.h>

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

int interrupted(void)
{
    int was = caught;
    caught = 0;
    return was;
}
