//! Redis, Mosquitto and NATS as feeds by TLS, each of which asks for a client certificate: heard, heard again after it was killed or ended,
//! and told in plain words where one of the two does not know the other's authority.

import { userInfo } from 'node:os';
import mqtt from 'mqtt';
import { connect } from 'nats';
import { startMosquitto, startNats, startRedis } from '../lib/brokers.mjs';
import { authority } from '../lib/certificates.mjs';
import { back, count, lost, mustHaveCounted, mustNotTell, startCounting, stateOf } from '../lib/counted.mjs';
import { startEdgehold } from '../lib/edgehold.mjs';
import { freePort } from '../lib/ports.mjs';
import { ask } from '../lib/redis.mjs';
import { until } from '../lib/until.mjs';

const [USER, PASSWORD] = ['edge', 's3cr3t-by-tls'];
const PART = 500;

/** Publishers of Redis and Mosquitto speak clear text at another port. */
async function redis(stage, { ca }, { cert, key }) {
  const tls = await freePort();
  const broker = await startRedis(stage, {
    requirepass: PASSWORD, 'tls-port': tls, 'tls-cert-file': cert, 'tls-key-file': key, 'tls-ca-cert-file': ca,
  });
  const publish = (n) => ask(broker.port, ['AUTH', PASSWORD], ['PUBLISH', 'counted', `${n}`]);
  return { broker, publish, feed: { source: `rediss://:${PASSWORD}@127.0.0.1:${tls}`, topics: ['counted'] } };
}

async function mosquitto(stage, { ca }, { cert, key }) {
  const tls = await freePort();
  const broker = await startMosquitto(stage, [
    'persistence true', `persistence_location ${stage.dir('mosquitto')}/`, 'max_inflight_messages 0', `listener ${tls} 127.0.0.1`, `certfile ${cert}`, `keyfile ${key}`,
    `cafile ${ca}`, 'require_certificate true',
    // It stays who it is: the files are its starter's.
    `user ${userInfo().username}`,
  ]);
  const publish = async (n) => {
    const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${broker.port}`, { reconnectPeriod: 0 });
    await client.publishAsync('counted', `${n}`, { qos: 1 });
    await client.endAsync();
  };
  // Ended, not killed, it keeps the session.
  return { broker, publish, leave: 'end', feed: { source: `mqtts://localhost:${tls}`, topics: ['counted'] } };
}

async function nats(stage, { ca }, { cert, key }) {
  const tls = `tls { cert_file: "${cert}", key_file: "${key}", ca_file: "${ca}", verify: true }`;
  const broker = await startNats(stage, USER, PASSWORD, [tls]);
  const client = await connect({
    servers: `localhost:${broker.port}`, user: USER, pass: PASSWORD, maxReconnectAttempts: -1, reconnectTimeWait: 100,
    tls: { caFile: ca, certFile: cert, keyFile: key },
  });
  stage.defer(() => client.close());
  const publish = async (n) => {
    await until('the publisher to be back', () => client.flush().then(() => true));
    client.publish('counted', `${n}`);
  };
  return { broker, publish, feed: { source: `tls://${USER}:${PASSWORD}@localhost:${broker.port}`, topics: ['counted'] } };
}

const shown = ({ cert, key }) => ({ 'tls.certificate': cert, 'tls.key': key });

/** Counts over a kill; the authority is named once by `ca` and once as the system's. */
async function mustBeHeard(stage, { broker, publish, feed, leave = 'kill' }, { ca }, client) {
  const counting = await startCounting(stage, { ...feed, 'tls.ca': ca, ...shown(client) });
  await count(1, PART, publish);
  await mustHaveCounted(counting, PART);
  await broker[leave]();
  await lost(counting.edgehold);
  await broker.restart();
  const ms = await back(counting.edgehold);
  await count(PART + 1, 2 * PART, publish);
  await mustHaveCounted(counting, 2 * PART);
  await mustNotTell(counting.edgehold, PASSWORD);
  await counting.edgehold.stop();
  const env = { SSL_CERT_FILE: ca };
  await (await startCounting(stage, { ...feed, ...shown(client) }, env)).edgehold.stop();
  return ms;
}

async function mustTell(stage, feed, tls, words) {
  const feeds = [{ name: 'refused', ...feed, ...tls }];
  const routes = [{ path: '/feed/{channel}', service: 'broadcast', feeds: ['refused'] }];
  const edgehold = await startEdgehold(stage, { routes, feeds });
  let told;
  await until(`words that match ${words}`, async () => {
    told = (await stateOf(edgehold)).last_error;
    return words.test(told ?? '');
  }).catch((error) => { throw new Error(`${error.message}; told was: ${told}`); });
  if (!edgehold.process.log().includes(told)) throw new Error('the log does not say it');
  await mustNotTell(edgehold, PASSWORD);
  await edgehold.stop();
}

export default async function feedTls(stage) {
  const [brokers, strangers] = [authority(stage, 'brokers'), authority(stage, 'strangers')];
  const [server, client, stranger] = [brokers.issue('broker'), brokers.issue('edge'), strangers.issue('edge')];
  for (const start of [redis, mosquitto, nats]) {
    const stand = await start(stage, brokers, server);
    stage.note(`${start.name} back after ${await mustBeHeard(stage, stand, brokers, client)} ms`);
    const unknown = { 'tls.ca': strangers.ca, ...shown(client) };
    await mustTell(stage, stand.feed, unknown, /an authority that is not known here/);
    await mustTell(stage, stand.feed, { 'tls.ca': brokers.ca }, /asks for a certificate/);
    await mustTell(stage, stand.feed, { 'tls.ca': brokers.ca, ...shown(stranger) }, /refuses the certificate|asks for a certificate/);
  }
}
