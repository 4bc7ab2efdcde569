/*
 * The mesh: one link to each peer that is there, dialled by the node with the smaller id and made anew when
 * it is lost. What comes over the links is handed to whom it concerns.
 */
#ifndef PGRELAY_CLUSTER_MESH_H
#define PGRELAY_CLUSTER_MESH_H

#include <stdbool.h>
#include <stdint.h>

struct link;
struct node;

void mesh_init(void);
/* Closes all links, with 1001. */
void mesh_stop(void);
/* The sessions are gone by then. */
void mesh_free(void);

/* A heartbeat came, or a node is dead (node_init()). */
void mesh_on_heard(const struct node *node);
/* A node is not known any more. */
void mesh_on_forgotten(const char *id);

/* The open link to a node; NULL when there is none. */
struct link *mesh_link(const char *node);
/* The open links, one after the other: NULL first. */
struct link *mesh_next_link(struct link *link);

/* Why there is no link to a node now, or why the last one was lost: one line; NULL for nothing. */
const char *mesh_error(const char *node);

#endif
