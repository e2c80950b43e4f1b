/* Blocking, one connection after the other, linked statically: no library to preload into. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fail(const char *what) {
    perror(what);
    return 1;
}

/* The request's head is read to its end: a close(2) with unread input would reset the connection. */
static void answer(int connection, const char *reply) {
    char head[8192];
    size_t length = 0;
    ssize_t got;
    while (length < sizeof head - 1 && (got = read(connection, head + length, sizeof head - 1 - length)) > 0) {
        head[length += (size_t)got] = 0;
        if (strstr(head, "\r\n\r\n")) {
            if (write(connection, reply, strlen(reply)) < 0) perror("write");
            return;
        }
    }
}

int main(int argc, char **argv) {
    char body[32], reply[160];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_port = htons((unsigned short)atoi(argc > 1 ? argv[1] : "8000"));
    snprintf(body, sizeof body, "pid=%d\n", (int)getpid());
    snprintf(reply, sizeof reply, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address)) return fail("bind");
    if (listen(listener, 16)) return fail("listen");
    for (;;) {
        int connection = accept(listener, NULL, NULL);
        if (connection < 0) return fail("accept");
        answer(connection, reply);
        close(connection);
    }
}
