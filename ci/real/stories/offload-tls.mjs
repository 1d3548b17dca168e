//! Brokers by TLS and by unix socket behind the services `stomp` and `mqtt`: RabbitMQ and Mosquitto, which ask for a client
//! certificate. The same conversations as in clear text, over the sessions of the shards and of the control thread, and once
//! more when the broker is back; and plain words in the log where one of the two does not know the other.

import { rmSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { userInfo } from 'node:os';
import mqtt from 'mqtt';
import WebSocket from 'ws';
import { startMosquitto, startRabbitmq } from '../lib/brokers.mjs';
import { authority } from '../lib/certificates.mjs';
import { startEdgehold } from '../lib/edgehold.mjs';
import { mqttJs } from '../lib/libraries/mqtt.mjs';
import { stompjs, talk } from '../lib/libraries/stomp.mjs';
import { freePort } from '../lib/ports.mjs';
import { until, within } from '../lib/until.mjs';

const TALK_MS = 30_000;

/** RabbitMQ's STOMP at a port with TLS. */
async function rabbitmq(stage, { ca }, { cert, key }) {
  const port = await freePort();
  const broker = await startRabbitmq(stage, [
    `stomp.listeners.ssl.1 = 127.0.0.1:${port}`, `ssl_options.cacertfile = ${ca}`, `ssl_options.certfile = ${cert}`,
    `ssl_options.keyfile = ${key}`, 'ssl_options.verify = verify_peer', 'ssl_options.fail_if_no_peer_cert = true',
  ]);
  return { broker, tls: `tls://localhost:${port}` };
}

/** Mosquitto at a port with TLS, and at a unix socket. */
async function mosquitto(stage, { ca }, { cert, key }) {
  const [port, socket] = [await freePort(), path.join(stage.folder, 'mosquitto.sock')];
  const broker = await startMosquitto(stage, [
    'persistence false', 'max_inflight_messages 0', `user ${userInfo().username}`, `listener 0 ${socket}`,
    `listener ${port} 127.0.0.1`, `certfile ${cert}`, `keyfile ${key}`, `cafile ${ca}`, 'require_certificate true',
  ]);
  return { broker, tls: `tls://localhost:${port}`, unix: `unix://${socket}` };
}

/** A unix socket that leads to a port: RabbitMQ has none of its own for STOMP. */
async function unixTo(stage, port) {
  const file = path.join(stage.folder, 'stomp.sock');
  const sockets = new Set();
  const server = net.createServer((near) => {
    const far = net.connect(port, '127.0.0.1');
    for (const [one, other] of [[near, far], [far, near]]) {
      sockets.add(one);
      one.on('error', () => {}).on('close', () => { other.destroy(); sockets.delete(one); }).pipe(other);
    }
  });
  await new Promise((resolve) => { server.listen(file, resolve); });
  stage.defer(() => {
    sockets.forEach((socket) => socket.destroy());
    server.close();
    rmSync(file, { force: true });
  });
  return `unix://${file}`;
}

const shown = ({ cert, key }) => ({ 'upstream_tls.certificate': cert, 'upstream_tls.key': key });

/** The routes that must work, and those of which one side does not know the other. */
function routes(stage, { stomp, mosquitto: broker, stompUnix }, [ours, others], [client, stranger]) {
  const credentials = { user: 'guest', password_file: stage.file('broker.pw', 'guest\n'), host: '/' };
  const of = (service, at, upstream, more) => ({
    path: at, service, upstream, while_down: 'refuse', ...(service === 'stomp' ? { credentials } : { client_id: at.slice(1) }), ...more,
  });
  const known = { 'upstream_tls.ca': ours.ca, ...shown(client) };
  return [
    of('stomp', '/stomp-tls', stomp.tls, known),
    of('stomp', '/stomp-unix', stompUnix),
    of('mqtt', '/mqtt-tls', broker.tls, known),
    of('mqtt', '/mqtt-unix', broker.unix),
    of('mqtt', '/unknown', broker.tls, { ...known, 'upstream_tls.ca': others.ca }),
    of('mqtt', '/named', broker.tls, { ...known, 'upstream_tls.server_name': 'elsewhere.example' }),
    of('mqtt', '/bare', broker.tls, { 'upstream_tls.ca': ours.ca }),
    of('stomp', '/stranger', stomp.tls, { 'upstream_tls.ca': ours.ca, ...shown(stranger) }),
    of('mqtt', '/gone', `unix://${stage.folder}/nobody.sock`),
  ];
}

/** What the log must say of each that cannot work: by the control thread, and by the shards. */
const TOLD = {
  '/unknown': [/of an authority that is not known here — write the file of that authority as `upstream_tls.ca`/],
  '/named': [/is not for elsewhere.example but for localhost, 127.0.0.1/],
  '/bare': [/asks for a certificate, write `upstream_tls.certificate` and `upstream_tls.key`/],
  '/stranger': [/refuses the certificate of `upstream_tls.certificate`/],
  '/gone': [/No such file or directory/],
};

const sessionLine = (route) => (line) => line.includes('there is no session for shared topics') && line.includes(`route="${route}"`);

async function mustTell(edgehold) {
  for (const [route, words] of Object.entries(TOLD)) {
    const lines = await until(`the log of ${route}`, () => {
      const found = edgehold.process.log().split('\n').filter(sessionLine(route));
      return found.length > 0 && found;
    });
    for (const each of words) if (!each.test(lines.join())) throw new Error(`${route}: the log says ${lines.join().slice(0, 500)}`);
  }
}

/** A publisher hears that the broker cannot be reached, with the reason code of MQTT 5, once the shard's own session has failed;
 * what it has published before waits. */
async function mustRefusePublishes(edgehold, route) {
  const client = await within(`CONNECT at ${route}`, mqtt.connectAsync(edgehold.ws(route), { protocolVersion: 5, reconnectPeriod: 0 }));
  const codes = [];
  await until(`${route} to refuse what is published`, () => {
    client.publish('a', 'b', { qos: 1 }, (error) => codes.push(error?.code));
    return codes.includes(0x97);
  });
  await client.endAsync(true);
}

async function allTalk(edgehold, round) {
  const talks = [
    ...[4, 5].flatMap((version) => ['tls', 'unix'].map((by) => (name) => mqttJs(edgehold.ws(`/mqtt-${by}`), version, `${name}-${by}-${version}`))),
    ...['tls', 'unix'].map((by) => (name) => talk(stompjs, edgehold.ws(`/stomp-${by}`), `${name}-${by}`)),
  ];
  for (const run of talks) await within('a conversation', run(`r${round}`), TALK_MS);
  return talks.length;
}

const isUp = async (edgehold, route, up) => (await edgehold.metric('edgehold_broker_up', { route })) === up;

export default async function offloadTls(stage) {
  globalThis.WebSocket = WebSocket;
  const [ours, others] = [authority(stage, 'brokers'), authority(stage, 'others')];
  const [server, client, stranger] = [ours.issue('broker'), ours.issue('edge'), others.issue('edge')];
  const [stomp, broker] = await Promise.all([rabbitmq(stage, ours, server), mosquitto(stage, ours, server)]);
  const brokers = { stomp, mosquitto: broker, stompUnix: await unixTo(stage, stomp.broker.port) };
  const edgehold = await startEdgehold(stage, { routes: routes(stage, brokers, [ours, others], [client, stranger]) });
  let count = await allTalk(edgehold, 1);
  await mustTell(edgehold);
  for (const route of ['/unknown', '/named', '/bare', '/gone']) await mustRefusePublishes(edgehold, route);
  const working = ['/stomp-tls', '/stomp-unix', '/mqtt-tls', '/mqtt-unix'];
  await Promise.all([stomp.broker.kill(), broker.broker.kill()]);
  for (const route of working) await until(`${route} to be down`, () => isUp(edgehold, route, 0));
  await Promise.all([stomp.broker.restart(), broker.broker.restart()]);
  for (const route of working) await until(`${route} to be up again`, () => isUp(edgehold, route, 1), 60_000);
  count += await allTalk(edgehold, 2);
  stage.note(`${count} conversations with RabbitMQ and Mosquitto by TLS and unix sockets, before and after a kill; ${Object.keys(TOLD).length} refusals told`);
}
