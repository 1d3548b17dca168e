//! Plants one fault into a page that has none, and sees it found: `node --test ci/report`.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { launch } from './chromium.mjs';
import { inspect } from './look.mjs';

const READER = { name: 'test', width: 390, height: 844, colorScheme: 'light' };

const SVG = `<svg role="img" aria-labelledby="t" aria-describedby="s" width="200" height="100" viewBox="0 0 200 100">
  <text x="10" y="20" fill="#24292F">clients</text><text x="100" y="20" fill="#24292F">bytes</text>
  <polyline points="0,0 50,50" fill="none" stroke="#0072B2"/></svg>`;
const PAGE = `<!DOCTYPE html><html><body><figure class="plot"><h3 id="t">Memory</h3>${SVG}
  <figcaption id="s">a: 5 bytes.</figcaption></figure></body></html>`;

const FAULTS = [
  ['console', PAGE, '</body>', '<script>console.error("oh")</script></body>'],
  ['error', PAGE, '</body>', '<script>throw new Error("oh")</script></body>'],
  ['asks for', PAGE, '</body>', '<img src="absent.png"></body>'],
  ['no plots', PAGE, 'class="plot"', ''],
  ['no title', PAGE, 'Memory', ''],
  ['no summary', PAGE, 'a: 5 bytes.', ''],
  ['leads nowhere', PAGE, 'aria-labelledby="t"', 'aria-labelledby="x"'],
  ['nothing is drawn', PAGE, 'width="200"', 'width="0"'],
  ['no words', PAGE, /<text.*<\/text>/, ''],
  ['cut off', PAGE, 'x="100"', 'x="190"'],
  ['overlap', PAGE, 'x="100"', 'x="20"'],
  ['contrast', PAGE, '#24292F', '#CCCCCC'],
  ['no line', PAGE, '0,0 50,50', ''],
  ['no line', PAGE, '#0072B2', '#5B6570'],
  ['drawn outside', PAGE, '0,0 50,50', '0,0 500,50'],
  ['px wide', PAGE, '</body>', '<p style="width: 900px">wide</p></body>'],
  ['no plot "Latency"', PAGE, 'Memory', 'Memories'],
  ['outside a plot', PAGE, '</body>', '<svg></svg></body>'],
];

let browser;
let folder;
before(async () => {
  browser = await launch();
  folder = mkdtempSync(path.join(tmpdir(), 'edgehold-look-'));
});
after(async () => {
  await browser?.close();
  if (folder) rmSync(folder, { recursive: true });
});

async function faults(html, titles) {
  const file = path.join(folder, 'page.html');
  writeFileSync(file, html);
  return (await inspect(browser, file, READER, titles)).faults;
}

test('a page without faults has none', async () => {
  assert.deepEqual(await faults(PAGE, ['Memory']), []);
});

for (const [words, page, from, to] of FAULTS) {
  test(`found: ${words} (${from})`, async () => {
    const broken = page.replace(from, to);
    assert.notEqual(broken, page);
    const titles = words.startsWith('no plot "') ? ['Latency'] : [];
    const found = await faults(broken, titles);
    assert.ok(found.some((fault) => fault.includes(words)), `${found.join('\n') || 'nothing was found'}`);
  });
}
