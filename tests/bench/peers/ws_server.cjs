// A relay as one writes it with "ws" and "pg": each event that is heard goes to every client. ws_server.cjs PORT; the
// database is in the environment, as libpq has it. A line on standard output: it is ready.
"use strict";
const { Client } = require("pg");
const { WebSocketServer } = require("ws");

const port = Number(process.argv[2]);
const server = new WebSocketServer({ host: "127.0.0.1", port, perMessageDeflate: false, backlog: 4096 });
const database = new Client();

// A record is "e ID TIME TOPIC PAYLOAD".
function payloadOf(record) {
    let start = 0;
    for (let i = 0; i < 4; i++)
        start = record.indexOf(" ", start) + 1;
    return record.slice(start);
}

database.on("notification", ({ payload }) => {
    for (const record of payload.split("\n")) {
        if (!record.startsWith("e "))
            continue;
        const message = payloadOf(record);
        for (const client of server.clients)
            client.send(message);
    }
});

async function main() {
    await database.connect();
    await database.query("LISTEN pgrelay");
    console.log("ready");
}

main().catch((error) => {
    console.error(error);
    process.exit(1);
});
