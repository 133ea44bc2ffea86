import { expect } from 'chai';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runCli, runMain } from '../support/cli.js';
import { onTiny, temporaryFolder } from '../support/tinyModel.js';

describe('medusa-plus generate', function () {
  this.timeout(60_000);

  it('prints the text on stdout and one line of statistics on stderr', async () => {
    const run = await runCli(['generate', 'Hi', ...onTiny, '--max-new-tokens', '12']);
    expect(run.code).to.equal(0);
    expect(run.stdout).to.match(/^\S[^]*\n$/);
    const lines = run.stderr.trim().split('\n');
    expect(lines.at(-1)).to.match(
      /^12 tokens \(length\), [\d.]+ tokens\/step, [\d.]+ tokens\/s, first token \d+ ms; prefill/,
    );
  });

  it('reads the prompt from standard input, and says when that is empty', async () => {
    const piped = await runCli(['generate', ...onTiny, '--max-new-tokens', '3', '--json'], { input: 'Hi\n' });
    const given = await runMain(['generate', 'Hi', ...onTiny, '--max-new-tokens', '3', '--json']);
    expect((JSON.parse(piped.stdout) as { prompt_tokens: number }).prompt_tokens).to.equal(
      (JSON.parse(given.stdout) as { prompt_tokens: number }).prompt_tokens,
    );
    const empty = await runCli(['generate', ...onTiny], { input: '' });
    expect(empty.code).to.equal(2);
    expect(empty.stderr).to.contain('The prompt is empty');
  });

  it('takes a dash for standard input, and prompts that begin with a dash behind --', async () => {
    const tokens = async (args: string[], input?: string): Promise<number> => {
      const run = await runCli(['generate', ...onTiny, '--max-new-tokens', '1', '--json', ...args], {
        input,
      });
      return (JSON.parse(run.stdout) as { prompt_tokens: number }).prompt_tokens;
    };
    const expected = await tokens(['x --y']);
    expect(await tokens(['-'], 'x --y')).to.equal(expected);
    expect(await tokens(['--', '-- y x'])).to.be.greaterThan(0);
    expect(await tokens(['42'])).to.be.greaterThan(0);
    const two = await runMain(['generate', ...onTiny, '--', 'two', 'prompts']);
    expect(two.code).to.equal(2);
    expect(two.stderr).to.contain('quotes');
  });

  it('takes the words true and false for prompts behind any flag', async () => {
    const tokens = async (...args: string[]): Promise<string> => {
      const run = await runMain(['generate', ...onTiny, '--max-new-tokens', '3', '--seed', '1', ...args]);
      expect(run.code, run.stderr).to.equal(0);
      return run.stdout;
    };
    for (const word of ['true', 'false']) {
      const expected = await tokens('--', word);
      for (const flag of ['--quiet', '--show-tree', '--raw-output'])
        expect(await tokens(flag, word), `${flag} ${word}`).to.equal(expected);
      expect(await tokens('--json', word)).to.match(/^\{/);
    }
  });

  it('streams: the first text comes before the last', async () => {
    const pieces: string[] = [];
    await runCli(['generate', 'Hi', ...onTiny, '--max-new-tokens', '200'], {
      onStdout: (piece) => pieces.push(piece),
    });
    expect(pieces.length).to.be.greaterThan(3);
  });

  it('ends cleanly on Ctrl-C with what was generated', async () => {
    let isSent = false;
    const run = await runCli(['generate', 'Hi', ...onTiny, '--max-new-tokens', '450', '--tree', 'none'], {
      onStdout: (_, child) => {
        if (!isSent) isSent = child.kill('SIGINT');
      },
    });
    expect(run.code).to.equal(130);
    expect(run.stdout.trim()).to.not.equal('');
    expect(run.stderr).to.contain('(aborted)');
    expect(run.stderr).to.not.contain('    at ');
  });

  it('ends quietly when the reader goes away', async () => {
    const run = await runCli(['generate', 'Hi', ...onTiny, '--max-new-tokens', '450'], {
      onStdout: (_, child) => child.stdout!.destroy(),
    });
    expect(run.code).to.equal(0);
    expect(run.stderr).to.not.contain('EPIPE');
  });

  it('prints one JSON object with every field', async () => {
    const run = await runMain([
      'generate',
      'Hi',
      ...onTiny,
      '--json',
      '--max-new-tokens',
      '20',
      '--nodes',
      '8',
    ]);
    expect(run.stderr).to.equal('');
    const json = JSON.parse(run.stdout) as Record<string, unknown>;
    expect(json).to.include({
      prompt_tokens: 17,
      new_tokens: 20,
      finish_reason: 'length',
      tree: 'dynamic',
      nodes: 8,
      heads_used: 4,
      top_m: 32,
      acceptance: 'greedy',
      temperature: 0,
      model: 'tiny',
      heads: 'tiny',
      provider: 'cpu',
      threads: 1,
    });
    const lengths = json.accept_lengths as number[];
    expect(json.steps).to.equal(lengths.length);
    expect(json.inferences).to.equal(lengths.length + 1);
    expect(json.token_ids).to.have.length(20);
    expect(lengths.reduce((sum, length) => sum + length, 1)).to.equal(20);
    expect(json.tokens_per_step).to.be.closeTo(19 / lengths.length, 1e-9);
    expect(json.tokens_per_inference).to.be.closeTo(20 / (lengths.length + 1), 1e-9);
    expect(json.text).to.be.a('string').and.not.equal('');
    for (const name of ['wall_time_s', 'prefill_time_s', 'tokens_per_second'])
      expect(json[name]).to.be.above(0);
  });

  it('gives the same tokens with every tree', async () => {
    const ids = async (...args: string[]): Promise<unknown> => {
      const run = await runMain(['generate', 'Hi', ...onTiny, '--json', '--max-new-tokens', '40', ...args]);
      return (JSON.parse(run.stdout) as { token_ids: unknown }).token_ids;
    };
    const plain = await ids('--tree', 'none');
    expect(await ids('--tree', 'dynamic', '--nodes', '16')).to.deep.equal(plain);
    expect(await ids('--tree', 'static', '--nodes', '16')).to.deep.equal(plain);
    expect(await ids('--tree', 'static')).to.deep.equal(plain);
    expect(await ids()).to.deep.equal(plain);
  });

  it('ends before a stop string', async () => {
    const whole = await runMain(['generate', 'Hi', ...onTiny, '--max-new-tokens', '30', '--quiet']);
    const stop = whole.stdout.slice(10, 14);
    const cut = await runMain([
      'generate',
      'Hi',
      ...onTiny,
      '--max-new-tokens',
      '30',
      '--json',
      '--stop',
      stop,
      '--stop',
      '~~',
    ]);
    const json = JSON.parse(cut.stdout) as Record<string, unknown>;
    expect(json.text).to.equal(whole.stdout.slice(0, whole.stdout.indexOf(stop)));
    expect(json.finish_reason).to.equal('stop');
  });

  it('draws the trees on stderr and leaves stdout to the text', async () => {
    const run = await runMain([
      'generate',
      'Hi',
      ...onTiny,
      '--max-new-tokens',
      '6',
      '--nodes',
      '5',
      '--show-tree',
    ]);
    expect(run.stderr).to.match(/step 1: 5 nodes, \d tokens added/);
    expect(run.stderr).to.contain('└─ ').and.to.contain('✓');
    expect(run.stdout).to.not.contain('─');
  });

  it('samples the same text from the same seed', async () => {
    const sample = async (seed: string): Promise<string> =>
      (
        await runMain([
          'generate',
          'Hi',
          ...onTiny,
          '--max-new-tokens',
          '20',
          '--temperature',
          '8',
          '--seed',
          seed,
          '--quiet',
        ])
      ).stdout;
    expect(await sample('7')).to.equal(await sample('7'));
    expect(await sample('7')).to.not.equal(await sample('8'));
  });

  it('takes a tree from a file, by name', async () => {
    const folder = await temporaryFolder();
    try {
      const file = join(folder.path, 'trees.json');
      await writeFile(file, JSON.stringify({ small: [[0], [0, 0], [1]], other: [[0]] }));
      const args = ['generate', 'Hi', ...onTiny, '--max-new-tokens', '10', '--json', '--tree-file'];
      const run = await runMain([...args, `${file}#small`]);
      expect(JSON.parse(run.stdout)).to.include({ tree: 'static' });
      expect((JSON.parse(run.stdout) as { node_counts: number[] }).node_counts[0]).to.equal(4);
      const unnamed = await runMain([...args, file]);
      expect(unnamed.code).to.equal(2);
      expect(unnamed.stderr).to.contain('small, other');
      // The size is the file's, also where it is asked for; some editors begin files with a byte order mark.
      await writeFile(file, '\ufeff[[0], [0, 0], [1]]');
      for (const nodes of [[], ['--nodes', '4'], ['--nodes', 'auto']]) {
        const marked = await runMain([...args, file, ...nodes]);
        expect(JSON.parse(marked.stdout)).to.include({ tree: 'static', nodes: 4 });
      }
    } finally {
      await folder.remove();
    }
  });

  it('never falls back from CUDA in silence', async () => {
    const args = ['generate', 'Hi', ...onTiny, '--max-new-tokens', '3', '--provider'];
    const cuda = await runCli([...args, 'cuda'], { env: { MEDUSA_PLUS_ORT_LIBRARY: '' } });
    expect(cuda.code).to.equal(1);
    expect(cuda.stdout).to.equal('');
    expect(cuda.stderr)
      .to.contain('--ort-library')
      .and.to.not.match(/^\s+at /m);
    const auto = await runCli([...args, 'auto'], { env: { MEDUSA_PLUS_ORT_LIBRARY: '' } });
    expect(auto.code).to.equal(0);
    expect(auto.stderr).to.contain('Running on the CPU: ');
  });
});
