//! What the specifications of STOMP 1.0, 1.1 and 1.2 demand of a server: of edgehold by TCP and by WebSocket, and of RabbitMQ itself, which
//! shows that the scripts are right. EDGEHOLD_LAW=words plays those whose names have these words.

import { startRabbitmqForAll } from '../lib/offloaded.mjs';
import { STOMP_LAWS } from '../lib/laws/stomp.mjs';
import { Field } from '../lib/laws/stomp_peer.mjs';
import { played } from '../lib/laws/played.mjs';
import { startOffload } from './offload-stomp.mjs';

export default async function lawsStomp(stage) {
  const broker = await startRabbitmqForAll(stage);
  const edgehold = await startOffload(stage, broker.ports.stomp, { heart_beat: '1s' });
  const direct = `tcp://127.0.0.1:${broker.ports.stomp}`;
  // RabbitMQ ends a connection some seconds behind ERROR.
  await played(stage, STOMP_LAWS, [
    ['edge', `tcp://127.0.0.1:${edgehold.ports.stomp}`, 'unmet'],
    ['web', edgehold.ws('/stomp'), 'unmet'],
    ['direct', direct, 'direct'],
  ], (address, ...where) => new Field(address, ...where, address === direct));
}
