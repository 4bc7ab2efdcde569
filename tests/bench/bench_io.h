/* Sockets of the bench, with TLS or without: by descriptor, so that who uses them need not know. */
#ifndef BENCH_IO_H
#define BENCH_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The client's end; any certificate is good. Ends the process when there is no agreement within ten seconds. The
 * socket is connected, and does not block (which this does). */
void bench_io_connect_tls(int fd);

/* For bench_io_accept_tls(): PEM files. */
void bench_io_load_certificate(const char *certificate, const char *key);
/* The server's end; the socket blocks. False: there is no agreement. */
bool bench_io_accept_tls(int fd);

/* Like recv(). */
ssize_t bench_io_recv(int fd, void *data, size_t size);
/* More has come than the last bench_io_recv() had room for, and the socket does not tell. */
bool bench_io_has_more(int fd);

/* All of it; false: the socket did not take it. */
bool bench_io_send(int fd, const void *data, size_t len);

void bench_io_close(int fd);

#endif
