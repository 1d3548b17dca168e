//! A client in a law of STOMP: a raw connection in one version, with the few things that all laws do.

import { mustBe } from '../expect.mjs';
import { openStomp } from '../raw/stomp.mjs';

const LOGIN = { login: 'guest', passcode: 'guest', host: '/' };

export class Peer {
  #taken = new Map();
  #receipts = 0;

  constructor(raw, { version, lingers }) {
    Object.assign(this, { raw, version, lingers });
  }

  /** The next frame of this command. */
  async take(command) {
    const at = this.#taken.get(command) ?? 0;
    const all = () => this.raw.frames.filter((it) => it.command === command);
    await this.raw.when(`${command} number ${at + 1}`, () => all().length > at || this.raw.closed);
    const last = this.raw.frames.at(-1);
    if (all().length <= at) throw new Error(`the connection has ended in place of ${command}: ${last?.command} ${last?.headers.message} ${last?.body}`);
    this.#taken.set(command, at + 1);
    return all()[at];
  }

  /** CONNECT, or STOMP, and CONNECTED. */
  async greet(more = {}, command = 'CONNECT') {
    const version = this.version === '1.0' ? {} : { 'accept-version': this.version };
    this.raw.send(command, { ...version, ...LOGIN, ...more });
    return (await this.take('CONNECTED')).headers;
  }

  /** A frame, and its receipt. */
  async say(command, headers = {}, body = '') {
    this.#receipts += 1;
    const receipt = `r${this.#receipts}`;
    this.raw.send(command, { ...headers, receipt }, body);
    mustBe(`the receipt of ${command}`, (await this.take('RECEIPT')).headers['receipt-id'], receipt);
  }

  /** Bytes of a frame as they are, with the NUL behind them. */
  bytes(text) {
    this.raw.say(Buffer.from(`${text}\0`));
  }

  /** The next message: its body, as text. */
  async hears() {
    return `${(await this.take('MESSAGE')).body}`;
  }

  /** What it hears up to `end`. */
  async all() {
    const bodies = [];
    for (let body = await this.hears(); body !== 'end'; body = await this.hears()) bodies.push(body);
    return bodies.join();
  }

  /** ERROR comes, and then the end, which a server that lingers leaves to its client; gives its headers. */
  async fails() {
    const { headers } = await this.take('ERROR');
    if (!this.lingers) await this.ends();
    return headers;
  }

  async ends() {
    await this.raw.when('the end of the connection', () => this.raw.closed);
  }
}

/** Where a law is tried: `address` in `version`, with destinations that end with `name`; `lingers`: the server waits behind ERROR. */
export class Field {
  #open = [];

  constructor(address, version, name, lingers) {
    Object.assign(this, { address, version, lingers, topic: `/topic/${name}`, queue: `/queue/${name}` });
  }

  /** A connection on which nothing was said. */
  async open() {
    const peer = new Peer(await openStomp(this.address), this);
    this.#open.push(peer);
    return peer;
  }

  /** One that has been let in. */
  async peer(more) {
    const peer = await this.open();
    await peer.greet(more);
    return peer;
  }

  /** One that listens to a destination. */
  async listener(destination, more = {}) {
    const peer = await this.peer();
    await peer.say('SUBSCRIBE', { id: 's', destination, ...more });
    return peer;
  }

  /** Says a few bodies to a destination, each with its receipt. */
  async send(destination, ...bodies) {
    const peer = await this.peer();
    for (const body of bodies) await peer.say('SEND', { destination }, body);
    return peer;
  }

  end() {
    this.#open.forEach(({ raw }) => raw.drop());
  }
}

