// Gives programs written for a browser a WebSocket in node: the package ws.
globalThis.WebSocket = require("ws");
