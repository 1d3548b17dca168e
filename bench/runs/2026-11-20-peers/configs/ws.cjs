// Node.js ws as an echo server. Where its documentation says so: README.md and doc/ws.md of github.com/websockets/ws.
//
// README, "Opt-in for performance": bufferutil is installed beside it, and is used for what is masked.
// README, "WebSocket compression": permessage-deflate costs memory and time, and is off.
// doc/ws.md, "new WebSocketServer": clientTracking keeps a set of all clients, which an echo does not need.
"use strict";
const { WebSocketServer } = require("ws");

const [host, port] = process.argv[2].split(":");

function echo(data, isBinary) {
  this.send(data, { binary: isBinary });
}

// A client that breaks its connection off is no reason to end the others.
function ignore() {}

const server = new WebSocketServer({
  host,
  port: Number(port),
  backlog: 65535,
  perMessageDeflate: false,
  clientTracking: false,
});
server.on("connection", (client) => client.on("message", echo).on("error", ignore));
