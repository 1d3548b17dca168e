//! Random MQTT scripts, and their player. What a step causes is found out where the broker is asked directly: Mosquitto does
//! one thing after the other, so a PINGRESP comes behind all that was caused before.
//!
//! What docs/offload.md says that edgehold refuses (No Local, sessions that are kept, QoS 2 for a group) is not asked for.
//!
//! The law of a script: where a broker may choose, there is nothing to choose from. A shared subscription has one member at a
//! time.
//!
//! What edgehold has confirmed to its publisher may still be on its way to other clients, and then comes to one that subscribes
//! afterwards (docs/offload.md). So behind each message a *fence* is published in the same order, to which every client is
//! subscribed, each from the moment at which it is in; the next step is not done before all have heard it.

import { generator } from '../bodies.mjs';
import { openMqtt } from '../raw/mqtt.mjs';

const QOS = [0, 1, 2];
/** The topic of fences. */
const FENCE = 'fence/';
/** Round trips behind which all that QoS 2 takes is over. */
const ROUNDS = 3;

const text = (words) => Buffer.concat([Buffer.from([0, words.length]), Buffer.from(words)]);
const packet = (first, ...parts) => { const rest = Buffer.concat(parts); return Buffer.concat([Buffer.from([first, rest.length]), rest]); };
const bytes = (...all) => Buffer.from(all);
/** No properties, where the version has any. */
const none = (version) => (version === 5 ? bytes(0) : bytes());

/** Mistakes of a client that is connected, after which a broker closes: their bytes, by version. */
export const MISTAKES = {
  'CONNECT again': (v) => packet(0x10, text('MQTT'), bytes(v, 2, 0, 0), none(v), text('again')),
  'a length without end': () => bytes(0x30, 0xff, 0xff, 0xff, 0xff, 0xff),
  'a packet of type 0': () => bytes(0, 0),
  'SUBSCRIBE with other flags': (v) => packet(0x80, bytes(0, 1), none(v), text('a'), bytes(0)),
  'SUBSCRIBE to nothing': (v) => packet(0x82, bytes(0, 1), none(v)),
  'SUBSCRIBE with QoS 3': (v) => packet(0x82, bytes(0, 1), none(v), text('a'), bytes(3)),
  'SUBSCRIBE with packet id 0': (v) => packet(0x82, bytes(0, 0), none(v), text('a'), bytes(0)),
  'SUBSCRIBE to a filter of no kind': (v) => packet(0x82, bytes(0, 1), none(v), text('a/#/b'), bytes(0)),
  'PUBLISH with QoS 3': (v) => packet(0x36, text('a'), bytes(0, 1), none(v)),
  'PUBLISH to a wildcard': (v) => packet(0x30, text('a/#'), none(v)),
  'PUBLISH to text that is none': (v) => packet(0x30, bytes(0, 2, 0xc3, 0x28), none(v)),
  'PUBLISH that is cut': () => bytes(0x30, 1, 0),
  'PUBREL with other flags': () => bytes(0x60, 2, 0, 1),
};

/** What is said instead of a CONNECT, or a CONNECT that is none. */
export const STRANGERS = {
  'PUBLISH first': () => packet(0x30, text('a'), bytes(0)),
  'a protocol of another name': () => packet(0x10, text('MQTX'), bytes(4, 2, 0, 0), text('c')),
  'reserved flag of CONNECT': () => packet(0x10, text('MQTT'), bytes(4, 3, 0, 0), text('c')),
  'a will of QoS 3': () => packet(0x10, text('MQTT'), bytes(4, 0x1e, 0, 0), text('c'), text('w'), text('x')),
};

class Writer {
  constructor(seed, { clients, versions, retains }) {
    Object.assign(this, { seed, versions, retains, random: generator(seed), steps: [], count: 0 });
    this.clients = Array.from({ length: clients }, (_, c) => ({ id: `@${seed}-${c}`, on: false, subs: new Set() }));
    this.topics = ['a', 'b', 'a/b', 'a/c'].map((name) => `@${seed}/${name}`);
    this.filters = [...this.topics, ...['+', '#', 'a/+', '+/b', 'a/#'].map((name) => `@${seed}/${name}`)];
    // What is retained there, brokers tell members of a group or do not; and no other filter matches it.
    this.unkept = `@${seed}-s`;
    this.shared = [`$share/g/${this.unkept}`, `$share/h/${this.unkept}`];
  }

  pick(list) {
    return list[this.random(list.length)];
  }

  next() {
    this.count += 1;
    return this.count;
  }

  add(by, what, words = {}) {
    this.steps.push({ by, what, ...words });
  }

  /** Client 0 hears all wills, and stays. */
  begin() {
    Object.assign(this.clients[0], { on: true, qos: 1, rap: false });
    this.add(0, 'connect', { version: this.pick(this.versions), id: this.clients[0].id, clean: true });
    for (const topic of this.topics.slice(0, 2)) this.add(0, 'publish', { topic, payload: `kept ${topic}`, qos: 1, retain: true });
    this.add(0, 'subscribe', { filters: [{ topic: `@${this.seed}/will/+`, qos: 1 }] });
  }

  write() {
    const c = this.random(this.clients.length);
    const client = this.clients[c];
    if (!client.on) return this.connect(c, client);
    this[this.pick(['subscribe', 'subscribe', 'publish', 'publish', 'publish', 'publish', 'unsubscribe', 'leave', 'mistake', 'stranger'])](c, client);
  }

  connect(c, client) {
    client.version ??= this.pick(this.versions);
    client.will = this.random(3) === 0 ? { topic: `@${this.seed}/will/${c}`, payload: `will ${this.next()}`, qos: this.random(3), retain: false } : undefined;
    client.on = true;
    client.subs = new Set();
    this.add(c, 'connect', { version: client.version, id: client.id, clean: true, will: client.will });
  }

  subscribe(c, client) {
    // Who is a member of both groups has two copies, at different times.
    const may = client.version === 5 && !this.shared.some((filter) => client.subs.has(filter));
    const free = this.shared.filter((filter) => may && !this.clients.some(({ subs }) => subs.has(filter))).slice(0, 1);
    const count = 1 + this.random(2);
    const topics = [...new Set(Array.from({ length: count }, () => this.pick([...this.filters, ...free])))];
    // Of filters that overlap with different QoS Mosquitto takes any, edgehold the highest, as the specification says; likewise
    // with retain as published, of which edgehold heeds the one that is set.
    client.qos ??= this.pick(QOS);
    client.rap ??= this.random(3) === 0;
    const options = (topic) => (client.version === 5 && !topic.startsWith('$') ? { rap: client.rap, rh: this.random(3) } : {});
    const filters = topics.map((topic) => ({ topic, qos: topic.startsWith('$') ? Math.min(1, client.qos) : client.qos, ...options(topic) }));
    topics.forEach((topic) => client.subs.add(topic));
    const number = client.version === 5 && this.random(2) ? 1 + this.random(100) : undefined;
    this.add(c, 'subscribe', { filters, number });
  }

  unsubscribe(c, client) {
    const known = this.random(8) ? [...client.subs] : this.filters;
    if (!known.length) return;
    const topic = this.pick(known);
    client.subs.delete(topic);
    this.add(c, 'unsubscribe', { filters: [topic] });
  }

  publish(c, client) {
    const topic = this.pick([...this.topics, this.unkept]);
    const payload = this.pick([`m${this.next()}`, `m${this.next()} ${'x'.repeat(this.random(3000))}`, '']);
    const words = { topic, payload, qos: this.pick(QOS), retain: this.retains && topic !== this.unkept && this.random(5) === 0 };
    if (client.version === 5) Object.assign(words, { alias: this.random(4) === 0, properties: this.properties() });
    this.add(c, 'publish', words);
  }

  properties() {
    return {
      ...(this.random(3) ? {} : { userProperties: { one: 'ü', two: `${this.next()}` } }),
      ...(this.random(4) ? {} : { contentType: 'text/plain', payloadFormatIndicator: true }),
      ...(this.random(4) ? {} : { messageExpiryInterval: 1000 }),
      ...(this.random(4) ? {} : { responseTopic: `@${this.seed}/a`, correlationData: 'c0' }),
    };
  }

  leave(c, client) {
    if (c === 0 || this.random(3)) return;
    client.on = false;
    client.subs = new Set();
    this.add(c, ...(this.random(2) ? ['disconnect', {}] : ['drop', { will: Boolean(client.will) }]));
  }

  mistake(c, client) {
    // Whether a mistake brings a will is told otherwise by each broker.
    if (c === 0 || client.will || this.random(4)) return;
    client.on = false;
    client.subs = new Set();
    this.add(c, 'mistake', { name: this.pick(Object.keys(MISTAKES)) });
  }

  stranger(c) {
    if (this.random(4)) return;
    this.add(c, 'stranger', { name: this.pick(Object.keys(STRANGERS)) });
  }
}

/** The script of a seed: `length` steps, then everybody leaves. `retains`: whether messages are retained later than at the
 * beginning, too. */
export function mqttScript(seed, { clients = 4, length = 60, versions = [4, 5], retains = true } = {}) {
  const writer = new Writer(seed, { clients, versions, retains });
  writer.begin();
  while (writer.steps.length < length) writer.write();
  writer.clients.forEach(({ on }, c) => on && writer.add(c, 'disconnect'));
  return { seed, clients: writer.clients.map((_, c) => c), steps: writer.steps };
}

/** Plays a script at `addresses`: client after client takes the next of them. The topics are those of `side`. */
export class MqttPlayer {
  constructor(script, addresses, side, login = {}) {
    // A PINGRESP of edgehold says nothing of others.
    const settles = side === 'direct' || Boolean(process.env.EDGEHOLD_DIRECT);
    Object.assign(this, { script, addresses, side, login, settles, ids: 0, fences: new Set() });
    this.clients = script.clients.map(() => ({ packets: [], closed: true }));
  }

  /** What came, but for what only carries it. Of subscriptions that overlap a broker may send one copy or several: the first
   * of a step stands for all, with the highest QoS and all subscription identifiers. */
  heard(c) {
    const all = [];
    for (const packet of this.clients[c].packets) {
      if (CARRIERS.includes(packet.cmd) || this.#isOfFence(packet)) continue;
      const first = packet.cmd === 'publish' && all.find((each) => isCopy(each, packet));
      if (first) merge(first, packet);
      else all.push({ ...packet });
    }
    return all;
  }

  ended(c) {
    return this.clients[c].closed;
  }

  #placed(words) {
    return words.replace('@', this.side);
  }

  /** A packet as it must be: without what only a server can choose. */
  shape(c, { cmd, topic, payload, qos, retain, dup, returnCode, reasonCode, granted, sessionPresent, properties }) {
    const { messageExpiryInterval: expiry, topicAlias, ...rest } = properties ?? {};
    const shown = cmd === 'publish'
      ? { topic: topic.replace(this.side, '@'), payload: payload.toString('latin1'), qos, retain, dup, ...plain(rest), ...(expiry ? { expiry: '*' } : {}) }
      // 16: nobody has subscribed to it, of which an edge cannot know.
      : { returnCode, reasonCode: reasonCode === 16 ? 0 : reasonCode, granted, sessionPresent };
    return { key: `${cmd} ${shown.topic ?? ''}`, line: JSON.stringify([cmd, shown]).replaceAll(this.side, '@') };
  }

  async act(step) {
    this.step = (this.step ?? 0) + 1;
    for (const client of this.clients) client.step = this.step;
    await this[step.what](this.clients[step.by], step);
  }

  /** All that was caused has come, where the broker is asked directly. */
  async settle() {
    for (let round = 0; round < ROUNDS; round += 1) {
      await Promise.all(this.clients.filter(({ closed }) => !closed).map((client) => this.#ping(client)));
    }
  }

  async #ping(client) {
    const count = () => client.packets.filter(({ cmd }) => cmd === 'pingresp').length;
    const before = count();
    client.send({ cmd: 'pingreq' });
    await client.when('PINGRESP', () => client.closed || count() > before);
  }

  async #ask(client, packet, answer) {
    this.ids = (this.ids % 60_000) + 1;
    const messageId = this.ids;
    client.send({ ...packet, messageId });
    const isIt = (each) => each.messageId === messageId && (each.cmd === answer || (each.cmd === 'pubrec' && each.reasonCode >= 0x80));
    await client.when(answer, () => client.closed || client.packets.some(isIt));
  }

  async connect(_, { by, version, id, clean, will }) {
    const client = await openMqtt(this.addresses[by % this.addresses.length], version);
    Object.assign(client, { aliases: new Map(), step: this.step });
    this.clients[by] = client;
    const placed = will ? { will: { ...will, topic: this.#placed(will.topic), payload: Buffer.from(will.payload) } } : {};
    client.send({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: version, clean, clientId: this.#placed(id), keepalive: 0, ...placed, ...this.login });
    await client.when('CONNACK', () => client.closed || client.packets.length > 0);
    await this.#ask(client, { cmd: 'subscribe', subscriptions: [{ topic: FENCE + this.side, qos: 0 }] }, 'suback');
    this.fences.add(this.ids);
    await this.#fence(client);
  }

  subscribe(client, { filters, number }) {
    const subscriptions = filters.map(({ topic, ...rest }) => ({ topic: this.#placed(topic), ...rest }));
    const properties = number ? { properties: { subscriptionIdentifier: number } } : {};
    return this.#ask(client, { cmd: 'subscribe', subscriptions, ...properties }, 'suback');
  }

  unsubscribe(client, { filters }) {
    return this.#ask(client, { cmd: 'unsubscribe', unsubscriptions: filters.map((each) => this.#placed(each)) }, 'unsuback');
  }

  async publish(client, { topic, payload, qos, retain, alias, properties }) {
    const packet = { cmd: 'publish', topic: this.#placed(topic), payload: Buffer.from(payload), qos, retain, dup: false };
    if (properties) packet.properties = this.#properties(properties);
    if (alias) this.#aliased(client, packet);
    if (qos > 0) await this.#ask(client, packet, qos === 1 ? 'puback' : 'pubcomp');
    else client.send(packet);
    await this.#fence(client);
  }

  #properties({ responseTopic, correlationData, ...rest }) {
    return { ...rest, ...(responseTopic ? { responseTopic: this.#placed(responseTopic), correlationData: Buffer.from(correlationData) } : {}) };
  }

  /** The topic by its alias: with its name at first, then without. */
  #aliased(client, packet) {
    const most = client.packets[0].properties?.topicAliasMaximum ?? 0;
    const known = client.aliases.get(packet.topic);
    const alias = known ?? client.aliases.size + 1;
    if (alias > most) return;
    packet.properties = { ...packet.properties, topicAlias: alias };
    if (known) packet.topic = '';
    else client.aliases.set(packet.topic, alias);
  }

  /** All that was published before has come to all who are there. */
  async #fence(client) {
    const payload = `${this.ids + 1}`;
    await this.#ask(client, { cmd: 'publish', topic: FENCE + this.side, payload: Buffer.from(payload), qos: 1, retain: false, dup: false }, 'puback');
    this.fences.add(this.ids);
    const isIt = (each) => each.cmd === 'publish' && each.topic.startsWith(FENCE) && `${each.payload}` === payload;
    const all = this.clients.filter(({ closed }) => !closed);
    await Promise.all(all.map((each) => each.when('the fence', () => each.closed || each.packets.some(isIt))));
  }

  #isOfFence({ cmd, topic, messageId }) {
    return cmd === 'publish' ? topic.startsWith(FENCE) : this.fences.has(messageId) && ['puback', 'suback'].includes(cmd);
  }

  async disconnect(client) {
    client.send({ cmd: 'disconnect' });
    client.end();
    await client.when('the end', () => client.closed);
  }

  async drop(client, { will }) {
    await this.#willComes(will, () => client.drop());
    await client.when('the end', () => client.closed);
  }

  async mistake(client, { name }) {
    const before = client.packets.length;
    client.say(MISTAKES[name](client.version));
    await client.when('the refusal', () => client.closed || client.packets.at(-1)?.cmd === 'disconnect');
    client.packets.length = before;
    client.drop();
    await client.when('the end', () => client.closed);
  }

  /** Client 0 hears the will of a client that is lost. */
  async #willComes(will, lose) {
    const wills = () => this.clients[0].packets.filter(({ cmd, topic }) => cmd === 'publish' && topic.includes('/will/')).length;
    const before = wills();
    await lose();
    if (!will) return;
    await this.clients[0].when('the will', () => wills() > before);
    await this.#fence(this.clients[0]);
  }

  async stranger(_, { by, name }) {
    const other = await openMqtt(this.addresses[by % this.addresses.length], 4);
    other.say(STRANGERS[name]());
    await other.when('the refusal', () => other.closed || other.packets.at(-1)?.returnCode > 0);
    other.drop();
  }
}

const CARRIERS = ['pingresp', 'pubrel', 'pubrec'];

const isCopy = (one, two) => one.cmd === 'publish' && one.step === two.step && one.topic === two.topic && one.payload.equals(two.payload)
  && one.retain === two.retain;

function merge(first, { qos, properties }) {
  first.qos = Math.max(first.qos, qos);
  const ids = [first, { properties }].flatMap((each) => each.properties?.subscriptionIdentifier ?? []);
  if (ids.length) first.properties = { ...first.properties, subscriptionIdentifier: [...new Set(ids)].sort((a, b) => a - b) };
}

/** Properties as JSON has them, in the order of their names; subscription identifiers in theirs, and always as a list. */
function plain({ subscriptionIdentifier: id, ...rest }) {
  const all = id === undefined ? rest : { ...rest, subscriptionIdentifier: [...new Set([id].flat())].sort((a, b) => a - b) };
  const latin = (key, value) => (value?.type === 'Buffer' ? Buffer.from(value.data).toString('latin1') : value);
  return JSON.parse(JSON.stringify(Object.fromEntries(Object.keys(all).sort().map((name) => [name, all[name]])), latin));
}
