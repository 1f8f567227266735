// The least that a relay in C costs: one thread, epoll, and one buffer for all connections. It reads into that buffer, writes it to
// the other side, and keeps what was not taken in memory of the connection's own. Half-closes are passed on. There are no limits, no
// timers and no checks, so it is no proxy for anybody: it stays in the lab as a floor.
//   cc -O2 -o minimal-relay minimal-relay.c && ./minimal-relay BUFFER_BYTES LISTEN_PORT:TARGET_PORT[:TARGET_PORT…] …
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_TARGETS = 8, MOST_EVENTS = 256 };

struct leg {
  int fd;
  struct leg *other;   // NULL: this is a listener.
  int targets[MOST_TARGETS], count, turn;
  char *backlog;       // What this leg did not take yet.
  size_t begin, end;
  int ended;           // Its peer has sent a FIN.
  int finish;          // Send a FIN once the backlog is out.
  unsigned waits;      // The events asked for.
  struct leg *next_dead;
};

static int poller;
static char *buffer;
static size_t buffer_bytes;
static struct leg *dead;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void await(struct leg *leg, unsigned events) {
  if (leg->waits == events) return;
  struct epoll_event event = {.events = events, .data.ptr = leg};
  epoll_ctl(poller, leg->waits == ~0u ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, leg->fd, &event);
  leg->waits = events;
}

static void update(struct leg *leg) {
  unsigned events = 0;
  if (!leg->ended && leg->other->begin == leg->other->end) events |= EPOLLIN;
  if (leg->begin < leg->end) events |= EPOLLOUT;
  await(leg, events);
}

static void end_both(struct leg *leg) {
  struct leg *both[] = {leg, leg->other};
  for (int index = 0; index < 2; index++) {
    if (both[index]->fd < 0) return;
    close(both[index]->fd);
    both[index]->fd = -1;
    free(both[index]->backlog);
    // Events of this turn may still name it.
    both[index]->next_dead = dead;
    dead = both[index];
  }
}

static void when_flushed(struct leg *leg) {
  if (leg->finish && leg->begin == leg->end) {
    shutdown(leg->fd, SHUT_WR);
    if (leg->ended) return end_both(leg);
  }
  update(leg);
  update(leg->other);
}

static void readable(struct leg *leg) {
  struct leg *other = leg->other;
  ssize_t got = recv(leg->fd, buffer, buffer_bytes, 0);
  if (got < 0) {
    if (errno != EAGAIN) end_both(leg);
    return;
  }
  if (got == 0) {
    leg->ended = 1;
    other->finish = 1;
    return when_flushed(other);
  }
  ssize_t sent = send(other->fd, buffer, got, MSG_NOSIGNAL);
  if (sent < 0 && errno != EAGAIN && errno != ENOTCONN) return end_both(leg);
  if (sent < 0) sent = 0;
  if (sent == got) return;
  other->backlog = realloc(other->backlog, got - sent);
  memcpy(other->backlog, buffer + sent, got - sent);
  other->begin = 0;
  other->end = got - sent;
  update(leg);
  update(other);
}

static void writable(struct leg *leg) {
  ssize_t sent = send(leg->fd, leg->backlog + leg->begin, leg->end - leg->begin, MSG_NOSIGNAL);
  if (sent < 0) {
    if (errno != EAGAIN) end_both(leg);
    return;
  }
  leg->begin += sent;
  if (leg->begin == leg->end) when_flushed(leg);
}

static struct leg *new_leg(int fd) {
  struct leg *leg = calloc(1, sizeof *leg);
  leg->fd = fd;
  leg->waits = ~0u;
  return leg;
}

static void accept_all(struct leg *listener) {
  for (;;) {
    int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0) return;
    int one = 1, out = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (out < 0) {
      close(fd);
      return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(out, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    to.sin_port = htons(listener->targets[listener->turn++ % listener->count]);
    connect(out, (struct sockaddr *)&to, sizeof to);
    struct leg *down = new_leg(fd), *up = new_leg(out);
    down->other = up;
    up->other = down;
    update(down);
    update(up);
  }
}

int main(int count, char **words) {
  signal(SIGPIPE, SIG_IGN);
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  buffer_bytes = count > 1 ? strtoul(words[1], NULL, 10) : 0;
  buffer = malloc(buffer_bytes);
  poller = epoll_create1(0);
  for (int index = 2; index < count; index++) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct leg *listener = new_leg(fd);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    at.sin_port = htons(atoi(strtok(words[index], ":")));
    for (char *port; listener->count < MOST_TARGETS && (port = strtok(NULL, ":"));)
      listener->targets[listener->count++] = atoi(port);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 4096)) fail("listen");
    await(listener, EPOLLIN);
  }
  struct epoll_event events[MOST_EVENTS];
  for (;;) {
    int ready = epoll_wait(poller, events, MOST_EVENTS, -1);
    for (int index = 0; index < ready; index++) {
      struct leg *leg = events[index].data.ptr;
      unsigned what = events[index].events;
      if (leg->fd < 0) continue;
      if (leg->other == NULL) accept_all(leg);
      else if (what & EPOLLERR) end_both(leg);
      else {
        if (leg->waits & what & EPOLLOUT) writable(leg);
        if (leg->fd >= 0 && (leg->waits & EPOLLIN) && (what & (EPOLLIN | EPOLLHUP))) readable(leg);
        // Both directions are shut: nothing comes any more, and nothing can be sent.
        else if (leg->fd >= 0 && (what & EPOLLHUP) && !(leg->waits & EPOLLIN)) end_both(leg);
      }
    }
    for (struct leg *next; dead; dead = next) {
      next = dead->next_dead;
      free(dead);
    }
  }
}
