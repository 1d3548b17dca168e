//! RabbitMQ, Mosquitto and Redis behind edgehold by TLS, each of which asks for a client certificate: the same
//! conversations as in clear text; and 503 with a plain reason where one of the two does not know the other.
//!
//! NATS is not among them: it greets in clear text before TLS begins, which a proxy of bytes cannot know.

import { userInfo } from 'node:os';
import { Client } from '@stomp/stompjs';
import WebSocket from 'ws';
import { startMosquitto, startRabbitmq, startRedis } from '../lib/brokers.mjs';
import { authority } from '../lib/certificates.mjs';
import { startEdgehold } from '../lib/edgehold.mjs';
import { mustBe, mustEqual } from '../lib/expect.mjs';
import { freePort } from '../lib/ports.mjs';
import { conversation } from '../lib/stomp.mjs';
import { until } from '../lib/until.mjs';
import { handshakeStatus } from '../lib/websocket.mjs';
import { exchange } from './mqtt.mjs';
import { commands, direct, throughEdgehold } from './redis.mjs';
import { STOMP_ROUTE } from './stomp.mjs';

const COUNT = 2000;

async function rabbitmq(stage, { ca }, { cert, key }) {
  const port = await freePort();
  await startRabbitmq(stage, [
    `stomp.listeners.ssl.1 = 127.0.0.1:${port}`, `ssl_options.cacertfile = ${ca}`, `ssl_options.certfile = ${cert}`,
    `ssl_options.keyfile = ${key}`, 'ssl_options.verify = verify_peer', 'ssl_options.fail_if_no_peer_cert = true',
  ]);
  return `tls://localhost:${port}`;
}

async function mosquitto(stage, { ca }, { cert, key }) {
  const port = await freePort();
  await startMosquitto(stage, [
    'persistence false', 'max_inflight_messages 0', `listener ${port} 127.0.0.1`, `certfile ${cert}`, `keyfile ${key}`,
    `cafile ${ca}`, 'require_certificate true', `user ${userInfo().username}`,
  ]);
  return `tls://127.0.0.1:${port}`;
}

async function redis(stage, { ca }, { cert, key }) {
  const port = await freePort();
  const broker = await startRedis(stage, { 'tls-port': port, 'tls-cert-file': cert, 'tls-key-file': key, 'tls-ca-cert-file': ca });
  return [`tls://localhost:${port}`, broker.port];
}

/** The client hears 503, and the log says whose turn it is. */
async function mustRefuse(edgehold, path, words) {
  const status = await handshakeStatus(edgehold.ws(path));
  mustBe(`the status of ${path}`, status, 503);
  await until(`the log to say "${words}"`, () => edgehold.process.log().includes(words));
}

export default async function upstreamTls(stage) {
  globalThis.WebSocket = WebSocket;
  const [ours, others] = [authority(stage, 'brokers'), authority(stage, 'others')];
  const [server, client] = [ours.issue('broker'), ours.issue('edge')];
  const stomp = await rabbitmq(stage, ours, server);
  const mqtt = await mosquitto(stage, ours, server);
  const [secure, clear] = await redis(stage, ours, server);
  const tls = { 'upstream_tls.ca': ours.ca, 'upstream_tls.certificate': client.cert, 'upstream_tls.key': client.key };
  const route = (path, upstream, more) => ({ path, service: 'proxy', upstream, ...tls, ...more });
  const edgehold = await startEdgehold(stage, {
    routes: [
      route('/stomp', stomp, STOMP_ROUTE),
      route('/mqtt', mqtt, { subprotocols: ['mqtt'] }),
      route('/redis', secure),
      route('/stranger', secure, { 'upstream_tls.ca': others.ca }),
      route('/named', secure, { 'upstream_tls.server_name': 'elsewhere.example' }),
      route('/clear', `tls://localhost:${clear}`),
    ],
  });
  const seen = await conversation(Client, edgehold.ws('/stomp'), 'node', COUNT);
  for (const version of [4, 5]) await exchange(edgehold.ws('/mqtt'), version, 1);
  const whole = commands(COUNT);
  const answers = await throughEdgehold(edgehold.ws('/redis'), whole);
  mustEqual('the answers, beside those of a direct connection', answers.bytes, await direct(clear, whole));
  await mustRefuse(edgehold, '/stranger', 'of an authority that is not known here');
  await mustRefuse(edgehold, '/named', 'is not for elsewhere.example but for localhost, 127.0.0.1');
  await mustRefuse(edgehold, '/clear', 'gone in the midst of the handshake');
  stage.note(`RabbitMQ ${seen.there} there and ${seen.back} back, Mosquitto, Redis ${answers.messages} messages; three refusals told`);
}
