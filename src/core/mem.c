/* Allocation that cannot fail. */
#include "config.h"
#include "core/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *
mem_check(void *ptr)
{
	if (ptr == NULL) {
		fputs("pgrelay: out of memory\n", stderr);
		abort();
	}
	return ptr;
}

void *
mem_alloc(size_t size)
{
	return mem_check(malloc(size > 0 ? size : 1));
}

void *
mem_zalloc(size_t size)
{
	return mem_check(calloc(1, size > 0 ? size : 1));
}

void *
mem_resize(void *ptr, size_t size)
{
	return mem_check(realloc(ptr, size > 0 ? size : 1));
}

char *
mem_strdup(const char *s)
{
	return mem_check(strdup(s));
}

char *
mem_strndup(const char *s, size_t len)
{
	return mem_check(strndup(s, len));
}

char *
mem_vprintf(const char *fmt, va_list ap)
{
	char *s = NULL;

	if (vasprintf(&s, fmt, ap) < 0)
		s = NULL;
	return mem_check(s);
}

char *
mem_printf(const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	s = mem_vprintf(fmt, ap);
	va_end(ap);
	return s;
}
