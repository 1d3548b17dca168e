//! A reader of PROXY headers of version 2 (HAProxy's proxy-protocol.txt, section 2.2), on its own, and a back end that tells
//! each client what it was told of it.

import net from 'node:net';
import { startTcp } from './tcp.mjs';

const SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');

/** The TLVs in these bytes, type by type. */
function tlvs(bytes) {
  const found = new Map();
  for (let at = 0; at < bytes.length;) {
    const end = at + 3 + bytes.readUInt16BE(at + 1);
    if (end > bytes.length) throw new Error('a TLV goes beyond the header');
    found.set(bytes[at], bytes.subarray(at + 3, end));
    at = end;
  }
  return found;
}

const v6 = (bytes) => Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(2 * i).toString(16)).join(':');

/** What a whole header says, and its length; undefined while more of it must come. */
export function readHeader(bytes) {
  if (bytes.length < 16) return undefined;
  if (!bytes.subarray(0, 12).equals(SIGNATURE)) throw new Error('no PROXY header of version 2');
  const length = 16 + bytes.readUInt16BE(14);
  if (bytes.length < length) return undefined;
  if (bytes[12] !== 0x21) throw new Error(`version and command ${bytes[12]}`);
  const size = { 0x11: 4, 0x21: 16 }[bytes[13]] ?? 0;
  const text = size === 4 ? (part) => part.join('.') : v6;
  const body = bytes.subarray(16, length);
  const address = (at) => text(body.subarray(at, at + size));
  const addresses = size && {
    source: address(0), destination: address(size), sourcePort: body.readUInt16BE(2 * size), port: body.readUInt16BE(2 * size + 2),
  };
  return { length, ...addresses, tlvs: tlvs(body.subarray(size ? 2 * size + 4 : 0)) };
}

/** What a header tells, in one line: `source>destination:port`, then what is known of the client. */
function told({ source, destination, port, tlvs: all }) {
  const text = (type) => all.get(type)?.toString() ?? '-';
  const tls = all.has(0x20) ? tlvs(all.get(0x20).subarray(5)) : new Map();
  const inner = (type) => tls.get(type)?.toString() ?? '-';
  return `${source}>${destination}:${port} host=${text(2)} tls=${inner(0x21)} name=${inner(0x22)} identity=${text(0xe0)}`;
}

/** Starts a back end that says back what its header has told, and resolves with its port. */
export function startTold(stage) {
  return startTcp(stage, (socket) => {
    let bytes = Buffer.alloc(0);
    socket.on('data', (part) => {
      bytes = Buffer.concat([bytes, part]);
      const header = readHeader(bytes);
      if (header) socket.end(told(header));
    });
  });
}

/** Says `bytes` from `localAddress`, and resolves with all that came until the end. */
export function exchange(port, bytes, localAddress = '127.0.0.1') {
  return new Promise((resolve) => {
    const parts = [];
    const socket = net.connect({ port, host: '127.0.0.1', localAddress });
    socket.on('connect', () => socket.write(bytes));
    socket.on('data', (part) => parts.push(part));
    socket.on('error', () => {});
    socket.once('close', () => resolve(Buffer.concat(parts).toString()));
  });
}
