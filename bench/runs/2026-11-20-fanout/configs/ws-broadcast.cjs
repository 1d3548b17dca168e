// Node.js ws as a broadcast server. Where its documentation says so: README.md and doc/ws.md of
// github.com/websockets/ws.
//
// README, "Server broadcast": a loop over the set of clients, of which those that are open are sent the message.
// README, "WebSocket compression": permessage-deflate costs memory and time, and is off.
// README, "Multiple servers sharing a single HTTP/S server": one server for subscribers and one for the publisher, so
// that the loop meets subscribers only.
"use strict";
const { createServer } = require("http");
const { WebSocket, WebSocketServer } = require("ws");

const [host, port] = process.argv[2].split(":");
const subscribers = new WebSocketServer({ noServer: true, perMessageDeflate: false });
const publishers = new WebSocketServer({ noServer: true, perMessageDeflate: false, clientTracking: false });

function broadcast(data, isBinary) {
  for (const client of subscribers.clients) {
    if (client.readyState === WebSocket.OPEN) client.send(data, { binary: isBinary });
  }
}

// A client that breaks its connection off is no reason to end the others.
function ignore() {}

subscribers.on("connection", (client) => client.on("error", ignore));
publishers.on("connection", (client) => client.on("message", broadcast).on("error", ignore));

const server = createServer();
server.on("upgrade", (request, socket, head) => {
  const role = request.url === "/publish" ? publishers : subscribers;
  role.handleUpgrade(request, socket, head, (client) => role.emit("connection", client, request));
});
server.listen({ host, port: Number(port), backlog: 65535 });
