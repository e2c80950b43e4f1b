/* The program of `syscalls`, as two commands.
 *
 *   calls cost FD      the CPU time of system calls in ns, one line "name ns" each; FD is a socket that listens on TCP
 *   calls bind N FILE  what N × bind(2) and listen(2) take by the clock in ns, a line "port0 bind listen" each, into FILE
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define TIMES 100000
#define CLIENTS 100 /* wait at once to be accepted; less than the backlog */
#define BATCHES 100

static double now(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

static void must(int good, const char *what) {
  if (!good) {
    perror(what);
    exit(1);
  }
}

#define COST(name, times, statement)                                              \
  do {                                                                            \
    double begin = now(CLOCK_PROCESS_CPUTIME_ID);                                 \
    for (int i = 0; i < (times); i++) statement;                                  \
    printf("%s %.1f\n", name, (now(CLOCK_PROCESS_CPUTIME_ID) - begin) / (times)); \
  } while (0)

static int connected(int listener) {
  struct sockaddr_in address;
  socklen_t length = sizeof address;
  int client = socket(AF_INET, SOCK_STREAM, 0);
  getsockname(listener, (struct sockaddr *)&address, &length);
  must(connect(client, (struct sockaddr *)&address, length) == 0, "connect");
  return client;
}

static double accepts(int listener) {
  struct linger reset = {1, 0}; /* leaves no TIME_WAIT */
  double took = 0;
  for (int batch = 0; batch < BATCHES; batch++) {
    int clients[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
      clients[i] = connected(listener);
      setsockopt(clients[i], SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    double begin = now(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < CLIENTS; i++) close(accept(listener, NULL, NULL));
    took += now(CLOCK_PROCESS_CPUTIME_ID) - begin;
    for (int i = 0; i < CLIENTS; i++) close(clients[i]);
  }
  return took / (BATCHES * CLIENTS);
}

static void cost(int listener) {
  int ends[2], one = 1;
  char byte = 0;
  must(pipe(ends) == 0, "pipe");
  int here = connected(listener), there = accept(listener, NULL, NULL);
  must(there >= 0, "accept");
  must(setsockopt(here, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0, "setsockopt");
  COST("getppid", 10 * TIMES, syscall(SYS_getppid));
  COST("write+read", 3 * TIMES, must(write(ends[1], &byte, 1) == 1 && read(ends[0], &byte, 1) == 1, "pipe"));
  COST("setsockopt", 3 * TIMES, setsockopt(here, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
  COST("send+recv", TIMES / 3, must(send(here, &byte, 1, 0) == 1 && recv(there, &byte, 1, 0) == 1, "socket"));
  printf("accept+close %.1f\n", accepts(listener));
}

static void binds(int times, const char *path) {
  FILE *out = fopen(path, "w");
  must(out != NULL, path);
  for (int i = 0; i < times; i++) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int probe = socket(AF_INET, SOCK_STREAM, 0), listener = socket(AF_INET, SOCK_STREAM, 0);
    double start = now(CLOCK_MONOTONIC);
    must(bind(probe, (struct sockaddr *)&address, length) == 0, "bind to port 0");
    double free_port = now(CLOCK_MONOTONIC);
    getsockname(probe, (struct sockaddr *)&address, &length);
    close(probe);
    double begin = now(CLOCK_MONOTONIC);
    must(bind(listener, (struct sockaddr *)&address, length) == 0, "bind");
    double bound = now(CLOCK_MONOTONIC);
    must(listen(listener, 511) == 0, "listen");
    double end = now(CLOCK_MONOTONIC);
    close(listener);
    fprintf(out, "%.0f %.0f %.0f\n", free_port - start, bound - begin, end - bound);
  }
  fputs("done\n", out);
  fclose(out);
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "cost") == 0) {
    cost(atoi(argv[2]));
  } else if (argc == 4 && strcmp(argv[1], "bind") == 0) {
    binds(atoi(argv[2]), argv[3]);
    pause(); /* the process manager would start us again */
  } else {
    return 2;
  }
  return 0;
}
