//! The same conversation from a page in headless Chromium. The page, its modules and the STOMP library come from
//! edgehold's own files service.

import { cpSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { startRabbitmq } from '../lib/brokers.mjs';
import { startEdgehold } from '../lib/edgehold.mjs';
import { megabytes } from '../lib/expect.mjs';
import { within } from '../lib/until.mjs';
import { openPage } from '../lib/page.mjs';
import { STOMP_ROUTE } from './stomp.mjs';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const FILES = {
  'index.html': '../page/index.html',
  'modules/stomp.mjs': '../lib/stomp.mjs',
  'modules/bodies.mjs': '../lib/bodies.mjs',
  'modules/stompjs.js': '../node_modules/@stomp/stompjs/bundles/stomp.umd.min.js',
};

function root(stage) {
  const www = stage.dir('www');
  for (const [name, source] of Object.entries(FILES)) cpSync(path.resolve(HERE, source), path.join(www, name));
  return www;
}

export default async function browser(stage) {
  const broker = await startRabbitmq(stage);
  const edgehold = await startEdgehold(stage, {
    routes: [
      { ...STOMP_ROUTE, upstream: `tcp://127.0.0.1:${broker.port}` },
      { path: '/', service: 'files', root: root(stage) },
    ],
  });
  const { browser: chrome, page, complaints } = await openPage(stage, edgehold.http('/index.html'));
  const seen = await within('the page', page.evaluate(() => window.talk('browser', 10_000)), 120_000);
  if (complaints.length) throw new Error(`the page complains: ${complaints.join('; ')}`);
  stage.note(`${seen.there} there, ${seen.back} back, ${megabytes(seen.bytes)}, ${seen.subprotocol}`);
  stage.note(`Chromium ${chrome.version()}`);
}
