// socket.io with its PostgreSQL adapter: what others NOTIFY in the adapter's format goes to every client.
// socket_io_server.cjs PORT; the database is in the environment, as libpq has it. A line on standard output: it is ready.
"use strict";
const { createServer } = require("node:http");
const { createAdapter } = require("@socket.io/postgres-adapter");
const { Pool } = require("pg");
const { Server } = require("socket.io");

const port = Number(process.argv[2]);
const pool = new Pool();
const http = createServer();

async function listens() {
    const text = "SELECT count(*)::int AS n FROM pg_stat_activity WHERE query = 'LISTEN \"socket.io#/\"' AND state = 'idle'";
    return (await pool.query(text)).rows[0].n > 0;
}

async function main() {
    const io = new Server(http, { adapter: createAdapter(pool), transports: ["websocket"], serveClient: false });
    io.on("connection", () => {});
    await new Promise((resolve) => http.listen({ host: "127.0.0.1", port, backlog: 4096 }, resolve));
    while (!(await listens()))
        ;
    console.log("ready");
}

main().catch((error) => {
    console.error(error);
    process.exit(1);
});
