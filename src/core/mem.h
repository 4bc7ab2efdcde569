/* Allocation that cannot fail: for our own small needs, where running out of memory means abort(). What a
 * client can size is bounded first. */
#ifndef PGRELAY_CORE_MEM_H
#define PGRELAY_CORE_MEM_H

#include <stdarg.h>
#include <stddef.h>

#define ARRAY_LENGTH(a) (sizeof(a) / sizeof((a)[0]))

/* Each returns memory that the caller releases with free(). */
void *mem_alloc(size_t size);
void *mem_zalloc(size_t size);
void *mem_resize(void *ptr, size_t size);
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t len);
char *mem_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
char *mem_vprintf(const char *fmt, va_list ap) __attribute__((format(printf, 1, 0)));

#endif
