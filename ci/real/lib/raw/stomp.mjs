//! STOMP 1.0, 1.1 and 1.2 frame by frame: what is said is said as it stands, and every frame that comes is kept.

import { open } from './transport.mjs';
import { Waiting } from './waiting.mjs';

const LF = 10;
const CR = 13;
const ESCAPES = { '1.0': {}, 1.1: { n: '\n', c: ':', '\\': '\\' }, 1.2: { r: '\r', n: '\n', c: ':', '\\': '\\' } };

/** Text for a header of this version. CONNECT and CONNECTED are never escaped. */
function escaped(text, version) {
  const letters = Object.entries(ESCAPES[version]);
  return [...`${text}`].map((c) => { const found = letters.find(([, of]) => of === c); return found ? `\\${found[0]}` : c; }).join('');
}

/** What a header of this version says; an escape that is none stands as it is. */
export const unescaped = (text, version) => text.replace(/\\(.)/g, (both, letter) => ESCAPES[version][letter] ?? both);

/** The bytes of a frame. Without a `content-length` among its headers the body ends with the NUL. */
export function frame(command, headers = {}, body = '', version = '1.2') {
  const plain = command === 'CONNECT' || command === 'STOMP' ? '1.0' : version;
  const lines = Object.entries(headers).map(([name, value]) => `${escaped(name, plain)}:${escaped(value, plain)}`);
  return Buffer.concat([Buffer.from(`${[command, ...lines].join('\n')}\n\n`), Buffer.from(body), Buffer.from([0])]);
}

/** Splits what comes into frames; `version` is set once it is agreed on. */
class Parser {
  version = '1.0';
  #bytes = Buffer.alloc(0);

  /** The frames that are whole now. */
  push(bytes) {
    this.#bytes = Buffer.concat([this.#bytes, bytes]);
    const frames = [];
    for (let next = this.#next(); next; next = this.#next()) frames.push(next);
    return frames;
  }

  #next() {
    let from = 0;
    while (this.#bytes[from] === LF || this.#bytes[from] === CR) from += 1;
    this.#bytes = this.#bytes.subarray(from);
    const head = this.#headEnd();
    if (head < 0) return undefined;
    const [command, ...lines] = this.#bytes.toString('utf8', 0, head).split('\n').map((line) => line.replace(/\r$/, '')).filter(Boolean);
    const headers = this.#headers(command, lines);
    const length = headers['content-length'] === undefined ? this.#bytes.indexOf(0, head) - head : Number(headers['content-length']);
    if (length < 0 || this.#bytes.length <= head + length) return undefined;
    const body = Buffer.from(this.#bytes.subarray(head, head + length));
    this.#bytes = this.#bytes.subarray(head + length + 1);
    return { command, headers, body };
  }

  // Where the empty line behind the headers ends.
  #headEnd() {
    for (let at = this.#bytes.indexOf(LF); at >= 0; at = this.#bytes.indexOf(LF, at + 1)) {
      if (this.#bytes[at + 1] === LF) return at + 2;
      if (this.#bytes[at + 1] === CR && this.#bytes[at + 2] === LF) return at + 3;
    }
    return -1;
  }

  // Of repeated headers the first counts.
  #headers(command, lines) {
    const headers = {};
    const version = command === 'CONNECTED' ? '1.0' : this.version;
    for (const line of lines) {
      const colon = line.indexOf(':');
      const name = unescaped(line.slice(0, colon), version);
      headers[name] ??= unescaped(line.slice(colon + 1), version);
    }
    return headers;
  }
}

/** A connection: `frames` has all that came, in order; `closed` is true once it has ended. */
export class RawStomp extends Waiting {
  frames = [];
  closed = false;
  #parser = new Parser();

  constructor(transport) {
    super();
    this.transport = transport;
    transport.take((bytes) => this.#came(bytes), () => this.#ended());
  }

  /** The agreed version, from then on. */
  get version() {
    return this.#parser.version;
  }

  #came(bytes) {
    for (const each of this.#parser.push(bytes)) {
      if (each.command === 'CONNECTED') this.#parser.version = each.headers.version ?? '1.0';
      this.frames.push(each);
    }
    this.wake();
  }

  #ended() {
    this.closed = true;
    this.wake();
  }

  send(command, headers, body) {
    this.transport.write(frame(command, headers, body, this.version));
  }

  /** Bytes as they are. */
  say(bytes) {
    this.transport.write(bytes);
  }

  end() {
    this.transport.end();
  }

  drop() {
    this.transport.drop();
  }
}

/** Opens the connection, without a CONNECT. */
export async function openStomp(address) {
  return new RawStomp(await open(address, ['v12.stomp', 'v11.stomp', 'v10.stomp']));
}
