// An MQTT 3.1.1 load generator that is not the bottleneck: one thread, epoll, TLS 1.3.
//
// It connects its clients, warms up, says {"ready": ...} on stdout, waits for a line on stdin
// (whoever measures takes CPU times there), runs, and says what it saw as one line of JSON.
// A client `NAME` uses the identity NAME.pem (chain and key) below --identities, and its name as
// client id. Rates are per second until the last acknowledgement or delivery; latencies count from
// the moment at which a publish was due, not from when there was room for it.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTING, HANDSHAKE, AWAIT_CONNACK, AWAIT_SUBACK, READY, DEAD };
enum { NAME_MAX_BYTES = 64, TOPIC_MAX_BYTES = 256, IDS = 65535, LATENCIES_MAX = 16 << 20 };
enum { CONNECTING_MAX = 32, EVENTS = 512, READ_BYTES = 65536, BURST_BYTES = 262144 };
#define NS 1000000000ull

typedef struct { uint8_t *data; size_t start, end, room; } Buffer;

typedef struct {
  int fd, state;
  bool subscriber;
  char name[NAME_MAX_BYTES], topic[TOPIC_MAX_BYTES];
  SSL *ssl;
  SSL_CTX *context;
  uint32_t events;
  Buffer in, out;
  uint64_t *due;  // when the publish of each packet id was due; 0: the id is free
  uint16_t last_id;
  int in_flight;
  const uint8_t *payloads, *payloads_end;
} Client;

static struct {
  int port, window, bytes, qos, keepalive;
  double seconds, warmup, rate, drain;
  const char *identities, *topic, *filter, *payloads;
  bool persistent;
  int publishers, subscribers;
  char publisher[NAME_MAX_BYTES], subscriber[NAME_MAX_BYTES];
} opt = {.port = 1883, .window = 20, .bytes = 100, .qos = 1, .drain = 10, .topic = "bench/{name}",
         .filter = "bench/#"};

static Client *clients;
static int total, ready, failed, lost, epoll;
static uint64_t sent, acked, received, denied, last_ack, last_receipt, sending_until;
static uint32_t *latencies;
static size_t latency_count;
static uint8_t filler[1 << 20];
static bool sending;

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
}

static void die(const char *what) {
  fprintf(stderr, "loadgen: %s: %s\n", what, strerror(errno));
  ERR_print_errors_fp(stderr);
  exit(2);
}

static void *checked(void *memory) {
  if (!memory) die("memory");
  return memory;
}

// -- buffers

static void reserve(Buffer *b, size_t bytes) {
  if (b->start == b->end) b->start = b->end = 0;
  if (b->room - b->end >= bytes) return;
  memmove(b->data, b->data + b->start, b->end - b->start);
  b->end -= b->start;
  b->start = 0;
  while (b->room - b->end < bytes) {
    b->room = b->room ? b->room * 2 : 1024;
    b->data = checked(realloc(b->data, b->room));
  }
}

static void put(Buffer *b, const void *data, size_t bytes) {
  reserve(b, bytes);
  memcpy(b->data + b->end, data, bytes);
  b->end += bytes;
}

static void put_byte(Buffer *b, int value) {
  uint8_t byte = (uint8_t)value;
  put(b, &byte, 1);
}

static void put_u16(Buffer *b, int value) {
  put_byte(b, value >> 8);
  put_byte(b, value & 255);
}

static void put_text(Buffer *b, const char *text) {
  put_u16(b, (int)strlen(text));
  put(b, text, strlen(text));
}

static void put_header(Buffer *b, int first, size_t length) {
  put_byte(b, first);
  do {
    put_byte(b, (int)(length & 127) | (length > 127 ? 128 : 0));
    length >>= 7;
  } while (length);
}

// -- sockets

static void watch(Client *c, uint32_t events) {
  if (c->events == events) return;
  struct epoll_event event = {.events = events, .data.ptr = c};
  if (epoll_ctl(epoll, c->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &event)) die("epoll_ctl");
  c->events = events;
}

static void drop(Client *c) {
  if (c->state == DEAD) return;
  if (c->state == READY) ready--, lost++;
  else failed++;
  c->state = DEAD;
  if (c->ssl) SSL_free(c->ssl);
  c->ssl = NULL;
  close(c->fd);
}

// Returns bytes moved, 0 when the socket would block; drops the client at its end or a failure.
static ssize_t moved(Client *c, ssize_t n) {
  if (n > 0) return n;
  if (c->ssl) {
    int error = SSL_get_error(c->ssl, (int)n);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return 0;
    ERR_clear_error();
  } else if (n < 0 && errno == EAGAIN) {
    return 0;
  }
  drop(c);
  return 0;
}

static void flush(Client *c) {
  Buffer *b = &c->out;
  while (b->start < b->end) {
    size_t bytes = b->end - b->start;
    ssize_t n = moved(c, c->ssl ? SSL_write(c->ssl, b->data + b->start, (int)bytes)
                                : write(c->fd, b->data + b->start, bytes));
    if (c->state == DEAD) return;
    if (!n) {
      watch(c, EPOLLIN | EPOLLOUT);
      return;
    }
    b->start += (size_t)n;
  }
  watch(c, EPOLLIN);
}

// -- packets

static void say_connect(Client *c) {
  put_header(&c->out, 0x10, 12 + strlen(c->name));
  put_text(&c->out, "MQTT");
  put_byte(&c->out, 4);
  put_byte(&c->out, opt.persistent && c->subscriber ? 0 : 2);
  put_u16(&c->out, opt.keepalive);
  put_text(&c->out, c->name);
  c->state = AWAIT_CONNACK;
  flush(c);
}

static void say_subscribe(Client *c) {
  put_header(&c->out, 0x82, 5 + strlen(opt.filter));
  put_u16(&c->out, 1);
  put_text(&c->out, opt.filter);
  put_byte(&c->out, opt.qos);
  c->state = AWAIT_SUBACK;
  flush(c);
}

static bool exhausted(const Client *c) {
  return opt.payloads && c->payloads == c->payloads_end;
}

static void say_publish(Client *c, uint64_t due) {
  const uint8_t *payload = filler;
  uint32_t bytes = (uint32_t)opt.bytes;
  if (opt.payloads) {
    memcpy(&bytes, c->payloads, 4);
    payload = c->payloads + 4;
    c->payloads += 4 + bytes;
  }
  put_header(&c->out, 0x30 | opt.qos << 1, 2 + strlen(c->topic) + (opt.qos ? 2 : 0) + bytes);
  put_text(&c->out, c->topic);
  if (opt.qos) {
    do c->last_id = (uint16_t)(c->last_id % IDS + 1);
    while (c->due[c->last_id]);
    c->due[c->last_id] = due;
    c->in_flight++;
    put_u16(&c->out, c->last_id);
  }
  put(&c->out, payload, bytes);
  sent++;
}

// A publish of QoS 0 is done when every subscriber has it.
static bool has_room(const Client *c) {
  if (exhausted(c)) return false;
  if (opt.qos) return c->in_flight < opt.window;
  return sent - received / (uint64_t)(opt.subscribers ? opt.subscribers : 1) < (uint64_t)opt.window;
}

static void pump(Client *c) {
  if (!sending || opt.rate > 0 || c->subscriber || c->state != READY || !has_room(c)) return;
  uint64_t t = now();
  if (t >= sending_until) return;
  while (has_room(c) && c->out.end - c->out.start < BURST_BYTES) say_publish(c, t);
  flush(c);
}

static void on_puback(Client *c, const uint8_t *body) {
  int id = body[0] << 8 | body[1];
  if (!c->due[id]) {
    fprintf(stderr, "loadgen: %s: PUBACK for %d, which was not sent\n", c->name, id);
    exit(3);
  }
  last_ack = now();
  if (latency_count < LATENCIES_MAX)
    latencies[latency_count++] = (uint32_t)((last_ack - c->due[id]) / 1000);
  c->due[id] = 0;
  c->in_flight--;
  acked++;
}

static void on_packet(Client *c, int first, const uint8_t *body, size_t bytes) {
  switch (first >> 4) {
    case 2:
      if (body[1]) {
        fprintf(stderr, "loadgen: %s: CONNACK %d\n", c->name, body[1]);
        drop(c);
      } else if (c->subscriber) {
        say_subscribe(c);
      } else {
        c->state = READY, ready++;
      }
      break;
    case 3:
      received++;
      last_receipt = now();
      if (first & 6) {
        const uint8_t *id = body + 2 + (body[0] << 8 | body[1]);
        uint8_t ack[4] = {0x40, 2, id[0], id[1]};
        put(&c->out, ack, sizeof ack);
      }
      break;
    case 4:
      on_puback(c, body);
      break;
    case 9:
      if (body[bytes - 1] == 0x80) denied++;
      c->state = READY, ready++;
      break;
  }
}

static void parse(Client *c) {
  Buffer *b = &c->in;
  while (b->end - b->start >= 2) {
    size_t length = 0, at = b->start + 1, shift = 0;
    bool whole = false;
    while (at < b->end && !whole) {
      length |= (size_t)(b->data[at] & 127) << shift;
      shift += 7;
      whole = b->data[at++] < 128;
    }
    if (!whole || b->end - at < length) return;
    on_packet(c, b->data[b->start], b->data + at, length);
    if (c->state == DEAD) return;
    b->start = at + length;
  }
}

static void on_readable(Client *c) {
  for (;;) {
    Buffer *b = &c->in;
    reserve(b, c->subscriber && opt.subscribers > 1 ? 4096 : READ_BYTES);
    size_t room = b->room - b->end;
    ssize_t n = moved(c, c->ssl ? SSL_read(c->ssl, b->data + b->end, (int)room)
                                : read(c->fd, b->data + b->end, room));
    if (c->state == DEAD) return;
    if (!n) break;
    b->end += (size_t)n;
    parse(c);
    if (c->state == DEAD) return;
  }
  if (c->out.end > c->out.start) flush(c);
  if (c->state == DEAD) return;
  pump(c);
  if (!opt.qos && sending)
    for (int i = 0; i < opt.publishers; i++) pump(&clients[i]);
}

// -- connecting

static SSL_CTX *identity(const char *name) {
  char path[4096];
  SSL_CTX *context = SSL_CTX_new(TLS_client_method());
  if (!context) die("TLS context");
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_RELEASE_BUFFERS);
  snprintf(path, sizeof path, "%s/roots.pem", opt.identities);
  if (SSL_CTX_load_verify_locations(context, path, NULL) != 1) die(path);
  snprintf(path, sizeof path, "%s/%s.pem", opt.identities, name);
  if (SSL_CTX_use_certificate_chain_file(context, path) != 1) die(path);
  if (SSL_CTX_use_PrivateKey_file(context, path, SSL_FILETYPE_PEM) != 1) die(path);
  return context;
}

static void start(Client *c) {
  int on = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port)};
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (c->fd < 0) die("socket");
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) {
    drop(c);
    return;
  }
  watch(c, EPOLLOUT);
}

static void greet(Client *c) {
  if (c->state == CONNECTING) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
      drop(c);
      return;
    }
    if (!opt.identities) {
      say_connect(c);
      return;
    }
    c->context = identity(c->name);
    c->ssl = checked(SSL_new(c->context));
    SSL_set_fd(c->ssl, c->fd);
    c->state = HANDSHAKE;
  }
  int n = SSL_connect(c->ssl);
  if (n == 1) {
    say_connect(c);
    return;
  }
  int error = SSL_get_error(c->ssl, n);
  if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
    watch(c, error == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLIN | EPOLLOUT);
    return;
  }
  fprintf(stderr, "loadgen: %s: TLS failed\n", c->name);
  drop(c);
}

static void serve(uint64_t wait_ns) {
  struct epoll_event events[EVENTS];
  struct timespec wait = {(time_t)(wait_ns / NS), (long)(wait_ns % NS)};
  int n = epoll_pwait2(epoll, events, EVENTS, &wait, NULL);
  for (int i = 0; i < n; i++) {
    Client *c = events[i].data.ptr;
    if (c->state == DEAD) continue;
    if (c->state <= HANDSHAKE) {
      greet(c);
      continue;
    }
    if (events[i].events & EPOLLOUT) flush(c);
    if (c->state != DEAD && events[i].events & ~(uint32_t)EPOLLOUT) on_readable(c);
  }
}

static double connect_all(void) {
  uint64_t begin = now();
  int started = 0;
  while (ready + failed < total) {
    while (started < total && started - ready - failed < CONNECTING_MAX) start(&clients[started++]);
    serve(NS / 10);
    if (now() - begin > 120 * NS) break;
  }
  return (double)(now() - begin) / 1e9;
}

// -- running

static bool all_exhausted(void) {
  for (int i = 0; i < opt.publishers; i++)
    if (!exhausted(&clients[i])) return false;
  return opt.payloads != NULL;
}

static bool drained(void) {
  if (opt.qos && acked < sent) return false;
  return opt.persistent || received >= sent * (uint64_t)opt.subscribers;
}

// Sends what is due at a fixed rate, whatever the broker does; returns how long to wait.
static uint64_t send_due(double *next, int *turn) {
  uint64_t t = now();
  while (*next <= (double)t && *next < (double)sending_until) {
    Client *c = &clients[*turn];
    *turn = (*turn + 1) % opt.publishers;
    if (c->state == READY) {
      say_publish(c, (uint64_t)*next);
      flush(c);
    }
    *next += 1e9 / opt.rate;
  }
  t = now();
  return *next > (double)t ? (uint64_t)(*next - (double)t) : 0;
}

static void run(double seconds) {
  uint64_t begin = now(), wait = NS / 10;
  double next = (double)begin;
  int turn = 0;
  sent = acked = received = 0;
  latency_count = 0;
  last_ack = last_receipt = begin;
  sending_until = begin + (uint64_t)(seconds * 1e9);
  sending = true;
  for (int i = 0; i < opt.publishers; i++) pump(&clients[i]);
  while (ready && now() < sending_until && !all_exhausted()) {
    if (opt.rate > 0) wait = send_due(&next, &turn);
    serve(wait < NS / 10 ? wait : NS / 10);
  }
  sending = false;
  uint64_t patience = now() + (uint64_t)(opt.drain * 1e9);
  while (ready && !drained() && now() < patience) serve(NS / 100);
}

static int ascending(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static double percentile_ms(double part) {
  return latency_count ? latencies[(size_t)(part * (double)(latency_count - 1))] / 1000.0 : 0;
}

static double cpu_s(void) {
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
         (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void report(uint64_t begin, double cpu) {
  double ack_s = (double)(last_ack - begin) / 1e9, receive_s = (double)(last_receipt - begin) / 1e9;
  qsort(latencies, latency_count, sizeof *latencies, ascending);
  printf("{\"sent\": %llu, \"acked\": %llu, \"received\": %llu, \"lost_connections\": %d, "
         "\"acked_per_s\": %.1f, \"received_per_s\": %.1f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, "
         "\"max_ms\": %.3f, \"cpu_s\": %.3f, \"run_s\": %.3f}\n",
         (unsigned long long)sent, (unsigned long long)acked, (unsigned long long)received, lost,
         ack_s > 0 ? (double)acked / ack_s : 0, receive_s > 0 ? (double)received / receive_s : 0,
         percentile_ms(.5), percentile_ms(.99), percentile_ms(1), cpu_s() - cpu,
         (double)(now() - begin) / 1e9);
  fflush(stdout);
}

// -- options

static int group(char *text, char *name) {  // NAME or NAME:COUNT
  char *colon = strchr(text, ':');
  int count = colon ? atoi(colon + 1) : 1;
  snprintf(name, NAME_MAX_BYTES, "%.*s", (int)(colon ? colon - text : (long)strlen(text)), text);
  return count;
}

static void options(int count, char **words) {
  static const struct option known[] = {
      {"port", 1, 0, 'p'},       {"publishers", 1, 0, 'P'}, {"subscribers", 1, 0, 'S'},
      {"topic", 1, 0, 't'},      {"filter", 1, 0, 'f'},     {"identities", 1, 0, 'i'},
      {"window", 1, 0, 'w'},     {"bytes", 1, 0, 'b'},      {"qos", 1, 0, 'q'},
      {"seconds", 1, 0, 's'},    {"warmup", 1, 0, 'u'},     {"rate", 1, 0, 'r'},
      {"persistent", 0, 0, 'c'}, {"payloads", 1, 0, 'l'},   {"drain", 1, 0, 'd'},
      {0}};
  for (int key; (key = getopt_long(count, words, "", known, NULL)) != -1;) switch (key) {
      case 'p': opt.port = atoi(optarg); break;
      case 'P': opt.publishers = group(optarg, opt.publisher); break;
      case 'S': opt.subscribers = group(optarg, opt.subscriber); break;
      case 't': opt.topic = optarg; break;
      case 'f': opt.filter = optarg; break;
      case 'i': opt.identities = optarg; break;
      case 'w': opt.window = atoi(optarg); break;
      case 'b': opt.bytes = atoi(optarg); break;
      case 'q': opt.qos = atoi(optarg); break;
      case 's': opt.seconds = atof(optarg); break;
      case 'u': opt.warmup = atof(optarg); break;
      case 'r': opt.rate = atof(optarg); break;
      case 'c': opt.persistent = true; break;
      case 'l': opt.payloads = optarg; break;
      case 'd': opt.drain = atof(optarg); break;
      default: exit(1);
    }
}

static void name_client(Client *c, const char *group_name, int number, int count) {
  if (count == 1) snprintf(c->name, sizeof c->name, "%.50s", group_name);
  else snprintf(c->name, sizeof c->name, "%.50s-%05d", group_name, number);
  const char *mark = strstr(opt.topic, "{name}");
  if (mark)
    snprintf(c->topic, sizeof c->topic, "%.*s%s%s", (int)(mark - opt.topic), opt.topic, c->name,
             mark + strlen("{name}"));
  else snprintf(c->topic, sizeof c->topic, "%s", opt.topic);
}

// The file holds for each publisher: bytes that follow (8), then messages, each length (4) and data.
static void load_payloads(void) {
  FILE *file = fopen(opt.payloads, "rb");
  if (!file) die(opt.payloads);
  for (int i = 0; i < opt.publishers; i++) {
    uint64_t bytes;
    if (fread(&bytes, sizeof bytes, 1, file) != 1) die(opt.payloads);
    uint8_t *data = checked(malloc(bytes));
    if (fread(data, 1, bytes, file) != bytes) die(opt.payloads);
    clients[i].payloads = data;
    clients[i].payloads_end = data + bytes;
  }
  fclose(file);
}

static void make_clients(void) {
  total = opt.publishers + opt.subscribers;
  clients = checked(calloc((size_t)total, sizeof *clients));
  latencies = checked(malloc(LATENCIES_MAX * sizeof *latencies));
  for (int i = 0; i < opt.publishers; i++) {
    name_client(&clients[i], opt.publisher, i, opt.publishers);
    clients[i].due = checked(calloc(IDS + 1, sizeof(uint64_t)));
  }
  for (int i = 0; i < opt.subscribers; i++) {
    Client *c = &clients[opt.publishers + i];
    c->subscriber = true;
    name_client(c, opt.subscriber, i, opt.subscribers);
  }
  for (size_t i = 0; i < sizeof filler; i++) filler[i] = (uint8_t)(i * 31);
  if (opt.payloads) load_payloads();
}

int main(int count, char **words) {
  struct rlimit files = {0};
  signal(SIGPIPE, SIG_IGN);
  options(count, words);
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  make_clients();
  if ((epoll = epoll_create1(0)) < 0) die("epoll");
  double connect_s = connect_all();
  if (opt.warmup > 0) run(opt.warmup);
  printf("{\"ready\": %d, \"failed\": %d, \"denied\": %llu, \"connect_s\": %.3f}\n", ready, failed,
         (unsigned long long)denied, connect_s);
  fflush(stdout);
  char go[8];
  if (!fgets(go, sizeof go, stdin)) return 0;
  double cpu = cpu_s();
  uint64_t begin = now();
  run(opt.seconds);
  report(begin, cpu);
  return lost || ready < total;
}
