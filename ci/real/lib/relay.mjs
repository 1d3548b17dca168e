//! A SOCKS5 proxy (RFC 1928) of this process, so that a browser's sockets can be cut while both ends stay alive.
//!
//! It knows what Chromium says: no authentication, CONNECT, and the host by its name (address type 3).

import net from 'node:net';
import { freePort } from './ports.mjs';

const GREETING = Buffer.from([5, 0]);
const CONNECTED = Buffer.from([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);

// The lengths of the greeting and of the request behind it, as far as one can tell from what has come.
const greetingLength = (bytes) => (bytes.length < 2 ? 2 : 2 + bytes[1]);
const requestLength = (bytes) => (bytes.length < 5 ? 5 : 7 + bytes[4]);

class Relay {
  #sockets = new Set();
  #down = false;

  constructor(port) {
    this.port = port;
    this.server = net.createServer((client) => this.#meet(client));
  }

  /** Cuts all connections, and those that come until it is `up` again. */
  down() {
    this.#down = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  up() {
    this.#down = false;
  }

  async end() {
    this.down();
    await new Promise((resolve) => this.server.close(resolve));
  }

  #meet(client) {
    if (this.#down) return client.destroy();
    this.#watch(client);
    let came = Buffer.alloc(0);
    let greeted = false;
    const read = (bytes) => {
      came = Buffer.concat([came, bytes]);
      if (!greeted && came.length >= greetingLength(came)) {
        came = came.subarray(greetingLength(came));
        greeted = true;
        client.write(GREETING);
      }
      if (!greeted || came.length < requestLength(came)) return;
      client.off('data', read);
      this.#connect(client, came);
    };
    client.on('data', read);
  }

  #connect(client, request) {
    if (request[1] !== 1 || request[3] !== 3) return client.destroy();
    const portAt = 5 + request[4];
    const onward = net.connect(request.readUInt16BE(portAt), request.toString('latin1', 5, portAt));
    this.#watch(onward);
    onward.once('connect', () => {
      client.write(CONNECTED);
      onward.write(request.subarray(portAt + 2));
      client.pipe(onward).pipe(client);
    });
    client.once('close', () => onward.destroy());
    onward.once('close', () => client.destroy());
  }

  #watch(socket) {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    // A cut is what this is for.
    socket.on('error', () => socket.destroy());
  }
}

/** A proxy on the stage. */
export async function startRelay(stage) {
  const relay = new Relay(await freePort());
  await new Promise((resolve) => relay.server.listen(relay.port, '127.0.0.1', resolve));
  stage.defer(() => relay.end());
  return relay;
}
