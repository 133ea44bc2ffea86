/**
 * Makes docs/options.md from the option table:
 *
 *   npm run docs
 */
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { describeDefault, describeHelp, describeValues } from '../src/engine/options/describe.js';
import type { Entry } from '../src/engine/options/entry.js';
import { jsonKey } from '../src/engine/options/json.js';
import { paperTree } from '../src/engine/options/paper.js';
import {
  commandsOf,
  flagOf,
  forQuestions,
  optionTable,
  sharedByVariants,
  sweepable,
} from '../src/engine/options/table.js';
import { environmentVariables } from '../src/util/environment.js';

export const optionsPage = fileURLToPath(new URL('../docs/options.md', import.meta.url));

/** The page, as it should be in docs/options.md. */
export function optionsDoc(): string {
  const groups = [...new Set(Object.values(optionTable).map(({ group }) => group))];
  const paper = Object.entries(paperTree).map(
    ([name, value]) => `--${flagOf(name, optionTable[name])} ${String(value)}`,
  );
  return `# Options

<!-- Made by \`npm run docs\` from the tables in src/engine/options: change those, not this page. -->

An option has a name on the command line (\`--top-m 8\`) and one in the library: those of the model belong to
\`MedusaEngine.open({ precision: 'int8' })\`, the others to \`engine.generate(prompt, { topM: 8 })\`. What only a command has,
such as \`--output\`, \`medusa-plus COMMAND --help\` lists.

"bench" stands for \`bench\` and \`compare\` where they differ from \`generate\`: they ask sets of questions.
${groups.map(section).join('')}
## The paper's tree

\`--paper\` stands for \`${paper.join(' ')}\`. Results show these, not
\`paper\`. Together with another value of one of them, or with a tree file, it is an error. It leaves the other options alone: the
paper's own tree has \`--nodes 64\` and the default \`--top-m 32\`.

The published code takes the softmax over the best 32 candidates of each head, multiplies along each path and keeps the best paths.
\`--paper\` builds the same trees, node for node. The default differs in four ways:

- \`--marginals full\`: the softmax is over the whole draft vocabulary. About 92% of the nodes are the same, and tokens per step are too.
- \`--joint conditional\`, where the heads come with a table: the product is corrected for the tokens before each candidate.
- \`--draft heads,recycle,lookup\`: what the model preferred after the same tokens, and what followed them in the text, become candidates too.
- \`--nodes auto\`: the size of each tree follows from the cost measured on this machine.

\`medusa-plus compare --paper --nodes 64\` runs plain decoding, a static tree and the paper's.

## Plain decoding

\`--tree none\` is plain decoding: one token a step, which reports call "plain". \`compare\` always runs it.

## Variants and sweeps

\`compare -a "--tree static" -b "fast: --tree dynamic --nodes 16"\` runs a variant for each text, named by its options or by the
word before the colon. Options outside of the quotes hold for each variant that can take them. A variant may have any option of
the model or of decoding but these, which must be the same for all: ${listed(sharedByVariants.map((flag) => `--${flag}`))}.

\`--sweep PARAMETER=VALUE,VALUE,...\` runs each variant that can take the parameter with each of the values. PARAMETER is one of
${listed(sweepable)}.

## Environment variables

Where an option says the same, the option wins.

| Variable | What it does |
|---|---|
${Object.entries(environmentVariables)
  .map(([name, text]) => `| \`${name}\` | ${text} |`)
  .join('\n')}

## Where results have them

\`run.json\` of a run folder has them under the keys in the last column. \`generate --json\` has the decoding options on top, under
names with underscores (\`${jsonKey('headsUsed')}\`): what takes no part in plain decoding is 0 there (\`nodes\` 1), and
\`top_p\` is null but for \`nucleus\`.
`;
}

function section(group: string): string {
  const rows = Object.entries(optionTable).filter(([, entry]) => entry.group === group);
  return `
## ${group}

| Command line, library | What it does | Values | Default | Commands | Sweep | run.json |
|---|---|---|---|---|---|---|
${rows.map(([name, entry]) => row(name, entry)).join('\n')}
`;
}

function row(name: string, entry: Entry): string {
  const cells = [
    `\`--${flagOf(name, entry)}\`, \`${name}\``,
    describeHelp(entry),
    kindOf(entry),
    inBoth(entry, (each) => describeDefault(each) ?? (each.kind === 'flag' ? 'off' : '')),
    commandsOf(entry).join(', '),
    entry.sweep ? 'yes' : '',
    entry.inRun === undefined ? '' : `\`${entry.inRun}\``,
  ];
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
}

function kindOf(entry: Entry): string {
  switch (entry.kind) {
    case 'number':
      return `${entry.range.integer ? 'whole number' : 'number'}, ${inBoth(entry, describeValues)}`;
    case 'choice':
    case 'set':
      return describeValues(entry);
    case 'flag':
      return 'on or off (boolean)';
    case 'text':
      return 'text';
    case 'texts':
      return 'text, may be repeated (list of texts)';
    case 'paths':
      return 'file (list of paths)';
  }
}

/** What a function says of an option, and what it says of it in `bench` and `compare` where that differs. */
function inBoth(entry: Entry, describe: (entry: Entry) => string): string {
  const [general, own] = [describe(entry), describe(forQuestions(entry))];
  return general === own ? general : `${general}; bench: ${own}`;
}

const listed = (names: readonly string[]): string => names.map((name) => `\`${name}\``).join(', ');

if (process.argv[1] === fileURLToPath(import.meta.url)) await writeFile(optionsPage, optionsDoc());
