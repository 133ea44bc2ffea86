import { ExitCode } from '../util/errors.js';
import { listModels } from '../models/listModels.js';
import { modelsFolder } from '../models/modelsFolder.js';
import { examine, type Finding } from './doctorFindings.js';
import { packageVersion } from '../util/packageRoot.js';
import { onTerminal, styled, type TerminalText } from '../util/terminalText.js';
import { readFlag, readText, type Arguments } from './options.js';
import { modelJson, modelTable } from './modelTable.js';
import { print, printJson } from './output.js';
import { stdoutColors } from './terminal.js';

/** `medusa-plus doctor`: one line for each thing that was looked at; exit code 1 when the default set-up is broken. */
export async function runDoctor(args: Arguments): Promise<void> {
  const modelsDir = modelsFolder(readText(args, 'models-dir'));
  const findings = await examine({
    modelsDir,
    ortLibrary: readText(args, 'ort-library'),
    measure: readFlag(args, 'measure'),
  });
  const models = await listModels(modelsDir);
  const isBroken = findings.some((finding) => finding.state === 'broken');
  if (readFlag(args, 'json')) {
    printJson({ version: packageVersion(), ok: !isBroken, findings, models: models.map(modelJson) });
  } else {
    print(
      `medusa-plus ${packageVersion()}, Node.js ${process.versions.node}, ${process.platform} ${process.arch}`,
    );
    const width = Math.max(...findings.map((finding) => finding.what.length));
    for (const finding of findings) print(line(finding, width));
    if (models.length > 0) ['', ...modelTable(models)].forEach((row) => print(row));
  }
  if (isBroken) process.exitCode = ExitCode.failure;
}

function line({ state, what, detail }: Finding, width: number): TerminalText {
  const colors = stdoutColors();
  const marks = {
    ok: styled(colors.green, 'ok  '),
    absent: styled(colors.dim, '-   '),
    broken: styled(colors.red, 'FAIL'),
  };
  return onTerminal`${marks[state]}  ${what.padEnd(width)}  ${detail}`;
}
