//! kill -9 of the broker in the middle of a session: what it had sent is delivered, every client is told with a close code
//! and a reason, newcomers get 503 while it is away, and after its return real clients find back by themselves.

import net from 'node:net';
import { Client } from '@stomp/stompjs';
import WebSocket from 'ws';
import { startRabbitmq, startRedis } from '../lib/brokers.mjs';
import { bytes, generator } from '../lib/bodies.mjs';
import { startEdgehold } from '../lib/edgehold.mjs';
import { mustBe, mustEqual } from '../lib/expect.mjs';
import { connectStomp, subscribe } from '../lib/stomp.mjs';
import { until, within } from '../lib/until.mjs';
import { connect, handshakeStatus } from '../lib/websocket.mjs';
import { command } from './redis.mjs';
import { STOMP_ROUTE } from './stomp.mjs';

const CLIENTS = 20;
const TOLD_WITHIN_MS = 5000;
const VALUE = Buffer.from(bytes(generator(13), 20_000));
const VALUES = 100;

function mustBeTold({ code, reason, at }, killedAt) {
  if (code !== 1011 && code !== 1012) throw new Error(`close code ${code} instead of 1011 or 1012`);
  if (!reason) throw new Error(`close ${code} without a reason`);
  if (at - killedAt > TOLD_WITHIN_MS) throw new Error(`told after ${(at - killedAt).toFixed(0)} ms`);
}

/** One answer of Redis to one command over a direct connection, as text. */
async function ask(port, ...parts) {
  const socket = net.connect(port, '127.0.0.1');
  socket.write(command(...parts));
  let answer = '';
  socket.on('data', (data) => { answer += data; });
  await until(`the answer to ${parts[0]}`, () => answer.endsWith('\r\n'));
  socket.destroy();
  return answer;
}

/** Redis has written every answer to its clients' sockets: nothing waits in its own buffers. */
async function allWritten(port) {
  const clients = (await ask(port, 'CLIENT', 'LIST')).split('\n').filter((line) => / cmd=echo /.test(line));
  return clients.length > 0 && clients.every((line) => / qbuf=0 /.test(line) && / obl=0 oll=0 omem=0 /.test(line));
}

const ANSWER = Buffer.concat([Buffer.from(`$${VALUE.length}\r\n`), VALUE, Buffer.from('\r\n')]);
const answers = (count) => Buffer.concat(Array.from({ length: count }, () => ANSWER));

function sendEchoes({ ws }) {
  for (let i = 0; i < VALUES; i += 1) ws.send(command('ECHO', VALUE));
}

/** A client of Redis that keeps what it is sent. */
async function session(url) {
  const parts = [];
  const ws = await connect(url, { onMessage: (data) => parts.push(data) });
  return { ws, got: () => Buffer.concat(parts) };
}

async function echoOnce(url) {
  const { ws, got } = await session(url);
  ws.send(command('ECHO', VALUE));
  await until('an echo after the return', () => got().equals(ANSWER));
  ws.close(1000);
  await ws.closed;
}

async function redisKilled(stage) {
  const broker = await startRedis(stage);
  const route = { path: '/redis', service: 'proxy', upstream: `tcp://127.0.0.1:${broker.port}` };
  const edgehold = await startEdgehold(stage, { routes: [route] });
  const url = edgehold.ws('/redis');
  const sessions = await Promise.all(Array.from({ length: CLIENTS }, () => session(url)));

  // One client does not read while the broker dies: its bytes are on their way, in edgehold or in a socket. Another is in the
  // middle of speaking: the broker dies with unread commands, so that its end is a reset.
  const [lazy, busy] = sessions;
  lazy.ws.pause();
  sendEchoes(lazy);
  await until('Redis to have sent everything', () => allWritten(broker.port));
  sendEchoes(busy);
  const killedAt = performance.now();
  await broker.kill();
  lazy.ws.resume();
  for (const { ws } of sessions) mustBeTold(await within('being told', ws.closed), killedAt);
  mustEqual('what Redis had sent', lazy.got(), answers(VALUES));
  mustEqual('what the busy client was sent', busy.got(), answers(VALUES).subarray(0, busy.got().length));

  const status = await handshakeStatus(url);
  mustBe('HTTP status while Redis is away', status, 503);
  await broker.restart();
  // Each shard finds out for itself that the broker is back.
  await until('echoes after the return', () => echoOnce(url).then(() => true, () => false));
}

/** A client that reconnects by itself, as an application's would; `closes` and `opens` count what it went through. */
async function lastingClient(url, number) {
  const client = { opens: 0, messages: [] };
  client.closed = new Promise((resolve) => { client.told = resolve; });
  const join = async (stomp) => {
    await subscribe(stomp, `/topic/killed-${number}`, (message) => client.messages.push(message.body));
    client.opens += 1;
  };
  client.stomp = await connectStomp(Client, url, {
    reconnectDelay: 200,
    onWebSocketClose: ({ code, reason }) => client.told({ code, reason, at: performance.now() }),
  });
  client.stomp.onConnect = () => join(client.stomp);
  await join(client.stomp);
  return client;
}

function talk(clients, words) {
  clients.forEach(({ stomp }, i) => stomp.publish({ destination: `/topic/killed-${i}`, body: `${words} ${i}` }));
  return until(`'${words}' at every client`, () => clients.every((client, i) => client.messages.at(-1) === `${words} ${i}`));
}

async function rabbitmqKilled(stage) {
  globalThis.WebSocket = WebSocket;
  const broker = await startRabbitmq(stage);
  const edgehold = await startEdgehold(stage, { routes: [{ ...STOMP_ROUTE, upstream: `tcp://127.0.0.1:${broker.port}` }] });
  const url = edgehold.ws('/stomp');
  const clients = await Promise.all(Array.from({ length: CLIENTS }, (_, i) => lastingClient(url, i)));
  stage.defer(() => Promise.all(clients.map(({ stomp }) => stomp.deactivate({ force: true }))));
  await talk(clients, 'before');

  const killedAt = performance.now();
  await broker.kill();
  for (const { closed } of clients) mustBeTold(await within('being told', closed), killedAt);
  const status = await handshakeStatus(url, { protocols: ['v12.stomp'] });
  mustBe('HTTP status while RabbitMQ is away', status, 503);

  await broker.restart();
  await until('every client to be back', () => clients.every(({ opens }) => opens === 2), 20_000);
  await talk(clients, 'after');
  await Promise.all(clients.map(({ stomp }) => stomp.deactivate()));
}

export default async function killed(stage) {
  await redisKilled(stage);
  stage.note(`Redis: ${CLIENTS} clients told, ${VALUES * VALUE.length} bytes delivered, 503, back`);
  await rabbitmqKilled(stage);
  stage.note(`RabbitMQ: ${CLIENTS} clients told, 503, all reconnected`);
}
