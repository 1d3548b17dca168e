//! Who clients are is for the broker to say (`auth = { broker = true }`): RabbitMQ with users of `rabbitmqctl`, Mosquitto with a
//! file of passwords. 200 clients with the same name and password are one session there; a wrong password is told apart from a
//! broker that is away; and who has published something is written on it by the edge alone.

import { Client } from '@stomp/stompjs';
import mqtt from 'mqtt';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import WebSocket from 'ws';
import { startMosquitto, startRabbitmq } from '../lib/brokers.mjs';
import { startEdgehold } from '../lib/edgehold.mjs';
import { mustBe } from '../lib/expect.mjs';
import { rabbitmqctl } from '../lib/offloaded.mjs';
import { connectStomp, subscribe } from '../lib/stomp.mjs';
import { until, within } from '../lib/until.mjs';

const run = promisify(execFile);
const CLIENTS = 200;
const WORTHLESS = 'these credentials are worth nothing here';
const LATER = 'nobody can say now who you are; try again';

/** Lines of a broker's log that have this in them. */
const lines = (stage, broker, text) => readFileSync(path.join(stage.folder, `${broker}.log`), 'utf8').split('\n')
  .filter((line) => line.includes(text)).length;

const startEdge = (stage, service, port, credentials, stamp = 'x-user') => startEdgehold(stage, {
  server: { shards: 2 },
  routes: [{
    path: '/', service, upstream: `tcp://127.0.0.1:${port}`, auth: { broker: true, broker_remember: '5m' }, stamp, credentials,
    permissions: [{ destinations: [service === 'mqtt' ? '{user}/#' : '/queue/{user}.#'], allow: ['publish', 'subscribe'] }],
  }],
});

/** The words of a refusal. */
const refusal = (connecting) => connecting.then(() => 'it was let in', (error) => error.message);

/** What holds for both: `enter` connects, `said` is how a refusal reads, `logins` counts the broker's sessions of clients. */
async function story(edgehold, broker, { enter, said, logins, leave }) {
  const before = logins();
  const clients = await within('200 clients', Promise.all(Array.from({ length: CLIENTS }, () => enter('ann', 'secret'))), 60_000);
  mustBe('sessions for them at the broker', logins() - before, 1);
  await Promise.all(clients.map(leave));
  for (const [user, password] of [['ann', 'Secret'], ['nobody', 'secret'], ['ann', '']]) {
    mustBe(`what ${user} with ${password} hears`, await refusal(enter(user, password)), said(WORTHLESS));
  }
  const asked = logins();
  mustBe('what it hears again', await refusal(enter('ann', 'Secret')), said(WORTHLESS));
  mustBe('that this is remembered', logins(), asked);
  await broker.kill();
  mustBe('while the broker is away', await refusal(enter('bob', 'builder')), said(LATER));
  await leave(await enter('ann', 'secret'));
  await broker.restart();
  let last;
  await until('bob to be let in', async () => (last = await enter('bob', 'builder').catch(() => undefined)) !== undefined);
  await leave(last);
  mustBe('sources that are good', await edgehold.metric('edgehold_auth_source_up', { kind: 'broker' }), 1);
}

async function stomp(stage) {
  const rabbitmq = await startRabbitmq(stage);
  for (const [user, password] of [['edge', 'edge'], ['ann', 'secret'], ['bob', 'builder']]) {
    await rabbitmqctl(rabbitmq, 'add_user', user, password);
    await rabbitmqctl(rabbitmq, 'set_permissions', '-p', '/', user, '.*', '.*', '.*');
  }
  const credentials = { user: 'edge', password_file: stage.file('edge.pw', 'edge\n'), host: '/' };
  const edgehold = await startEdge(stage, 'stomp', rabbitmq.port, credentials);
  const url = edgehold.ws('/');
  const enter = (login, passcode) => connectStomp(Client, url, { connectHeaders: { login, passcode, host: '/' } });
  await until('the session of the edge', () => lines(stage, 'rabbitmq', 'accepting STOMP connection') > 0);
  await story(edgehold, rabbitmq, {
    enter, said: (words) => `STOMP: ${words} `, logins: () => lines(stage, 'rabbitmq', 'accepting STOMP connection'),
    leave: (client) => client.deactivate(),
  });
  const ann = await enter('ann', 'secret');
  let heard;
  await subscribe(ann, '/queue/ann.mine', (message) => (heard = message.headers));
  ann.publish({ destination: '/queue/ann.mine', headers: { 'x-user': 'root', 'X-User': 'root', kind: 'forged' }, body: 'x' });
  await until('the message', () => heard);
  mustBe('who has published it', [heard['x-user'], heard['X-User'], heard.kind].join(), 'ann,,forged');
  await ann.deactivate();
  await edgehold.stop();
  await impersonated(stage, rabbitmq, credentials);
}

/** RabbitMQ's own `user-id`, which it lets a user with this tag alone say. */
async function impersonated(stage, rabbitmq, credentials) {
  await rabbitmqctl(rabbitmq, 'set_user_tags', 'edge', 'impersonator');
  const edgehold = await startEdge(stage, 'stomp', rabbitmq.port, credentials, 'user-id');
  const bob = await connectStomp(Client, edgehold.ws('/'), { connectHeaders: { login: 'bob', passcode: 'builder', host: '/' } });
  let heard;
  await subscribe(bob, '/queue/bob.mine', (message) => (heard = message.headers));
  bob.publish({ destination: '/queue/bob.mine', headers: { 'user-id': 'ann' }, body: 'x' });
  await until('the message', () => heard);
  mustBe('who has published it', heard['user-id'], 'bob');
  await bob.deactivate();
  await edgehold.stop();
}

async function mqttStory(stage) {
  const passwords = path.join(stage.folder, 'passwords');
  for (const [at, [user, password]] of [['edge', 'edge'], ['ann', 'secret'], ['bob', 'builder']].entries()) {
    await run('mosquitto_passwd', [...(at ? [] : ['-c']), '-b', passwords, user, password]);
  }
  const mosquitto = await startMosquitto(stage, [
    'persistence false', 'allow_anonymous false', `password_file ${passwords}`, `user ${userInfo().username}`,
    // Its standard output waits until there is much of it.
    `log_dest file ${stage.dir('mosquitto')}/all.log`,
  ]);
  const edgehold = await startEdge(stage, 'mqtt', mosquitto.port, { user: 'edge', password_file: stage.file('edge.pw', 'edge\n') });
  const logins = () => lines(stage, 'mosquitto/all', '-login-');
  for (const protocolVersion of [4, 5]) {
    const enter = (username, password, more) => mqtt.connectAsync(edgehold.ws('/'), {
      protocolVersion, username, password, reconnectPeriod: 0, ...more,
    });
    const codes = { [WORTHLESS]: [4, 134], [LATER]: [3, 136] };
    const coded = (user, password) => enter(user, password).catch((error) => Promise.reject(new Error(`${error.code}`)));
    // What was remembered of the first round is known in the second.
    if (protocolVersion === 4) {
      const begun = () => lines(stage, 'mosquitto/all', 'u\'ann\'') + lines(stage, 'mosquitto/all', 'not authorised');
      await story(edgehold, mosquitto, {
        enter: coded, said: (words) => `${codes[words][0]}`, logins: begun, leave: (client) => client.endAsync(),
      });
    }
    mustBe('a wrong password', await refusal(coded('ann', `${protocolVersion}`)), `${codes[WORTHLESS][protocolVersion - 4]}`);
    const ann = await enter('ann', 'secret', { will: { topic: 'ann/will', payload: 'lost', qos: 1 } });
    const listener = await enter('ann', 'secret');
    const heard = [];
    listener.on('message', (topic, body, packet) => heard.push(`${topic} ${JSON.stringify(packet.properties?.userProperties ?? {})}`));
    await listener.subscribeAsync('ann/#', { qos: 1 });
    const properties = protocolVersion === 5 ? { userProperties: { 'X-User': 'root' } } : undefined;
    await ann.publishAsync('ann/said', 'x', { qos: 1, properties });
    ann.stream.destroy();
    await until('the message and the will', () => heard.length === 2);
    // A client of 3.1.1 cannot hear it.
    const said = protocolVersion === 5 ? '{"x-user":"ann"}' : '{}';
    mustBe('who has published them', heard.join(), `ann/said ${said},ann/will ${said}`);
    await listener.endAsync();
  }
  mustBe('that the edge has asked', logins() > 0, true);
  await edgehold.stop();
}

export default async function logins(stage) {
  globalThis.WebSocket = WebSocket;
  await stomp(stage);
  await mqttStory(stage);
  stage.note(`${CLIENTS} clients by one session at RabbitMQ and at Mosquitto; wrong, away and back again; stamped`);
}
