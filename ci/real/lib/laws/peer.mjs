//! A client in a law: a raw connection to MQTT, with the few things that all laws do.

import { mustBe } from '../expect.mjs';
import { openMqtt } from '../raw/mqtt.mjs';

const CONNECT = { cmd: 'connect', protocolId: 'MQTT', clean: true, keepalive: 0 };

/** A connection in one version, whose packets are taken in their order, kind by kind. */
export class Peer {
  #taken = new Map();
  #ids = 0;

  constructor(raw, version) {
    Object.assign(this, { raw, version });
  }

  /** The next packet of this kind. */
  async take(cmd) {
    const at = this.#taken.get(cmd) ?? 0;
    const all = () => this.raw.packets.filter((it) => it.cmd === cmd);
    await this.raw.when(`${cmd} number ${at + 1}`, () => all().length > at || this.raw.closed);
    if (all().length <= at) throw new Error(`the connection has ended in place of ${cmd} number ${at + 1}`);
    this.#taken.set(cmd, at + 1);
    return all()[at];
  }

  /** CONNECT, and its CONNACK. */
  async greet(more = {}) {
    this.raw.send({ ...CONNECT, protocolVersion: this.version, clientId: '', ...more });
    return this.take('connack');
  }

  id() {
    this.#ids += 1;
    return this.#ids;
  }

  /** SUBSCRIBE, and what is granted: `filters` as `[filter, qos, options]`. */
  async sub(filters, properties) {
    const subscriptions = filters.map(([topic, qos = 0, more = {}]) => ({ topic, qos, nl: false, rap: false, rh: 0, ...more }));
    const messageId = this.id();
    this.raw.send({ cmd: 'subscribe', messageId, subscriptions, ...(properties && { properties }) });
    const suback = await this.take('suback');
    mustBe('the packet identifier of SUBACK', suback.messageId, messageId);
    mustBe('the answers in SUBACK', suback.granted.length, filters.length);
    return suback.granted;
  }

  async unsub(...filters) {
    const messageId = this.id();
    this.raw.send({ cmd: 'unsubscribe', messageId, unsubscriptions: filters });
    const unsuback = await this.take('unsuback');
    mustBe('the packet identifier of UNSUBACK', unsuback.messageId, messageId);
    return unsuback.granted;
  }

  /** PUBLISH, and the acknowledgement that its QoS has. */
  async pub(topic, payload, { qos = 0, ...more } = {}) {
    const messageId = qos > 0 ? this.id() : undefined;
    this.raw.send({ cmd: 'publish', topic, payload, qos, dup: false, retain: false, messageId, ...more });
    if (qos === 0) return undefined;
    const ack = await this.take(qos === 1 ? 'puback' : 'pubcomp');
    mustBe('the packet identifier of the acknowledgement', ack.messageId, messageId);
    return ack;
  }

  /** What it has heard, up to the message `end`, as `topic body`. */
  async hears(end = 'end') {
    const bodies = [];
    for (;;) {
      const { topic, payload } = await this.take('publish');
      if (`${payload}` === end) return bodies.join();
      bodies.push(`${topic} ${payload}`);
    }
  }

  async pong() {
    this.raw.send({ cmd: 'pingreq' });
    return this.take('pingresp');
  }

  /** Bytes as they are: of numbers and texts. */
  say(...parts) {
    this.raw.say(Buffer.concat(parts.map((part) => (typeof part === 'number' ? Buffer.from([part]) : Buffer.from(part)))));
  }

  /** The connection ends. */
  async ends() {
    await this.raw.when('the end of the connection', () => this.raw.closed);
  }

  /** The connection ends; where it is told why, the reason is one of these. */
  async endsWith(...reasons) {
    await this.ends();
    const told = this.raw.packets.find((it) => it.cmd === 'disconnect' || (it.cmd === 'connack' && (it.reasonCode ?? it.returnCode) > 0));
    const reason = told && (told.reasonCode ?? told.returnCode);
    if (told && !reasons.includes(reason)) throw new Error(`ended with reason ${reason} instead of ${reasons}`);
  }
}

/** Where a law is tried: `address` in `version`, with topics below `name`. */
export class Field {
  #open = [];

  constructor(address, version, name) {
    Object.assign(this, { address, version, name });
  }

  /** A connection on which nothing was said. */
  async open() {
    const peer = new Peer(await openMqtt(this.address, this.version), this.version);
    this.#open.push(peer);
    return peer;
  }

  /** One that has been let in. */
  async peer(connect) {
    const peer = await this.open();
    const { reasonCode, returnCode } = await peer.greet(connect);
    mustBe('the answer to CONNECT', reasonCode ?? returnCode, 0);
    return peer;
  }

  /** One that listens to filters with a QoS, options. */
  async listener(...filters) {
    const peer = await this.peer();
    await peer.sub(filters);
    return peer;
  }

  end() {
    this.#open.forEach(({ raw }) => raw.drop());
  }
}
