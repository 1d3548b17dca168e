//! Autobahn's fuzzing client against edgehold's echo service, by ws and then by wss, compared case by case with
//! expected.json, which is one for both.
//!
//! The cases are dealt out to several fuzzing clients at once, since one alone spends most of its time waiting. The suite may
//! exit 0 although cases failed, so its reports are read. Exit 1 when a case is worse than expected or did not run;
//! `--all` tries every case by both (cases.py says what is left out otherwise), `--update` too, and writes what was seen
//! by ws to expected.json.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { authority, shown } from '../real/lib/certificates.mjs';
import { startEdgehold } from '../real/lib/edgehold.mjs';
import { start } from '../real/lib/processes.mjs';
import { Stage } from '../real/lib/stage.mjs';
import { within } from '../real/lib/until.mjs';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const EXPECTED = path.join(HERE, 'expected.json');
const SUITE = path.resolve(HERE, '../.cache/autobahn');
const REPORTS = path.join(SUITE, 'reports');
const AGENT = 'edgehold';
const CLIENTS = 4;
// Sections 12 and 13, deflated messages, are most of it: a thousand messages in each of 216 cases.
const RUN_MS = 1_200_000;

// Section 9 sends messages of 16 MiB, whole and in fragments, and waits for all of it to come back.
const SERVER = {
  limits: { message_bytes: '64MiB', max_pending: '32MiB' },
  routes: [{ path: '/echo', service: 'echo' }],
};

// How good a result is; one that is not named here (FAILED, WRONG CODE, UNCLEAN, …) is worse than all of these.
const RANKS = { OK: 3, INFORMATIONAL: 3, 'NON-STRICT': 2, UNIMPLEMENTED: 1 };
const rank = (behavior) => RANKS[behavior] ?? 0;

/** The numbers of the cases of a level (cases.py), asked of the suite itself. */
function caseNumbers(level) {
  if (!existsSync(path.join(SUITE, 'wstest'))) throw new Error('the suite is not there: ci/install conformance');
  const env = { ...process.env, PYTHONPATH: path.join(SUITE, 'packages') };
  return JSON.parse(execFileSync(path.join(SUITE, 'python2.7'), [path.join(HERE, 'cases.py'), level], { env }));
}

/** Case by case to each client in turn: neighbours, which often wait alike, come to different clients. */
const deal = (cases) => Array.from({ length: CLIENTS }, (_, hand) => cases.filter((_case, i) => i % CLIENTS === hand));

/** Runs one fuzzing client over `cases`; gives its results by case number. */
async function fuzz(stage, url, cases, number) {
  const outdir = path.join(REPORTS, new URL(url).protocol.slice(0, -1), `${number}`);
  mkdirSync(outdir, { recursive: true });
  const spec = { outdir, servers: [{ agent: AGENT, url }], cases, 'exclude-cases': [], 'exclude-agent-cases': {} };
  const file = stage.file(`spec-${path.basename(path.dirname(outdir))}-${number}.json`, JSON.stringify(spec));
  const log = path.join(stage.folder, `wstest-${number}.log`);
  const wstest = start('wstest', path.join(SUITE, 'wstest'), ['--mode', 'fuzzingclient', '--spec', file], { cwd: stage.folder, log });
  stage.defer(() => wstest.kill());
  await wstest.exited;
  const index = path.join(outdir, 'index.json');
  if (!existsSync(index)) throw new Error(`wstest left no report:\n${wstest.log().slice(-2000)}`);
  return JSON.parse(readFileSync(index, 'utf8'))[AGENT];
}

/** All results by one address, case number to `[behavior, behaviorClose]`. */
async function runSuite(stage, url, cases) {
  const parts = await Promise.all(deal(cases).map((hand, number) => fuzz(stage, url, hand, number)));
  const found = Object.assign({}, ...parts);
  return Object.fromEntries(cases.filter((id) => found[id]).map((id) => [id, [found[id].behavior, found[id].behaviorClose]]));
}

/** `{ worse, better }`: lines that say where `seen` differs from `expected`, of the cases that were asked for. */
function compare(seen, expected, cases) {
  const [worse, better] = [[], []];
  for (const id of cases) {
    const [was, is] = [expected[id] ?? ['OK', 'OK'], seen[id] ?? ['NOT RUN', 'NOT RUN']];
    if (`${was}` === `${is}`) continue;
    const isWorse = was.some((behavior, i) => rank(is[i]) < rank(behavior));
    (isWorse ? worse : better).push(`${id}: ${is.join(', close ')} instead of ${was.join(', close ')}`);
  }
  return { worse, better };
}

function counts(seen) {
  const count = {};
  for (const [behavior] of Object.values(seen)) count[behavior] = (count[behavior] ?? 0) + 1;
  return Object.entries(count).map(([behavior, n]) => `${n} ${behavior}`).join(', ');
}

function write(seen) {
  const lines = Object.entries(seen).map(([id, result]) => `  ${JSON.stringify(id)}: ${JSON.stringify(result)}`);
  writeFileSync(EXPECTED, `{\n${lines.join(',\n')}\n}\n`);
}

/** Says where what was seen by `scheme` differs from what is expected; whether none of it is worse. */
function judge(scheme, seen, cases, seconds) {
  const { worse, better } = compare(seen, JSON.parse(readFileSync(EXPECTED, 'utf8')), cases);
  worse.forEach((line) => console.log(`worse  ${scheme} ${line}`));
  better.forEach((line) => console.log(`better ${scheme} ${line} (ci/conformance/run --update)`));
  const reports = path.join(path.relative(process.cwd(), REPORTS), scheme, '*', `${AGENT}_case_*.html`);
  if (worse.length) console.log(`what was sent and received: ${reports}`);
  const difference = `${worse.length} worse than expected, ${better.length} better`;
  console.log(`${Object.keys(seen).length} cases by ${scheme}: ${counts(seen)}; ${difference} (${seconds} s)`);
  return worse.length === 0;
}

/** Runs the cases by `scheme`, and judges them. */
async function round(stage, scheme, url, cases, update) {
  const from = performance.now();
  const seen = await within(`the suite by ${scheme}`, runSuite(stage, url, cases), RUN_MS);
  if (update) write(seen);
  return judge(scheme, seen, cases, ((performance.now() - from) / 1000).toFixed(1));
}

async function main(update, all) {
  const stage = new Stage('conformance');
  rmSync(REPORTS, { recursive: true, force: true });
  try {
    const listeners = { secure: { tls: shown(authority(stage, 'ours').issue('edge')) } };
    const edgehold = await startEdgehold(stage, { ...SERVER, listeners });
    const [clear, secure] = all || update ? ['all', 'all'] : ['ordinary', 'secure'];
    const good = await round(stage, 'ws', edgehold.ws('/echo'), caseNumbers(clear), update);
    return (await round(stage, 'wss', edgehold.wss('/echo'), caseNumbers(secure), false)) && good;
  } catch (error) {
    stage.fail();
    throw error;
  } finally {
    await stage.end();
  }
}

main(process.argv.includes('--update'), process.argv.includes('--all')).then(
  (good) => process.exit(good ? 0 : 1),
  (error) => {
    console.error(`conformance: ${error.message}`);
    process.exit(1);
  },
);
