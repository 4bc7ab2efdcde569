/* A node's URL for commands: src/http/http_client.c. What goes over the wire tests/e2e/test_publish.py tells. */
#include "config.h"
#include "http/http_client.h"
#include "core/mem.h"

#include "tap.h"

static const char no_url[] = "the URL of a node is wanted: http://HOST:PORT or https://HOST:PORT";
static const char user_url[] = "a URL with a user's name is not supported: the token says who you are";

static const struct url_row {
	const char *url, *text, *error;
} url_rows[] = {
    {"http://web1:8052", "http://web1:8052", NULL},
    {"http://web1", "http://web1", NULL},
    {"http://web1:80/", "http://web1", NULL},
    {"https://web1:443", "https://web1", NULL},
    {"https://web1:80", "https://web1:80", NULL},
    {"ws://web1:8052", "http://web1:8052", NULL},
    {"wss://web1", "https://web1", NULL},
    {"HTTP://web1:8052", "http://web1:8052", NULL},
    {"http://[::1]:8052", "http://[::1]:8052", NULL},
    {"ws://web1:8052/websocket/", "http://web1:8052", NULL},
    {"ws://web1:8052/websocket", "http://web1:8052", NULL},
    {"ws://web1:8052/api/websocket/", "http://web1:8052", NULL},
    {"ws://web1:8052/relay/api/websocket", "http://web1:8052/relay", NULL},
    {"http://web1:8052/relay/", "http://web1:8052/relay", NULL},
    {"http://web1:8052/relay", "http://web1:8052/relay", NULL},
    {"http://web1:8052/?token=secret", "http://web1:8052", NULL},
    {"", NULL, no_url},
    {"web1:8052", NULL, no_url},
    {"web1", NULL, no_url},
    {"http://", NULL, no_url},
    {"ftp://web1", NULL, no_url},
    {"http://web1:port", NULL, no_url},
    {"http://me@web1", NULL, user_url},
    {"http://me:secret@web1", NULL, user_url},
};

static void
test_urls(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(url_rows); i++) {
		const struct url_row *row = &url_rows[i];
		char *error = NULL;
		struct http_client_url *url = http_client_url_parse(row->url, &error);

		is_str(url != NULL ? http_client_url_text(url) : NULL, row->text, "the text of %s", row->url);
		is_str(error, row->error, "the error of %s", row->url);
		http_client_url_free(url);
		free(error);
	}
}

int
main(void)
{
	test_urls();
	return tap_end();
}
