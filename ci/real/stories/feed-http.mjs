//! Publishing over HTTP by curl and in batches: what was answered 200 is heard, in order, and nothing else.

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { count, mustHaveCounted, startCounting } from '../lib/counted.mjs';
import { mustBe } from '../lib/expect.mjs';

const curl = async (...args) => (await promisify(execFile)('curl', ['-sS', ...args])).stdout;
const TEXT = 'Content-Type: text/x-message';
const SINGLE = 20;
const BATCH = 5000;

export default async function feedHttp(stage) {
  const counting = await startCounting(stage, { source: 'http' });
  const admin = `http://127.0.0.1:${counting.edgehold.admin}/v1/publish`;
  await count(1, SINGLE, async (n) => {
    const answer = JSON.parse(await curl('-H', TEXT, '-d', `${n}`, `${admin}/counted?id=${n}`));
    mustBe('the id in the answer', answer.id, `${n}`);
  });
  const numbers = Array.from({ length: BATCH }, (_, i) => SINGLE + 1 + i);
  const lines = numbers.map((n) => JSON.stringify({ channel: 'counted', data: n }));
  const file = stage.file('batch.ndjson', [...lines, '{"channel":"counted"}', '{"data":0}', ''].join('\n'));
  const batch = JSON.parse(await curl('-H', 'Content-Type: application/x-ndjson', '--data-binary', `@${file}`, admin));
  mustBe('lines published', batch.published, BATCH);
  mustBe('lines refused', JSON.stringify(batch.lines), JSON.stringify([
    { line: BATCH + 1, reason: 'bad_json' }, { line: BATCH + 2, reason: 'no_channel' },
  ]));
  const large = stage.file('large.txt', 'x'.repeat(1_100_000));
  const status = await curl('-o', '/dev/null', '-w', '%{http_code}', '-H', TEXT, '--data-binary', `@${large}`, `${admin}/counted`);
  mustBe('the status of what is too large', status, '413');
  await mustHaveCounted(counting, SINGLE + BATCH);
  stage.note(`${SINGLE} requests, ${BATCH} lines of a batch`);
}
