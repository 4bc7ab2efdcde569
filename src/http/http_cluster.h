/* GET /api/v1/cluster: the picture of all nodes (docs/cluster.md, section 7). */
#ifndef PGRELAY_HTTP_HTTP_CLUSTER_H
#define PGRELAY_HTTP_HTTP_CLUSTER_H

struct evhttp_request;

void http_cluster(struct evhttp_request *req);

#endif
