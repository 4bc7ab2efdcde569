/* Messages by zlib. Its two states, and their buffers, are kept: each message begins anew. */
#include "config.h"
#include "http/deflate.h"
#include "core/mem.h"

#include <stdlib.h>
#include <string.h>
#ifdef HAVE_ZLIB
#include <zlib.h>
#endif

/* ---- the handshake ---- */

#define DEFLATE_NAME   "permessage-deflate"
#define DEFLATE_ANSWER DEFLATE_NAME "; server_no_context_takeover; client_no_context_takeover"

static struct slice
deflate_trim(struct slice s)
{
	while (s.len > 0 && (*s.ptr == ' ' || *s.ptr == '\t'))
		s.ptr++, s.len--;
	while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
		s.len--;
	return s;
}

static bool
deflate_is_bits(struct slice value)
{
	if (value.len >= 2 && value.ptr[0] == '"' && value.ptr[value.len - 1] == '"')
		value = (struct slice){value.ptr + 1, value.len - 2};
	return (value.len == 1 && (*value.ptr == '8' || *value.ptr == '9')) ||
	       (value.len == 2 && *value.ptr == '1' && value.ptr[1] >= '0' && value.ptr[1] <= '5');
}

/* Ours has 15 bits of window: less is not promised. */
static bool
deflate_is_whole_window(struct slice value)
{
	return slice_is(value, "15") || slice_is(value, "\"15\"");
}

/* RFC 7692, section 7.1. *seen has a bit for each parameter that came before. */
static bool
deflate_takes_parameter(struct slice parameter, unsigned *seen)
{
	static const char *const names[] = {"server_no_context_takeover", "client_no_context_takeover",
	    "server_max_window_bits", "client_max_window_bits"};
	struct slice value = parameter, name;
	bool has_value = slice_cut(&value, '=', &name);

	name = deflate_trim(has_value ? name : parameter);
	value = deflate_trim(value);
	for (unsigned i = 0; i < ARRAY_LENGTH(names); i++) {
		if (!slice_is(name, names[i]))
			continue;
		if (*seen & (1u << i))
			return false;
		*seen |= 1u << i;
		return i < 2    ? !has_value
		       : i == 2 ? has_value && deflate_is_whole_window(value)
				: !has_value || deflate_is_bits(value);
	}
	return false;
}

static bool
deflate_takes_offer(struct slice offer)
{
	struct slice part;
	unsigned seen = 0;
	bool more = slice_cut(&offer, ';', &part);

	if (!slice_is(deflate_trim(more ? part : offer), DEFLATE_NAME))
		return false;
	while (more) {
		more = slice_cut(&offer, ';', &part);
		if (!deflate_takes_parameter(deflate_trim(more ? part : offer), &seen))
			return false;
	}
	return true;
}

const char *
deflate_negotiate(const char *offers)
{
	struct slice rest = {offers, offers != NULL ? strlen(offers) : 0}, offer;
	bool more = offers != NULL && deflate_is_built_in();

	while (more) {
		more = slice_cut(&rest, ',', &offer);
		if (deflate_takes_offer(more ? offer : rest))
			return DEFLATE_ANSWER;
	}
	return NULL;
}

#ifdef HAVE_ZLIB

/* ---- messages ---- */

#define DEFLATE_LEVEL  1 /* the next ones cost twice as much, for a few hundredths less */
#define DEFLATE_MEMORY 8
#define DEFLATE_WINDOW (-15) /* without zlib's header */
#define DEFLATE_CHUNK  (16 * 1024)

/* What ends each message, and is left out (section 7.2.1). */
static const unsigned char deflate_end[] = {0, 0, 0xff, 0xff};

static struct {
	z_stream out, in;
	bool out_ready, in_ready;
	unsigned char *compressed, *expanded;
	size_t compressed_size, expanded_size;
} deflater;

bool
deflate_is_built_in(void)
{
	return true;
}

static void
deflate_begin_compressing(size_t len)
{
	size_t bound;

	if (!deflater.out_ready && deflateInit2(&deflater.out, DEFLATE_LEVEL, Z_DEFLATED, DEFLATE_WINDOW,
				       DEFLATE_MEMORY, Z_DEFAULT_STRATEGY) != Z_OK)
		abort();
	if (deflater.out_ready)
		deflateReset(&deflater.out);
	deflater.out_ready = true;
	bound = deflateBound(&deflater.out, (uLong)len) + sizeof(deflate_end) + 8;
	if (bound > deflater.compressed_size) {
		free(deflater.compressed);
		deflater.compressed = mem_alloc(bound);
		deflater.compressed_size = bound;
	}
	deflater.out.next_out = deflater.compressed;
	deflater.out.avail_out = (uInt)deflater.compressed_size;
}

bool
deflate_compress(const struct slice *parts, int count, struct slice *out)
{
	size_t len = 0, compressed;

	for (int i = 0; i < count; i++)
		len += parts[i].len;
	if (len == 0 || len > DEFLATE_MAX)
		return false;
	deflate_begin_compressing(len);
	for (int i = 0; i < count; i++) {
		deflater.out.next_in = (Bytef *)(uintptr_t)parts[i].ptr;
		deflater.out.avail_in = (uInt)parts[i].len;
		if (deflate(&deflater.out, i == count - 1 ? Z_SYNC_FLUSH : Z_NO_FLUSH) == Z_STREAM_ERROR)
			abort();
	}
	compressed = deflater.compressed_size - deflater.out.avail_out;
	if (compressed < sizeof(deflate_end) || compressed - sizeof(deflate_end) >= len)
		return false;
	*out = (struct slice){(const char *)deflater.compressed, compressed - sizeof(deflate_end)};
	return true;
}

static void
deflate_begin_expanding(void)
{
	if (!deflater.in_ready && inflateInit2(&deflater.in, DEFLATE_WINDOW) != Z_OK)
		abort();
	if (deflater.in_ready)
		inflateReset(&deflater.in);
	deflater.in_ready = true;
}

/* More room behind the len octets that are there. */
static void
deflate_make_room(size_t len)
{
	if (deflater.expanded_size - len >= DEFLATE_CHUNK)
		return;
	deflater.expanded_size = len + (len < DEFLATE_CHUNK ? DEFLATE_CHUNK : len);
	deflater.expanded = mem_resize(deflater.expanded, deflater.expanded_size);
}

static enum deflate_result
deflate_expand_part(const void *part, size_t part_len, size_t max, size_t *len)
{
	deflater.in.next_in = (Bytef *)(uintptr_t)part;
	deflater.in.avail_in = (uInt)part_len;
	do {
		int rc;

		deflate_make_room(*len);
		deflater.in.next_out = deflater.expanded + *len;
		deflater.in.avail_out = (uInt)(deflater.expanded_size - *len);
		rc = inflate(&deflater.in, Z_SYNC_FLUSH);
		*len = deflater.expanded_size - deflater.in.avail_out;
		if (*len > max)
			return DEFLATE_TOO_BIG;
		if (rc == Z_STREAM_END) /* a final block: another one may follow (section 7.2.3.5) */
			inflateReset(&deflater.in);
		else if (rc != Z_OK && rc != Z_BUF_ERROR)
			return DEFLATE_CORRUPT;
	} while (deflater.in.avail_in > 0 || deflater.in.avail_out == 0);
	return DEFLATE_OK;
}

/* A large one's memory is not kept. */
static void
deflate_trim_buffer(void)
{
	if (deflater.expanded_size <= DEFLATE_MAX)
		return;
	free(deflater.expanded);
	deflater.expanded = NULL;
	deflater.expanded_size = 0;
}

enum deflate_result
deflate_expand(struct slice in, size_t max, struct slice *out)
{
	enum deflate_result result;
	size_t len = 0;

	deflate_trim_buffer();
	deflate_begin_expanding();
	result = deflate_expand_part(in.ptr, in.len, max, &len);
	if (result == DEFLATE_OK)
		result = deflate_expand_part(deflate_end, sizeof(deflate_end), max, &len);
	*out = (struct slice){(const char *)deflater.expanded, len};
	return result;
}

void
deflate_free(void)
{
	if (deflater.out_ready)
		deflateEnd(&deflater.out);
	if (deflater.in_ready)
		inflateEnd(&deflater.in);
	free(deflater.compressed);
	free(deflater.expanded);
	memset(&deflater, 0, sizeof(deflater));
}

#else

bool
deflate_is_built_in(void)
{
	return false;
}

bool
deflate_compress(const struct slice *parts, int count, struct slice *out)
{
	return false;
}

enum deflate_result
deflate_expand(struct slice in, size_t max, struct slice *out)
{
	return DEFLATE_CORRUPT;
}

void
deflate_free(void)
{
}

#endif
