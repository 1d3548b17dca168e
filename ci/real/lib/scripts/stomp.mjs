//! Random STOMP scripts that a broker must answer in one way only, and their player.
//!
//! The law of a script: what each step causes is known before it is played. So a queue has one consumer at a time, and
//! whoever has not acknowledged all of a subscription does not end it but by leaving. `World` knows what a broker does.

import { generator } from '../bodies.mjs';
import { openStomp, unescaped } from '../raw/stomp.mjs';

const VERSIONS = ['1.0', '1.1', '1.2'];
const MODES = ['auto', 'client', 'client-individual'];
const LOGIN = { login: 'guest', passcode: 'guest', host: '/' };

const raw = (text) => ({ bytes: Buffer.from(text) });
const framed = (command, headers, body) => ({ frame: [command, headers, body] });

/** Mistakes that a broker refuses, by ERROR, by closing, or by both. RabbitMQ often leaves the connection open, against the
 * specification; so the client leaves by itself. `from`: the first version that has the rule.
 * ACK of nothing is none at edgehold: what was taken before the broker went may be acknowledged behind it. */
export const MISTAKES = {
  'unknown command': raw('JUMP\n\n\0'),
  'header without a colon': raw('SEND\ndestination:/topic/x\nnonsense\n\nx\0'),
  'escape that is none': { ...raw('SEND\ndestination:/topic/x\nx:a\\tb\n\nx\0'), from: '1.1' },
  'length that is no number': raw('SEND\ndestination:/topic/x\ncontent-length:x\n\nx\0'),
  'length that is too short': raw('SEND\ndestination:/topic/x\ncontent-length:1\n\nxyz\0'),
  'destination of no kind': framed('SUBSCRIBE', { id: 'e', destination: '/nonsense/x' }),
  'SEND to a destination of no kind': framed('SEND', { destination: '/nonsense/x' }, 'x'),
  'SEND without destination': framed('SEND', {}, 'x'),
  'SEND in no transaction': framed('SEND', { destination: '/topic/x', transaction: 'nothing' }, 'x'),
  'SUBSCRIBE without destination': framed('SUBSCRIBE', { id: 'e' }),
  'SUBSCRIBE in a mode of no kind': framed('SUBSCRIBE', { id: 'e', destination: '/topic/x', ack: 'never' }),
  'COMMIT of nothing': framed('COMMIT', { transaction: 'nothing' }),
  'ABORT of nothing': framed('ABORT', { transaction: 'nothing' }),
  'BEGIN without a name': framed('BEGIN', {}),
  'UNSUBSCRIBE of nothing': framed('UNSUBSCRIBE', { id: 'nothing' }),
  'CONNECT again': framed('CONNECT', LOGIN),
};

/** What the broker knows, as far as a script needs it. */
class World {
  constructor(clients) {
    this.clients = Array.from({ length: clients }, () => ({ on: false, heard: 0, subs: [], unacked: [], open: [] }));
    this.queues = {};
  }

  #hear(client, count = 1) {
    this.clients[client].heard += count;
    this.touched.add(client);
  }

  /** Runs one change, and gives the counts of all that heard something. */
  step(change) {
    this.touched = new Set();
    change();
    return Object.fromEntries([...this.touched].map((c) => [c, this.clients[c].on ? this.clients[c].heard : 'closed']));
  }

  connect(c, version) {
    Object.assign(this.clients[c], { on: true, version, heard: 0, subs: [], unacked: [], open: [] });
    this.#hear(c);
  }

  /** An answer that goes to nobody else: a RECEIPT. */
  answer(c) {
    this.#hear(c);
  }

  subscribe(c, sub) {
    this.clients[c].subs.push(sub);
    this.#hear(c);
    if (this.#isQueue(sub.to)) this.#pump(sub.to);
  }

  unsubscribe(c, sub) {
    this.clients[c].subs = this.clients[c].subs.filter((each) => each !== sub);
    this.#hear(c);
  }

  #isQueue(to) {
    return to.startsWith('/queue/');
  }

  /** A message, wherever it goes. */
  publish(to, body) {
    if (this.#isQueue(to)) {
      (this.queues[to] ??= []).push(body);
      return this.#pump(to);
    }
    this.clients.forEach((client, c) => client.subs.filter((sub) => matches(sub.to, to)).forEach(() => this.#hear(c)));
  }

  #pump(to) {
    const consumer = this.consumer(to);
    if (!consumer) return;
    const [c, sub] = consumer;
    for (const body of (this.queues[to] ?? []).splice(0)) {
      this.#hear(c);
      if (sub.ack !== 'auto') this.clients[c].unacked.push({ sub, to, body, at: this.clients[c].heard });
    }
  }

  /** `[client, subscription]` of whoever consumes a queue. */
  consumer(to) {
    for (const [c, client] of this.clients.entries()) {
      const sub = client.subs.find((each) => each.to === to);
      if (sub) return [c, sub];
    }
    return undefined;
  }

  /** The unacknowledged messages that an ACK or NACK of this one covers. */
  covered(c, message) {
    const { unacked } = this.clients[c];
    if (message.sub.ack === 'client-individual') return [message];
    return unacked.filter((each) => each.sub === message.sub && each.at <= message.at);
  }

  ack(c, message) {
    const covered = this.covered(c, message);
    this.clients[c].unacked = this.clients[c].unacked.filter((each) => !covered.includes(each));
  }

  nack(c, message) {
    const covered = this.covered(c, message);
    this.ack(c, message);
    this.#giveBack(covered);
  }

  // To the head of the queue, in the order in which they came.
  #giveBack(messages) {
    for (const { to, body } of [...messages].reverse()) (this.queues[to] ??= []).unshift(body);
    for (const { to } of messages) this.#pump(to);
  }

  leave(c) {
    const client = this.clients[c];
    const { unacked } = client;
    Object.assign(client, { on: false, subs: [], unacked: [] });
    this.#giveBack(unacked);
    this.touched.add(c);
  }
}

/** Whether a topic subscription gets what is published there; RabbitMQ's `*` is one word and `#` any number. */
export function matches(pattern, to) {
  if (!pattern.startsWith('/topic/')) return false;
  const go = ([p, ...ps], words) => {
    if (p === undefined) return words.length === 0;
    if (p === '#') return go(ps, words) || (words.length > 0 && go([p, ...ps], words.slice(1)));
    return words.length > 0 && (p === '*' || p === words[0]) && go(ps, words.slice(1));
  };
  return go(pattern.slice(7).split('.'), to.slice(7).split('.'));
}

/** Makes the steps of one seed. */
class Writer {
  constructor(seed, { clients, wildcards, nacks, mistakes }) {
    Object.assign(this, { seed, random: generator(seed), world: new World(clients), wildcards, nacks, mistakes, steps: [], count: 0 });
    this.topics = ['a', 'b', 'a.b'].map((name) => `/topic/@${seed}.${name}`);
    this.patterns = wildcards ? [`/topic/@${seed}.*`, `/topic/@${seed}.#`, `/topic/@${seed}.*.b`] : [];
    this.queues = ['q', 'r'].map((name) => `/queue/@${seed}-${name}`);
  }

  pick(list) {
    return list[this.random(list.length)];
  }

  add(by, what, words, change) {
    this.steps.push({ by, what, ...words, counts: this.world.step(change) });
  }

  next() {
    this.count += 1;
    return this.count;
  }

  /** One more step, by whichever client. */
  write() {
    const c = this.random(this.world.clients.length);
    const client = this.world.clients[c];
    if (!client.on) return this.connect(c);
    const able = ['subscribe', 'subscribe', 'send', 'send', 'send', 'send', 'begin', 'unsubscribe', 'ack', 'ack', 'end', 'commit', 'leave'];
    return this[this.pick(able)](c, client);
  }

  connect(c) {
    const version = this.pick(VERSIONS);
    this.add(c, 'connect', { version }, () => this.world.connect(c, version));
  }

  subscribe(c, client) {
    if (client.subs.length >= 4) return;
    const free = this.queues.filter((to) => !this.world.consumer(to));
    const to = this.pick([...this.topics, ...this.patterns, ...free]);
    const modes = client.version === '1.0' ? MODES.slice(0, 2) : MODES;
    // STOMP 1.0 names a subscription by its destination, where it has no id.
    if (client.subs.some((sub) => sub.to === to)) return;
    const sub = { id: `s${this.next()}`, to, ack: to.startsWith('/queue/') ? this.pick(modes) : 'auto' };
    this.add(c, 'subscribe', { sub }, () => this.world.subscribe(c, sub));
  }

  unsubscribe(c, client) {
    const idle = client.subs.filter((sub) => !client.unacked.some((each) => each.sub === sub));
    if (!idle.length) return;
    const sub = this.pick(idle);
    this.add(c, 'unsubscribe', { sub }, () => this.world.unsubscribe(c, sub));
  }

  /** What is sent: now and then headers with letters to escape, bytes of any kind, or much. */
  message(version) {
    const body = this.pick([`m${this.next()}`, `m${this.next()} ${'x'.repeat(this.random(3000))}`, `NUL \0 in m${this.next()}`, '']);
    const odd = version === '1.0' ? 'plain' : this.pick(['colon:colon', 'back\\slash', 'line\nline', 'ünïcode']);
    const headers = this.random(2) ? { 'x-name': odd, 'content-type': 'text/plain' } : {};
    return { body, headers };
  }

  send(c, client) {
    const to = this.pick([...this.topics, ...this.queues]);
    const tx = client.open.length && this.random(2) ? this.pick(client.open) : undefined;
    const message = this.message(client.version);
    this.add(c, 'send', { to, ...message, tx: tx?.name }, () => {
      if (tx) return tx.sent.push([to, message.body]);
      this.world.answer(c);
      return this.world.publish(to, message.body);
    });
  }

  begin(c, client) {
    if (client.open.length >= 2) return;
    const tx = { name: `t${this.next()}`, sent: [] };
    this.add(c, 'begin', { tx: tx.name }, () => {
      client.open.push(tx);
      this.world.answer(c);
    });
  }

  commit(c, client) {
    if (!client.open.length) return;
    const tx = this.pick(client.open);
    const keeps = this.random(3) > 0;
    this.add(c, keeps ? 'commit' : 'abort', { tx: tx.name }, () => {
      client.open.splice(client.open.indexOf(tx), 1);
      this.world.answer(c);
      if (keeps) for (const [to, body] of tx.sent) this.world.publish(to, body);
    });
  }

  ack(c, client) {
    if (!client.unacked.length) return;
    const message = this.pick(client.unacked);
    const nack = this.nacks && client.version !== '1.0' && this.random(4) === 0;
    this.add(c, nack ? 'nack' : 'ack', { frame: message.at }, () => {
      this.world.answer(c);
      this.world[nack ? 'nack' : 'ack'](c, message);
    });
  }

  leave(c) {
    if (this.random(3)) return;
    this.add(c, this.pick(['disconnect', 'drop']), {}, () => this.world.leave(c));
  }

  /** A mistake, after which the broker closes. */
  end(c, client) {
    if (this.random(6)) return;
    const names = this.mistakes.filter((name) => (MISTAKES[name].from ?? '1.0') <= client.version);
    if (!names.length) return;
    this.add(c, 'mistake', { name: this.pick(names) }, () => this.world.leave(c));
  }
}

/** The script of a seed: `length` steps, then everybody leaves. `nacks`: whether a NACK brings the message again. */
export function stompScript(seed, { clients = 4, length = 60, wildcards = true, nacks = true, mistakes = Object.keys(MISTAKES) } = {}) {
  const writer = new Writer(seed, { clients, wildcards, nacks, mistakes });
  while (writer.steps.length < length) writer.write();
  writer.world.clients.forEach(({ on }, c) => on && writer.add(c, 'disconnect', {}, () => writer.world.leave(c)));
  return { seed, clients: writer.world.clients.map((_, c) => c), steps: writer.steps };
}

/** Headers that name what only the broker knows; whether a message was sent before depends on how far ahead it sends. */
const CHOSEN = ['message-id', 'ack', 'session', 'server', 'timestamp', 'heart-beat', 'redelivered'];

/** What RabbitMQ hands on of a publisher's frame: names that edgehold has others for, where it speaks to the broker. */
const HANDED_ON = ['receipt', 'transaction'];

/** Plays a script at `addresses`: client after client takes the next of them. The destinations are those of `side`, so that
 * nothing is left there by another. */
export class StompPlayer {
  constructor(script, addresses, side, login = LOGIN) {
    Object.assign(this, { addresses, side, login, clients: script.clients.map(() => ({ frames: [], closed: true, versions: [] })) });
    this.receipts = 0;
  }

  heard(c) {
    return this.clients[c].frames;
  }

  ended(c) {
    return this.clients[c].closed;
  }

  /** A frame as it must be, whoever was asked: what only the broker can choose is left out, words for people as well. */
  shape(c, { command, headers, body }) {
    const kept = Object.entries(headers).filter(([name]) => command !== 'MESSAGE' || !HANDED_ON.includes(name));
    const text = (name, value) => (CHOSEN.includes(name) ? '*' : this.#plain(c, value).replace(this.side, '@'));
    const shown = kept.map(([name, value]) => `${name}=${text(name, value)}`);
    return { key: `${command} ${headers.subscription ?? ''}`, line: JSON.stringify([command, ...shown.sort(), body.toString('latin1')]) };
  }

  // RabbitMQ escapes for clients of version 1.0, too, which have no escapes; there edgehold puts a space for a line's end.
  #plain(c, value) {
    return this.clients[c].version === '1.0' ? unescaped(value, '1.2').replaceAll('\n', ' ') : value;
  }

  async act(step) {
    await this[step.what](this.clients[step.by], step);
  }

  placed({ destination, ...headers }) {
    return destination ? { destination: destination.replace('@', this.side), ...headers } : headers;
  }

  #ask(client, command, headers, body) {
    this.receipts += 1;
    client.send(command, { ...this.placed(headers), receipt: `r${this.receipts}` }, body);
  }

  async connect(_, { by, version }) {
    const client = await openStomp(this.addresses[by % this.addresses.length]);
    this.clients[by] = client;
    client.send(version === '1.0' ? 'CONNECT' : 'STOMP', { ...this.login, 'accept-version': version, 'heart-beat': '0,0' });
  }

  subscribe(client, { sub: { id, to, ack } }) {
    this.#ask(client, 'SUBSCRIBE', { id, destination: to, ack });
  }

  unsubscribe(client, { sub: { id } }) {
    this.#ask(client, 'UNSUBSCRIBE', { id });
  }

  send(client, { to, body, headers, tx }) {
    const all = { destination: to, ...headers, 'content-length': Buffer.byteLength(body) };
    // RabbitMQ answers what is in a transaction only when that ends.
    if (tx) client.send('SEND', this.placed({ ...all, transaction: tx }), body);
    else this.#ask(client, 'SEND', all, body);
  }

  begin(client, { tx }) {
    this.#ask(client, 'BEGIN', { transaction: tx });
  }

  commit(client, { tx }) {
    this.#ask(client, 'COMMIT', { transaction: tx });
  }

  abort(client, { tx }) {
    this.#ask(client, 'ABORT', { transaction: tx });
  }

  ack(client, step) {
    this.#acknowledge(client, 'ACK', step);
  }

  nack(client, step) {
    this.#acknowledge(client, 'NACK', step);
  }

  #acknowledge(client, command, { frame }) {
    const { headers } = client.frames[frame - 1];
    const { 'message-id': message, subscription, ack } = headers;
    this.#ask(client, command, client.version === '1.2' ? { id: ack } : { 'message-id': message, subscription });
  }

  async disconnect(client) {
    this.#ask(client, 'DISCONNECT', {});
    const isReceipt = ({ headers }) => headers['receipt-id'] === `r${this.receipts}`;
    // RabbitMQ gives none to a WebSocket.
    await client.when('the receipt of DISCONNECT, or the end', () => client.closed || client.frames.some(isReceipt));
    client.frames = client.frames.filter((each) => !isReceipt(each));
    client.end();
  }

  drop(client) {
    client.drop();
  }

  async mistake(client, { name }) {
    const { bytes, frame } = MISTAKES[name];
    if (bytes) client.say(bytes);
    else this.#ask(client, ...frame);
    await client.when('the refusal', () => client.closed || client.frames.at(-1)?.command === 'ERROR');
    client.frames = client.frames.filter(({ command }) => command !== 'ERROR');
    client.drop();
  }
}
