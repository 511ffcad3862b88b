/* test_tls PORT CA: a server with a certificate of its own on this port of the loopback. Run by tls.sh. */
#include <stdio.h>
#include <string.h>

#include <ponder.h>

static ponder_status open_at(const char *host, const char *port, const char *ca, char *text, size_t room)
{
    char url[128];
    ponder_config *c;
    ponder_model *m = NULL;
    snprintf(url, sizeof url, "https://%s:%s", host, port);
    if (ponder_config_new(&c, NULL) != PONDER_OK) return PONDER_E_NOMEM;
    ponder_status st = ponder_config_set_str(c, PONDER_P_REMOTE_CA, ca);
    if (st == PONDER_OK) st = ponder_model_open_remote(&m, url, c);
    snprintf(text, room, "%s", ponder_config_error(c));
    ponder_model_free(m);
    ponder_config_free(c);
    return st;
}

static int expect(const char *what, ponder_status got, ponder_status want, const char *text, const char *words)
{
    const int good = got == want && strstr(text, words);
    printf("%s: %s (%s)\n", good ? "ok" : "WRONG", what, *text ? text : "accepted");
    return !good;
}

int main(int argc, char **argv)
{
    char text[256];
    if (argc < 3) return 2;
    int wrong = expect("a certificate that nobody vouches for", open_at("127.0.0.1", argv[1], "", text, sizeof text), PONDER_E_IO, text, "certificate");
    wrong |= expect("the same, trusted", open_at("127.0.0.1", argv[1], argv[2], text, sizeof text), PONDER_OK, text, "");
    wrong |= expect("trusted, but of another host", open_at("localhost", argv[1], argv[2], text, sizeof text), PONDER_E_IO, text, "certificate");
    wrong |= expect("no such file of certificates", open_at("127.0.0.1", argv[1], "/nowhere/ca.pem", text, sizeof text), PONDER_E_IO, text, "certificate");
    return wrong;
}
