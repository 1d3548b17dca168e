//! A plain WebSocket client (npm `ws`) with promises for what the stories wait for.

import WebSocket from 'ws';
import { within } from './until.mjs';

/**
 * Connects, and resolves with the open WebSocket. `closed` on it resolves with `{ code, reason }` when the connection has
 * ended; `failed` holds an error of the protocol, which `closed` would otherwise only show as code 1006.
 * `onMessage(bytes, isBinary)` is set before the handshake: nothing that comes early is missed.
 */
export function connect(url, { protocols = [], onMessage = () => {}, ...options } = {}) {
  const ws = new WebSocket(url, protocols, { perMessageDeflate: false, ...options });
  ws.on('message', onMessage);
  ws.closed = new Promise((resolve) => {
    ws.once('close', (code, reason) => resolve({ code, reason: reason.toString(), at: performance.now() }));
  });
  const opened = new Promise((resolve, reject) => {
    ws.once('open', () => resolve(ws));
    ws.on('error', (error) => {
      ws.failed = error;
      reject(error);
    });
  });
  return within(`opening ${url}`, opened);
}

/** Tries to connect, and resolves with the HTTP status of the refusal, or with 101 when the handshake succeeds. */
export function handshakeStatus(url, { protocols = [] } = {}) {
  const ws = new WebSocket(url, protocols, { perMessageDeflate: false });
  const status = new Promise((resolve, reject) => {
    ws.once('unexpected-response', (request, response) => {
      response.resume();
      response.once('end', () => resolve(response.statusCode));
      response.once('error', reject);
    });
    ws.once('open', () => resolve(101));
    ws.on('error', reject);
  });
  return within(`handshake at ${url}`, status).finally(() => ws.terminate());
}

/** Resolves when everything handed to `ws` so far has been written to its socket. */
export function send(ws, data) {
  return new Promise((resolve, reject) => {
    ws.send(data, (error) => (error ? reject(error) : resolve()));
  });
}
