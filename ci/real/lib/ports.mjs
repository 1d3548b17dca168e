//! Free ports of 127.0.0.1, and whether somebody listens on one.
//!
//! The kernel is asked by binding. A port is taken from below the ephemeral range: one from inside it could become the
//! source port of somebody's outgoing connection between the question and the server's own bind.

import { readFileSync } from 'node:fs';
import net from 'node:net';

const LOWEST = 10_000;
const TRIES = 200;
const given = new Set();

function ephemeralStart() {
  return Number(readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').split(/\s+/)[0]);
}

function bindable(port) {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.once('error', () => resolve(0));
    server.listen(port, '127.0.0.1', () => {
      const { port: bound } = server.address();
      server.close(() => resolve(bound));
    });
  });
}

/** A candidate; 0 lets the kernel choose, where the ephemeral range leaves no room below. */
function candidate() {
  const room = ephemeralStart() - LOWEST;
  return room > 1000 ? LOWEST + Math.floor(Math.random() * room) : 0;
}

/** A port of 127.0.0.1 that could be bound just now and that this process has not given away before. */
export async function freePort() {
  for (let i = 0; i < TRIES; i += 1) {
    const port = await bindable(candidate());
    if (port && !given.has(port)) {
      given.add(port);
      return port;
    }
  }
  throw new Error(`no free port of 127.0.0.1 in ${TRIES} tries`);
}

/** Whether a connection to the port is accepted. */
export function listening(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
