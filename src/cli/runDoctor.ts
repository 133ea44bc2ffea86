import { ExitCode } from '../util/errors.js';
import { examine, type Finding } from './doctorFindings.js';
import { packageVersion } from '../util/packageRoot.js';
import { onTerminal, styled, type TerminalText } from '../util/terminalText.js';
import { readFlag, readText, type Arguments } from './options.js';
import { print, printJson } from './output.js';
import { stdoutColors } from './terminal.js';

/** `medusa-plus doctor`: one line for each thing that was looked at; exit code 1 when the default set-up is broken. */
export async function runDoctor(args: Arguments): Promise<void> {
  const findings = await examine({
    modelsDir: readText(args, 'models-dir'),
    ortLibrary: readText(args, 'ort-library'),
    measure: readFlag(args, 'measure'),
  });
  const isBroken = findings.some((finding) => finding.state === 'broken');
  if (readFlag(args, 'json')) {
    printJson({ version: packageVersion(), ok: !isBroken, findings });
  } else {
    print(
      `medusa-plus ${packageVersion()}, Node.js ${process.versions.node}, ${process.platform} ${process.arch}`,
    );
    const width = Math.max(...findings.map((finding) => finding.what.length));
    for (const finding of findings) print(line(finding, width));
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
