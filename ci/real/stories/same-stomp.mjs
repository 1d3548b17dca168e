//! Random STOMP scripts, played by RabbitMQ alone and by edgehold in front of it: every client hears the same.
//!
//! EDGEHOLD_SEED=n plays one seed, EDGEHOLD_SEEDS=n so many; what fails names its seed.

import { startRabbitmqForAll } from '../lib/offloaded.mjs';
import { startEdgehold } from '../lib/edgehold.mjs';
import { sameForSeeds } from '../lib/scripts/same.mjs';
import { stompScript, StompPlayer } from '../lib/scripts/stomp.mjs';

const SEEDS = 12;

export const OFFLOADED = (port) => ({
  path: '/stomp', service: 'stomp', upstream: `tcp://127.0.0.1:${port}`,
});

export default async function sameStomp(stage) {
  const broker = await startRabbitmqForAll(stage);
  const password = stage.file('broker.pw', 'guest\n');
  const edgehold = process.env.EDGEHOLD_DIRECT ? undefined : await startEdgehold(stage, {
    listeners: { stomp: { protocol: 'stomp' } },
    routes: [{ ...OFFLOADED(broker.ports.stomp), credentials: { user: 'guest', password_file: password, host: '/' } }],
  });
  const direct = [`tcp://127.0.0.1:${broker.ports.stomp}`, `ws://127.0.0.1:${broker.ports.ws}/ws`];
  const edge = edgehold ? [`tcp://127.0.0.1:${edgehold.ports.stomp}`, edgehold.ws('/stomp')] : direct;
  const steps = await sameForSeeds(stage, SEEDS, (seed) => stompScript(seed), (script, side) => new StompPlayer(script, side === 'edge' ? edge : direct, side));
  stage.note(steps);
}
