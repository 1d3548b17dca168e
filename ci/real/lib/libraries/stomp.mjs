//! One conversation over STOMP in three libraries: @stomp/stompjs and webstomp-client here, stomp.py in clients/stomp_talk.py.
//!
//! A library is `connect(url, take)`, which resolves with `subscribe(id, to, ack)`, `send(to, body, headers)`, `begin`,
//! `commit`, `abort` (of a name), `ack(message)`, `unsubscribe(id)`, `leave()`; those that a broker confirms resolve then.
//! `take` gets each message as `{ to, body, name, message }`.

import { Client } from '@stomp/stompjs';
import webstomp from 'webstomp-client';
import WebSocket from 'ws';
import { mustBe } from '../expect.mjs';
import { until } from '../until.mjs';

const LOGIN = { login: 'guest', passcode: 'guest', host: '/' };
const PROTOCOLS = ['v12.stomp', 'v11.stomp', 'v10.stomp'];

/** What is said: bodies, and a header with all that is escaped. */
export const WORDS = { odd: 'colon: line\nback\\', bodies: ['one', 'zwei: Grüße', '', 'vier \u{1f680}', 'five '.repeat(1000)] };
/** The same for a library that escapes nothing; webstomp-client also takes bytes for letters. */
export const PLAIN = { odd: 'plain', bodies: ['one', 'two', '', 'five '.repeat(1000)] };

/** What the conversation at `/topic/NAME` and `/queue/NAME` must bring, in the order of each. */
export const expected = (name, { odd, bodies }) => ({
  [`/topic/${name}`]: [...bodies, 'kept 1', 'kept 2'].map((body) => `${body} ${odd}`),
  [`/queue/${name}`]: [...bodies, 'last'].map((body) => `${body} ${odd}`),
});

/** @stomp/stompjs */
export async function stompjs(url, take) {
  const client = new Client({
    webSocketFactory: () => new WebSocket(url, PROTOCOLS), connectHeaders: LOGIN, reconnectDelay: 0,
    onStompError: (frame) => { client.refused = frame.headers.message; },
  });
  await new Promise((resolve, reject) => {
    Object.assign(client, { onConnect: resolve, onWebSocketClose: ({ code, reason }) => reject(new Error(`closed: ${code} ${reason}`)) });
    client.activate();
  });
  const confirmed = (say) => new Promise((resolve) => {
    const receipt = `c${(client.count = (client.count ?? 0) + 1)}`;
    client.watchForReceipt(receipt, resolve);
    say({ receipt });
  });
  const open = {};
  const heard = (message) => take({ to: message.headers.destination, body: message.body, name: message.headers['x-name'], message });
  return {
    subscribe: (id, to, ack) => confirmed((headers) => client.subscribe(to, heard, { id, ack, ...headers })),
    send: (to, body, more) => confirmed((headers) => client.publish({ destination: to, body, headers: { ...more, ...headers } })),
    put: (to, body, headers) => client.publish({ destination: to, body, headers }),
    begin: (name) => { open[name] = client.begin(name); },
    commit: (name) => open[name].commit(),
    abort: (name) => open[name].abort(),
    ack: (message) => message.ack(),
    unsubscribe: (id) => confirmed((headers) => client.unsubscribe(id, headers)),
    leave: () => client.deactivate(),
  };
}

/** webstomp-client */
export async function webstompClient(url, take) {
  const client = webstomp.over(new WebSocket(url, PROTOCOLS), { debug: false, heartbeat: false, protocols: PROTOCOLS });
  const receipts = new Set();
  client.onreceipt = (frame) => receipts.add(frame.headers['receipt-id']);
  await new Promise((resolve, reject) => { client.connect(LOGIN, resolve, (error) => reject(new Error(error.reason ?? error.body))); });
  let count = 0;
  const confirmed = async (say) => {
    count += 1;
    const receipt = `c${count}`;
    say({ receipt });
    await until('a receipt', () => receipts.has(receipt));
  };
  const heard = (message) => take({ to: message.headers.destination, body: message.body, name: message.headers['x-name'], message });
  return {
    subscribe: (id, to, ack) => confirmed((headers) => client.subscribe(to, heard, { id, ack, ...headers })),
    send: (to, body, more) => confirmed((headers) => client.send(to, body, { ...more, ...headers })),
    put: (to, body, headers) => client.send(to, body, headers),
    begin: (name) => client.begin(name),
    commit: (name) => client.commit(name),
    abort: (name) => client.abort(name),
    ack: (message) => message.ack(),
    unsubscribe: (id) => confirmed((headers) => client.unsubscribe(id, headers)),
    leave: () => new Promise((resolve) => { client.disconnect(resolve, { receipt: 'leave' }); }),
  };
}

/** The conversation; rejects where anything comes that is not expected, or does not come. */
export async function talk(connect, url, name, words = WORDS) {
  const { odd: sent, bodies } = words;
  const [topic, queue] = [`/topic/${name}`, `/queue/${name}`];
  const heard = { [topic]: [], [queue]: [] };
  const client = await connect(url, ({ to, body, name: odd, message }) => {
    heard[to].push(`${body} ${odd}`);
    if (to === queue) client.ack(message);
  });
  const headers = { 'x-name': sent };
  await client.subscribe('t', topic, 'auto');
  await client.subscribe('q', queue, 'client-individual');
  for (const body of bodies) await client.send(topic, body, headers);
  for (const body of bodies) await client.send(queue, body, headers);
  for (const [tx, end] of [['lost', 'abort'], ['kept', 'commit']]) {
    client.begin(tx);
    for (const n of [1, 2]) client.put(topic, `${tx} ${n}`, { ...headers, transaction: tx });
    client[end](tx);
  }
  await until('what was committed', () => heard[topic].length >= bodies.length + 2);
  await client.unsubscribe('t');
  await client.send(topic, 'unheard', headers);
  await client.send(queue, 'last', headers);
  await until('the last', () => heard[queue].length >= bodies.length + 1);
  await client.leave();
  mustBe(`what ${name} heard`, JSON.stringify(heard), JSON.stringify(expected(name, words)));
}
