// Node.js ws as an echo server. Where its documentation says so: README.md and doc/ws.md of github.com/websockets/ws.
//
// README, "Opt-in for performance": bufferutil is installed beside it, and is used for what is masked.
// README, "WebSocket compression": permessage-deflate costs memory and time, and is off.
// README, "External HTTP/S server": over TLS, where two more arguments name a certificate and its key. Node's tls.html:
// sessions are resumed by tickets, which are on by default; AES-128 first, as for every peer.
// doc/ws.md, "new WebSocketServer": clientTracking keeps a set of all clients, which an echo does not need.
"use strict";
const { readFileSync } = require("fs");
const { createServer } = require("http");
const { WebSocketServer } = require("ws");

const [address, certificate, key] = process.argv.slice(2);
const [host, port] = address.split(":");

function echo(data, isBinary) {
  this.send(data, { binary: isBinary });
}

// A client that breaks its connection off is no reason to end the others.
function ignore() {}

function secured() {
  return require("https").createServer({
    cert: readFileSync(certificate),
    key: readFileSync(key),
    ciphers: "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:ECDHE-ECDSA-AES128-GCM-SHA256",
    honorCipherOrder: true,
  });
}

const server = certificate ? secured() : createServer();
const sockets = new WebSocketServer({ server, perMessageDeflate: false, clientTracking: false });
sockets.on("connection", (client) => client.on("message", echo).on("error", ignore));
server.listen({ host, port: Number(port), backlog: 65535 });
