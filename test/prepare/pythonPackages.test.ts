import { expect } from 'chai';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { outputOf } from '../../src/util/childProcess.js';
import { exportFolder, findPython, type Python } from '../../src/prepare/python.js';
import { ensureRequirements, exporterRequirements } from '../../src/prepare/pythonPackages.js';
import { temporaryFolder } from '../support/tinyModel.js';

/** A package as a wheel, and as an archive whose own code, which would build it, leaves a mark when it is run. */
const makePackage = `
import sys, tarfile, zipfile, io
folder, mark = sys.argv[1:]
with zipfile.ZipFile(f"{folder}/tiny_thing-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr("tiny_thing.py", "x = 1\\n")
    info = "tiny_thing-1.0.dist-info/"
    wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: tiny-thing\\nVersion: 1.0\\n")
    wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    wheel.writestr(info + "RECORD", "")
with tarfile.open(f"{folder}/tiny-thing-1.0.tar.gz", "w:gz") as archive:
    for name, text in {
        "pyproject.toml": '[build-system]\\nrequires = []\\nbuild-backend = "backend"\\nbackend-path = ["."]\\n',
        "backend.py": f"open({mark!r}, 'w').close()\\n",
    }.items():
        member = tarfile.TarInfo(f"tiny-thing-1.0/{name}")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text.encode()))
`;

describe('the lock file of Python packages', function () {
  this.timeout(120_000);

  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  const temporary = process.env.TMPDIR;
  let python: Python;
  let packages: string;
  let mark: string;
  beforeEach(async () => {
    folder = await temporaryFolder();
    python = await findPython();
    packages = join(folder.path, 'wheels');
    mark = join(folder.path, 'mark');
    await mkdir(packages);
    // Where what pip said would be kept.
    process.env.TMPDIR = folder.path;
    await outputOf(python.program, ['-c', makePackage, packages, mark]);
  });
  afterEach(async () => {
    if (temporary === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = temporary;
    await folder.remove();
  });

  /** Installs the package with these hashes from the folder alone. */
  const install = async (...hashes: string[]): Promise<string> => {
    const lock = join(folder.path, 'packages.lock');
    const options = hashes.map((hash) => ` --hash=sha256:${hash}`).join('');
    await writeFile(lock, `--no-index\n--find-links ${packages}\ntiny-thing==1.0${options}\n`);
    return ensureRequirements(python, lock, folder.path);
  };

  const failure = (work: Promise<unknown>): Promise<string> =>
    work.then(
      () => 'nothing failed',
      (error: Error) => error.message,
    );

  const sha256 = async (name: string): Promise<string> =>
    createHash('sha256')
      .update(await readFile(join(packages, name)))
      .digest('hex');

  const wheel = 'tiny_thing-1.0-py3-none-any.whl';
  const archive = 'tiny-thing-1.0.tar.gz';

  it('lets a package in whose hash it lists', async () => {
    const made = await install(await sha256(wheel));
    expect(await readdir(made)).to.include('tiny_thing.py');
  });

  it('keeps out a package that is another one, or that it lists without a hash', async () => {
    const hash = await sha256(wheel);
    expect(await failure(install())).to.match(/hash/i);
    await writeFile(join(packages, wheel), await readFile(join(packages, archive)));
    expect(await failure(install(hash))).to.contain('pip install failed');
    expect(await readdir(join(folder.path, '.python'))).to.deep.equal([]);
  });

  it('runs no code of a package', async () => {
    await rename(join(packages, wheel), join(folder.path, wheel));
    expect(await failure(install(await sha256(archive)))).to.contain('pip install failed');
    expect(existsSync(mark)).to.equal(false);
  });

  it('pins what requirements.txt asks for, and hashes of everything', async () => {
    const lock = await readFile(join(exportFolder(), exporterRequirements), 'utf8');
    const entries = lock.replaceAll('\\\n', '').split('\n');
    const pins = entries.filter((entry) => entry !== '' && !/^(#|--only-binary :all:$)/.test(entry));
    expect(pins).to.have.length.greaterThan(3);
    for (const pin of pins)
      expect(pin).to.match(/^[a-z0-9-]+==\S+( ; [^;]+)?(\s+--hash=sha256:[0-9a-f]{64})+\s*$/);
    const asked = (await readFile(join(exportFolder(), 'requirements.txt'), 'utf8')).split('\n');
    for (const requirement of asked.filter((line) => line !== '' && !line.startsWith('#'))) {
      const [version, marker] = requirement.split(';');
      const versions = pins.filter((pin) => pin.startsWith(`${version.trim()} `));
      expect(versions, `${requirement}: run npm run lock:python`).to.have.length(1);
      expect(versions[0].includes(' ; ')).to.equal(marker !== undefined);
    }
  });
});
