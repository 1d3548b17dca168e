//! Unmodified STOMP libraries at RabbitMQ and ActiveMQ themselves, then at edgehold in front of each: one conversation with topics,
//! a queue with acknowledgements, transactions and receipts brings the same; 1000 messages there and back, too.

import { Client } from '@stomp/stompjs';
import WebSocket from 'ws';
import { startActivemq, startRabbitmqForAll } from '../lib/offloaded.mjs';
import { startEdgehold } from '../lib/edgehold.mjs';
import { mustBe } from '../lib/expect.mjs';
import { expected, PLAIN, stompjs, talk, webstompClient, WORDS } from '../lib/libraries/stomp.mjs';
import { python } from '../lib/python.mjs';
import { conversation } from '../lib/stomp.mjs';
import { within } from '../lib/until.mjs';

const LIBRARIES = { stompjs: [stompjs, WORDS], webstompClient: [webstompClient, PLAIN] };
const VERSIONS = ['1.0', '1.1', '1.2'];
const TALK_MS = 30_000;

/** stomp.py speaks 1.0 without escapes: there the words are plain. */
async function stompPy(stage, port, version, name) {
  const words = version === '1.0' ? PLAIN : WORDS;
  const heard = await python(stage, 'real/clients/stomp_talk.py', [JSON.stringify({ port, version, name, ...words })], TALK_MS);
  mustBe(`what ${name} heard`, JSON.stringify(heard), JSON.stringify(expected(name, words)));
}

/** Every library, at a WebSocket and a TCP port; gives how many conversations there were. */
async function allTalk(stage, side, { ws, tcp }) {
  const talks = [];
  if (ws) for (const [name, [connect, words]] of Object.entries(LIBRARIES)) talks.push([`${side}-${name}`, (it) => talk(connect, ws, it, words)]);
  for (const version of VERSIONS) talks.push([`${side}-py-${version.replace('.', '')}`, (it) => stompPy(stage, tcp, version, it)]);
  for (const [name, run] of talks) await within(`the conversation ${name}`, run(name), TALK_MS);
  return talks.length;
}

/** edgehold in front of a STOMP port. */
export function startOffload(stage, port, keys = {}) {
  const credentials = { user: 'guest', password_file: stage.file('broker.pw', 'guest\n'), host: '/' };
  return startEdgehold(stage, {
    listeners: { stomp: { protocol: 'stomp' } },
    routes: [{ path: '/stomp', service: 'stomp', upstream: `tcp://127.0.0.1:${port}`, credentials, ...keys }],
  });
}

export default async function offloadStomp(stage) {
  globalThis.WebSocket = WebSocket;
  const [rabbitmq, activemq] = await Promise.all([startRabbitmqForAll(stage), startActivemq(stage)]);
  let count = await allTalk(stage, 'rabbitmq', { ws: `ws://127.0.0.1:${rabbitmq.ports.ws}/ws`, tcp: rabbitmq.ports.stomp });
  count += await allTalk(stage, 'activemq', { tcp: activemq.ports.stomp });
  for (const [name, broker] of Object.entries({ rabbitmq, activemq })) {
    const edgehold = await startOffload(stage, broker.ports.stomp);
    count += await allTalk(stage, `${name}-edge`, { ws: edgehold.ws('/stomp'), tcp: edgehold.ports.stomp });
    const seen = await conversation(Client, edgehold.ws('/stomp'), `${name}-many`, 1000);
    mustBe('messages there and back', seen.there + seen.back, 2000);
    await edgehold.stop();
  }
  stage.note(`${count} conversations, stompjs, webstomp-client, stomp.py ${VERSIONS.join(' ')}`);
}
