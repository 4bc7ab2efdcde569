/* Where other nodes and AWX's relays dial in: the header `secret` is checked, and the connection handed to
 * its dialect (docs/cluster.md, sections 1, 3 and 6). */
#ifndef PGRELAY_HTTP_HTTP_PEER_H
#define PGRELAY_HTTP_HTTP_PEER_H

struct evhttp_request;

/* /websocket/relay/: a node's link, where it offers the subprotocol of links, else AWX's wsrelay. */
void http_peer_relay(struct evhttp_request *req);
/* /websocket/broadcast/: AWX's wsbroadcast. */
void http_peer_broadcast(struct evhttp_request *req);

#endif
