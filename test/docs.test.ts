import { expect } from 'chai';
import { marked, type Token } from 'marked';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { makeFigures } from '../scripts/figures.js';
import { packageRoot } from '../src/util/packageRoot.js';

const root = packageRoot();
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

const files = (folder: string): string[] =>
  readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1));

const docs = files('docs').filter((path) => path.endsWith('.md'));
const results = files('results');
const pages = [
  'README.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  'onnx/README.md',
  ...docs,
  ...results.filter((path) => path.endsWith('README.md')),
];

/** What a page links to, what it names in backticks, and the anchors of its headings. */
function partsOf(page: string): { links: string[]; names: string[]; anchors: string[] } {
  const parts = { links: [] as string[], names: [] as string[], anchors: [] as string[] };
  void marked.walkTokens(marked.lexer(read(page)), (token: Token) => {
    if (token.type === 'link' || token.type === 'image') parts.links.push((token as { href: string }).href);
    if (token.type === 'codespan') parts.names.push((token as { text: string }).text);
    if (token.type === 'heading') parts.anchors.push(anchorOf((token as { text: string }).text));
  });
  return parts;
}

/** As GitHub makes it of a heading. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .replace(/\s/g, '-');

const isOurs = (link: string): boolean => !/^[a-z]+:/.test(link);
const repositoryPath = /^(src|export|scripts|test|docs|results|heads)\/[\w./@-]*$/;

describe('documentation', () => {
  for (const page of pages) {
    it(`${page}: links lead somewhere`, () => {
      const broken = partsOf(page)
        .links.filter(isOurs)
        .filter((link) => {
          const [path, anchor] = link.split('#');
          const target = path === '' ? page : join(dirname(page), path);
          if (!existsSync(join(root, target))) return true;
          return anchor !== undefined && !partsOf(target).anchors.includes(anchor);
        });
      expect(broken).deep.equal([]);
    });

    it(`${page}: named paths exist`, () => {
      const paths = partsOf(page)
        .names.flatMap((name) => name.split(/\s+/))
        .filter((word) => repositoryPath.test(word) && !word.includes('NAME'));
      expect(paths.filter((path) => !existsSync(join(root, path)))).deep.equal([]);
    });
  }

  it('results/ has no folder that README or docs do not cite', () => {
    const citing = ['README.md', 'CONTRIBUTING.md', ...docs].map(read).join('\n');
    const folders = new Set(results.map((path) => path.split('/')[1]).filter((name) => name !== 'README.md'));
    expect([...folders].filter((folder) => !citing.includes(`results/${folder}`))).deep.equal([]);
  });

  it('results/ has no file that its README does not name', () => {
    const orphans = results
      .filter((path) => !path.endsWith('README.md'))
      .filter((path) => {
        const [, folder, ...rest] = path.split('/');
        return !read(`results/${folder}/README.md`).includes(rest.join('/'));
      });
    expect(orphans).deep.equal([]);
  });

  it('the figures are those of the data', () => {
    for (const [name, figure] of Object.entries(makeFigures())) {
      expect(read(`docs/figures/${name}`), `${name}: run npx tsx scripts/figures.ts`).equal(figure);
    }
  });
});
