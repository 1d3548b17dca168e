//! Bytes to and from a broker, or edgehold in its place: by TCP or by WebSocket, with nothing hidden.
//!
//! `open(address, protocols)` resolves with a transport: `write(bytes)`, `end()` (an orderly end), `drop()` (a reset or the
//! like), and `take(onBytes, onEnd)`, which is called once, before anything is written.

import net from 'node:net';
import WebSocket from 'ws';
import { within } from '../until.mjs';

class Tcp {
  constructor(socket) {
    this.socket = socket;
    socket.setNoDelay(true);
    // A reset is an end as well.
    socket.on('error', () => {});
  }

  take(onBytes, onEnd) {
    this.socket.on('data', onBytes);
    this.socket.once('end', () => this.socket.end());
    this.socket.once('close', onEnd);
  }

  write(bytes) {
    this.socket.write(bytes);
  }

  end() {
    this.socket.end();
  }

  drop() {
    this.socket.resetAndDestroy();
  }
}

class Ws {
  constructor(ws) {
    this.ws = ws;
    ws.on('error', () => {});
  }

  take(onBytes, onEnd) {
    this.ws.on('message', (data) => onBytes(data));
    this.ws.once('close', onEnd);
  }

  write(bytes) {
    this.ws.send(bytes);
  }

  end() {
    this.ws.close(1000);
  }

  drop() {
    this.ws.terminate();
  }
}

function openTcp(address) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(Number(new URL(address).port), '127.0.0.1');
    socket.once('connect', () => resolve(new Tcp(socket)));
    socket.once('error', reject);
  });
}

function openWs(address, protocols) {
  return new Promise((resolve, reject) => {
    const ws = new WebSocket(address, protocols, { perMessageDeflate: false });
    ws.once('open', () => resolve(new Ws(ws)));
    ws.once('error', reject);
  });
}

/** Connects to `tcp://…` or `ws://…`; `protocols` are the WebSocket's. */
export function open(address, protocols) {
  const opened = address.startsWith('tcp:') ? openTcp(address) : openWs(address, protocols);
  return within(`opening ${address}`, opened);
}
